"""When branched runs left the plateau: what they did before the branch counts, under the settings of then."""
import json
import math

import pytest

from study.analysis.gate import shortfall
from study.analysis.learning import learning_curve, training_curve
from study.analysis.reasons import Flag
from study.analysis.results import StudyResults
from study.analysis.stability import loss_spikes
from study.config.arms import resolve
from study.config.fingerprint import settings_yaml
from study.config.schema import Branch
from tests.support.fake_results import TUNED, fake_study
from tests.support.studies import changed

ALL_RANDOM = {"masking": {"mask": 0.0, "random": 1.0, "keep": 0.0}}
ALL_KEPT = {"masking": {"mask": 0.0, "random": 0.2, "keep": 0.8}}
STEP = 8                                    # of the branch; records are 4 steps apart


@pytest.fixture
def branched(tmp_path):
    """Makes a run that changes its settings at STEP. nlls, losses: its records, the first one at step 0."""
    study = fake_study(tmp_path)

    def make(own: dict, nlls: list, losses: list, before: dict | None = None):
        config = resolve(study, "static", TUNED)
        start = changed(config, **(before or {}))
        config = changed(config, **own).model_copy(update={"branch": Branch(step=STEP, before=start)})
        folder = study.cell("static", 1)
        (folder / "settings.yaml").write_bytes(settings_yaml(config))
        records = [{"step": 4 * number, "loss": loss, "validation_nll": nll, "clipped": 0, "largest_loss": loss,
                    "largest_gradient_norm": 1.0} for number, (nll, loss) in enumerate(zip(nlls, losses, strict=True))]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        results = StudyResults(study)
        return results, results.cell("static", 1)

    return make


def test_a_run_on_mask_has_one_curve_through_the_branch(branched):
    """The three validations below the plateau lie on both sides of the branch."""
    results, cell = branched({"masking": {"mask": 1.0, "random": 0.0, "keep": 0.0}}, [4.2, 3.5, 3.0, 2.4, 2.2],
                             [4.2] * 5)
    curve = learning_curve(results, cell)
    assert (curve.escape_step, curve.points[-1]) == (4, (16, 2.2))
    assert shortfall(results, cell) is None


def test_a_run_that_no_longer_sees_mask_left_the_plateau_while_it_did(branched):
    nlls, losses = [3.0, 2.9, 2.8, 9.0, 9.0], [9.0, 9.0, 9.0, 4.2, 2.0]
    results, cell = branched(ALL_RANDOM, nlls, losses)
    curve = learning_curve(results, cell)
    assert curve.points == [(12, 4.2), (16, 2.0)]
    assert (curve.measure, curve.earlier.measure) == ("training loss", "NLL")
    assert curve.escape_step == 0
    results, cell = branched(ALL_RANDOM, nlls, [9.0, 9.0, 9.0, 2.0, 2.6])
    assert shortfall(results, cell).flag == Flag.ABOVE_COUNT_MODEL          # the end counts under its own settings


def test_a_run_that_was_on_the_plateau_at_the_branch_may_leave_it_later(branched):
    results, cell = branched(ALL_RANDOM, [4.2] * 7, [9.0, 9.0, 9.0, 4.2, 2.0, 2.0, 2.0])
    assert learning_curve(results, cell).escape_step == 16
    results, cell = branched(ALL_RANDOM, [4.2] * 7, [2.0, 2.0, 2.0, 4.2, 4.2, 4.2, 4.2])
    assert learning_curve(results, cell).escape_step is None                # losses of the other arm do not count


def test_each_side_has_the_level_of_its_own_corruption(branched):
    """A copier of kept tokens has a loss of 2 without context; with all tokens replaced, it would have left."""
    results, cell = branched(ALL_RANDOM, [4.2] * 6, [2.0] * 6, before=ALL_KEPT)
    curve = training_curve(results, cell)
    assert curve.plateau == pytest.approx(math.log(55))
    assert curve.earlier.plateau < 2.1
    assert (curve.earlier.escape_step, curve.escape_step) == (None, 12)


def test_a_run_that_overfits_after_the_branch_passes_by_when_it_left_before(branched):
    results, cell = branched({"masking": {"schedule": "static"}}, [3.0, 2.9, 2.8, 4.2, 9.0], [9.0, 9.0, 9.0, 0.1, 0.1],
                             before={"masking": {"schedule": "dynamic"}})
    assert shortfall(results, cell) is None


def test_the_jump_of_the_loss_at_the_branch_is_no_spike(branched):
    for step, spikes in ((8, 0), (12, 1)):
        losses = [2.0 if 4 * number <= step else 4.0 for number in range(6)]
        results, cell = branched(ALL_RANDOM, [4.2] * 6, losses)
        assert loss_spikes(results, cell).cell == spikes
