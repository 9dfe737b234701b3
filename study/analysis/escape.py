"""When the runs of each arm leave the unigram plateau: survival statistics.

A run that never does is censored at its last step: its escape step is larger, and nobody knows by how much. So means of
escape steps would mislead, and the table has Kaplan-Meier medians and a log-rank test instead. A difference is given
for the steps spent on the plateau within a limit, up to which it is known of every run whether it was there. The test
treats the runs of two arms as independent, although they are paired by seed, and assumes that both arms had the same
number of steps.

Shapes: n runs.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from study.analysis import statistics
from study.analysis.attention import first_looks
from study.analysis.decision_rules import ALPHA
from study.analysis.learning import learning_curve
from study.analysis.results import CellResults, StudyResults
from study.analysis.statistics import Estimate

RESAMPLES = 4000                            # enough for all ways with seven runs an arm
COLUMNS = ("arm", "baseline", "n", "escaped", "median", "median_low", "median_high", "median_tokens", "median_seconds",
           "limit", "difference", "low", "high", "p", "p_holm", "smallest_p", "tokens_difference", "tokens_low",
           "tokens_high", "tokens_p", "attending", "attends")


class Escapes(NamedTuple):
    """The runs of one arm: `step` (n,) at which each escaped or, if not `escaped` (n,), ended."""
    step: np.ndarray
    escaped: np.ndarray


def escapes(results: StudyResults, cells: list[CellResults]) -> Escapes:
    """The escape steps of runs, each in its own corruption and format."""
    steps = [learning_curve(results, cell).escape_step for cell in cells]
    # a diverged run would never have escaped, so it counts to the end of the steps that it was meant to have
    ends = [cell.settings.training.steps if cell.training["status"] == "diverged" else cell.training["steps"]
            for cell in cells]
    return Escapes(np.array([end if step is None else step for step, end in zip(steps, ends, strict=True)]),
                   np.array([step is not None for step in steps]))


def escape_table(results: StudyResults) -> pd.DataFrame:
    """One row per arm that is trained.

    median: Kaplan-Meier estimate of the escape step, with its 95 % interval (log-log); infinite if at most half of the
    runs escape. median_tokens, median_seconds: what the arm had used there. p: exact log-rank test against the
    baseline; p_holm: adjusted by Holm over the arms of one factor; smallest_p: the least that p_holm could be with so
    many arms and runs. difference: mean over seeds of the steps on the plateau, at
    most `limit`, minus those of the baseline, with its 95 % t interval, which can disagree with p. limit: the smallest
    number of steps that a run of the two arms which never escaped was trained for; without such a run, the latest
    escape. tokens_difference, tokens_low, tokens_high, tokens_p: the same in tokens, with p not adjusted, for an arm
    that reads another number of tokens per step than its baseline; NaN otherwise. attending, attends: of first_looks.
    """
    study, rows = results.study, []
    arms = [arm for arm in study.settings.arms if all(cell.training["steps"] for cell in results.of_arm(arm))]
    of = {arm: escapes(results, results.of_arm(arm)) for arm in arms}
    for arm in arms:
        baseline = study.arms[arm].baseline
        row = {"arm": arm, "n": len(of[arm].step), "escaped": int(of[arm].escaped.sum()), **_median(of[arm]),
               **first_looks(results.of_arm(arm))}
        row |= {f"median_{unit}": row["median"] * _per_step(results.of_arm(arm), unit)
                for unit in ("tokens", "seconds")}
        if baseline in of:
            limit, _, _, estimate = restricted_estimate(of[arm], of[baseline])
            row |= {"baseline": baseline, "p": log_rank_p(of[arm], of[baseline]), "limit": limit,
                    "difference": estimate.mean, "low": estimate.low, "high": estimate.high}
            row |= _in_tokens(*((of[name], _per_step(results.of_arm(name), "tokens")) for name in (arm, baseline)))
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    factors = table.arm.map(lambda arm: study.arms[arm].factor)
    for _, part in table[table.p.notna()].groupby(factors):
        table.loc[part.index, "p_holm"] = statistics.holm(part.p.tolist())
        runs = part.n.astype(int)           # an arm and its baseline have the same seeds
        table.loc[part.index, "smallest_p"] = [min(1.0, len(part) * 2 / math.comb(2 * n, n)) for n in runs]
    return table


def _in_tokens(ours: tuple[Escapes, float], theirs: tuple[Escapes, float]) -> dict[str, float]:
    """The comparison of two arms in tokens. ours, theirs: the runs of an arm and its tokens per step. Empty if both
    arms read as many tokens per step, since the comparison in steps says the same then."""
    if math.isclose(ours[1], theirs[1]):
        return {}
    first, second = (Escapes(runs.step * tokens, runs.escaped) for runs, tokens in (ours, theirs))
    _, _, _, estimate = restricted_estimate(first, second)
    return {"tokens_difference": estimate.mean, "tokens_low": estimate.low, "tokens_high": estimate.high,
            "tokens_p": log_rank_p(first, second)}


def _median(runs: Escapes) -> dict[str, float]:
    from statsmodels.duration.survfunc import SurvfuncRight

    if not runs.escaped.any():
        return {"median": math.inf, "median_low": math.nan, "median_high": math.inf}
    curve = SurvfuncRight(runs.step, runs.escaped.astype(int))
    with np.errstate(divide="ignore", invalid="ignore"):        # at the last escape, where the curve is 0
        low, high = curve.quantile_ci(0.5, alpha=ALPHA, method="cloglog")
    high = math.nan if math.isnan(low) else _finite(high)       # all runs escape at one step: no interval
    return {"median": _finite(curve.quantile(0.5)), "median_low": float(low), "median_high": high}


def _finite(value: float) -> float:
    """A quantile that the curve does not reach is infinite."""
    return math.inf if math.isnan(value) else float(value)


def _per_step(cells: list[CellResults], unit: str) -> float:
    """Tokens or seconds per step, over all runs of an arm."""
    return sum(cell.training[unit] for cell in cells) / sum(cell.training["steps"] for cell in cells)


def escape_correlation(cells: pd.DataFrame) -> float:
    """Spearman's rank correlation between escape step and final NLL, over the runs that left the plateau and have an
    NLL. NaN for fewer than three, or if all are alike. cells: the table of cells."""
    known = cells.dropna(subset=["escape_step", "nll"])
    if len(known) < 3 or known.escape_step.nunique() == 1 or known.nll.nunique() == 1:
        return math.nan
    return float(np.corrcoef(known.escape_step.rank(), known.nll.rank())[1, 0])


def log_rank_p(first: Escapes, second: Escapes) -> float:
    """The exact p of the log-rank test that two arms leave the plateau alike: over all ways to deal the runs out.

    The p value of the usual normal approximation is too small for five runs an arm. Beyond RESAMPLES ways, so many are
    drawn at random. 1 if no run of either arm escapes; NaN with fewer than two runs an arm.
    """
    from scipy import stats

    if min(len(first.step), len(second.step)) < 2:
        return math.nan
    if not (first.escaped.any() or second.escaped.any()):
        return 1.0

    runs = [np.where(arm.escaped, arm.step, -arm.step) for arm in (first, second)]
    test = stats.permutation_test(runs, _log_rank(np.concatenate(runs)), n_resamples=RESAMPLES, vectorized=True,
                                  alternative="two-sided", rng=np.random.default_rng(0))
    return float(test.pvalue)


def _log_rank(runs: np.ndarray) -> Callable[..., np.ndarray]:
    """The statistic of SciPy's `logrank`, for many ways at once to deal out these runs (n,): escape steps, or minus the
    last steps. However they are dealt, the steps at which runs escape are the same (k of them), and so are the numbers
    of runs at risk and escaping there."""
    times = np.unique(runs[runs > 0])                                           # (k,)
    at_risk, events = (np.abs(runs)[:, None] >= times).sum(0), (runs[:, None] == times).sum(0)
    several = int((at_risk > 1).sum())      # a last run alone adds no variance

    def statistic(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        at_risk_x = (np.abs(x)[..., None] >= times).sum(-2)                     # (..., k)
        variance = at_risk_x * (at_risk - at_risk_x) * events * (at_risk - events)
        variance = variance[..., :several] / (at_risk**2 * (at_risk - 1))[:several]
        with np.errstate(divide="ignore", invalid="ignore"):
            value = ((x > 0).sum(-1) - (at_risk_x * (events / at_risk)).sum(-1)) / np.sqrt(variance.sum(-1))
        return np.where(np.isnan(value), 0.0, value)        # all runs leave at one step: nothing to compare

    return statistic


def restricted_steps(first: Escapes, second: Escapes) -> tuple[int, np.ndarray, np.ndarray]:
    """The limit, and the steps (n,) on the plateau within it, of two arms. The limit is the smallest number of steps
    that a run which never escaped was trained for, so the steps within it are known for every run."""
    ends = [step for runs in (first, second) for step, escaped in zip(runs.step, runs.escaped, strict=True)
            if not escaped]
    limit = int(min(ends, default=max(*first.step, *second.step)))
    return limit, np.minimum(first.step, limit).astype(float), np.minimum(second.step, limit).astype(float)


def bound_of_difference(first: np.ndarray, second: np.ndarray, limit: float) -> str:
    """`≥` or `≤` if the difference of two arms' steps on the plateau within a limit, first minus second, is a lower or
    an upper bound of that of their escape steps. Empty if it is neither, as with runs of both arms that never escaped.

    first, second (n,): escape steps, NaN for runs that never escaped. limit: of `restricted_steps`.
    """
    for sign, ours, theirs in (("≥", first, second), ("≤", second, first)):
        if np.isnan(ours).any() and (theirs <= limit).all():
            return sign
    return ""


def restricted_estimate(first: Escapes, second: Escapes) -> tuple[int, np.ndarray, np.ndarray, Estimate]:
    """The limit, the steps (n,) on the plateau within it of two arms, and their mean difference, first minus second,
    paired by seed. The estimate is NaN if no run of either arm escapes: which arm would escape first is then unknown.
    """
    limit, ours, theirs = restricted_steps(first, second)
    known = first.escaped.any() or second.escaped.any()
    return limit, ours, theirs, statistics.t_estimate(ours - theirs if known else np.array([]))
