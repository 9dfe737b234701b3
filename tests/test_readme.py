"""The README: every path exists, every command is there, and its table is the one of the committed results."""
import re
import subprocess
import sys

import pytest

from study.config import load_study
from study.report import page
from tests.conftest import ROOT
from tests.report.fake import compare, fake_study

TEXT = (ROOT / "README.md").read_text()


def test_every_path_exists():
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_command_exists():
    shown = "".join(re.findall(r"```sh\n(.*?)```", TEXT, re.S)) + "\n".join(re.findall(r"`([^`\n]+)`", TEXT))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"^make (?:[A-Z]+=\S+ )?([a-z]+)", shown, re.M)) <= targets
    listed = subprocess.run([sys.executable, "-m", "study", "--help"], cwd=ROOT, capture_output=True, text=True,
                            check=True).stdout
    commands = set(re.findall(r"^study ([a-z]+)", shown, re.M))
    assert commands
    assert [command for command in commands if not re.search(rf"\b{command}\b", listed)] == []
    stages = set(re.findall(r"^  ([a-z]+):$", (ROOT / "dvc.yaml").read_text(), re.M))
    assert {stage.split("@")[0] for stage in re.findall(r"dvc repro -s ([a-z]+)@", TEXT)} <= stages


@pytest.mark.parametrize("command", ["corpus", "tokenizer", "examples", "search", "pretrain", "evaluate", "probe",
                                     "compare", "report", "track", "ui", "where", "create", "readme", "claims", "run",
                                     "mask", "predict", "encode", "export"])
def test_every_subcommand_has_an_example(command):
    found = subprocess.run([sys.executable, "-m", "study", command, "--help"], cwd=ROOT, capture_output=True, text=True,
                           check=True).stdout
    assert "Example:" in found


def test_the_table_is_made_from_results(tmp_path):
    study = fake_study(tmp_path)
    (tmp_path / "README.md").write_text(f"Head\n{page.BEGIN}old{page.END}\ntail\n")
    compare(study)
    page.write_report(study)
    page.update_readme(study)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("Head\n")
    assert text.endswith("tail\n")
    assert "old" not in text
    assert "| static |" in text


def test_the_committed_table_is_that_of_the_committed_results():
    study = load_study(ROOT)
    block = page._render("readme.md", page.gather(study) | {"place": "reports/quick"}, escape=False)
    assert block == TEXT.partition(page.BEGIN)[2].partition(page.END)[0]
