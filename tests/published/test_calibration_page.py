"""The page of simulated studies is what the recorded counts give, and the counts are what the simulation gives."""
import numpy as np
import pytest

from study.analysis.results import read_arrays
from tests.benchmarks.calibration import RESULTS, recorded, scenarios
from tests.benchmarks.calibration_page import page_text, sentences
from tests.support.simulated import Rate, RowStudy
from tests.support.studies import ROOT


def test_the_page_is_made_from_the_recorded_counts():
    assert (ROOT / "reports/calibration.md").read_text() == page_text(recorded())


def test_every_scenario_is_recorded():
    assert [(record["table"], record["name"]) for record in recorded()] == [
        (scenario.table, scenario.name) for scenario in scenarios()]
    assert RESULTS.read_text().count("\n") == len(scenarios())


@pytest.mark.parametrize("name", ["3 seeds, 20 articles, medium/medium", "3 seeds, noise of draws medium",
                                  "escape, 5 seeds, limit 1", "spread, 20 seeds, heavy tails"])
def test_a_scenario_gives_the_recorded_counts_again(name):
    scenario, = (scenario for scenario in scenarios() if scenario.name == name)
    record, = (record for record in recorded() if record["name"] == name)
    assert scenario.simulate() == record


def test_a_target_is_missed_by_more_than_two_standard_errors():
    """With 1,500 studies, two standard errors are 1.1 points at 5 %."""
    def rate(percent: float) -> Rate:
        return Rate(round(15 * percent), 1500, highest=0.05)

    assert not rate(6.0).too_high
    assert rate(6.2).too_high
    assert str(rate(6.2)) == "**6.2**"
    assert sentences("False", [("few", rate(4.0)), ("many", rate(6.2))]) == [
        "False: 4.0 to 6.2 %. On target in 1 of 2 scenarios.", "Too high in 1: many (6.2 %)."]
    assert Rate(88, 100, 0.93, 0.98).too_low is False
    assert Rate(87, 100, 0.93, 0.98).too_low is True


def test_simulated_articles_are_a_little_more_unequal_than_real_ones():
    def spread(tokens: np.ndarray, documents: np.ndarray) -> float:
        sums = np.bincount(np.unique(documents, return_inverse=True)[1], weights=tokens)
        assert len(sums) == 60
        return sums.std() / sums.mean()

    real = read_arrays(ROOT / "experiments/wikitext2/runs/wikitext2/dynamic-60/evaluation.npz")
    rng = np.random.default_rng(0)
    simulated = np.mean([spread(*RowStudy(articles=60).rows(rng)[1:]) for _ in range(200)])
    assert 1 < simulated / spread(real["mask_only/tokens"], real["documents"]) < 1.2
