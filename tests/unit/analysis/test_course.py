"""The training loss over a whole run and over its end, and the gap between senses."""
import json

import numpy as np
import pytest

from study.analysis.metrics import cell_metric
from study.analysis.results import StudyResults, read_arrays
from study.files import save_arrays
from tests.support.fake_results import fake_study


@pytest.fixture
def fake(tmp_path):
    return fake_study(tmp_path)


def metric(study, name):
    results = StudyResults(study)
    return cell_metric(results, results.cell("dynamic", 0), name)


def write_records(study, records: list[dict], steps: int) -> None:
    folder = study.cell("dynamic", 0)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    training = json.loads((folder / "training.json").read_text())
    (folder / "training.json").write_text(json.dumps(training | {"steps": steps}))


def test_every_step_counts_alike_however_often_the_loss_is_recorded(fake):
    """The losses of steps 1 to 20 are 20 to 1; the first steps are recorded one by one, then five at a time."""
    ends = [1, 2, 3, 4, 5, 10, 15, 20]
    records = [{"step": 0, "validation_nll": 9.0}]
    for before, step in zip([0, *ends], ends, strict=False):
        losses = [21 - number for number in range(before + 1, step + 1)]
        records.append({"step": step, "loss": np.mean(losses), "pair_loss": np.mean(losses) / 10})
    write_records(fake, records, 20)
    assert metric(fake, "running_loss").cell == pytest.approx(10.5)
    assert metric(fake, "running_pair_loss").cell == pytest.approx(1.05)
    assert metric(fake, "last_loss") is None            # the last tenth is 2 steps, and no record has them alone


def test_the_end_of_a_run_is_its_last_tenth(fake):
    write_records(fake, [{"step": step, "loss": 30.0 - step} for step in range(1, 31)], 30)
    assert metric(fake, "last_loss").cell == pytest.approx(np.mean([2, 1, 0]))
    assert metric(fake, "last_pair_loss") is None
    assert metric(fake, "running_pair_loss") is None


def test_a_diverged_run_has_no_mean_loss(fake):
    write_records(fake, [{"step": 1, "loss": 3.0}, {"step": 2, "loss": None}], 2)
    assert metric(fake, "running_loss") is None


def test_the_gain_in_the_gap_between_senses_is_paired_by_word(fake):
    assert metric(fake, "sense_gain") is None           # no senses were measured
    path = fake.cell("dynamic", 0) / "evaluation.npz"
    gaps = {"senses/trained": np.array([0.3, 0.1, 0.2]), "senses/untrained": np.array([0.1, 0.1, 0.1])}
    save_arrays(read_arrays(path) | gaps, path)
    assert metric(fake, "sense_gap").cell == pytest.approx(0.2)
    np.testing.assert_allclose(metric(fake, "sense_gain").texts, [0.2, 0, 0.1])
