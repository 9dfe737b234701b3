"""README.md and docs/verdicts.md: paths and commands exist; generated parts are those of the committed results."""
import json
import math
import re

import pytest
import typer

from study.analysis.results import StudyResults
from study.cli.app import app
from study.config.load import load_study
from study.report.blocks import markers
from study.report.facts import gather
from study.report.readme import BLOCKS
from tests.support.published import published_studies
from tests.support.studies import ROOT

TEXT = (ROOT / "README.md").read_text()
SHELL = "".join(re.findall(r"```sh\n(.*?)```", TEXT, re.S)) + "\n".join(re.findall(r"`([^`\n]+)`", TEXT))


def test_every_linked_path_exists():
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_outcomes_in_the_text_are_those_of_the_results():
    shown = re.findall(r"\[([A-Z][\w.]*)\]\((experiments/\w+/reports/\w+)/README\.md#([\w-]+)\): ([a-z, ]+); ([a-z ]+)",
                       " ".join(TEXT.split()))
    assert {"S0.6", "S1.5", "S3.1d", "S3.1b", "S0.11", "L2", "S0.16", "F1"} == {name for name, *_ in shown}
    for name, reports, anchor, outcome, fidelity in shown:
        claim = json.loads((ROOT / reports / "claims.json").read_text())[name]
        verdict = f", claim {claim['verdict']}" if claim["verdict"] else ""
        assert (claim["result"]["outcome"] + verdict, claim["fidelity"]) == (outcome, fidelity), name
        assert f'id="{anchor}"' in (ROOT / reports / "index.html").read_text(), name


def test_the_highest_rate_was_the_best_at_every_seed():
    study = load_study(ROOT / "experiments/finetuning")
    claim = json.loads((study.reports / "claims.json").read_text())["F1"]
    highest = math.log10(max(study.settings.finetune.recipe.learning_rates))
    assert claim["result"]["values"]["dynamic"] == pytest.approx([highest] * len(study.settings.seeds))
    assert claim["high"] < highest


def test_the_perplexities_of_the_tutorial_are_those_of_its_last_validations():
    study = load_study(ROOT / "experiments/tutorial")
    first, second = (math.exp(cell.records[-1]["remasked_nll"]) for cell in StudyResults(study).cells)
    assert f"run twice on Wikipedia, ends at {first:.0f} and {second:.0f} in" in " ".join(TEXT.split())


def test_it_fits_on_a_screen_and_a_half():
    assert len(TEXT.splitlines()) <= 75


def test_every_make_target_exists():
    shown = set(re.findall(r"^make (?:[A-Z]+=\S+ )?([a-z]+)", SHELL, re.M))
    assert shown
    assert shown <= set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))


def test_every_command_and_stage_exists():
    commands = typer.main.get_command(app).commands.keys()
    assert set(re.findall(r"^study ([a-z]+)", SHELL, re.M)) <= commands
    stages = set(re.findall(r"^  ([a-z]+):$", (ROOT / "dvc.yaml").read_text(), re.M))
    assert {stage.split("@")[0] for stage in re.findall(r"dvc repro -s ([a-z]+)@", TEXT)} <= stages


@pytest.mark.parametrize("folder", published_studies().values())
def test_the_generated_parts_are_those_of_the_committed_results(folder):
    study = load_study(ROOT / folder)
    results, (begin, end) = StudyResults(study), markers(study.settings.name)
    facts = gather(results)
    for file, block in BLOCKS.items():
        text = (ROOT / file).read_text()
        if begin in text:                   # a study may be left out of the README
            assert block(results, facts) == text.partition(begin)[2].partition(end)[0]
