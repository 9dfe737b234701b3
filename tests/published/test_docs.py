"""The pages of docs/, done as they say by somebody new, one after the other, in a clone; and built."""
import re
import subprocess
import sys

import pytest
import yaml

from study.config.load import load_study
from tests.support.project import copy_of_project, run
from tests.support.studies import ROOT

PAGES = ["index.md", *(f"{name}.md" for name in re.search(r"```\{toctree\}\n:hidden:\n\n(.*?)```", (
    ROOT / "docs/index.md").read_text(), re.S)[1].split())]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


def merged(old, new):
    """`new` over `old`: what a person does who is told to change these keys."""
    return old | {key: merged(old.get(key), value) for key, value in new.items()} if (
        isinstance(old, dict) and isinstance(new, dict) and old.get("claim_type") == new.get("claim_type")) else new


def edit(root, text: str) -> None:
    """What a block of YAML asks for in its first line."""
    head, _, body = text.partition("\n")
    if found := re.fullmatch(r"# at the end of (\S+)", head):
        path = root / found[1]
        path.write_text(path.read_text() + body)
    elif found := re.fullmatch(r"# in (\S+)", head):
        path = root / found[1]
        path.write_text(yaml.safe_dump(merged(yaml.safe_load(path.read_text()), yaml.safe_load(body)),
                                       sort_keys=False))
    elif found := re.fullmatch(r"# joins (\w+)\.(\w+) in (\S+)", head):
        path = root / found[3]
        content = yaml.safe_load(path.read_text())
        content[found[1]][found[2]] += yaml.safe_load(body)
        path.write_text(yaml.safe_dump(content, sort_keys=False))
    else:
        raise AssertionError(f"a block of YAML that says not where it goes: {head}")


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """A clone in which every block of every page was done; what the commands of each page said."""
    root, said = copy_of_project(tmp_path_factory.mktemp("docs") / "project"), {}
    for page in PAGES:
        said[page] = ""
        for kind, body in BLOCK.findall((ROOT / "docs" / page).read_text()):
            if kind == "yaml":
                edit(root, body)
            elif kind == "sh":
                said[page] += run("bash", "-euc", body, cwd=root).stdout
    return root, said


def test_an_arm_of_ones_own_is_trained_and_reported(followed):
    root, said = followed
    assert "run: 4 cells were stale" in said["arms.md"]
    assert "magoku" in said["arms.md"]
    assert "[UNK]" not in said["arms.md"]
    assert "reports/mine/index.html" in said["arms.md"]
    report = (root / "reports/mine/README.md").read_text()
    assert "A quarter of the tokens are selected." in report
    assert "A rate above 15 % does no harm." in report


def test_a_claim_of_ones_own_gets_a_verdict_and_is_exploratory(followed):
    root, said = followed
    assert "run: 0 cells were stale" in said["claims.md"]
    assert re.search(r"W\.25.*inconclusive", said["claims.md"], re.S)
    assert "exploratory" in said["claims.md"]
    assert "### W.25: Selecting a quarter of the tokens" in (root / "reports/mine/README.md").read_text()


def test_text_of_ones_own_is_studied(followed):
    root, said = followed
    assert "run: 4 cells were stale" in said["corpora.md"]
    study = load_study(root / "experiments/reference")
    assert study.settings.corpus.local == "reference"
    assert "corpus: reference" in (root / "reports/reference/README.md").read_text()


def test_a_second_probe_task_needs_no_code_and_no_training(followed):
    root, said = followed
    assert "run: 4 cells were stale" in said["probe-tasks.md"]
    assert "pretrain " not in said["probe-tasks.md"]
    markdown = (root / "reports/reference/README.md").read_text()
    section = markdown.partition("## Probe of classes\n")[2].partition("\n## ")[0]
    assert "TF-IDF" in section
    for arm in ("dynamic", "all-mask"):
        assert re.search(rf"\| {arm} \| 2 \| \d+\.\d \| \\\[.*?\\\] \| \d+\.\d \|", section)
    page = (root / "reports/reference/index.html").read_text()
    assert '<section id="task-1"><h2>Probe of classes</h2>' in page
    assert 'href="#task-1"' in page


def test_commands_that_are_only_shown_exist():
    listed = subprocess.run([sys.executable, "-m", "study", "--help"], cwd=ROOT, capture_output=True, text=True,
                            check=True).stdout
    shown = [line for page in PAGES for kind, body in BLOCK.findall((ROOT / "docs" / page).read_text())
             if kind in ("console", "sh") for line in body.splitlines()]
    commands = {found[1] for line in shown if (found := re.match(r"(?:.*-m )?study ([a-z]+)", line))}
    assert {"run", "pretrain"} <= commands
    assert [command for command in commands if not re.search(rf"^│ {command} ", listed, re.M)] == []


def test_the_pages_are_built_without_a_warning_and_load_nothing_from_elsewhere(tmp_path):
    assert {path.name for path in (ROOT / "docs").glob("*.md")} == set(PAGES)
    subprocess.run([sys.executable, "-m", "sphinx", "--fail-on-warning", "--quiet", "docs", str(tmp_path)], cwd=ROOT,
                   check=True)
    for page in PAGES:
        html = (tmp_path / page).with_suffix(".html").read_text()
        assert re.findall(r'<(?:script|img|link)[^>]*\b(?:src|href)="(https?:[^"]*)"', html) == []
