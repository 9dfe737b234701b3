"""The search: every tuned arm has as many trials, wherever they are kept, and errors do not show passwords."""
import os
import re

import optuna
import pytest

from study import StudyError
from study.config.arms import resolve_with
from study.config.load import load_study
from study.config.study import STORAGE
from study.training.pretrain import cell_settings, load_data
from study.training.search import search, search_arm, shortened
from study.training.trial_storage import open_storage
from tests.support.quick_yaml import dump_yaml, load_yaml
from tests.support.studies import changed, tiny_study
from tests.support.training import TUNED, counts, search_files, with_tuned_arms


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A study whose arms were tuned one after another."""
    study = tiny_study(tmp_path_factory.mktemp("search") / "study", with_tuned_arms)
    search(study)
    return study


def test_each_tuned_arm_has_the_best_values_of_its_own_trials(searched):
    assert counts(searched.storage) == dict.fromkeys(TUNED, 3)
    best = load_yaml((searched.runs / "search/best.yaml").read_text())
    for arm in TUNED:
        (name,) = (name for name in optuna.get_all_study_names(searched.storage) if f"/{arm}/" in name)
        expected = optuna.load_study(storage=searched.storage, study_name=name).best_params
        assert best[arm] == pytest.approx(expected, rel=5e-3)
        trained_with = load_yaml((searched.runs / f"search/{arm}.yaml").read_text())
        assert trained_with["training"]["learning_rate"] == best[arm]["training.learning_rate"]


def test_both_sides_of_a_branch_have_the_tuned_values_of_their_arms(tmp_path):
    """The arm that is started from is tuned for, although the study does not train it."""
    study = tiny_study(tmp_path / "study", with_tuned_arms)
    arms = load_yaml(study.arms_path.read_text())
    late = arms["all-mask"] | {"from": {"arm": "static", "step": 6}}
    study.arms_path.write_text(dump_yaml(arms | {"late": late}))
    study.params_path.write_text(study.params_path.read_text().replace("arms: [", "arms: [late, ", 1))
    study = load_study(study.folder)
    best = search(study)
    assert best["late"] == best["static"] == best["dynamic"]
    assert {path.name for path in (study.runs / "search").glob("*.yaml")} == {
        "best.yaml", "made_with.yaml", "late.yaml", "dynamic.yaml", "pre-ln.yaml"}
    config = cell_settings(study, "late")
    assert config == resolve_with(study, "late", best)
    assert config.branch.before.masking.schedule == "static"
    assert config.branch.before.training.learning_rate == best["static"]["training.learning_rate"]


def test_an_interrupted_search_makes_the_trials_of_an_uninterrupted_one(searched, tmp_path):
    study = tiny_study(tmp_path / "study", with_tuned_arms)

    def interrupt(items, **_):
        for number in items:
            if number == 2:
                raise KeyboardInterrupt
            yield number

    with pytest.raises(KeyboardInterrupt):
        search(study, interrupt)
    assert counts(study.storage) == {TUNED[0]: 2}
    search(study)
    assert search_files(study) == search_files(searched)


def test_trials_may_be_kept_in_another_storage(searched, tmp_path, monkeypatch):
    address = f"sqlite:///{tmp_path}/shared.db"
    monkeypatch.setenv(STORAGE, address)
    study = tiny_study(tmp_path / "study", with_tuned_arms)
    search_arm(study, "pre-ln", load_data(study))
    assert counts(address) == {"pre-ln": 3}
    search(study)
    assert counts(address) == dict.fromkeys(TUNED, 3)
    assert search_files(study) == search_files(searched)


def test_trials_of_other_code_are_not_used(searched):
    found = search_arm(searched, "dynamic", load_data(searched), code_hash="other")
    assert len(found.trials) == 3
    assert counts(searched.storage)["dynamic"] == 3
    assert len(optuna.get_all_study_names(searched.storage)) == len(TUNED) + 1


@pytest.mark.parametrize(("address", "reason"), [
    ("nonsense", "Could not parse"), ("sqlite:////nowhere/x.db", "unable to open"),
    ("postgresql://me:secret@127.0.0.1:1/x", ""), ("postgresql://me:secret@h:port/x", ""),
    ("redis://me:secret@127.0.0.1:1", "")])
def test_an_unusable_storage_is_reported_without_its_password(searched, monkeypatch, capfd, address, reason):
    monkeypatch.setenv(STORAGE, address)
    with pytest.raises(StudyError) as error:
        open_storage(searched)
    message = str(error.value)
    assert message.startswith("search: the address in STUDY_STORAGE cannot be used as Optuna's storage: ")
    assert reason in message
    assert "\n" not in message
    assert "secret" not in message + "".join(capfd.readouterr())


def test_a_relative_path_to_sqlite_is_rejected(searched, monkeypatch):
    monkeypatch.setenv(STORAGE, "sqlite:///here.db")
    with pytest.raises(StudyError, match=re.escape("write sqlite:////absolute/path.db")):
        search_arm(searched, "dynamic", load_data(searched))
    assert not os.path.exists("here.db")


def test_only_a_tuned_arm_has_trials(searched):
    with pytest.raises(StudyError, match=r"params\.yaml: search\.arms: static is not among them \(dynamic, pre-ln\)"):
        search_arm(searched, "static", None)


def test_a_trial_keeps_the_fraction_of_warmup_steps(config):
    full = changed(config, training={"steps": 400, "warmup_steps": 80, "eval_steps": 50, "logging_steps": 10})
    training = shortened(full, 100).training
    assert (training.steps, training.warmup_steps, training.eval_steps) == (100, 20, 25)
