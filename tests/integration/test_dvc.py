"""DVC's command with our writer of dvc.lock records what DVC's own does."""
import subprocess
import sys

import pytest
from dvc.utils.serialize import dumps_yaml, loads_yaml
from ruamel.yaml import YAMLError

from study.config.load import parse_yaml
from study.orchestration.dvc_lock import parse_lock, write_lock
from tests.support.project import copy_of_project, run

OURS = (sys.executable, "-m", "study.orchestration.dvc_lock")
TARGET = "experiments/tiny/dvc.yaml:examples"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return copy_of_project(tmp_path_factory.mktemp("dvc") / "project", arms="[dynamic]", seeds="[0]")


def test_the_lock_is_what_dvc_would_have_written(root):
    lock = root / "experiments/tiny/dvc.lock"
    run(*OURS, "repro", TARGET, cwd=root)
    ours = lock.read_bytes()
    assert "up to date" in run("dvc", "repro", TARGET, cwd=root).stdout
    lock.unlink()
    run("dvc", "commit", "--force", TARGET.replace("examples", "code"), TARGET.replace("examples", "corpus"),
        TARGET.replace("examples", "tokenizer"), TARGET, cwd=root)
    assert parse_lock(lock.read_bytes()) == parse_lock(ours)
    assert set(lock.read_bytes().splitlines()) == set(ours.splitlines())


def test_the_lock_is_replaced_in_one_step_and_a_pipeline_keeps_its_comments(root):
    lock, pipeline = root / "experiments/tiny/dvc.lock", root / "experiments/tiny/dvc.yaml"
    run(*OURS, "repro", TARGET, cwd=root)
    before, written = parse_lock(lock.read_bytes())["stages"], lock.stat().st_ino
    params = root / "experiments/tiny/params.yaml"
    params.write_text(params.read_text().replace("pair_rows: 32", "pair_rows: 31"))
    run(*OURS, "repro", TARGET, cwd=root)
    assert lock.stat().st_ino != written
    after = parse_lock(lock.read_bytes())["stages"]
    assert after["examples"]["params"]["params.yaml"]["examples"]["pair_rows"] == 31
    assert all(after[name] == before[name] for name in ("corpus", "tokenizer"))
    run(*OURS, "stage", "add", "--name", "more", "true", cwd=pipeline.parent)
    assert pipeline.read_text().startswith("# One pipeline")
    assert "more" in parse_yaml(pipeline.read_bytes())["stages"]


def test_its_exit_status_is_dvcs(root):
    done = subprocess.run([*OURS, "repro", "nowhere.yaml"], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 255
    assert "nowhere.yaml" in done.stderr


AWKWARD = ["yes", "off", "1:30", "1:30.5", "0891", "08", "0o17", "017", "-.5", "+.5", ".5", "1e5", "1_000", "0x1f",
           "true", "null", "~", "", " a", "a: b", "# a", "- a", "é", "2020-01-01", "=", "<<", "a\nb", "x" * 200, True,
           None, 0, -7, 2**70, 1e-6, 1e16, -0.0, 1.5, 1e300, float("inf"), [], {}, [1, [2]], {"a": {"b": None}}]


@pytest.mark.parametrize("value", AWKWARD, ids=lambda value: repr(value)[:20])
def test_dvc_reads_from_the_lock_what_it_would_have_written_itself(value, tmp_path):
    lock = tmp_path / "dvc.lock"
    write_lock(lock, {"value": value, "list": [value]})
    for found in (loads_yaml(lock.read_text()), parse_lock(dumps_yaml({"value": value, "list": [value]}))):
        assert found == {"value": value, "list": [value]}
        assert type(found["value"]) is type(value)


def test_what_two_stages_share_is_written_twice(tmp_path):
    shared = {"path": "a", "md5": None, "epsilon": 1e-6}
    write_lock(tmp_path / "dvc.lock", {"stages": {"one": shared, "two": shared}})
    stage = "    path: a\n    md5:\n    epsilon: 1e-06\n"
    assert (tmp_path / "dvc.lock").read_text() == f"stages:\n  one:\n{stage}  two:\n{stage}"


def test_only_what_is_new_is_written_and_a_link_stays_one(tmp_path):
    place, lock = tmp_path / "elsewhere", tmp_path / "dvc.lock"
    place.touch()
    lock.symlink_to(place)
    write_lock(lock, {"stages": {"one": {}}})
    written = place.stat().st_ino
    write_lock(lock, {"stages": {"one": {}}})
    assert place.stat().st_ino == written
    write_lock(lock, {"stages": {"two": {}}})
    assert place.stat().st_ino != written
    assert parse_lock(place.read_bytes()) == {"stages": {"two": {}}}
    assert lock.is_symlink()


def test_an_empty_lock_holds_nothing_and_a_torn_one_is_refused():
    assert parse_lock(b"") == {}
    with pytest.raises(YAMLError):
        parse_lock(b"stages:\n  one: {a")
