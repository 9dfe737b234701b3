"""What a DVC that was killed leaves half written is mended by the next `study run`."""
import shutil
import sys

import pytest
import yaml

from study.config.load import load_study
from study.orchestration.dvc_lock import parse_lock
from study.orchestration.recovery import _stages, keep, mend, stages
from tests.support.project import copy_of_project, run

RUN = (sys.executable, "-m", "study", "run", "experiments/tiny", "--jobs", "2")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A project whose tiny study, one cell, was run to its end."""
    root = copy_of_project(tmp_path_factory.mktemp("recovery") / "project", arms="[dynamic]", seeds="[0]")
    run(*RUN, cwd=root)
    return root


@pytest.fixture
def project(done, tmp_path):
    shutil.copytree(done, tmp_path / "project", symlinks=True)
    return tmp_path / "project"


def interrupt(root) -> None:
    """As a run that was killed leaves its lock."""
    (root / ".state/run-tiny.lock").write_text("running\n")


def test_a_run_that_ended_well_or_said_what_was_wrong_was_not_interrupted(project):
    assert (project / ".state/run-tiny.lock").read_text() == ""
    params = project / "experiments/tiny/params.yaml"
    params.write_text(params.read_text().replace("  steps: 12", "  steps: 12\n  stepps: 1"))
    assert run(*RUN, cwd=project, check=False).returncode == 2
    assert (project / ".state/run-tiny.lock").read_text() == ""


def test_a_table_cut_short_is_removed(project):
    table = project / ".dvc/tmp/rwlock"
    for content in ("", '{"write": {"runs/tiny/corp'):
        table.write_text(content)
        assert "JSON structure is corrupted" in run("dvc", "repro", "experiments/tiny/dvc.yaml", cwd=project,
                                                    check=False).stderr
        said = run(*RUN, cwd=project)
        assert f"{table.relative_to(project)} was left half written" in said.stderr
        assert "0 cells were stale" in said.stdout


def test_a_lock_cut_short_is_restored(project):
    lock = project / "experiments/tiny/dvc.lock"
    whole = lock.read_bytes()
    lock.write_bytes(whole[:int(0.6 * len(whole))])
    interrupt(project)
    said = run(*RUN, cwd=project)
    assert "dvc.lock was left half written" in said.stderr
    assert "0 cells were stale" in said.stdout
    assert stages(lock) == _stages(whole)


def test_a_lock_cut_short_anywhere_is_completed(project, monkeypatch):
    monkeypatch.setattr("study.orchestration.recovery.PATIENCE", 0.0)
    study = load_study(project / "experiments/tiny")
    lock = study.folder / "dvc.lock"
    whole = lock.read_bytes()
    lines = [len(b"".join(whole.splitlines(True)[:count])) for count in range(len(whole.splitlines()))]
    for length in [*lines[::9], *range(7, len(whole) - 1, 2003)]:
        lock.write_bytes(whole[:length])
        mend(study, interrupted=True)
        assert stages(lock) == _stages(whole), length


def test_a_lock_that_a_killed_dvc_repro_broke_is_completed_too(project):
    study = load_study(project / "experiments/tiny")
    lock = study.folder / "dvc.lock"
    whole = lock.read_bytes()
    for content in (b"", b"schema: '2.0'\nstages: {}\n", whole[:len(whole) // 2 + 3]):
        lock.write_bytes(content)
        mend(study, interrupted=False)
        assert stages(lock) == _stages(whole)


def test_new_stages_stay_where_old_ones_are_put_back(project):
    """After an interrupted run somebody has pulled a lock with other cells."""
    study = load_study(project / "experiments/tiny")
    lock = study.folder / "dvc.lock"
    before, content = stages(lock), parse_lock(lock.read_bytes())
    content["stages"]["pretrain@other-0"] = content["stages"].pop("pretrain@dynamic-0")
    lock.write_text(yaml.safe_dump(content, sort_keys=False))
    mend(study, interrupted=True)
    assert stages(lock) == before | {"pretrain@other-0": before["pretrain@dynamic-0"]}


def test_a_shorter_lock_or_none_is_a_persons_wish_where_nothing_was_killed(project):
    study = load_study(project / "experiments/tiny")
    lock, copy = study.folder / "dvc.lock", project / ".state/dvc-tiny.lock"
    content = parse_lock(lock.read_bytes())
    del content["stages"]["pretrain@dynamic-0"]
    lock.write_text(yaml.safe_dump(content, sort_keys=False))
    mend(study, interrupted=False)
    assert "pretrain@dynamic-0" not in stages(lock)
    assert "pretrain@dynamic-0" not in stages(copy)
    lock.unlink()
    mend(study, interrupted=True)
    assert not lock.exists()
    assert not copy.exists()


def test_a_lock_that_is_being_written_is_not_copied(project):
    study, copy = load_study(project / "experiments/tiny"), project / ".state/dvc-tiny.lock"
    before = copy.read_bytes()
    lock = study.folder / "dvc.lock"
    whole = lock.read_bytes()
    for share in (0.0, 0.5, 0.9):
        lock.write_bytes(whole[:int(share * len(whole))])
        keep(study)
        assert stages(copy) == _stages(before)
    content = parse_lock(whole)
    content["stages"]["pretrain@other-0"] = content["stages"]["pretrain@dynamic-0"]
    lock.write_text(yaml.safe_dump(content, sort_keys=False))
    keep(study)
    assert stages(copy) == content["stages"]
