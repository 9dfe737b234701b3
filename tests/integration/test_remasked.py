"""The section on the tutorial's own validation, and the figure of [CLS] vectors."""
import json
import math

import numpy as np
import pytest

from study.analysis.results import StudyResults
from study.config.arms import resolve
from study.config.fingerprint import settings_yaml
from study.files import save_arrays
from study.report import remasked
from study.report.page import write_report
from study.report.planes import plane_figure
from study.report.remasked import published_bands, remasked_section
from tests.support.drawings import without_drawings
from tests.support.fake_results import compare, fake_cell, fake_study, write_params


def with_validations(text: str) -> str:
    """params.yaml of a study with a validation with new masks and t-SNE."""
    for old, new in (("  eval_steps: ", "  eval_steps: 500\n  # "), ("  seed: 20190524\n",
                     "  seed: 20190524\n  remasked: {rows: 8, steps: 500}\n"),
                     ("  folds: ", "  projections: [tsne]\n  folds: "),
                     ("search:\n  arms: [dynamic]", "search:\n  arms: []"),
                     ("finetune:\n  arms: [dynamic]", "finetune:\n  arms: []"),
                     ("\nbaseline: dynamic\n", "\nbaseline: tutorial\n")):
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


@pytest.fixture
def study(tmp_path):
    """The arms tutorial and tutorial-rotary, seeds 0 and 1, with 5,000 steps; NLL 6 at step 500, 1 lower at each
    later record."""
    fake_study(tmp_path)
    study = write_params(tmp_path, "tiny", ["tutorial", "tutorial-rotary"], [0, 1],
                         with_validations)
    for name, content in (("best.yaml", "{}\n"), ("trials.json", "[]\n")):
        (study.runs / "search" / name).write_text(content)
    for arm, seed in study.cells:
        fake_cell(study, arm, seed, 2.0)
        folder = study.cell(arm, seed)
        (folder / "settings.yaml").write_bytes(settings_yaml(resolve(study, arm)))
        records = [{"step": step, "tokens": step, "loss": 5.0, "learning_rate": 0.1, "gradient_norm": 1.0,
                    "validation_nll": 6.5 - place, "remasked_nll": 6.0 - place + 0.01 * seed}
                   for place, step in enumerate((0, 500, 1000, 2500, 5000), -1)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        with np.load(folder / "probe.npz") as file:
            arrays = dict(file)
        rng = np.random.default_rng(seed)
        save_arrays(arrays | {f"topic/cls/{name}/tsne": rng.normal(size=(40, 2)) for name in ("trained", "untrained")},
                    folder / "probe.npz")
    return study


def test_each_published_step_has_a_row_with_a_number_per_seed(study):
    section = remasked_section(StudyResults(study))
    rows = {(row["arm"], row["step"]): row for row in section["rows"]}
    assert set(rows) == {(arm, step) for arm in ("tutorial", "tutorial-rotary") for step in (500, 1000, 2500, 5000)}
    row = rows["tutorial", 1000]
    assert row["published"] == pytest.approx((50, 100), rel=1e-3)
    assert row["remasked"] == pytest.approx([math.exp(5.0), math.exp(5.01)])
    assert row["fixed"] == pytest.approx([math.exp(5.5)] * 2)
    assert rows["tutorial-rotary", 1000]["published"] is None
    assert published_bands(StudyResults(study))["tutorial", 5000] == pytest.approx((20, 40), rel=1e-3)


def test_a_run_without_a_validation_and_one_that_diverged_are_no_obstacle(study, monkeypatch):
    """A run can diverge before its first validation, and an NLL of 800 nats has no perplexity."""
    curves = {"tutorial": {500: (800.0, 6.0)}, "tutorial-rotary": {}}
    results = StudyResults(study)
    arms = {id(cell.records): cell.arm for cell in results.cells}
    monkeypatch.setattr(remasked, "_validations", lambda records: curves[arms[id(records)]])
    rows = remasked_section(results)["rows"]
    assert [(row["arm"], row["step"]) for row in rows] == [("tutorial", 500)]
    assert rows[0]["remasked"] == [math.exp(remasked.MOST_NLL)] * 2


def test_the_report_shows_bands_numbers_and_both_projections(study):
    verdicts = compare(study)
    assert (verdicts["S0.4"].outcome, verdicts["S0.5"].outcome) == ("holds", "reversed")
    with without_drawings("planes", "remasked"):
        text = (write_report(study).parent / "README.md").read_text()
    assert "| tutorial | 1,000 | 50 to 100 | 148.4, 149.9 | 244.7, 244.7 |" in text
    drawn = {path.name for path in (study.reports / "figures").iterdir()}
    assert {"remasked.svg", "planes.svg"} <= drawn
    planes = (study.reports / "figures" / "planes.svg").read_text()
    assert all(title in planes for title in ("principal components, before training", "t-SNE, after training"))


def test_other_studies_have_neither(tmp_path):
    results = StudyResults(fake_study(tmp_path))
    assert remasked_section(results) is None
    assert plane_figure(results) == {}
