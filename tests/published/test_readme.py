"""The README: every path exists, every command is there, and its table is the one of the committed results."""
import re
import subprocess
import sys

import pytest

from study import StudyError
from study.config.load import load_study
from study.report import page
from tests.support.fake_results import compare, fake_study
from tests.support.studies import ROOT

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
                                     "mask", "predict", "encode", "export", "verify", "plan", "code", "trials",
                                     "register"])
def test_every_subcommand_has_an_example(command):
    found = subprocess.run([sys.executable, "-m", "study", command, "--help"], cwd=ROOT, capture_output=True, text=True,
                           check=True).stdout
    assert "Example:" in found


def test_the_table_is_made_from_results(tmp_path):
    study = fake_study(tmp_path)
    begin, end = page.marks(study)
    (tmp_path / "README.md").write_text(f"Head\n{begin}old{end}\ntail\n")
    compare(study)
    page.write_report(study)
    page.update_readme(study)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("Head\n")
    assert text.endswith("tail\n")
    assert "old" not in text
    assert "| static |" in text


@pytest.mark.parametrize("folder", [".", "experiments/wikitext2"])
def test_the_committed_findings_are_those_of_the_committed_results(folder):
    study = load_study(ROOT / folder)
    begin, end = page.marks(study)
    assert page.readme_block(study) == TEXT.partition(begin)[2].partition(end)[0]


def test_a_readme_without_a_place_for_the_study_says_what_to_put_there(tmp_path):
    study = fake_study(tmp_path)
    (tmp_path / "README.md").write_text("Head\n")
    compare(study)
    with pytest.raises(StudyError, match="no place for tiny; put the lines <!-- tiny:begin"):
        page.update_readme(study)
