"""The sections on what the book prints: its losses, its example, and the senses of words."""
import json
import re

import numpy as np
import pytest

from study.analysis.results import StudyResults, read_arrays, read_json
from study.files import save_arrays
from study.report.formatting import render
from study.report.page import write_report
from study.report.recipe import course_section, sense_section
from tests.support.fake_results import compare, fake_study

GAPS = {"trained": [0.4, 0.2], "untrained": [0.1, 0.1]}


@pytest.fixture
def study(tmp_path):
    """Arms dynamic and static, of which static has the book's pairs; its losses are 9.5 and 0.7 at every step."""
    study = fake_study(tmp_path)
    changes = study.arms["static"].changes | {"inputs": {"format": "paragraph-pairs"}}
    arms = study.arms | {"static": study.arms["static"].model_copy(update={"changes": changes})}
    for seed in study.settings.seeds:
        records = [{"step": 0, "validation_nll": 9.9}] + [
            {"step": step, "loss": 9.5 + 0.2 * seed, "pair_loss": 0.7 if step <= 36 else 0.6, "validation_nll": 2.2}
            for step in range(4, 41, 4)]
        path = study.cell("static", seed) / "metrics.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return study.model_copy(update={"arms": arms})


def add_senses(study) -> None:
    example = {"text": [1.0, 2.0, 3.0], "pair": [-1.0, 0.0, 4.0], "distance": 0.25}
    scores = {name: {"within": 0.1, "between": 0.1 + float(np.mean(gaps)), "gap": float(np.mean(gaps))}
              for name, gaps in GAPS.items()}
    for arm, seed in study.cells:
        folder = study.cell(arm, seed)
        evaluation = read_json(folder / "evaluation.json")
        evaluation["senses"] = scores | {"words": ["bank", "seal"], "unknown": ["crane"],
                                         "example": {"trained": example, "untrained": example}}
        (folder / "evaluation.json").write_text(json.dumps(evaluation))
        arrays = {f"senses/{name}": np.array(gaps) for name, gaps in GAPS.items()}
        save_arrays(read_arrays(folder / "evaluation.npz") | arrays, folder / "evaluation.npz")


def test_losses_are_shown_as_running_means_and_at_the_end(study):
    course = course_section(StudyResults(study))
    assert [row["arm"] for row in course["rows"]] == ["static"]
    row = course["rows"][0]
    assert row["running_loss"].mean == pytest.approx(9.6)
    assert row["running_pair_loss"].mean == pytest.approx(0.69)
    assert row["last_pair_loss"].mean == pytest.approx(0.6)
    assert row["speed"] == pytest.approx(96 / 1.5)
    course["published"]["static"] = {"running_loss": 9.454}
    text = render("course.md", {"course": course})
    assert re.search(r"\| static \| 40 \| 9\.600 \\\[[\d.]+, [\d.]+\\\] \| 0\.690 .* \| 64 \|", text)
    assert "| *published* | | 9.454 |" in text


def test_a_run_that_diverged_has_a_dash(study):
    path = study.cell("static", 0) / "metrics.jsonl"
    path.write_text(path.read_text() + json.dumps({"step": 44, "loss": None}) + "\n")
    row = course_section(StudyResults(study))["rows"][0]
    assert row["running_loss"] is None
    assert "| static | 40 | – |" in render("course.md", {"course": {"rows": [row], "published": {"static": {}}}})


def test_gaps_between_senses_are_shown_beside_those_before_training(study):
    add_senses(study)
    senses = sense_section(StudyResults(study))
    assert [row["arm"] for row in senses["rows"]] == ["dynamic", "static"]
    assert senses["rows"][0]["gain"].mean == pytest.approx(0.2)
    text = render("senses.md", {"senses": senses, "study": study.settings})
    assert "2 words with two senses; 1 more is not in the vocabulary" in text
    assert "| dynamic | 0.1000 | 0.4000 | +0.3000 | +0.1000 | +0.2000 |" in text
    assert "| trained | 1.000, 2.000, 3.000 | -1.000, 0.000, 4.000 | 0.250 |" in text


@pytest.mark.usefixtures("undrawn")
def test_only_studies_that_measure_them_have_the_sections(study, tmp_path):
    other = fake_study(tmp_path / "other")
    assert course_section(StudyResults(other)) is None
    assert sense_section(StudyResults(other)) is None
    compare(other)
    assert "Senses of words" not in write_report(other).with_name("README.md").read_text()
    add_senses(other)
    compare(other)
    assert "## Senses of words" in write_report(other).with_name("README.md").read_text()
