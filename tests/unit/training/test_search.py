"""The search: arms tuned side by side make the trials that one after the other make, wherever these are kept."""
import os
import re
import subprocess
import sys

import optuna
import pytest
import yaml

from study import StudyError
from study.config.load import STORAGE, load_study
from study.training.pretrain import load_data
from study.training.search import search, search_arm
from tests.support.project import copy_of_project, run
from tests.support.studies import tiny_study
from tests.support.training import counts

ARMS = ["dynamic", "pre-ln"]


def tuned(text: str) -> str:
    """params.yaml of the tiny study with two tuned arms."""
    text = re.sub(r"^arms: .*?\]", f"arms: [{', '.join(ARMS)}]", text, count=1, flags=re.M | re.S)
    return re.sub(r"^search:\n  arms: .*\n  trials: .*$", f"search:\n  arms: [{', '.join(ARMS)}]\n  trials: 3", text,
                  flags=re.M)


def files(study) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (study.runs / "search").iterdir() if path.name != ".gitignore"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A study whose arms were tuned one after the other."""
    study = tiny_study(tmp_path_factory.mktemp("search") / "study", tuned)
    search(study)
    return study


def test_each_tuned_arm_has_its_own_best_of_equally_many_trials(alone):
    assert counts(alone.storage) == dict.fromkeys(ARMS, 3)
    best = yaml.safe_load((alone.runs / "search/best.yaml").read_text())
    for arm in ARMS:
        (name,) = (name for name in optuna.get_all_study_names(alone.storage) if f"/{arm}/" in name)
        found = optuna.load_study(storage=alone.storage, study_name=name).best_params
        assert best[arm] == pytest.approx(found, rel=5e-3)
        trained_with = yaml.safe_load((alone.runs / f"search/{arm}.yaml").read_text())
        assert trained_with["training"]["learning_rate"] == best[arm]["training.learning_rate"]


def test_study_run_tunes_arms_side_by_side_with_the_same_trials(alone, tmp_path):
    root = copy_of_project(tmp_path / "clone", seeds="[0]")
    params = root / "experiments/tiny/params.yaml"
    params.write_text(tuned(params.read_text()))
    run(sys.executable, "-m", "study", "run", "experiments/tiny", "--jobs", "2", cwd=root)
    study = load_study(root / "experiments/tiny")
    assert files(study) == files(alone)
    assert counts(study.storage) == dict.fromkeys(ARMS, 3)           # the stage had nothing left to try
    for arm in ARMS:
        log = (root / f".state/logs/tiny-search-{arm}.log").read_text()
        assert re.search(rf"^trials {arm}: 3, best validation NLL \d\.\d{{3}}$", log, flags=re.M)
    again = run(sys.executable, "-m", "study", "run", "experiments/tiny", "--jobs", "2", cwd=root)
    assert "search-" not in again.stdout
    assert "0 cells were stale" in again.stdout


def test_another_storage_may_keep_the_trials(alone, tmp_path, monkeypatch):
    address = f"sqlite:///{tmp_path}/shared.db"
    monkeypatch.setenv(STORAGE, address)
    study = tiny_study(tmp_path / "study", tuned)
    search_arm(study, "pre-ln", load_data(study))
    assert counts(address) == {"pre-ln": 3}
    search(study)
    assert counts(address) == dict.fromkeys(ARMS, 3)
    assert files(study) == files(alone)


def test_a_storage_that_is_not_there_is_said_without_its_password(alone):
    for address, reason in (("nonsense", "Could not parse"), ("sqlite:////nowhere/x.db", "unable to open"),
                            ("postgresql://me:secret@127.0.0.1:1/x", ""), ("postgresql://me:secret@h:port/x", ""),
                            ("redis://me:secret@127.0.0.1:1", "")):
        done = subprocess.run([sys.executable, "-m", "study", "trials", "--arm", "dynamic"], cwd=alone.folder,
                              env=os.environ | {STORAGE: address}, capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr.startswith("error: search: what STUDY_STORAGE names cannot be used")
        assert reason in done.stderr
        assert "secret" not in done.stderr
        assert done.stderr.count("\n") == 1


def test_sqlite_by_a_relative_path_is_refused(alone, monkeypatch):
    monkeypatch.setenv(STORAGE, "sqlite:///here.db")
    with pytest.raises(StudyError, match="names SQLite by a relative path, .* write sqlite:////and/the/whole/path.db"):
        search_arm(alone, "dynamic", load_data(alone))


def test_only_a_tuned_arm_has_trials(alone):
    with pytest.raises(StudyError, match=r"params\.yaml: search\.arms: static is not among them \(dynamic, pre-ln\)"):
        search_arm(alone, "static", None)
