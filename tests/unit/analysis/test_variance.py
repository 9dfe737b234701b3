"""Sources of variance: their arms, deviations and shares with intervals, the table, the report and the claim."""
import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from study.analysis.claims import SpreadClaim
from study.analysis.measures import Value
from study.analysis.number_claims import decide_spread
from study.analysis.results import StudyResults
from study.analysis.variance import (
    EVERYTHING,
    deviation_interval,
    ratio_interval,
    sources_of,
    variance_table,
)
from study.config.load import load_study
from study.report.page import write_report
from tests.support.drawings import without_drawings
from tests.support.fake_arms import many_arms
from tests.support.fake_results import compare
from tests.support.studies import ROOT

ARMS = ["dynamic", "vary-initialization", "vary-order", "vary-masks", "dynamic-reseeded", "all-mask"]
SPREAD = {"statement": "s", "source": "s", "published": "p", "fidelity": "proxy", "differs": "d",
          "claim_type": "spread", "arm": "vary-initialization", "metric": "nll", "margin": 0.05, "min_seeds": 5}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    study = many_arms(tmp_path_factory.mktemp("variance"), ARMS)
    compare(study)
    with without_drawings():
        write_report(study)
    return study


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    runs = 2.0 * rng.normal(size=(4000, 10)), rng.normal(size=(4000, 8))
    deviations = np.array([deviation_interval(values) for values in runs[0]])
    ratios = np.array([ratio_interval(first, second) for first, second in zip(*runs, strict=True)])
    for intervals, truth in ((deviations, 2.0), (ratios, 4.0)):
        covered = (intervals[:, 1] < truth) & (truth < intervals[:, 2])
        assert covered.mean() == pytest.approx(0.95, abs=0.012)


def test_intervals_are_those_of_chi_squared_and_f():
    values, others = np.array([1.0, 2.0, 4.0, 5.5]), np.array([1.0, 1.5, 1.2])
    deviation, low, high = deviation_interval(values)
    assert deviation == pytest.approx(values.std(ddof=1))
    assert low == pytest.approx(math.sqrt(3 * values.var(ddof=1) / stats.chi2.ppf(0.975, 3)))
    assert high == pytest.approx(math.sqrt(3 * values.var(ddof=1) / stats.chi2.ppf(0.025, 3)))
    ratio, low, high = ratio_interval(values, others)
    assert ratio == pytest.approx(values.var(ddof=1) / others.var(ddof=1))
    assert (low, high) == pytest.approx((ratio / stats.f.ppf(0.975, 3, 2), ratio / stats.f.ppf(0.025, 3, 2)))
    assert np.isnan(ratio_interval(values, np.ones(3))).all()


def test_the_arms_are_found_by_what_they_vary(study):
    assert sources_of(study) == {EVERYTHING: "dynamic", "initialisation": "vary-initialization",
                                 "data order": "vary-order", "masks": "vary-masks"}
    assert sources_of(load_study(ROOT)) == {}               # the quick study has none


def test_the_table_has_each_source_against_all_of_them(study):
    table, results = variance_table(StudyResults(study)), StudyResults(study)
    assert table.metric.tolist() == 4 * ["nll"] + 4 * ["probe_accuracy"]
    nll = table[table.metric == "nll"].set_index("source")
    values = {arm: np.array([cell.evaluation["mask_only"]["nll"] for cell in results.of_arm(arm)]) for arm in ARMS}
    for source, row in nll.iterrows():
        assert row.deviation == pytest.approx(values[row.arm].std(ddof=1))
        if source != EVERYTHING:
            assert row.share == pytest.approx(values[row.arm].var(ddof=1) / values["dynamic"].var(ddof=1))
            assert row.share_low < row.share < row.share_high
    assert math.isnan(nll.share[EVERYTHING])


def test_the_report_has_the_table_and_other_studies_have_not(study, tmp_path):
    text = (study.reports / "README.md").read_text()
    assert "## Sources of variance" in text
    assert text.count("| initialisation | vary-initialization | 5 |") == 2
    assert "tables/variance.csv" in text
    assert "](figures/variance.svg)" in text
    assert len(pd.read_csv(study.reports / "tables" / "variance.csv")) == 8
    plain = many_arms(tmp_path, ["dynamic", "dynamic-reseeded"])
    compare(plain)
    with without_drawings():
        write_report(plain)
    assert not (plain.reports / "tables" / "variance.csv").exists()
    assert "Sources of variance" not in (plain.reports / "README.md").read_text()


@pytest.mark.parametrize(("deviation", "outcome"), [(0.3, "holds"), (0.01, "reversed"), (0.035, "undecided")])
def test_a_claim_about_the_spread_is_decided_by_the_interval(study, monkeypatch, deviation, outcome):
    values = deviation * stats.zscore([1.0, 2.0, 4.0, 5.5, 3.0], ddof=1)
    monkeypatch.setattr("study.analysis.number_claims.arm_metric",
                        lambda results, arm, metric: list(map(Value, values)))
    verdict = decide_spread(StudyResults(study), SpreadClaim(**SPREAD))
    assert verdict.outcome == outcome
    assert verdict.effect == pytest.approx(math.sqrt(2) * deviation)
    assert verdict.low < verdict.effect < verdict.high
    few = decide_spread(StudyResults(study), SpreadClaim(**SPREAD | {"min_seeds": 6}))
    assert (few.outcome, few.reason) == ("undecided", "too few seeds: 5, but the claim requires 6")


def test_the_claim_reaches_the_table(study):
    claim = json.loads((study.reports / "claims.json").read_text())["L25"]
    assert claim["result"]["reason"] == "too few seeds: 5, but the claim requires 10"
    assert len(claim["result"]["values"]["vary-initialization"]) == 5
