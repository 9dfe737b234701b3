"""A claim is exploratory if its arms are trained with other settings, or at other seeds, than were registered."""
import hashlib
import json
import shutil
from dataclasses import asdict, replace

import pytest

from study.analysis.claims import load_claims
from study.analysis.registration import arm_hash, exploratory, read_registrations, register_claims
from study.config import fingerprint
from study.config.load import load_study
from tests.support.fake_results import fake_cell, fake_study, write_content
from tests.support.quick_yaml import load_yaml
from tests.support.studies import ROOT

BOTH, ONE = "static against dynamic", "dynamic alone"       # the claims, each with the arms that test it


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """The folder of a study of two arms and two claims, which are registered; it has no results."""
    study = fake_study(tmp_path_factory.mktemp("registered"))
    for cell in study.cells:
        shutil.rmtree(study.cell(*cell))
    known = load_yaml((study.root / "experiments/claims.yaml").read_text())
    write_content(study.root / "experiments/claims.yaml", {     # JSON is YAML too
        BOTH: known["L2"] | {"treatment": "static", "baseline": "dynamic", "contradicts": []},
        ONE: known["L2"] | {"treatment": "dynamic", "baseline": None, "contradicts": []}})
    arms = load_yaml((study.root / "experiments/arms.yaml").read_text())
    write_content(study.root / "experiments/arms.yaml", {name: arms[name] for name in ("dynamic", "static")})
    register_claims(study)
    return study.folder


@pytest.fixture
def study(registered, tmp_path):
    return load_study(shutil.copytree(registered, tmp_path / "study"))


def with_results(study):
    for cell in study.cells:
        fake_cell(study, *cell, 2.0)
    return study


def edited(study, old: str, new: str, file: str = "params.yaml"):
    """The study after an edit of one of its files."""
    path = study.root / file
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    return load_study(study.folder)


def with_arms(study, change):
    """The study after an edit of arms.yaml."""
    path = study.root / "experiments/arms.yaml"
    content = load_yaml(path.read_text())
    change(content)
    write_content(path, content)
    return load_study(study.folder)


def changed(study) -> set[str]:
    return exploratory(study, load_claims(study))


def test_claims_are_not_exploratory_once_their_registered_arms_have_results(study):
    assert changed(study) == set()
    assert changed(with_results(study)) == set()
    (entry,) = read_registrations(study)
    assert entry.claims.keys() == {BOTH, ONE}
    assert entry.arms == {arm: arm_hash(study, arm) for arm in ("dynamic", "static")}
    assert entry.seeds == [0, 1]


@pytest.mark.parametrize(("old", "new"), [
    ("  steps: 12\n", "  steps: 24\n"), ("  mask: 0.8\n  random: 0.1\n", "  mask: 0.9\n  random: 0.0\n"),
    ("  adam_beta2: 0.98\n", "  adam_beta2: 0.999\n"), ("  max_seq_length: 32\n  val", "  max_seq_length: 64\n  val"),
    ("vocabulary_size: 10000", "vocabulary_size: 9000"), ("documents: {train: 60", "documents: {train: 90"),
    ("seeds: [0, 1]\n", "seeds: [0, 1, 2]\n"), ("seeds: [0, 1]\n", "seeds: [1]\n"),
    ("seeds: [0, 1]\n", "seeds: [2, 3]\n")])
def test_other_settings_of_the_study_or_other_seeds_make_every_claim_exploratory(study, old, new):
    assert changed(edited(with_results(study), old, new)) == {BOTH, ONE}


def test_other_settings_of_an_arm_make_the_claims_that_it_tests_exploratory(study):
    with_results(study)
    assert changed(with_arms(study, lambda arms: arms["static"]["changes"].update(
        training={"learning_rate": 0.001}))) == {BOTH}


def test_another_learning_rate_from_the_search_makes_the_claims_exploratory(study):
    path = with_results(study).runs / "search/best.yaml"
    path.write_text(path.read_text().replace("0.004", "0.005"))
    assert changed(study) == {BOTH, ONE}


def test_wording_more_arms_and_settings_at_their_default_make_no_claim_exploratory(study):
    def reword(arms):
        arms["static"]["description"] = arms["dynamic"]["source"] = "x"
        arms["more-steps"] = arms["static"] | {"changes": {"training": {"steps": 24}}}

    with_arms(with_results(study), reword)
    edited(study, "arms: [dynamic, static]", "arms: [dynamic, static, more-steps]")
    edited(study, "seeds: [0, 1]\n", "seeds: [1, 0]\n")
    edited(study, "evaluation: {batch_size: 16", "evaluation: {batch_size: 32")
    assert changed(edited(study, "  threads: 1\n", "  threads: 1\n  optimizer: adamw\n")) == set()


def test_a_setting_that_gets_another_name_makes_no_claim_exploratory(study, monkeypatch):
    """Trained cells keep their settings.yaml, under the names that it has."""
    with_results(study)
    monkeypatch.setattr(fingerprint, "recorded", lambda config: {"of_another_name": 1})
    assert changed(study) == set()


def test_where_a_copy_of_the_text_is_makes_no_difference_but_the_text_does():
    study = load_study(ROOT / "experiments/wikitext2")

    def hash_with(**values):
        corpus = study.settings.corpus.model_copy(update=values)
        return arm_hash(study.model_copy(update={"settings": study.settings.model_copy(
            update={"corpus": corpus})}), "dynamic")

    assert hash_with(local=None, quote=not study.settings.corpus.quote) == hash_with() == arm_hash(study, "dynamic")
    assert hash_with(name="another") != hash_with()
    assert hash_with(max_documents=10) != hash_with()


def as_by_an_earlier_version(study):
    """The study with a registration that has neither arms nor seeds."""
    path = study.runs / "claims.json"
    (entry,) = json.loads(path.read_text())
    write_content(path, [{key: entry[key] for key in ("date", "commit", "claims", "families")}])
    return study


def test_of_a_registration_by_an_earlier_version_only_the_claims_are_compared(study):
    as_by_an_earlier_version(with_results(study))
    assert changed(edited(study, "  steps: 12\n", "  steps: 24\n")) == set()
    (entry,) = read_registrations(study)
    content = json.dumps([entry.claims, entry.families], sort_keys=True)
    assert entry.hash == hashlib.sha256(content.encode()).hexdigest()[:12]
    write_content(study.runs / "claims.json", [asdict(replace(entry, claims=entry.claims | {ONE: "another"}))])
    assert changed(study) == {ONE}


def test_a_registration_leaves_those_of_an_earlier_version_as_they_are(study):
    (earlier,) = json.loads((as_by_an_earlier_version(study).runs / "claims.json").read_text())
    path = study.root / "experiments/claims.yaml"
    write_content(path, {name: claim | {"margin": 0.5} for name, claim in load_yaml(path.read_text()).items()})
    register_claims(study)
    first, second = json.loads((study.runs / "claims.json").read_text())
    assert first == earlier
    assert second.keys() == {"date", "commit", "claims", "families", "arms", "seeds"}


def test_arms_and_seeds_are_part_of_the_hash_of_a_registration(study):
    (entry,) = read_registrations(study)
    hashes = {entry.hash, replace(entry, seeds=[0]).hash, replace(entry, arms=entry.arms | {"static": "x"}).hash,
              replace(entry, arms=None, seeds=None).hash}
    assert len(hashes) == 4


def test_arms_and_seeds_that_were_added_after_the_runs_are_compared_but_not_in_the_hash(study):
    path = with_results(study).runs / "claims.json"
    (content,) = json.loads(path.read_text())
    original = {key: content[key] for key in ("date", "commit", "claims", "families")}
    write_content(path, [original])
    (before,) = read_registrations(study)
    write_content(path, [content | {"amended": "2030-01-01 00:00 UTC"}])
    (after,) = read_registrations(study)
    assert after.hash == before.hash
    assert changed(study) == set()
    assert changed(edited(study, "  steps: 12\n", "  steps: 24\n")) == {BOTH, ONE}


def entries_after_registering(study) -> int:
    register_claims(study)
    return len(read_registrations(study))


def test_claims_are_registered_again_if_all_seeds_are_new(study):
    other = edited(with_results(study), "seeds: [0, 1]\n", "seeds: [2, 3]\n")
    assert entries_after_registering(other) == 2
    assert read_registrations(other)[-1].seeds == [2, 3]
    assert changed(with_results(other)) == set()
    back = edited(study, "seeds: [2, 3]\n", "seeds: [0, 1]\n")
    assert entries_after_registering(back) == 2
    assert changed(back) == {BOTH, ONE}     # else the better of the two sets of seeds could be shown


@pytest.mark.parametrize(("old", "new"), [
    ("seeds: [0, 1]\n", "seeds: [0, 1, 2]\n"), ("seeds: [0, 1]\n", "seeds: [1, 2]\n"),
    ("  steps: 12\n", "  steps: 24\n")])
def test_claims_with_results_are_not_registered_again(study, old, new):
    other = edited(with_results(study), old, new)
    assert entries_after_registering(other) == 1
    assert changed(other) == {BOTH, ONE}


def test_claims_whose_cells_are_being_trained_again_are_not_registered_again(study):
    """DVC deletes the old training.json of each cell first, while their scores are still there."""
    other = edited(with_results(study), "  steps: 12\n", "  steps: 24\n")
    for cell in other.cells:
        (other.cell(*cell) / "training.json").unlink()
    assert entries_after_registering(other) == 1
    assert changed(other) == {BOTH, ONE}


def test_a_claim_is_registered_again_while_one_of_its_arms_has_no_results(study):
    for seed in study.settings.seeds:
        fake_cell(study, "dynamic", seed, 2.0)
    other = edited(study, "  steps: 12\n", "  steps: 24\n")
    assert entries_after_registering(other) == 2
    assert read_registrations(other)[-1].claims.keys() == {BOTH}
    assert read_registrations(other)[-1].arms.keys() == {"dynamic", "static"}
    assert changed(other) == {ONE}


def test_nothing_is_registered_before_the_search_has_chosen_the_settings(study):
    (study.runs / "claims.json").unlink()
    (study.runs / "search/best.yaml").unlink()
    assert entries_after_registering(study) == 0
