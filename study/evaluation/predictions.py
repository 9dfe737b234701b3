"""A trained cell on the fixed evaluation sets: `evaluation.json` and the row sums that paired comparisons need."""
from __future__ import annotations

import json

import numpy as np
import torch

from study.config import Loaded
from study.data.heldout import SETS, Heldout, load_heldout, save_arrays
from study.data.tokenizer import load
from study.evaluation.embedding import load_cell
from study.evaluation.perplexity import pair_correct, row_sums, summarize, token_nll
from study.model.heads import PretrainingModel

TOP = 5


def evaluate(study: Loaded, arm: str, seed: int) -> dict:
    """Scores one cell on the test set. Writes evaluation.json, evaluation.npz (row sums) and predictions.json."""
    settings, folder = study.settings.evaluation, study.cell(arm, seed)
    cell, model = load_cell(study, arm, seed)
    heldout = load_heldout(study.runs / "examples" / "test.npz")
    result: dict = {"hash": heldout.hash, "mask_only": None, "mixed": None, "nsp": None, "sop": None}
    arrays: dict[str, np.ndarray] = {}
    if cell.objective.kind == "mlm":
        for name in SETS:
            nll = token_nll(model, heldout.ids, heldout.sets[name], settings.batch_size)
            result[name] = summarize(nll, heldout, name)
            arrays[f"{name}/nll"] = row_sums(nll, heldout.sets[name])
            arrays[f"{name}/tokens"] = (heldout.sets[name].kind > 0).sum(1).astype(np.int32)
    if cell.objective.pair != "none":
        for task, pairs in heldout.pairs.items():
            correct = pair_correct(model, pairs, settings.batch_size)
            rate = float(pairs.label.mean())
            result[task] = {"accuracy": float(correct.mean()), "base_rate": max(rate, 1 - rate), "pairs": len(correct),
                            "trained_on": cell.objective.pair == task}
            arrays[f"{task}/correct"] = correct
    backend = load(study.runs / "tokenizer")
    samples = [] if result["mask_only"] is None else top_predictions(model, heldout, backend, settings.samples)
    save_arrays(arrays, folder / "evaluation.npz")
    (folder / "predictions.json").write_text(json.dumps(samples, indent=1, ensure_ascii=False) + "\n")
    (folder / "evaluation.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


@torch.inference_mode()
def top_predictions(model: PretrainingModel, heldout: Heldout, backend, rows: int) -> list[dict]:
    """The five likeliest pieces at each [MASK] of the first rows of the headline set: shown text, truth, guesses."""
    masks, samples = heldout.sets["mask_only"], []
    device = model.words.bias.device
    for row in range(min(rows, len(heldout.ids))):
        shown = torch.from_numpy(masks.shown[row:row + 1]).to(device)
        positions = np.flatnonzero(masks.kind[row])
        states = model.encoder(shown, torch.zeros_like(shown))
        logits = model.word_logits(states, torch.from_numpy(positions).to(device))
        share, guess = logits.float().softmax(-1).topk(TOP)
        samples.append({
            "tokens": [backend.id_to_token(i) for i in masks.shown[row].tolist()],
            "masked": [{"position": int(p), "truth": backend.id_to_token(int(heldout.ids[row, p])),
                        "top": [[backend.id_to_token(i), round(s, 4)] for i, s in zip(g, ss, strict=True)]}
                       for p, g, ss in zip(positions, guess.tolist(), share.tolist(), strict=True)]})
    return samples
