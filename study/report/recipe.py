"""What Dive into Deep Learning prints about its own run, for studies that train its recipe: the running means of both
losses, sentence pairs per second, and its example of two vectors; and the sense probe beside that example."""
from __future__ import annotations

import numpy as np

from study.analysis import statistics
from study.analysis.claims import PointClaim, load_claims
from study.analysis.comparisons import compare_arms
from study.analysis.metrics import arm_metric
from study.analysis.results import CellResults, StudyResults
from study.config.arms import resolve

FORMAT = "paragraph-pairs"                  # the input format of the recipe
LOSSES = ("running_loss", "running_pair_loss", "last_loss", "last_pair_loss")


def course_section(results: StudyResults) -> dict | None:
    """The context of course.md, None if no arm has the recipe's pairs. `rows`: one per arm with means over seeds and
    intervals (`running_loss` and so on; None if a run diverged); `published`: the published numbers by arm and
    metric."""
    study = results.study
    arms = [arm for arm in study.settings.arms if resolve(study, arm).inputs.format == FORMAT]
    if not arms:
        return None
    points = [claim for claim in load_claims(study).values() if isinstance(claim, PointClaim) and claim.arm in arms]
    published = {arm: {claim.metric: claim.number for claim in points if claim.arm == arm} for arm in arms}
    return {"rows": [_losses(results, arm) for arm in arms], "published": published}


def _losses(results: StudyResults, arm: str) -> dict:
    cells = results.of_arm(arm)
    row = {"arm": arm, "steps": max(cell.training["steps"] for cell in cells), "speed": _pairs_per_second(cells)}
    for metric in LOSSES:
        values = arm_metric(results, arm, metric)
        row[metric] = None if values is None else statistics.t_estimate(np.array([value.cell for value in values]))
    return row


def _pairs_per_second(cells: list[CellResults]) -> float | None:
    """The mean over the runs; None if one has no steps."""
    if not all(cell.training["seconds"] for cell in cells):
        return None
    return float(np.mean([cell.training["rows_seen"] / cell.training["seconds"] for cell in cells]))


def sense_section(results: StudyResults) -> dict | None:
    """The context of senses.md, None if senses were not measured. `rows`: one per arm, with the estimates of the
    distances and of the gap of both encoders, and of the gain, over seeds and words; `example`: that of the baseline's
    first seed."""
    study = results.study
    first = results.cell(study.settings.baseline, study.settings.seeds[0]).evaluation.get("senses")
    if first is None:
        return None
    return {"rows": [_senses(results, arm) for arm in study.settings.arms], "words": first["words"],
            "unknown": first["unknown"], "example": first["example"], "seed": study.settings.seeds[0]}


def _senses(results: StudyResults, arm: str) -> dict:
    scores = [cell.evaluation["senses"] for cell in results.of_arm(arm)]
    means = {f"{encoder}_{key}": float(np.mean([score[encoder][key] for score in scores]))
             for encoder in ("trained", "untrained") for key in ("within", "between", "gap")}
    return {"arm": arm} | means | {"gain": compare_arms(results, arm, None, "sense_gain").estimate}
