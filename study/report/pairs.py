"""The arms on segment pairs: masked tokens in their own input format, and sentence pairs beside the best possible."""
from __future__ import annotations

from study.analysis.learning import on_pairs
from study.analysis.results import StudyResults
from study.config.arms import resolve


def pair_section(results: StudyResults, arms: list[dict], references: dict) -> dict | None:
    """The context of pairs.md, None if no arm is trained on pairs.

    arms: rows of arms.csv. references: references.json. `rows` has the arms on pairs and the baselines that they lead
    back to. `nll` has the references on the masked tokens of the pairs, in nats; the floor is None if it is unknown.
    """
    study = results.study
    configs = {arm: resolve(study, arm) for arm in study.settings.arms}
    pair_arms = {arm for arm, config in configs.items() if on_pairs(config)}
    scores = results.cell(study.settings.baseline, study.settings.seeds[0]).evaluation["mask_only_pairs"]
    if not pair_arms or scores is None:
        return None
    shown = pair_arms | {study.arms[arm].baseline for arm in pair_arms}
    rows = [row | {"format": configs[row["arm"]].inputs.format} for row in arms if row["arm"] in shown]
    return {"rows": rows, "nll": {key: scores[f"{key}_nll"] for key in ("unigram", "floor")},
            "tokens": scores["tokens"], "ceilings": references.get("ceilings", {}).get("test")}
