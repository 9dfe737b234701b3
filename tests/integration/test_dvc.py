"""DVC with our writer of dvc.lock records the same as DVC alone."""
import subprocess
import sys

import pytest
from dvc.utils.serialize import dumps_yaml, loads_yaml
from ruamel.yaml import YAMLError

from study.config.yaml_files import parse_yaml
from study.orchestration.dvc_lock import parse_lock, repair_rwlock, write_lock
from tests.support.project import copy_of_finished_project, run

OURS = (sys.executable, "-m", "study.orchestration.dvc_lock")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The folder of a finished tiny study, which is a DVC repository."""
    return copy_of_finished_project(tmp_path_factory.mktemp("dvc") / "project") / "experiments" / "tiny"


def test_the_lock_is_the_one_that_dvc_writes(root):
    lock = root / "dvc.lock"
    ours = lock.read_bytes()
    lock.unlink()
    run("dvc", "commit", "--force", cwd=root)
    assert parse_lock(lock.read_bytes()) == parse_lock(ours)
    assert set(lock.read_bytes().splitlines()) == set(ours.splitlines())


def test_the_lock_is_replaced_in_one_step_and_dvc_yaml_keeps_its_comments(root):
    lock, pipeline = root / "dvc.lock", root / "dvc.yaml"
    before, written = parse_lock(lock.read_bytes())["stages"], lock.stat().st_ino
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("pair_rows: 32", "pair_rows: 31"))
    run(*OURS, "repro", "examples", cwd=root)
    assert lock.stat().st_ino != written
    after = parse_lock(lock.read_bytes())["stages"]
    assert after["examples"]["params"]["params.yaml"]["examples"]["pair_rows"] == 31
    assert all(after[name] == before[name] for name in ("corpus", "tokenizer"))
    run(*OURS, "stage", "add", "--name", "more", "true", cwd=pipeline.parent)
    assert pipeline.read_text().startswith("# One pipeline")
    assert "more" in parse_yaml(pipeline.read_bytes())["stages"]


def test_the_exit_status_is_dvcs(root):
    process = subprocess.run([*OURS, "repro", "nowhere.yaml"], cwd=root, capture_output=True, text=True, check=False)
    assert process.returncode == 255
    assert "nowhere.yaml" in process.stderr


AWKWARD = ["yes", "off", "1:30", "1:30.5", "0891", "08", "0o17", "017", "-.5", "+.5", ".5", "1e5", "1_000", "0x1f",
           "true", "null", "~", "", " a", "a: b", "# a", "- a", "é", "2020-01-01", "=", "<<", "a\nb", "x" * 200, True,
           None, 0, -7, 2**70, 1e-6, 1e16, -0.0, 1.5, 1e300, float("inf"), [], {}, [1, [2]], {"a": {"b": None}}]


@pytest.mark.parametrize("value", AWKWARD, ids=lambda value: repr(value)[:20])
def test_dvc_reads_every_value_back(value, tmp_path):
    lock = tmp_path / "dvc.lock"
    write_lock(lock, {"value": value, "list": [value]})
    for content in (loads_yaml(lock.read_text()), parse_lock(dumps_yaml({"value": value, "list": [value]}))):
        assert content == {"value": value, "list": [value]}
        assert type(content["value"]) is type(value)


def test_values_that_stages_share_are_written_without_anchors(tmp_path):
    shared = {"path": "a", "md5": None, "epsilon": 1e-6}
    write_lock(tmp_path / "dvc.lock", {"stages": {"one": shared, "two": shared}})
    stage = "    path: a\n    md5:\n    epsilon: 1e-06\n"
    assert (tmp_path / "dvc.lock").read_text() == f"stages:\n  one:\n{stage}  two:\n{stage}"


def test_an_equal_lock_is_not_written_and_a_link_is_kept(tmp_path):
    target, lock = tmp_path / "elsewhere", tmp_path / "dvc.lock"
    target.touch()
    lock.symlink_to(target)
    write_lock(lock, {"stages": {"one": {}}})
    written = target.stat().st_ino
    write_lock(lock, {"stages": {"one": {}}})
    assert target.stat().st_ino == written
    write_lock(lock, {"stages": {"two": {}}})
    assert target.stat().st_ino != written
    assert parse_lock(target.read_bytes()) == {"stages": {"two": {}}}
    assert lock.is_symlink()


def test_an_empty_lock_is_empty_and_a_torn_one_is_refused():
    assert parse_lock(b"") == {}
    with pytest.raises(YAMLError):
        parse_lock(b"stages:\n  one: {a")


@pytest.mark.parametrize("content", [b"", b'{"write": {"runs/tiny/corp'])
def test_a_torn_table_of_readers_and_writers_is_removed(root, content, capsys):
    """A killed DVC leaves it. DVC then refuses every command, and works again after the repair."""
    table = root / ".dvc/tmp/rwlock"
    run(*OURS, "repro", "examples", cwd=root)
    table.write_bytes(content)
    assert "JSON structure is corrupted" in run("dvc", "repro", "examples", cwd=root, check=False).stderr
    repair_rwlock(root)
    assert f"{table}: removed" in capsys.readouterr().err
    assert "up to date" in run("dvc", "repro", "examples", cwd=root).stdout


def test_a_table_that_is_valid_or_being_written_is_kept(tmp_path, monkeypatch):
    table = tmp_path / ".dvc/tmp/rwlock"
    table.parent.mkdir(parents=True)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("waited"))
    repair_rwlock(tmp_path)
    table.write_text("{}")
    repair_rwlock(tmp_path)
    assert table.read_text() == "{}"
    table.write_text('{"read')
    monkeypatch.setattr("time.sleep", lambda seconds: table.write_text('{"read": {}}'))    # another DVC finishes
    repair_rwlock(tmp_path)
    assert table.read_text() == '{"read": {}}'
