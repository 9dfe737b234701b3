"""DVC's command with our writer of dvc.lock records what DVC's own does."""
import subprocess
import sys

import pytest

from study.config import parse_yaml
from study.dvc import stages_of, write_lock
from tests.test_pipeline import copy_of_project, run

OURS = (sys.executable, "-m", "study.dvc")
TARGET = "experiments/tiny/dvc.yaml:examples"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return copy_of_project(tmp_path_factory.mktemp("dvc") / "project", arms="[dynamic]", seeds="[0]")


def test_the_lock_is_what_dvc_would_have_written(root):
    lock = root / "experiments/tiny/dvc.lock"
    run(*OURS, "repro", TARGET, cwd=root)
    ours = lock.read_bytes()
    assert "up to date" in run("dvc", "repro", TARGET, cwd=root).stdout
    assert lock.read_bytes() == ours
    lock.unlink()
    run("dvc", "commit", "--force", TARGET.replace("examples", "code"), TARGET.replace("examples", "corpus"),
        TARGET.replace("examples", "tokenizer"), TARGET, cwd=root)
    assert stages_of(lock.read_bytes()) == stages_of(ours)
    assert set(lock.read_bytes().splitlines()) == set(ours.splitlines())


def test_the_lock_is_replaced_in_one_step_and_a_pipeline_keeps_its_comments(root):
    lock, pipeline = root / "experiments/tiny/dvc.lock", root / "experiments/tiny/dvc.yaml"
    run(*OURS, "repro", TARGET, cwd=root)
    before, written = stages_of(lock.read_bytes()), lock.stat().st_ino
    run(*OURS, "repro", TARGET, cwd=root)
    assert lock.stat().st_ino == written    # nothing was new
    params = root / "experiments/tiny/params.yaml"
    params.write_text(params.read_text().replace("pair_rows: 32", "pair_rows: 31"))
    run(*OURS, "repro", TARGET, cwd=root)
    assert lock.stat().st_ino != written
    after = stages_of(lock.read_bytes())
    assert after["examples"]["params"]["params.yaml"]["examples"]["pair_rows"] == 31
    assert all(after[name] == before[name] for name in ("corpus", "tokenizer"))
    run(*OURS, "stage", "add", "--name", "more", "true", cwd=pipeline.parent)
    assert pipeline.read_text().startswith("# One pipeline")
    assert "more" in parse_yaml(pipeline.read_bytes())["stages"]


def test_its_exit_status_is_dvcs(root):
    done = subprocess.run([*OURS, "repro", "nowhere.yaml"], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 255
    assert "nowhere.yaml" in done.stderr


def test_what_two_stages_share_is_written_twice(tmp_path):
    shared = {"path": "a", "md5": None, "epsilon": 1e-6}
    write_lock(tmp_path / "dvc.lock", {"stages": {"one": shared, "two": shared}})
    stage = "    path: a\n    md5:\n    epsilon: 1e-06\n"
    assert (tmp_path / "dvc.lock").read_text() == f"stages:\n  one:\n{stage}  two:\n{stage}"
