"""What an encoder predicts for [MASK]: the likeliest tokens with their probabilities, in fixed rows and in typed text.

An example is a dictionary: `tokens`, with [MASK] where one is shown, and `masked`, which has position, truth (None in a
text that was typed with [MASK]) and the likeliest tokens (`top`: token, probability) of each [MASK].

Shapes: T tokens of a row, S of them to predict, V vocabulary.
"""
from __future__ import annotations

import numpy as np
import torch

from study import StudyError
from study.config.schema import Masking
from study.config.study import Study
from study.data.evaluation_sets import EvaluationSet
from study.data.masking import mask_rows
from study.data.tokenizer import TokenizerInfo, load
from study.evaluation.embedding import load_cell, tokenize
from study.objectives.pretraining_model import PretrainingModel

TOP = 5                                     # predictions per [MASK] in predictions.json
DRAWS = 1000                                # draws of masks after which no token of a text can be masked


def examples(study: Study, model: PretrainingModel, heldout: EvaluationSet, backend) -> list[dict]:
    """Returns the content of predictions.json: fixed rows of the test set, if results may quote it, and the sentences
    of `evaluation.sentences`. Empty for a model that does not predict masked tokens. Raises StudyError if a sentence
    cannot be used."""
    if not model.objective.token.predicts_masked_tokens:
        return []
    settings = study.settings.evaluation
    rows = top_predictions(model, heldout, backend, settings.samples) if study.quotable else []
    length, reader = study.settings.examples.max_seq_length, f"an encoder of {study.settings.name}"
    for text in settings.sentences:
        try:
            rows.append(typed_example(model, backend, text, length, TOP, reader))
        except StudyError as error:
            raise StudyError(f"{study.params_path}: evaluation.sentences: {text!r}: {error}") from None
    return rows


def top_predictions(model: PretrainingModel, heldout: EvaluationSet, backend, rows: int) -> list[dict]:
    """Returns the likeliest tokens at each [MASK] of the first rows of `mask_only`, next to the true ones."""
    masks = heldout.sets["mask_only"]
    return [_example(model, backend, masks.shown[row], np.flatnonzero(masks.corruption[row]), heldout.ids[row], TOP)
            for row in range(min(rows, len(heldout.ids)))]


def typed_example(model: PretrainingModel, backend, text: str, length: int, top: int, reader: str) -> dict:
    """Returns the example of a text that was typed with [MASK]. length: tokens of a row.

    Raises StudyError, which says that `reader` reads so many tokens, if the text has no [MASK] or one beyond the row.
    """
    mask_id, ids = backend.token_to_id("[MASK]"), np.array(tokenize(backend, [text], length)[0], np.int64)
    positions = np.flatnonzero(ids == mask_id)
    count = backend.encode(text, add_special_tokens=False).ids.count(mask_id)
    if not count:
        raise StudyError("the text has no [MASK]; write [MASK] in place of a word to predict")
    if len(positions) < count:
        raise StudyError(f"{count - len(positions)} of the {count} [MASK] are beyond the {length} tokens that {reader} "
                         f"reads; shorten the text")
    return _example(model, backend, ids, positions, None, top)


def _example(model: PretrainingModel, backend, shown: np.ndarray, positions: np.ndarray, truth: np.ndarray | None,
             top: int) -> dict:
    predictions = predict_tokens(model, shown, positions, backend, top)
    return {"tokens": [backend.id_to_token(i) for i in shown.tolist()],
            "masked": [{"position": int(position), "truth": truth if truth is None else backend.id_to_token(
                int(truth[position])), "top": [[token, round(probability, 4)] for token, probability in likeliest]}
                       for position, likeliest in zip(positions, predictions, strict=True)]}


@torch.inference_mode()
def predict_tokens(model: PretrainingModel, ids: np.ndarray, positions: np.ndarray, backend,
                   top: int) -> list[list[tuple[str, float]]]:
    """Returns the `top` likeliest tokens, with their probabilities, at the positions (S,) of one row of ids (T,)."""
    logits = model.token_logits(model.as_tensor(ids[None]), model.as_tensor(positions))             # (S, V)
    probabilities, tokens = logits.float().softmax(-1).topk(min(top, logits.shape[-1]))             # (S, top)
    return [[(backend.id_to_token(token), probability) for token, probability in zip(*pair, strict=True)]
            for pair in zip(tokens.tolist(), probabilities.tolist(), strict=True)]


def predict(study: Study, text: str, cells: list[tuple[str, int]], top: int, mask_words: bool = False,
            seed: int = 0) -> dict[str, dict]:
    """Returns the example of each cell for a text.

    mask_words: masks tokens of a text without [MASK] as the first cell's training selects them, every one by [MASK];
    all cells see the same. seed: of these masks. Raises StudyError if the text has no [MASK] and no words are masked,
    a [MASK] is beyond the length of a row, or a cell cannot fill it in.
    """
    backend, filled = load(study.runs / "tokenizer"), {}
    masked = mask_words and backend.token_to_id("[MASK]") not in backend.encode(text).ids
    shown = None
    for arm, number in cells:
        config, model = load_cell(study, arm, number)
        length = config.examples.max_seq_length
        if not model.objective.token.predicts_masked_tokens:
            raise StudyError(f"{arm}-{number} is not a masked language model: it cannot fill in a [MASK]")
        if not masked:
            filled[f"{arm}-{number}"] = typed_example(model, backend, text, length, top, f"{arm}-{number}")
            continue
        ids = np.array(tokenize(backend, [text], length)[0], np.int64)
        shown = masked_text(ids, config.masking, TokenizerInfo.of(backend), seed) if shown is None else shown
        filled[f"{arm}-{number}"] = _example(model, backend, shown, np.flatnonzero(shown != ids), ids, top)
    return filled


def masked_text(ids: np.ndarray, masking: Masking, tokenizer: TokenizerInfo, seed: int) -> np.ndarray:
    """Returns the ids (T,) of a text with [MASK] in place of every token that this masking selects, in the first epoch
    in which it selects one. Raises StudyError if it never does, as in a text without known words."""
    all_mask = masking.model_copy(update={"mask": 1.0, "random": 0.0, "keep": 0.0})
    for epoch in range(DRAWS):
        shown = mask_rows(ids[None], tokenizer.is_ordinary[ids[None]], ~tokenizer.is_continuation[ids[None]], tokenizer,
                          all_mask, seed, np.array([epoch]), np.array([0])).shown[0]
        if (shown != ids).any():
            return shown
    raise StudyError("no word of the text can be masked; use words that the study's vocabulary has")
