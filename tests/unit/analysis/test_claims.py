"""claims.yaml: every published claim is there, invalid ones are refused, and changes after the first run are seen."""
import json
import re
import shutil
from dataclasses import replace

import pytest

from study import StudyError
from study.analysis import decision_rules
from study.analysis.claims import (
    CLAIM_TYPES,
    DECIDING,
    OWN_SOURCE,
    ExactClaim,
    PositiveControl,
    Secondary,
    TrainingClaim,
    UntestedClaim,
    checks_of,
    claim_hash,
    load_claims,
    load_sources,
)
from study.analysis.metrics import METRICS
from study.analysis.registration import exploratory, read_registrations, register_claims
from study.config.load import load_study, study_name
from study.evaluation.exact_claims import CHECKS
from tests.support.fake_results import compare, fake_cell, fake_study
from tests.support.published import published_studies
from tests.support.quick_yaml import load_yaml
from tests.support.studies import ROOT

DESCRIBING = {"statement", "source", "published", "expected", "scope", "contradicts", "evidence", "reason", "quote",
              "place", "unquoted", "fidelity", "differs"}


@pytest.fixture
def fake(tmp_path):
    return fake_study(tmp_path)


@pytest.fixture(scope="module")
def claims(study):
    return load_claims(study)


def rewritten(study, change):
    """The study with an edited claims.yaml."""
    path = study.root / "experiments/claims.yaml"
    content = load_yaml(path.read_text())
    change(content)
    path.write_text(json.dumps(content))    # JSON is YAML too, with every string in quotes
    return study


def unregistered(folder):
    """A study without runs."""
    study = fake_study(folder)
    for arm, seed in study.cells:
        shutil.rmtree(study.cell(arm, seed))
    return study


def test_short_names_of_sources_have_titles(fake):
    assert load_sources(fake).keys() >= {"S0", "S1", "S2", "S3", "S4"}
    compare(fake)
    content = json.loads((fake.reports / "claims.json").read_text())
    assert content["S1.1"]["source_title"] == "labml's annotated MLM"
    assert content["L2"]["source_title"] == content["L2"]["source"]
    rewritten(fake, lambda claims: claims.update(sources=["S0"]))
    with pytest.raises(StudyError, match=r"claims\.yaml: sources: give each short name a text"):
        load_sources(fake)


def test_every_published_claim_is_there(claims):
    tutorials = {"S0": 20, "S1": 4, "S2": 4, "S3": 6, "S4": 10}
    wanted = {f"{source}.{row}" for source, rows in tutorials.items() for row in range(1, rows + 1)}
    wanted |= {f"L{row}" for row in range(1, 27)} | {"L2b", "L2c", "L3b", "A/A"}
    assert wanted <= claims.keys()
    assert {claim.claim_type for claim in claims.values()} >= {"exact", "range", "direction", "equal", "rate",
                                                               "out of scope"}


def test_every_check_that_a_claim_names_exists_and_is_used(claims):
    assert set(checks_of(claims)) == CHECKS.keys()


@pytest.mark.parametrize(("claim", "change", "message"), [
    ("L2", {"treatment": "al-mask"}, "L2: al-mask is not an arm"), ("L2", {"metric": "nl"}, "L2: metric"),
    ("L2", {"claim_type": "maybe"}, "L2: claim_type: 'maybe' is not one of"),
    ("L2", {"marginn": 1}, "did you mean margin?"), ("L2", {"margin": 0}, "L2: margin"),
    ("L2", {"contradicts": ["L99"]}, "there is no claim L99"),
    ("S0.7", {"high": None}, "do not make a band"), ("S0.6", {"low": 9.0}, "do not make a band"),
    ("S0.2", {"claimed": 1.0}, "give either check, or all of claimed, actual and evidence"),
    ("S0.18", {"evidence": None}, "give either check, or all of claimed, actual and evidence"),
    ("S0.15", {"margin": 2}, "S0.15: margin: 2 is larger than 1"),
    ("S0.9", {"low": 60, "high": 75}, "S0.9: low: 60 is larger than 1; accuracies are shares"),
    ("L18", {"shortest_row": 0}, "L18: shortest_row"),
    ("L2", {"quote": ""}, "L2: quote: missing; give a few words of the source, or say under unquoted why they cannot"),
    ("S0.1", {"quote": " "}, "S0.1: quote: missing"), ("S2.4", {"unquoted": ""}, "S2.4: quote: missing"),
    ("P7", {"quote": ""}, "P7: quote: missing"),
    ("L2", {"place": ""}, "L2: place: missing; say where in the source the quote is"),
    ("L2", {"unquoted": "It is long."}, "L2: unquoted: the claim has a quote; remove unquoted"),
    ("L5b", {"quote": "is not a meaningful sentence representation"},
     "L5b: quote: the source is this study, which has no words to quote; remove quote, or name the source"),
    ("A/A", {"place": "footnote 6"}, "A/A: place: the source is this study"),
    ("L5b", {"unquoted": "It is ours."}, "L5b: unquoted: the source is this study")])
def test_an_invalid_claim_is_named(fake, claim, change, message):
    with pytest.raises(StudyError) as error:
        load_claims(rewritten(fake, lambda content: content[claim].update(change)))
    assert message in str(error.value)
    assert "claims.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_every_field_of_a_claim_either_decides_or_describes_it():
    fields = {name for model in CLAIM_TYPES.values() for name in model.model_fields}
    assert fields == {*DECIDING, *DESCRIBING}
    assert not DESCRIBING & set(DECIDING)


def test_a_claim_says_in_one_sentence_how_its_test_differs(claims):
    differs = {name: claim.differs for name, claim in claims.items() if isinstance(claim, TrainingClaim)}
    assert {name for name, text in differs.items() if re.search(r"[.!?]\s", text)} == set()


def test_every_study_that_a_claim_names_exists(claims):
    known = {study_name(path) for path in (ROOT / "params.yaml", *ROOT.glob("experiments/*/params.yaml"))}
    named = {study for claim in claims.values() for study in getattr(claim, "studies", None) or []}
    assert "plateau" in named
    assert named <= known


def test_claims_of_our_own_name_the_claim_that_they_go_with(claims):
    own = {name: claim for name, claim in claims.items() if claim.source == OWN_SOURCE}
    assert own.keys() >= {"S0.8b", "S0.9b", "S0.14b", "S1.4b", "S1.5", "A/A"}
    for name, claim in own.items():
        assert claim.published.startswith("none: "), name
        if name not in ("A/A", "S0.19b"):   # controls of the harness
            assert claim.fidelity == "proxy", name
            named = re.findall(r"\b[SL][\d.]*\d[a-z]?\b", f"{claim.published} {claim.differs}")
            assert claims.keys() & named, name


def test_a_claim_without_a_shortest_row_keeps_its_hash(claims):
    """The hash of L16 as registered by the study characters, which has no such field."""
    registered = {name: value for entry in read_registrations(load_study(ROOT / "experiments/characters"))
                  for name, value in entry.claims.items()}
    assert claim_hash(claims["L16"]) == registered["L16"]


def test_rewording_a_claim_leaves_its_hash(claims):
    for name, claim in claims.items():
        reworded = {"statement": "x", "source": "x", "published": "x", "expected": "x", "scope": "x",
                    "contradicts": ["x"], "quote": "x", "place": "x", "unquoted": "x"}
        reworded |= {"fidelity": "proxy", "differs": "x"} if isinstance(claim, TrainingClaim) else {}
        reworded |= {"reason": "x"} if isinstance(claim, UntestedClaim) else {}
        reworded |= {"evidence": "x"} if isinstance(claim, ExactClaim) and claim.evidence else {}
        assert claim_hash(claim.model_copy(update=reworded)) == claim_hash(claim), name


@pytest.mark.parametrize(("claim", "change"), [
    ("L2", {"margin": 0.06}), ("L2", {"treatment": "rate-40"}), ("L2", {"baseline": None}),
    ("L2", {"metric": "nll_span"}), ("L2", {"direction": "higher"}), ("L2", {"family": "probe"}),
    ("L2", {"shortest_row": 32}), ("L18", {"shortest_row": 64}),
    ("L2", {"min_seeds": 4}), ("L2", {"secondary": Secondary(metric="nll_span", margin=0.1)}),
    ("L2", {"positive_control": PositiveControl(arm="dynamic", metric="nll", above=0.1)}),
    ("L2c", {"claim_type": "direction"}), ("S0.6", {"low": 2.9}), ("S0.6", {"high": None}),
    ("S0.6", {"studies": ["wikitext2"]}), ("S0.6", {"arm": "dynamic"}), ("S0.2", {"check": "mix_overlapping"}),
    ("S4.8", {"actual": 82.0}), ("S4.8", {"claimed": 92.0}), ("S4.8", {"tolerance": 0.1})])
def test_changing_how_a_claim_is_decided_changes_its_hash(claims, claim, change):
    assert claim_hash(claims[claim].model_copy(update=change)) != claim_hash(claims[claim])


@pytest.mark.parametrize(("constant", "changed"), [
    ("ALPHA", {"direction", "equal", "range", "point", "rate", "spread"}),
    ("ESCAPE_NATS", {"direction", "equal", "range", "spread"}),
    ("ESCAPE_VALIDATIONS", {"direction", "equal", "range", "spread"}),
    ("TIMES_ESCAPE", {"direction", "equal", "range", "spread"}), ("RULES", {"direction", "equal"}),
    ("NUMBER_GATE_RULES", {"range", "spread"}), ("BAND_NOISE_RULES", {"range"}),
    ("MAJORITY", {"rate"}), ("MEMORISED", {"direction", "equal", "range", "spread", "rate"}),
    ("OVERFIT_NATS", {"direction", "equal", "range", "spread", "rate"})])
def test_changing_a_constant_of_the_rules_changes_the_claims_that_it_decides(claims, monkeypatch, constant, changed):
    before = {name: claim_hash(claim) for name, claim in claims.items()}
    monkeypatch.setattr(decision_rules, constant, 0.07)
    now = {name: claim for name, claim in claims.items() if claim_hash(claim) != before[name]}
    assert {claim.claim_type for claim in now.values()} == changed
    bands = {claim.metric for claim in now.values() if claim.claim_type == "range"}
    course, accuracy = {"escape_step", "escape_tokens"}, {name for name in bands if METRICS[name].unit == "points"}
    if constant == "BAND_NOISE_RULES":
        assert bands == accuracy
    elif constant in ("ESCAPE_NATS", "ESCAPE_VALIDATIONS"):
        assert all(name in course or not METRICS[name].defined_on_plateau for name in bands)
    elif constant != "ALPHA":
        assert not any(METRICS[name].defined_on_plateau for name in bands)


def test_a_claim_that_is_changed_after_the_first_run_is_exploratory(tmp_path):
    study = unregistered(tmp_path)
    register_claims(study)
    before = (study.runs / "claims.json").read_text()
    assert exploratory(study, load_claims(study)) == set()
    fake_cell(study, "dynamic", 0, 2.0)
    rewritten(study, lambda content: (content["S0.10"].update(margin=0.5), content["S0.11"].update(statement="New."),
                                      content["L2"].update(margin=0.5)))         # all-mask is not in this study
    register_claims(study)
    assert (study.runs / "claims.json").read_text() == before
    assert exploratory(study, load_claims(study)) == {"S0.10"}


def test_a_registration_has_the_time_the_commit_and_the_families(tmp_path):
    study = unregistered(tmp_path)
    assert read_registrations(study) == []
    register_claims(study)
    (entry,), claims = read_registrations(study), load_claims(study)
    assert entry.date.endswith(" UTC")
    assert entry.commit is None             # the folder is no git repository
    assert entry.claims.keys() >= {"S0.10", "S0.11"}        # of the baseline alone
    assert not entry.claims.keys() & {"L2", "S0.2"}         # arms that are not in the study; no runs
    assert all(entry.claims[name] == claim_hash(claims[name]) for name in entry.claims)
    assert {"S0.10", "S0.11"} <= set(entry.families["S0.10"])
    assert len(entry.hash) == 12
    assert replace(entry, claims=entry.claims | {"L2": "x"}).hash != entry.hash
    assert replace(entry, date="later").hash == entry.hash


def test_claims_about_an_arm_without_runs_can_still_be_registered(tmp_path):
    study = unregistered(tmp_path)
    register_claims(study)
    fake_cell(study, "dynamic", 0, 2.0)

    def add(content):
        content["X1"] = content["L2"] | {"treatment": "static", "baseline": "dynamic"}
        content["X2"] = content["L2"] | {"treatment": "dynamic", "baseline": None}

    rewritten(study, add)
    assert exploratory(study, load_claims(study)) == {"X1", "X2"}
    register_claims(study)                  # dynamic has a run, static has none
    first, second = read_registrations(study)
    assert second.claims.keys() == {"X1"}
    assert set(second.families["X1"]) == {name for name in first.claims.keys() | {"X1"}
                                          if getattr(load_claims(study)[name], "family", None) == "masking"}
    assert exploratory(study, load_claims(study)) == {"X2"}


def test_a_family_keeps_its_members_when_an_arm_leaves_the_study(tmp_path):
    """Else the claims that are added afterwards would have an easier test."""
    study = unregistered(tmp_path)
    rewritten(study, lambda content: content.update(X1=content["L2"] | {"treatment": "static", "baseline": "dynamic"}))
    register_claims(study)
    rewritten(study, lambda content: content.update(X2=content["X1"]))
    left = study.model_copy(update={"arms": study.arms, "settings": study.settings.model_copy(
        update={"arms": ["dynamic", "static-10"]})})
    rewritten(left, lambda content: content["X2"].update(treatment="static-10"))
    register_claims(left)
    assert {"X1", "X2"} <= set(read_registrations(left)[-1].families["X2"])


def test_another_rule_makes_the_claims_that_it_decides_exploratory(tmp_path, monkeypatch):
    study = unregistered(tmp_path)
    register_claims(study)
    monkeypatch.setattr(decision_rules, "TIMES_ESCAPE", 20)
    assert {"S0.10", "S0.11"} <= exploratory(study, load_claims(study))


def test_runs_without_a_record_make_every_claim_exploratory(fake):
    register_claims(fake)                   # too late: there are runs
    assert not (fake.runs / "claims.json").exists()
    assert exploratory(fake, load_claims(fake)) >= {"S0.10", "S0.11"}


# Claims whose rule changed after the runs. S0.7 counted steps, and now counts the tutorial's tokens. The number of one
# arm needs the learning gate now, and a band on an accuracy counts the test rows as a sample. Of the two seeds that are
# registered for the tutorial, one has no run yet; none of its claims is decided before.
EXPLORATORY = {"plateau": {"S0.7"}, "quick": {"S0.14"}, "characters": {"S0.14"}, "pairs": {"S0.14"},
               "wikitext2": {"S0.14", "S0.8", "S0.8b", "S0.9", "S0.9b"}}


@pytest.mark.parametrize(("name", "folder"), published_studies().items())
def test_claims_of_published_studies_were_registered_before_their_runs(name, folder):
    study = load_study(ROOT / folder)
    assert exploratory(study, load_claims(study)) == EXPLORATORY.get(name, set())


def test_verdicts_reach_the_tables(fake):
    verdicts = compare(fake)
    content = json.loads((fake.reports / "claims.json").read_text())
    assert content.keys() == verdicts.keys()
    assert verdicts["S0.13"].outcome == "not testable here"
    assert verdicts["L2"].outcome == "not testable here"
    assert verdicts["L2"].reason == "this study does not train all-mask"
    assert content["L2"]["result"]["flags"] == ["not_trained"]
    assert verdicts["S0.2"].outcome == "holds"
    assert (content["S0.2"]["fidelity"], content["S0.2"]["verdict"]) == ("same recipe", "supported")
    assert verdicts["S0.11"].outcome == "undecided"
    assert verdicts["S0.11"].reason == "too few seeds: 2, but the claim requires 5"
    assert content["S0.11"]["result"]["flags"] == ["too_few_seeds"]
    header = (fake.reports / "tables/claims.csv").read_text().splitlines()[0]
    assert header.startswith("claim,fidelity,outcome,verdict,")
    assert {"effect", "low", "high", "p_adjusted", "smallest_detectable_effect", "treatment", "baseline",
            "metric"} <= set(header.split(","))


def test_claims_held_against_documents(fake):
    outcomes = compare(fake)
    assert {name: outcomes[name].outcome for name in ("S4.1", "S4.8", "S0.18", "S3.4", "S3.5")} == {
        "S4.1": "holds", "S4.8": "reversed", "S0.18": "reversed", "S3.4": "reversed", "S3.5": "holds"}
    assert outcomes["S4.8"].measured == "91 against 81.9"
    assert outcomes["S4.8"].reason.startswith("claimed: 91; actual: 81.9 (")


def test_the_committed_claims_load_for_every_study():
    for folder in (ROOT, *(path.parent for path in (ROOT / "experiments").glob("*/params.yaml"))):
        assert load_claims(load_study(folder))
