"""Messages that a user meets: one line each, exit status 2, and no side effects."""
import os
import shutil
import socket
from pathlib import Path

import pytest

from study.config.create import NO_DISCUSSION, create_study
from study.config.load import load_study
from study.report.discussion import count_words
from tests.support.bad_input import exit_status, settings_project
from tests.support.project import STUDY, copy_of_finished_project, run
from tests.support.studies import ROOT

GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@b")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A finished project in which everything is committed."""
    root = copy_of_finished_project(tmp_path_factory.mktemp("messages") / "project")
    run("git", "add", "-A", cwd=root)
    run(*GIT, "commit", "-qm", "results", cwd=root)
    return root


def contents(root: Path) -> dict[str, bytes]:
    """Every file of the project, apart from those that Git, DVC and Python keep for themselves."""
    parts = {".git", "tmp", "cache", "__pycache__"}
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*"))
            if path.is_file() and not parts & set(path.relative_to(root).parts)}


# what was edited, file, text, replacement -> the stale cells
PLANS = [("nothing", "params.yaml", "version: 2", "version: 2", "0 of 4"),
         ("an arm", "experiments/arms.yaml", "{sentence_objective: nsp}}",
          "{sentence_objective: nsp, sentence_weight: 0.5}}", "2 of 4"),
         ("code", "study/training/trainer.py", "import math\n", "import math\n\nMORE = 1\n", "4 of 4")]


@pytest.mark.parametrize(("file", "old", "new", "stale"), [pytest.param(*row[1:], id=row[0]) for row in PLANS])
def test_a_plan_changes_no_file_and_stages_nothing(root, file, old, new, stale):
    text = (root / file).read_text()
    assert old in text
    (root / file).write_text(text.replace(old, new, 1))
    try:
        before, status = contents(root), run("git", "status", "--porcelain", cwd=root).stdout
        output = run(*STUDY, "plan", "experiments/tiny", "--no-measure", cwd=root).stdout
        assert contents(root) == before
        assert run("git", "status", "--porcelain", cwd=root).stdout == status
        assert run("git", "diff", "--cached", "--name-only", cwd=root).stdout == ""
        assert f"{stale} cells are stale" in output
        assert "dvc repro examples" not in output           # they are there
    finally:
        (root / file).write_text(text)


def test_without_git_the_remedy_is_named_and_works(root, tmp_path):
    copy = Path(shutil.copytree(root, tmp_path / "copy", symlinks=True, ignore=shutil.ignore_patterns(".git")))
    folder = copy / "experiments/tiny"
    done = run(*STUDY, "plan", "experiments/tiny", "--no-measure", cwd=copy, check=False)
    assert (done.returncode, done.stderr) == (2, (
        f"error: {folder}: DVC needs a Git repository, and this folder is not in one; run `dvc config --local "
        f"core.no_scm true` there, or `git init` in the root of the project\n"))
    run("dvc", "config", "--local", "core.no_scm", "true", cwd=folder)
    assert "0 of 4 cells" in run(*STUDY, "plan", "experiments/tiny", "--no-measure", cwd=copy).stdout


@pytest.fixture
def listening():
    """A port on which another program listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_busy_port_is_one_line_that_suggests_another(tmp_path, capsys, monkeypatch, listening):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("os.execve", lambda *arguments: pytest.fail("started"))
    settings_project(tmp_path)
    (tmp_path / "mlflow.db").touch()
    assert exit_status(tmp_path, "ui", "--port", str(listening)) == 2
    assert capsys.readouterr().err == (f"error: port {listening} cannot be used (Address already in use); choose "
                                       f"another one, for example `study ui --port {listening + 1}`\n")


def test_create_outside_a_project_says_what_is_missing(tmp_path, capsys):
    assert exit_status(tmp_path, "create", "mine") == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path}: has no params.yaml, so it is not a study whose settings can be copied; run this in the "
        f"root of the project, or name a study: `study create mine --from FOLDER`\n")
    settings_project(tmp_path / "project")
    assert exit_status(tmp_path / "project", "create", "mine") == 2
    assert "dvc.yaml: no such file; a new study gets a copy of the project's pipeline" in capsys.readouterr().err
    assert not (tmp_path / "project/experiments/mine").exists()


def test_a_discussion_that_was_not_written_is_no_warning_and_not_shown(tmp_path):
    settings_project(tmp_path)
    (tmp_path / "study").mkdir()
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    folder = create_study(load_study(tmp_path), "mine")
    assert (folder / "discussion.md").read_text() == NO_DISCUSSION
    assert count_words(NO_DISCUSSION) == 0
    assert [path for path in ROOT.glob("experiments/*/discussion.md") if not path.read_text().strip()] == []


@pytest.mark.parametrize("command", [("checkout", "--allow-missing"), ("pull", "--allow-missing")])
@pytest.mark.parametrize("folder", [".", "experiments/plateau"])
def test_in_a_fresh_clone_the_published_weights_may_be_missing(tmp_path, folder, command):
    run("git", "clone", "-q", str(ROOT), str(tmp_path / "clone"), cwd=tmp_path)
    done = run("dvc", *command, cwd=tmp_path / "clone" / folder, PYTHONPATH=os.environ.get("PYTHONPATH"))
    assert len((done.stdout + done.stderr).splitlines()) <= 2
    assert run("git", "status", "--porcelain", cwd=tmp_path / "clone").stdout == ""
