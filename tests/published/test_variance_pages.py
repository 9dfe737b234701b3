"""What the discussion of the study variance says of its runs, against the table of runs."""
import pandas as pd
import pytest
from scipy import stats

from tests.support.studies import ROOT

SOURCES = ["vary-initialization", "vary-order", "vary-masks"]


@pytest.fixture(scope="module")
def cells():
    return pd.read_csv(ROOT / "reports/variance/tables/cells.csv").set_index("arm")


def test_masks_explain_less_than_the_whole_if_runs_are_normal_and_six_shares_are_corrected_for(cells):
    def p_value(arm, metric):
        """Two-sided F test of the variance of an arm against the baseline's."""
        first, second = cells.loc[arm, metric], cells.loc["dynamic", metric]
        below = stats.f.cdf(first.var() / second.var(), len(first) - 1, len(second) - 1)
        return 2 * min(below, 1 - below)

    shares = [(arm, metric) for arm in SOURCES for metric in ("nll", "probe_accuracy")]
    small = {share for share in shares if len(shares) * p_value(*share) < 0.05}
    assert small == {("vary-masks", "probe_accuracy")}


@pytest.mark.parametrize("metric", ["nll", "probe_accuracy"])
def test_without_normal_numbers_the_sources_cannot_be_told_apart(cells, metric):
    assert stats.levene(*(cells.loc[arm, metric] for arm in SOURCES), center="median").pvalue > 0.05


@pytest.mark.parametrize(("metric", "worse"), [("nll", 1), ("probe_accuracy", -1)])
def test_the_runs_that_are_far_from_the_mean_are_the_worse_ones(cells, metric, worse):
    for arm in ("dynamic", *SOURCES):
        assert worse * stats.skew(cells.loc[arm, metric]) > 0, arm
        distance = worse * (cells.loc[arm, metric] - cells.loc[arm, metric].mean())
        assert distance.max() > -distance.min(), arm


def test_arms_with_the_same_initial_weights_have_the_same_untrained_encoder(cells):
    before = {arm: list(part) for arm, part in cells.untrained_accuracy.groupby(level="arm")}
    assert before["vary-order"] == before["vary-masks"]
    assert before["dynamic"] == before["vary-initialization"]
    assert before["dynamic"] != before["vary-order"]


def test_every_run_passes_the_gate_and_the_means_do_not_differ(cells):
    assert set(cells.gate) == {"passed"}
    compared = pd.read_csv(ROOT / "reports/variance/tables/comparisons.csv")
    assert set(compared.treatment) == set(SOURCES)
    assert (compared.p > 0.05).all()
