"""`study run` tunes arms in parallel, with the trials of a sequential search."""
import re
import sys

from study.config.load import load_study
from study.training.search import search
from tests.support.project import copy_of_project, run
from tests.support.studies import tiny_study
from tests.support.training import TUNED, counts, search_files, with_tuned_arms


def test_study_run_tunes_arms_in_parallel_with_the_same_trials(tmp_path):
    sequential = tiny_study(tmp_path / "study", with_tuned_arms)
    search(sequential)
    root = copy_of_project(tmp_path / "clone", seeds="[0]")
    params = root / "experiments/tiny/params.yaml"
    params.write_text(with_tuned_arms(params.read_text()))
    run(sys.executable, "-m", "study", "run", "experiments/tiny", "--jobs", "2", cwd=root)
    study = load_study(root / "experiments/tiny")
    assert search_files(study) == search_files(sequential)
    assert counts(study.storage) == dict.fromkeys(TUNED, 3)           # the search stage had no trials left to run
    for arm in TUNED:
        log = (root / f"experiments/tiny/.state/logs/tiny-search-{arm}.log").read_text()
        assert re.search(rf"^trials {arm}: 3, best validation NLL \d\.\d{{3}}$", log, flags=re.M)
    repeated = run(sys.executable, "-m", "study", "run", "experiments/tiny", "--jobs", "2", cwd=root)
    assert "search-" not in repeated.stdout
    assert "0 cells were stale" in repeated.stdout
