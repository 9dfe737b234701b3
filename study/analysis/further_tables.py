"""Tables that only some studies have: minimal pairs by phenomenon, token identity by layer, sources of variance, and
attention along training.

Shapes: n seeds, N pairs.
"""
from __future__ import annotations

import numpy as np
import pandas as pd

from study.analysis import statistics
from study.analysis.attention import attention_table
from study.analysis.measures import Value
from study.analysis.results import StudyResults
from study.analysis.variance import sources_of, variance_table

ALL = "all phenomena"
BASELINES = ("word-frequency", "bigram")


def further_tables(results: StudyResults) -> dict[str, pd.DataFrame]:
    """The tables by name; a study has only those that its settings ask for."""
    settings = results.study.settings.evaluation
    tables = {"minimal_pairs": pair_table(results)} if settings.minimal_pairs else {}
    tables |= {"token_identity": identity_table(results)} if settings.token_identity else {}
    tables |= {"variance": variance_table(results)} if sources_of(results.study) else {}
    recorded = results.study.settings.training.attention_offsets
    return tables | ({"attention": attention_table(results)} if recorded else {})


def pair_table(results: StudyResults) -> pd.DataFrame:
    """Accuracy on minimal pairs: one row per task, arm and phenomenon, and one for ALL of them.

    Means over seeds with 95 % two-way t intervals, clipped. For a phenomenon, seeds and pairs are random and its
    paradigms are fixed; for all phenomena, seeds and paradigms are random. The baselines stand beside each row. Arms
    that do not predict masked tokens are left out.
    """
    rows = []
    for task in results.study.settings.evaluation.minimal_pairs:
        key, levels = f"pairs/{task.name}", results.pair_baselines[task.name]
        for arm in results.study.settings.arms:
            cells = results.of_arm(arm)
            if any(f"{key}/correct" not in cell.evaluation_arrays for cell in cells):
                continue
            correct = np.stack([cell.evaluation_arrays[f"{key}/correct"] for cell in cells]).astype(float)    # (n, N)
            arrays = cells[0].evaluation_arrays
            names = dict.fromkeys(arrays[f"{key}/phenomenon"].tolist())
            parts = {ALL: _by_paradigm(correct, arrays[f"{key}/paradigm"])} | {
                name: correct[:, arrays[f"{key}/phenomenon"] == name] for name in names}
            counts = {ALL: correct.shape[1]} | {name: part.shape[1] for name, part in parts.items() if name != ALL}
            paradigm = arrays[f"{key}/paradigm"]
            paradigms = {name: len(set(paradigm[arrays[f"{key}/phenomenon"] == name])) for name in names}
            paradigms[ALL] = len(set(paradigm))
            rows += [{"task": task.name, "arm": arm, "phenomenon": name, "paradigms": paradigms[name],
                      "pairs": counts[name], "n": len(cells), **_mean_and_interval(part), **_levels(levels, name)}
                     for name, part in parts.items()]
    return pd.DataFrame(rows, columns=["task", "arm", "phenomenon", "paradigms", "pairs", "n", "accuracy", "low",
                                       "high", *BASELINES])


def _by_paradigm(correct: np.ndarray, paradigm: np.ndarray) -> np.ndarray:
    """Numbers per paradigm, whose mean per seed is that over pairs."""
    return np.stack([Value.of_rows(row, np.ones(len(row)), paradigm).texts for row in correct])


def _mean_and_interval(texts: np.ndarray) -> dict[str, float]:
    """Mean and interval of numbers per seed and text (n, N); over the texts alone if there is one seed."""
    estimate = statistics.two_way_estimate(texts) if len(texts) > 1 else statistics.t_estimate(texts[0])
    low, high = estimate.clipped(1.0)
    return {"accuracy": estimate.mean, "low": low, "high": high}


def _levels(levels: dict, phenomenon: str) -> dict[str, float]:
    """What each baseline reaches. levels: baseline -> its accuracies."""
    return {name: (level if phenomenon == ALL else level["by_phenomenon"][phenomenon])["accuracy"]
            for name, level in levels.items()}


def identity_table(results: StudyResults) -> pd.DataFrame:
    """Share of tokens that a linear probe reads from the states: one row per arm, encoder (trained, untrained) and
    layer (0: embeddings). Means over seeds with 95 % two-way t intervals over seeds and documents, clipped. Arms with a
    cell that was evaluated without this probe are left out."""
    rows = []
    for arm in results.study.settings.arms:
        cells = results.of_arm(arm)
        if any("token_identity" not in cell.evaluation for cell in cells):
            continue
        layers = cells[0].evaluation["token_identity"]["layers"]
        for encoder in layers:
            for layer in range(len(layers[encoder])):
                texts = np.stack([Value.of_rows(arrays[f"token_identity/{encoder}/layer-{layer}"].astype(float),
                                                arrays["token_identity/tokens"].astype(float),
                                                arrays.get("token_identity/documents")).texts
                                  for arrays in (cell.evaluation_arrays for cell in cells)])
                rows.append({"arm": arm, "encoder": encoder, "layer": layer, "n": len(cells),
                             **_mean_and_interval(texts)})
    return pd.DataFrame(rows, columns=["arm", "encoder", "layer", "n", "accuracy", "low", "high"])


def one_cell_rows(frame: pd.DataFrame, scores: dict[str, np.ndarray]) -> list[dict]:
    """Accuracy of one encoder and of the baselines: a row for ALL phenomena, then one per phenomenon.

    frame: the pairs, with columns phenomenon and paradigm. scores: `encoder` and the baselines -> what is right per
    pair, (N,). The 95 % interval of a phenomenon is that of a share of so many pairs (Clopper and Pearson; ties make it
    wide), that of all phenomena a t interval over paradigms. With one paradigm, or one per pair, it is that of a share
    too.
    """
    parts = {ALL: np.ones(len(frame), bool)} | {name: (frame.phenomenon == name).to_numpy()
                                                for name in frame.phenomenon.unique()}
    rows = []
    for name, part in parts.items():
        correct, n = scores["encoder"][part], int(part.sum())
        if name == ALL and 1 < frame.paradigm.nunique() < n:
            by_paradigm = Value.of_rows(correct, np.ones(n), frame.paradigm.to_numpy(str)).texts
            low, high = statistics.t_estimate(by_paradigm).clipped(1.0)
        else:
            low, high = statistics.rate_interval(float(correct.sum()), n)
        rows.append({"phenomenon": name, "pairs": n, "accuracy": float(correct.mean()), "low": low, "high": high,
                     **{key: float(scores[key][part].mean()) for key in BASELINES}})
    return rows
