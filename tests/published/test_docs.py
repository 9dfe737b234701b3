"""The pages of docs/: every block is executed in a copy of the project, in order, and the pages are built."""
import re
import shlex
import subprocess
import sys

import pytest
import typer
import yaml

from study.cli.app import app
from study.config.load import load_study
from tests.support.project import copy_of_project, run
from tests.support.studies import ROOT

PAGES = ["index.md", *(f"{name}.md" for name in re.search(r"```\{toctree\}\n:hidden:\n\n(.*?)```", (
    ROOT / "docs/index.md").read_text(), re.S)[1].split())]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


def merged(old, new):
    """`old` with the keys of `new` changed. A corpus of another kind is replaced as a whole."""
    return old | {key: merged(old.get(key), value) for key, value in new.items()} if (
        isinstance(old, dict) and isinstance(new, dict) and old.get("kind") == new.get("kind")) else new


def edit(root, text: str) -> None:
    """Applies a block of YAML to the file that its first line names."""
    head, _, body = text.partition("\n")
    if match := re.fullmatch(r"# at the end of (\S+)", head):
        path = root / match[1]
        path.write_text(path.read_text() + body)
    elif match := re.fullmatch(r"# in (\S+)", head):
        path = root / match[1]
        path.write_text(yaml.safe_dump(merged(yaml.safe_load(path.read_text()), yaml.safe_load(body)),
                                       sort_keys=False))
    elif match := re.fullmatch(r"# joins (\w+)\.(\w+) in (\S+)", head):
        path = root / match[3]
        content = yaml.safe_load(path.read_text())
        content[match[1]][match[2]] += yaml.safe_load(body)
        path.write_text(yaml.safe_dump(content, sort_keys=False))
    else:
        raise AssertionError(f"this block of YAML does not say where it goes: {head}")


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """A copy of the project in which every block of every page was executed, and the output of each page's commands."""
    root, output = copy_of_project(tmp_path_factory.mktemp("docs") / "project", linked=True), {}
    for page in PAGES:
        output[page] = ""
        for kind, body in BLOCK.findall((ROOT / "docs" / page).read_text()):
            if kind == "yaml":
                edit(root, body)
            elif kind == "sh":
                output[page] += run("bash", "-euc", body, cwd=root).stdout
    return root, output


def test_a_new_arm_is_trained_and_reported(followed):
    root, output = followed
    assert "run: 4 cells were stale" in output["arms.md"]
    assert "magoku" in output["arms.md"]
    assert "not in the vocabulary" not in output["arms.md"]
    assert "reports/mine/index.html" in output["arms.md"]
    report = (root / "reports/mine/README.md").read_text()
    assert re.search(r"^\| mask-25 \| Mask rate 25 %\. \| dynamic \|", report, re.M)
    assert "](figures/curves-rate-and-selection.svg)" in report


def test_a_new_claim_gets_an_outcome_and_is_exploratory(followed):
    root, output = followed
    assert "run: 0 cells were stale" in output["claims.md"]
    assert re.search(r"W\.25.*undecided", output["claims.md"], re.S)
    assert "exploratory" in output["claims.md"]
    report = (root / "reports/mine/README.md").read_text()
    assert re.search(r"^\| W\.25 \| Selecting more than 15 % of .* \| undecided, exploratory \|", report, re.M)


def test_a_new_text_is_studied(followed):
    root, output = followed
    assert "run: 4 cells were stale" in output["corpora.md"]
    study = load_study(root / "experiments/reference")
    assert study.settings.corpus.local == "reference"
    assert " on reference, for " in (root / "reports/reference/README.md").read_text()


def test_a_second_probe_task_needs_no_code_and_no_training(followed):
    root, output = followed
    assert "run: 4 cells were stale" in output["probe-tasks.md"]
    assert "pretrain " not in output["probe-tasks.md"]
    markdown = (root / "reports/reference/README.md").read_text()
    section = markdown.partition("### Probe task: classes\n")[2].partition("\n## ")[0]
    assert "TF-IDF" in section
    for arm in ("dynamic", "all-mask"):
        assert re.search(rf"\| {arm} \| 2 \| \d+\.\d \| \\\[.*?\\\] \| \d+\.\d \|", section)
    page = (root / "reports/reference/index.html").read_text()
    assert '<h3 id="probe-task-classes">' in page
    assert "Probe task: classes" in page


def test_minimal_pairs_need_no_code_and_no_training(followed):
    root, output = followed
    assert "run: 4 cells were stale" in output["minimal-pairs.md"]
    assert "pretrain " not in output["minimal-pairs.md"]
    assert re.search(r"│ agreement +│ +10 │", output["minimal-pairs.md"])
    markdown = (root / "reports/reference/README.md").read_text()
    section = markdown.partition("### Minimal pairs: agreement\n")[2].partition("\n### ")[0]
    for arm in ("dynamic", "all-mask"):
        assert re.search(rf"^\| {arm} \| 2 \| \d+\.\d \|", section, re.M)
    assert "### Token identity" in markdown


def refused(line: str) -> str | None:
    """What the command line says against a `study` command without running it; None if it accepts the line."""
    command, *arguments = shlex.split(line, comments=True)
    try:
        typer.main.get_command(app).commands[command].make_context(command, arguments)
    except KeyError:
        return f"{line}: no such command"
    except Exception as error:              # one class of typer for each way in which a line is wrong
        return f"{line}: {error}"
    return None


def test_every_study_command_that_a_page_shows_has_the_right_options_and_arguments(monkeypatch):
    monkeypatch.chdir(ROOT)                 # an argument counts as a study if it is the folder of one
    texts = [path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs" / page for page in PAGES))]
    shown = [line for text in texts for kind, body in BLOCK.findall(text) if kind in ("console", "sh")
             for line in body.replace("\\\n", " ").splitlines()]
    lines = [match[1] for line in shown if (match := re.match(r"(?:.*-m )?study ([a-z].*)", line))]
    assert {"run", "pretrain", "finetune", "verify"} <= {line.split()[0] for line in lines}
    assert list(filter(None, map(refused, lines))) == []


@pytest.mark.parametrize("line", [
    "reprot", "report --jobs 4", "pretrain --arm dynamic", "pretrain --arm dynamic --seed x",
    "report experiments/tiny experiments/mine", "export dynamic-0 --study experiments/mine"])
def test_a_wrong_line_would_be_found(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert refused(line) is not None


def test_every_make_target_that_contributors_are_told_exists():
    told = set(re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / "CONTRIBUTING.md").read_text(), re.M))
    assert {"check", "test", "test-extras"} <= told
    assert told <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))


def test_the_pages_build_without_a_warning_and_load_nothing_from_other_sites(tmp_path):
    assert {path.name for path in (ROOT / "docs").glob("*.md")} == set(PAGES)
    subprocess.run([sys.executable, "-m", "sphinx", "--fail-on-warning", "--quiet", "docs", str(tmp_path)], cwd=ROOT,
                   check=True)
    for page in PAGES:
        html = (tmp_path / page).with_suffix(".html").read_text()
        assert re.findall(r'<(?:script|img|link)[^>]*\b(?:src|href)="(https?:[^"]*)"', html) == []
