"""Every DVC command that README.md and docs/ show succeeds in a finished study."""
import re
import shutil
from pathlib import Path

import pytest

from study.config.load import load_study
from tests.support.project import copy_of_finished_project, run
from tests.support.studies import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@b")
BLOCK = re.compile(r"^```\w+\n(.*?)^```$", re.M | re.S)
PULL = "dvc pull --allow-missing --quiet"


def shown() -> list[str]:
    """The DVC commands in blocks, then those in running text that are not just the name of one in a block."""
    texts = [page.read_text() for page in PAGES]
    lines = [line.partition(" #")[0].strip() for text in texts for block in BLOCK.findall(text)
             for line in block.splitlines()]
    blocks = list(dict.fromkeys(line for line in lines if line.startswith("dvc ")))
    inline = {" ".join(code.split()) for text in texts for code in re.findall(r"`(dvc [^`]+)`", BLOCK.sub("", text))}
    names = {" ".join(line.split()[:2]) for line in blocks}
    return blocks + sorted(code for code in inline if code not in names | set(blocks))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The folder of a finished study with one cell and two commits."""
    root = copy_of_finished_project(tmp_path_factory.mktemp("lines") / "project", linked=True)
    params = root / "experiments/tiny/params.yaml"
    text = re.sub(r"^arms: .*?\]", "arms: [dynamic]", params.read_text(), count=1, flags=re.M | re.S)
    params.write_text(re.sub(r"^seeds: .*$", "seeds: [0]", text, flags=re.M))
    for message in ("first", "second"):
        run("git", "add", "-A", cwd=root)
        run(*GIT, "commit", "-qm", message, "--allow-empty", cwd=root)
    return params.parent


def test_every_dvc_command_of_the_pages_succeeds(folder, tmp_path):
    commands = shown()
    assert {"dvc push", PULL, "dvc repro --force corpus"} <= set(commands)
    assert "dvc dag evaluate@dynamic-110" in commands
    assert ("dynamic", 110) in load_study(ROOT).cells       # a cell of the quick study; here, one of another
    for command in commands:
        command = command.replace("/shared/folder", str(tmp_path / "remote")).replace("dynamic-110", "dynamic-0")
        done = run("bash", "-euc", command, cwd=folder, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert list((tmp_path / "remote").rglob("*"))           # `dvc push` had something to send
    assert (folder / "dvc_plots/index.html").exists()


def test_a_pull_from_a_remote_without_the_published_weights_prints_nothing_and_fetches_the_rest(tmp_path):
    mine, published, remote = tmp_path / "mine", tmp_path / "published", tmp_path / "remote"
    mine.write_text("of this clone")
    published.write_text("of another")
    for command in ("dvc init --quiet --no-scm", "dvc add --quiet mine published",
                    f"dvc remote add --quiet --default x {remote}", "dvc push --quiet mine"):
        run("bash", "-euc", command, cwd=tmp_path)
    mine.unlink()
    published.unlink()
    shutil.rmtree(tmp_path / ".dvc/cache")
    done = run("bash", "-euc", PULL, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("", "")
    assert mine.read_text() == "of this clone"
    assert not published.exists()
