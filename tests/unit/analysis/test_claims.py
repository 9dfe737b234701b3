"""claims.yaml: every row is there, strict, and a change after the first run is seen."""
import json
import re

import pytest
import yaml

from study import StudyError
from study.analysis.claims import CHECKS, exploratory, load_claims, load_sources, register
from study.analysis.metrics import METRICS, between_share, value
from study.analysis.results import arms, cells, chosen_layer, read_arrays
from study.config.load import load_study
from study.evaluation.exact_claims import CHECKS as FUNCTIONS
from study.evaluation.exact_claims import run_checks
from tests.support.fake_results import compare, fake_cell, fake_study
from tests.support.studies import ROOT


@pytest.fixture
def fake(tmp_path):
    return fake_study(tmp_path)


def rewritten(study, change):
    """The study with an edited claims.yaml."""
    path = study.root / "experiments/claims.yaml"
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(json.dumps(content))    # which is YAML too, with every text in quotes
    return study


def test_short_names_of_sources_stand_for_texts(fake):
    assert load_sources(fake).keys() >= {"S0", "S1", "S2", "S3", "S4"}
    compare(fake)
    content = json.loads((fake.reports / "claims.json").read_text())
    assert content["S1.1"]["source_title"] == "labml's annotated MLM"
    assert content["L2"]["source_title"] == content["L2"]["source"]
    rewritten(fake, lambda claims: claims.update(sources=["S0"]))
    with pytest.raises(StudyError, match="claims.yaml: sources: write a text beside each short name"):
        load_sources(fake)


def test_every_row_of_the_register_is_a_claim(study):
    claims = load_claims(study)
    tutorials = {"S0": 20, "S1": 4, "S2": 4, "S3": 6, "S4": 10}
    wanted = {f"{source}.{row}" for source, rows in tutorials.items() for row in range(1, rows + 1)}
    wanted |= {f"L{row}" for row in range(1, 27)} | {"L2b", "L2c", "L3b", "A/A"}
    assert wanted <= claims.keys()
    assert {claim.claim_type for claim in claims.values()} >= {"exact", "range", "direction", "equal", "rate", "out of scope"}


def test_checks_that_claims_may_name_are_there():
    assert {*FUNCTIONS, "stated"} == set(CHECKS)


def test_checks_come_out_as_is_known(study):
    done = run_checks(study, load_claims(study))
    assert {name: done[name]["holds"] for name in ("S0.1", "S0.2", "S1.1", "S0.19", "S0.19b", "S2.2", "S4.7", "S4.10",
                                                   "S4.1", "S4.8", "S0.18", "S3.4")} == {
        "S0.1": True, "S0.2": True, "S1.1": False, "S0.19": True, "S0.19b": True, "S2.2": True, "S4.7": True,
        "S4.10": True, "S4.1": True, "S4.8": False, "S0.18": False, "S3.4": False}
    shares = [float(x) for x in re.match(r"([\d.]+) / ([\d.]+) / ([\d.]+)", done["S1.1"]["measured"]).groups()]
    assert shares == pytest.approx([81, 10, 9], abs=0.3)


@pytest.mark.parametrize(("claim", "change", "said"), [
    ("L2", {"treatment": "al-mask"}, "L2: al-mask is no arm"), ("L2", {"metric": "nl"}, "L2: metric"),
    ("L2", {"claim_type": "maybe"}, "L2: claim_type: 'maybe' is none of"), ("L2", {"marginn": 1}, "did you mean margin?"),
    ("L2", {"margin": 0}, "L2: margin"), ("L2", {"contradicts": ["L99"]}, "there is no claim L99"),
    ("S0.7", {"high": None}, "make no band"), ("S0.2", {"claimed": 1.0}, "belong to check: stated"),
    ("S0.2", {"check": "mix"}, "S0.2: check"), ("S0.15", {"margin": 2}, "S0.15: margin: 2 is more than all"),
    ("S0.9", {"low": 60, "high": 75}, "S0.9: low: 60 is more than all; accuracies are shares")])
def test_a_claim_that_does_not_fit_is_named(fake, claim, change, said):
    with pytest.raises(StudyError) as error:
        load_claims(rewritten(fake, lambda content: content[claim].update(change)))
    assert said in str(error.value)
    assert "claims.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_claim_that_is_changed_after_the_first_run_is_exploratory(tmp_path):
    (tmp_path / "experiments").mkdir()
    study = fake_study(tmp_path / "study")
    for arm, seed in study.cells:
        (study.cell(arm, seed) / "training.json").unlink()
    register(study)
    before = (study.runs / "claims.json").read_text()
    assert exploratory(study, load_claims(study)) == set()
    fake_cell(study, "dynamic", 0, 2.0)
    rewritten(study, lambda content: content["L2"].update(margin=0.5) or content["L3"].update(expected="other words"))
    register(study)
    assert (study.runs / "claims.json").read_text() == before
    assert exploratory(study, load_claims(study)) == {"L2"}


def test_runs_without_a_record_make_every_claim_exploratory(fake):
    assert len(exploratory(fake, load_claims(fake))) == len(load_claims(fake))


def test_verdicts_reach_the_tables(fake):
    verdicts = compare(fake)
    content = json.loads((fake.reports / "claims.json").read_text())
    assert content.keys() == verdicts.keys()
    assert verdicts["S0.13"].verdict == "out of scope"
    assert verdicts["L2"].verdict == "untested"
    assert verdicts["L2"].reason == "this study does not train all-mask"
    assert verdicts["S0.2"].verdict == "supported"
    assert verdicts["S0.11"].verdict == "inconclusive"          # two seeds
    assert "too few seeds" in verdicts["S0.11"].reason
    header = (fake.reports / "tables/claims.csv").read_text().splitlines()[0]
    assert header.startswith("claim,verdict,")
    assert {"effect", "low", "high", "p_holm", "smallest_detectable_effect", "treatment", "baseline",
            "metric"} <= set(header.split(","))


def test_the_table_of_arms_has_both_tasks_on_pairs(fake):
    for seed in fake.settings.seeds:
        path = fake.cell("dynamic", seed) / "evaluation.json"
        pairs = {"nsp": {"accuracy": 0.52}, "sop": {"accuracy": 0.75}}
        path.write_text(json.dumps(json.loads(path.read_text()) | pairs))
    table = arms(fake, cells(fake)).set_index("arm")
    assert (table.nsp_accuracy_mean["dynamic"], table.sop_accuracy_mean["dynamic"]) == (0.52, 0.75)
    assert table.drop("dynamic").sop_accuracy_mean.isna().all()


def test_every_metric_can_be_asked_for(fake):
    compare(fake)
    found = {name: value(fake, "dynamic", 0, name) for name in METRICS}
    assert found["nll"].cell == 2.0
    assert found["initial_excess"].cell == pytest.approx(4.2 - 5.0)
    assert found["nsp_accuracy"] is None
    first = read_arrays(fake.cell("dynamic", 0) / "probe.npz")["topic/layer-0/trained/predicted"]
    label = read_arrays(fake.cell("dynamic", 0) / "probe.npz")["topic/label"]
    assert found["probe_chosen"].cell == (first == label).mean()        # cross-validation scores layer 0 the highest
    for one in found.values():
        if one is not None and one.texts is not None:
            assert one.texts.ndim == 1


def test_a_layer_that_cannot_be_read_is_not_chosen(fake):
    path = fake.cell("dynamic", 0) / "probe.json"
    content = json.loads(path.read_text())
    layers = content["topic"]["more"]["trained"]["layers"]
    layers[0]["cv_accuracy"] = None
    path.write_text(json.dumps(content))
    assert chosen_layer(fake, "dynamic", 0) == (1, 0.7)
    layers[1]["cv_accuracy"] = None
    path.write_text(json.dumps(content))
    assert chosen_layer(fake, "dynamic", 0) is None
    assert value(fake, "dynamic", 0, "probe_chosen") is None


def test_texts_average_to_the_cell(fake):
    one = value(fake, "dynamic", 0, "probe_accuracy")
    assert one.texts.mean() == pytest.approx(one.cell)


def test_between_share():
    import numpy as np

    labels = np.array([0, 0, 1, 1])
    assert between_share(np.array([[0, 0], [0, 0], [1, 1], [1, 1.0]]), labels) == 1
    assert between_share(np.array([[0, 0], [1, 1], [0, 0], [1, 1.0]]), labels) == 0
    assert between_share(np.zeros((4, 2)), labels) == 0


def test_the_committed_claims_load_for_every_study():
    for folder in (ROOT, *(path.parent for path in (ROOT / "experiments").glob("*/params.yaml"))):
        assert load_claims(load_study(folder))
