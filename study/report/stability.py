"""How smoothly the arms of a claim about divergence trained. Five runs cannot decide a rate, so no rate is shown
without these measures."""
from __future__ import annotations

import math

from study.analysis.tables import STABILITY
from study.report.formatting import percent

SHOWN = {                   # metric -> its value with that of the baseline, {ours} and {theirs}, in words
    "largest_gradient_norm": "a largest gradient norm of {ours:,.2f} (baseline {theirs:,.2f})",
    "clipped_share": "{ours} % ({theirs} %) of the steps clipped",
    "loss_spikes": "{ours:.1f} ({theirs:.1f}) loss spikes",
    "loss_above_start": "{ours} % ({theirs} %) of the logging intervals with a loss above the first one"}
SHARES = {metric for metric, largest in STABILITY.items() if largest == 1}


def stability_of(claim: dict, arms: dict[str, dict]) -> str:
    """The measures of both arms of a measured rate of divergence in words, means over their runs; empty for other
    claims. arms: arm -> its row of arms.csv, whose measures are NaN if they were not recorded."""
    if claim["claim_type"] != "rate" or not claim["result"]["measured"]:
        return ""
    texts = [_in_words(metric, *(arms[claim[key]].get(f"{metric}_mean", math.nan) for key in ("treatment", "baseline")))
             for metric in SHOWN]
    return "on average " + ", ".join(filter(None, texts)) if any(texts) else "their stability was not recorded"


def _in_words(metric: str, ours: float, theirs: float) -> str:
    """One measure of both arms; empty if it is unknown of either."""
    if math.isnan(ours) or math.isnan(theirs):
        return ""
    ours, theirs = (percent(value) if metric in SHARES else value for value in (ours, theirs))
    return SHOWN[metric].format(ours=ours, theirs=theirs)
