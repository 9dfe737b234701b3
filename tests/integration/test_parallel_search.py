"""Arms are tuned in parallel, with the trials of a sequential search. (test_cluster.py tunes them by `study run`.)"""
import re

import pytest

from study.config.load import load_study
from study.orchestration import runner
from study.training.search import search
from tests.support.project import copy_of_project, dvc, environment_of
from tests.support.studies import tiny_study
from tests.support.training import TUNED, counts, search_files, with_tuned_arms


def test_arms_are_tuned_in_parallel_with_the_same_trials(tmp_path, monkeypatch):
    sequential = tiny_study(tmp_path / "study", with_tuned_arms)
    search(sequential)
    root = copy_of_project(tmp_path / "clone", seeds="[0]", linked=True, changes={})
    params = root / "experiments/tiny/params.yaml"
    params.write_text(with_tuned_arms(params.read_text()))
    study = load_study(params.parent)
    for name, value in environment_of(study.folder).items():
        monkeypatch.setenv(name, value)
    runner.run_searches(study, runner.LocalWorkers(study, 2), jobs=2)
    for arm in TUNED:
        log = (root / f"experiments/tiny/.state/logs/tiny-search-{arm}.log").read_text()
        assert re.search(rf"^trials {arm}: 3, best validation NLL \d\.\d{{3}}$", log, flags=re.M)
    dvc(root, "repro", "search")
    assert search_files(study) == search_files(sequential)
    assert counts(study.storage) == dict.fromkeys(TUNED, 3)           # the search stage had no trials left to run
    monkeypatch.setattr(runner, "_in_parallel", lambda *arguments: pytest.fail("a search was repeated"))
    runner.run_searches(study, runner.LocalWorkers(study, 2), jobs=2)
