"""The evaluate stage: scores of a trained cell on the fixed evaluation sets, and what it predicts for [MASK]."""
from __future__ import annotations

import math

import numpy as np

from study.config.made_with import EVALUATED_WITH
from study.config.study import Study
from study.data.evaluation_sets import PAIR_SET, SETS, EvaluationSet, MaskSet, load_evaluation_set
from study.data.tokenizer import TokenizerInfo, load
from study.evaluation.embedding import load_cell, untrained_model
from study.evaluation.minimal_pairs import score_tasks
from study.evaluation.perplexity import by_label, row_sums, summarize
from study.evaluation.predictions import examples
from study.evaluation.senses import sense_scores
from study.evaluation.token_identity import token_identity
from study.files import save_arrays, write_json
from study.objectives.masked_lm import token_nll
from study.objectives.pretraining_model import PretrainingModel
from study.objectives.sentence_pairs import correct_pairs


def evaluate(study: Study, arm: str, seed: int) -> dict:
    """Scores one cell on the test set. Returns the content of evaluation.json.

    Writes evaluation.json, evaluation.npz (sums per row, for paired comparisons) and predictions.json.
    """
    settings, folder = study.settings.evaluation, study.cell(arm, seed)
    config, model = load_cell(study, arm, seed)
    heldout = load_evaluation_set(study.runs / "examples" / "test.npz")
    backend = load(study.runs / "tokenizer")
    predictions = examples(study, model, heldout, backend)      # first, because a sentence may be unusable
    result: dict = {"hash": heldout.hash, **dict.fromkeys((*SETS, PAIR_SET, "nsp", "sop"))}
    arrays: dict[str, np.ndarray] = {}
    for scores in (mask_scores(model, heldout, TokenizerInfo.of(backend).is_continuation, settings.batch_size),
                   pair_scores(model, heldout, settings.batch_size)):
        result |= scores[0]
        arrays |= scores[1]
    if settings.senses:
        result["senses"], vectors = sense_scores(config, model, backend, seed, settings.batch_size)
        arrays |= vectors
    arrays |= documents_of(heldout)
    if settings.token_identity is not None:
        encoders = {"trained": model, "untrained": untrained_model(config, model, seed)}
        result["token_identity"], more = token_identity(
            encoders, heldout, TokenizerInfo.of(backend), settings.token_identity, settings.batch_size,
            config.training.threads)
        arrays |= more
    if settings.minimal_pairs:
        result["minimal_pairs"], more = score_tasks(study, model, backend, settings.batch_size)
        arrays |= more
    (folder / EVALUATED_WITH).unlink(missing_ok=True)       # the probes write it, when all scores are there
    save_arrays(arrays, folder / "evaluation.npz")
    result = with_null(result)
    write_json(folder / "predictions.json", with_null(predictions), ensure_ascii=False)
    write_json(folder / "evaluation.json", result)
    return result


def mask_scores(model: PretrainingModel, heldout: EvaluationSet, is_continuation: np.ndarray,
                batch_size: int) -> tuple[dict, dict[str, np.ndarray]]:
    """Returns the sections of evaluation.json on the mask sets, and the sums per row. Both are empty if the model does
    not predict masked tokens.

    Every model is scored on the rows of whole text and on the segment pairs, if the text has any, whichever of the two
    it was trained on.
    is_continuation (V,) bool: true for pieces that continue a word.
    """
    if not model.objective.token.predicts_masked_tokens:
        return {}, {}
    pairs, nll = heldout.pairs.get("nsp"), {}
    for name, masks in heldout.sets.items():
        # on a text without pieces of words, the masks of whole words are those of single tokens
        same = next((other for other in nll if _equal(heldout.sets[other], masks)), None)
        nll[name] = nll[same] if same else token_nll(model, heldout.ids, masks, batch_size)
    if pairs is not None:
        nll[PAIR_SET] = token_nll(model, pairs.rows.ids, pairs.masks, batch_size, pairs.rows)
    result, arrays = {}, {}
    for name, values in nll.items():
        ids, masks = (pairs.rows.ids, pairs.masks) if name == PAIR_SET else (heldout.ids, heldout.sets[name])
        result[name] = summarize(values, ids, masks, heldout.unigram, is_continuation)
        arrays[f"{name}/nll"] = row_sums(values, masks)
        arrays[f"{name}/tokens"] = (masks.corruption > 0).sum(1).astype(np.int32)
    if pairs is not None:
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
