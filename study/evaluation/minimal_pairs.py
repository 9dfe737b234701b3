"""Minimal pairs judged by pseudo-log-likelihood (Salazar et al. 2020, "Masked language model scoring").

The score of a sentence is the sum of ln P(token | all other tokens), with each token masked in turn. A sentence is
framed as [CLS] sentence [SEP], one segment, for every arm: those on segment pairs, too, are scored on rows of one
segment, as in the other sets. [CLS], [SEP] and tokens that no encoder is trained to predict, such as [UNK], are seen
but not scored. Scores are sums and not means, as for BLiMP, so a longer sentence must be likelier per token to win.
Models that do not predict masked tokens are not scored.

Shapes: S sentences, B rows of a batch, T tokens of a row.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from study import StudyError
from study.config.study import Study
from study.data.batches import blocks
from study.data.minimal_pairs import read_pairs
from study.data.pair_scores import Sentences, by_phenomenon, count_scores
from study.data.token_store import TokenStore
from study.data.tokenizer import TokenizerInfo, load
from study.evaluation.embedding import load_cell
from study.objectives.pretraining_model import PretrainingModel

if TYPE_CHECKING:
    from pandas import DataFrame


def score_tasks(study: Study, model: PretrainingModel, backend, batch_size: int) -> tuple[dict, dict[str, np.ndarray]]:
    """Returns the section of evaluation.json on minimal pairs, and per pair the share that is right (0, 1/2 or 1), its
    phenomenon and its paradigm. Both are empty if the model does not predict masked tokens.

    batch_size: rows of the study's length; shorter rows make larger batches. Raises StudyError if the pairs are
    missing, or a sentence is longer than a row.
    """
    if not model.objective.token.predicts_masked_tokens:
        return {}, {}
    result, arrays, length = {}, {}, study.settings.examples.max_seq_length
    for task in study.settings.evaluation.minimal_pairs:
        pairs = read_pairs(study, task)
        sentences = Sentences(pairs, backend, length)
        scores = pseudo_log_likelihoods(model, sentences.ids, TokenizerInfo.of(backend), batch_size * length)
        correct = sentences.correct(scores)
        result[task.name] = {"pairs": len(pairs), "accuracy": float(correct.mean()),
                             "ties": float((correct == 0.5).mean()),
                             "by_phenomenon": by_phenomenon(correct, pairs.phenomenon)}
        arrays[f"pairs/{task.name}/correct"] = correct.astype(np.float32)
        arrays |= {f"pairs/{task.name}/{name}": pairs[name].to_numpy(str) for name in ("phenomenon", "paradigm")}
    return result, arrays


@torch.inference_mode()
def pseudo_log_likelihoods(model: PretrainingModel, sentences: list[tuple[int, ...]], tokenizer: TokenizerInfo,
                           batch_tokens: int) -> np.ndarray:
    """Returns the pseudo-log-likelihood of each sentence in nats, (S,) float64; 0 if it has no token to score.

    sentences: token ids with [CLS] and [SEP]. batch_tokens: about how many tokens a batch has. Sentences of one length
    are batched together, so no row is padded.
    """
    scores, lengths = np.zeros(len(sentences)), np.array([len(ids) for ids in sentences])
    for length in np.unique(lengths).tolist():
        of_length = np.flatnonzero(lengths == length)
        ids = np.array([sentences[number] for number in of_length], np.int64)               # (S, T)
        sentence, place = np.nonzero(tokenizer.is_ordinary[ids])
        for part in blocks(len(sentence), max(1, batch_tokens // length)):
            rows, masked = ids[sentence[part]], place[part]                                 # (B, T), (B,)
            number = np.arange(len(rows))
            targets = rows[number, masked]
            rows[number, masked] = tokenizer.mask_id
            logits = model.token_logits(*map(model.as_tensor, (rows, number * length + masked)))         # (B, V)
            nll = cross_entropy(logits.float(), model.as_tensor(targets), reduction="none").double().cpu().numpy()
            scores[of_length] -= np.bincount(sentence[part], weights=nll, minlength=len(of_length))
    return scores


def judge(study: Study, arm: str, seed: int, pairs: DataFrame) -> dict[str, np.ndarray]:
    """Returns what is right per pair, (N,), for one cell (`encoder`) and for the baselines of its training text.

    pairs: with columns good and bad. Raises StudyError if the cell has not been trained or does not predict masked
    tokens, or if a sentence is longer than a row.
    """
    config, model = load_cell(study, arm, seed)
    if not model.objective.token.predicts_masked_tokens:
        raise StudyError(f"{arm}-{seed} is not a masked language model: it has no pseudo-log-likelihood")
    backend, length = load(study.runs / "tokenizer"), config.examples.max_seq_length
    sentences, tokenizer = Sentences(pairs, backend, length), TokenizerInfo.of(backend)
    scores = {"encoder": pseudo_log_likelihoods(model, sentences.ids, tokenizer,
                                                study.settings.evaluation.batch_size * length)}
    scores |= count_scores(sentences.ids, TokenStore.open(study.runs / "examples" / "train").ids, tokenizer)
    return {name: sentences.correct(values) for name, values in scores.items()}
