"""The commit that is recorded with a cell."""
import subprocess

from study.config.git import git_commit
from tests.support.studies import ROOT


def test_the_commit_is_the_one_that_is_checked_out():
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert git_commit(ROOT) == head.strip()


def test_there_is_no_commit_outside_a_repository_or_without_git(tmp_path, monkeypatch):
    assert git_commit(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit(ROOT) is None
