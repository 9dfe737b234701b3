"""How processor threads are shared among commands that run in parallel."""
import pytest

from study.orchestration.processes import threads_per_job


@pytest.mark.parametrize(("jobs", "threads"), [(1, 4), (2, 2), (3, 1), (9, 1)])
def test_only_the_processors_that_this_process_may_use_are_shared(jobs, threads, monkeypatch):
    monkeypatch.setattr("study.orchestration.processes.processors", lambda: 4)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert threads_per_job(jobs) == threads
