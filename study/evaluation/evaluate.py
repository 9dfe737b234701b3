"""A trained cell on the fixed evaluation sets: `evaluation.json` and the row sums that paired comparisons need."""
from __future__ import annotations

import math

import numpy as np
import torch

from study import StudyError
from study.config.load import Study
from study.data.evaluation_sets import SETS, EvaluationSet, load_evaluation_set, save_arrays
from study.data.tokenizer import load
from study.data.tokenizer_info import TokenizerInfo
from study.evaluation.embedding import load_cell, tokenize
from study.evaluation.perplexity import pair_correct, row_sums, summarize, token_nll
from study.files import write_json
from study.model.heads import PretrainingModel

TOP = 5


def evaluate(study: Study, arm: str, seed: int) -> dict:
    """Scores one cell on the test set. Writes evaluation.json, evaluation.npz (row sums) and predictions.json."""
    settings, folder = study.settings.evaluation, study.cell(arm, seed)
    config, model = load_cell(study, arm, seed)
    heldout = load_evaluation_set(study.runs / "examples" / "test.npz")
    backend = load(study.runs / "tokenizer")
    continues = TokenizerInfo.of(backend).is_continuation
    result: dict = {"hash": heldout.hash, "mask_only": None, "mixed": None, "nsp": None, "sop": None}
    arrays: dict[str, np.ndarray] = {}
    if config.objective.token_objective == "mlm":
        for name in SETS:
            nll = token_nll(model, heldout.ids, heldout.sets[name], settings.batch_size)
            result[name] = summarize(nll, heldout, name, continues)
            arrays[f"{name}/nll"] = row_sums(nll, heldout.sets[name])
            arrays[f"{name}/tokens"] = (heldout.sets[name].corruption > 0).sum(1).astype(np.int32)
    if config.objective.sentence_objective != "none":
        for task, pairs in heldout.pairs.items():
            correct = pair_correct(model, pairs, settings.batch_size)
            rate = float(pairs.label.mean())
            result[task] = {"accuracy": float(correct.mean()), "base_rate": max(rate, 1 - rate), "pairs": len(correct),
                            "trained_on": config.objective.sentence_objective == task}
            arrays[f"{task}/correct"] = correct
    shown = result["mask_only"] is not None and study.quotable
    samples = top_predictions(model, heldout, backend, settings.samples) if shown else []
    save_arrays(arrays, folder / "evaluation.npz")
    result = numbers(result)
    write_json(folder / "predictions.json", numbers(samples), ensure_ascii=False)
    write_json(folder / "evaluation.json", result)
    return result


def numbers(content):
    """The content with null where a float is no number: JSON has no NaN."""
    if isinstance(content, dict):
        return {key: numbers(value) for key, value in content.items()}
    if isinstance(content, list):
        return [numbers(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


@torch.inference_mode()
def top_predictions(model: PretrainingModel, heldout: EvaluationSet, backend, rows: int) -> list[dict]:
    """The five likeliest pieces at each [MASK] of the first rows of the headline set: shown text, truth, guesses."""
    masks, samples = heldout.sets["mask_only"], []
    for row in range(min(rows, len(heldout.ids))):
        positions = np.flatnonzero(masks.corruption[row])
        top = fill(model, masks.shown[row], positions, backend, TOP)
        samples.append({
            "tokens": [backend.id_to_token(i) for i in masks.shown[row].tolist()],
            "masked": [{"position": int(p), "truth": backend.id_to_token(int(heldout.ids[row, p])),
                        "top": [[word, round(share, 4)] for word, share in guesses]}
                       for p, guesses in zip(positions, top, strict=True)]})
    return samples


@torch.inference_mode()
def fill(model: PretrainingModel, ids: np.ndarray, positions: np.ndarray, backend,
         top: int) -> list[list[tuple[str, float]]]:
    """The `top` likeliest pieces, with their probabilities, at each of the positions (S,) of one row of ids (T,)."""
    device = model.words.bias.device
    shown = torch.from_numpy(ids[None]).to(device)
    logits = model.word_logits(shown, torch.zeros_like(shown), None, torch.from_numpy(positions).to(device))
    shares, guesses = logits.float().softmax(-1).topk(min(top, logits.shape[-1]))
    return [[(backend.id_to_token(i), share) for i, share in zip(*pair, strict=True)]
            for pair in zip(guesses.tolist(), shares.tolist(), strict=True)]


def predict(study: Study, text: str, cells: list[tuple[str, int]], top: int) -> dict[str, list]:
    """For each cell, for each [MASK] of the text, the likeliest pieces with their probabilities.

    Raises StudyError for a text without [MASK] (or with one behind the length of a row) and for a cell that fills none.
    """
    backend = load(study.runs / "tokenizer")
    mask, found = backend.token_to_id("[MASK]"), {}
    for arm, seed in cells:
        config, model = load_cell(study, arm, seed)
        if config.objective.token_objective == "causal":
            raise StudyError(f"{arm}-{seed} reads left to right: it cannot fill a [MASK]")
        ids = np.array(tokenize(backend, [text], config.examples.max_seq_length)[0], np.int64)
        positions = np.flatnonzero(ids == mask)
        asked = backend.encode(text, add_special_tokens=False).ids.count(mask)
        if not asked:
            raise StudyError("the text has no [MASK]; write one where a word is to be predicted")
        if len(positions) < asked:
            raise StudyError(f"{asked - len(positions)} of the text's {asked} [MASK] lie beyond the "
                             f"{config.examples.max_seq_length} tokens that {arm}-{seed} reads; shorten the text")
        found[f"{arm}-{seed}"] = fill(model, ids, positions, backend, top)
    return found
