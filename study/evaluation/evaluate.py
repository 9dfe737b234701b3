"""The evaluate stage: scores of a trained cell on the fixed evaluation sets, and what it predicts for [MASK]."""
from __future__ import annotations

import math

import numpy as np
import torch

from study import StudyError
from study.config.made_with import EVALUATED_WITH
from study.config.study import Study
from study.data.evaluation_sets import PAIR_SET, SETS, EvaluationSet, MaskSet, load_evaluation_set
from study.data.tokenizer import TokenizerInfo, load
from study.evaluation.embedding import load_cell, tokenize
from study.evaluation.perplexity import by_label, row_sums, summarize
from study.files import save_arrays, write_json
from study.objectives.masked_lm import token_nll
from study.objectives.pretraining_model import PretrainingModel
from study.objectives.sentence_pairs import correct_pairs

TOP = 5                                     # predictions per [MASK] in predictions.json


def evaluate(study: Study, arm: str, seed: int) -> dict:
    """Scores one cell on the test set. Returns the content of evaluation.json.

    Writes evaluation.json, evaluation.npz (sums per row, for paired comparisons) and predictions.json.
    """
    settings, folder = study.settings.evaluation, study.cell(arm, seed)
    _, model = load_cell(study, arm, seed)
    heldout = load_evaluation_set(study.runs / "examples" / "test.npz")
    backend = load(study.runs / "tokenizer")
    result: dict = {"hash": heldout.hash, **dict.fromkeys((*SETS, PAIR_SET, "nsp", "sop"))}
    arrays: dict[str, np.ndarray] = {}
    for scores in (mask_scores(model, heldout, TokenizerInfo.of(backend).is_continuation, settings.batch_size),
                   pair_scores(model, heldout, settings.batch_size)):
        result |= scores[0]
        arrays |= scores[1]
    arrays |= documents_of(heldout)
    quotes = model.objective.token.predicts_masked_tokens and study.quotable
    samples = top_predictions(model, heldout, backend, settings.samples) if quotes else []
    (folder / EVALUATED_WITH).unlink(missing_ok=True)       # the probes write it, when all scores are there
    save_arrays(arrays, folder / "evaluation.npz")
    result = with_null(result)
    write_json(folder / "predictions.json", with_null(samples), ensure_ascii=False)
    write_json(folder / "evaluation.json", result)
    return result


def mask_scores(model: PretrainingModel, heldout: EvaluationSet, is_continuation: np.ndarray,
                batch_size: int) -> tuple[dict, dict[str, np.ndarray]]:
    """Returns the sections of evaluation.json on the mask sets, and the sums per row. Both are empty if the model does
    not predict masked tokens.

    Every model is scored on the rows of whole text and on the segment pairs, whichever of the two it was trained on.
    is_continuation (V,) bool: true for pieces that continue a word.
    """
    if not model.objective.token.predicts_masked_tokens:
        return {}, {}
    pairs, nll = heldout.pairs["nsp"], {}
    for name, masks in heldout.sets.items():
        # on a text without pieces of words, the masks of whole words are those of single tokens
        same = next((other for other in nll if _equal(heldout.sets[other], masks)), None)
        nll[name] = nll[same] if same else token_nll(model, heldout.ids, masks, batch_size)
    nll[PAIR_SET] = token_nll(model, pairs.rows.ids, pairs.masks, batch_size, pairs.rows)
    result, arrays = {}, {}
    for name, values in nll.items():
        ids, masks = (pairs.rows.ids, pairs.masks) if name == PAIR_SET else (heldout.ids, heldout.sets[name])
        result[name] = summarize(values, ids, masks, heldout.unigram, is_continuation)
        arrays[f"{name}/nll"] = row_sums(values, masks)
        arrays[f"{name}/tokens"] = (masks.corruption > 0).sum(1).astype(np.int32)
    result[PAIR_SET]["by_label"] = by_label(nll[PAIR_SET], pairs.masks, pairs.rows.label)
    return result, arrays


def documents_of(heldout: EvaluationSet) -> dict[str, np.ndarray]:
    """Returns the document of each row and of each sentence pair, for comparisons that take documents as random."""
    arrays = {f"{task}/documents": pairs.documents for task, pairs in heldout.pairs.items()}
    return {name: array for name, array in ({"documents": heldout.documents} | arrays).items() if array is not None}


def _equal(first: MaskSet, second: MaskSet) -> bool:
    return np.array_equal(first.shown, second.shown) and np.array_equal(first.corruption, second.corruption)


def pair_scores(model: PretrainingModel, heldout: EvaluationSet, batch_size: int) -> tuple[dict, dict[str, np.ndarray]]:
    """Returns the sections of evaluation.json on next-sentence prediction and sentence order, and per pair whether the
    model is right. Both are empty if the model has no sentence objective.

    `ceiling` is the accuracy of the best possible classifier on the same pairs, None if it is unknown.
    """
    result, arrays = {}, {}
    for task, pairs in heldout.pairs.items() if model.objective.sentence is not None else ():
        correct, best = correct_pairs(model, pairs.rows, batch_size), pairs.best_is_correct
        positives = float(pairs.rows.label.mean())
        result[task] = {"accuracy": float(correct.mean()), "base_rate": max(positives, 1 - positives),
                        "ceiling": None if best is None else float(best.mean()), "pairs": len(correct),
                        "trained_on": model.objective.sentence.name == task}
        arrays[f"{task}/correct"] = correct
        if best is not None:
            arrays[f"{task}/best_correct"] = best
    return result, arrays


def with_null(content):
    """Returns the content with None in place of NaN and infinity, which JSON does not have."""
    if isinstance(content, dict):
        return {key: with_null(value) for key, value in content.items()}
    if isinstance(content, list):
        return [with_null(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def top_predictions(model: PretrainingModel, heldout: EvaluationSet, backend, rows: int) -> list[dict]:
    """Returns the likeliest tokens at each [MASK] of the first rows of `mask_only`, next to the true ones."""
    masks, samples = heldout.sets["mask_only"], []
    for row in range(min(rows, len(heldout.ids))):
        positions = np.flatnonzero(masks.corruption[row])
        predictions = predict_tokens(model, masks.shown[row], positions, backend, TOP)
        samples.append({
            "tokens": [backend.id_to_token(i) for i in masks.shown[row].tolist()],
            "masked": [{"position": int(position), "truth": backend.id_to_token(int(heldout.ids[row, position])),
                        "top": [[token, round(probability, 4)] for token, probability in top]}
                       for position, top in zip(positions, predictions, strict=True)]})
    return samples


@torch.inference_mode()
def predict_tokens(model: PretrainingModel, ids: np.ndarray, positions: np.ndarray, backend,
                   top: int) -> list[list[tuple[str, float]]]:
    """Returns the `top` likeliest tokens, with their probabilities, at the positions (S,) of one row of ids (T,)."""
    logits = model.token_logits(model.as_tensor(ids[None]), model.as_tensor(positions))             # (S, V)
    probabilities, tokens = logits.float().softmax(-1).topk(min(top, logits.shape[-1]))             # (S, top)
    return [[(backend.id_to_token(token), probability) for token, probability in zip(*pair, strict=True)]
            for pair in zip(tokens.tolist(), probabilities.tolist(), strict=True)]


def predict(study: Study, text: str, cells: list[tuple[str, int]], top: int) -> dict[str, list]:
    """Returns for each cell and each [MASK] of the text the likeliest tokens with their probabilities.

    Raises StudyError if the text has no [MASK], a [MASK] is beyond the length of a row, or a cell cannot fill it in.
    """
    backend = load(study.runs / "tokenizer")
    mask_id, predictions = backend.token_to_id("[MASK]"), {}
    for arm, seed in cells:
        config, model = load_cell(study, arm, seed)
        if not model.objective.token.predicts_masked_tokens:
            raise StudyError(f"{arm}-{seed} is not a masked language model: it cannot fill in a [MASK]")
        ids = np.array(tokenize(backend, [text], config.examples.max_seq_length)[0], np.int64)
        positions = np.flatnonzero(ids == mask_id)
        count = backend.encode(text, add_special_tokens=False).ids.count(mask_id)
        if not count:
            raise StudyError("the text has no [MASK]; write [MASK] in place of a word to predict")
        if len(positions) < count:
            raise StudyError(f"{count - len(positions)} of the {count} [MASK] are beyond the "
                             f"{config.examples.max_seq_length} tokens that {arm}-{seed} reads; shorten the text")
        predictions[f"{arm}-{seed}"] = predict_tokens(model, ids, positions, backend, top)
    return predictions
