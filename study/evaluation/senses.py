"""The sense probe: does the vector of a word with two senses follow the sense that it has in a sentence?

Vectors of one word differ between any two sentences, even in an encoder that was never trained. So the measure is a
difference of distances: the cosine distance between occurrences of different senses minus that between occurrences of
the same sense, which is above 0 only if the sense matters. The encoder as initialised is scored beside the trained one,
because neighbouring words alone may already tell the senses apart.

The sentences are in senses.yaml. Sentences of the same number have the word at the same place; only sentences of
different numbers are compared, so that places differ alike within a sense and between senses.

Shapes: W words, K sentences of a sense, H hidden size.
"""
from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import yaml

from study import StudyError
from study.config.schema import RunConfig
from study.evaluation.embedding import token_states, untrained_model
from study.objectives.pretraining_model import PretrainingModel

SENSES = Path(__file__).with_name("senses.yaml")
TEXT, PAIR, WORD = "a crane is flying", ("a crane driver came", "he just left"), "crane"    # the example of d2l.ai
SHOWN = 3                                   # numbers of a vector that the example prints


@cache
def sense_sentences() -> dict[str, tuple[list[str], list[str]]]:
    """Returns word -> the sentences of its first and its second sense, K each."""
    content = yaml.safe_load(SENSES.read_text(encoding="utf-8"))
    return {word: tuple(senses.values()) for word, senses in content.items()}


def sense_scores(config: RunConfig, model: PretrainingModel, backend, seed: int,
                 batch_size: int) -> tuple[dict, dict[str, np.ndarray]]:
    """Returns the section `senses` of evaluation.json, and arrays `senses/<encoder>` (W,): the gap of each word.

    backend: the study's `tokenizers.Tokenizer`. A word is in `words` if it is one piece in all of its sentences and
    these fit a row; other words of a sentence may be [UNK]. Raises StudyError if no word is left.
    """
    length = config.examples.max_seq_length
    known = {word: senses for word, senses in sense_sentences().items()
             if _is_readable(backend, word, [*senses[0], *senses[1]], length)}
    if not known:
        raise StudyError(f"evaluation.senses: the vocabulary has none of the words of study/evaluation/senses.yaml as "
                         f"one piece, or their sentences are longer than examples.max_seq_length {length}; set it to "
                         f"false")
    shows_example = _is_readable(backend, WORD, [TEXT, PAIR], length)
    scores: dict = {"words": list(known), "unknown": sorted(set(sense_sentences()) - set(known)), "example": {}}
    arrays = {}
    for name, encoder in (("trained", model), ("untrained", untrained_model(config, model, seed))):
        distances = np.array([word_distances(*_vectors(encoder, backend, word, senses, batch_size))
                              for word, senses in known.items()])                           # (W, 2)
        arrays[f"senses/{name}"] = distances[:, 1] - distances[:, 0]
        within, between = distances.mean(0).tolist()
        scores[name] = {"within": within, "between": between, "gap": between - within}
        scores["example"][name] = example(encoder, backend) if shows_example else None
    return scores, arrays


def _is_readable(backend, word: str, sentences: list, length: int) -> bool:
    """Whether a word is one piece in all of these sentences and pairs of texts, and none is longer than a row."""
    index, encoded = backend.token_to_id(word), backend.encode_batch(sentences)
    return all(index in row.ids and len(row.ids) <= length for row in encoded)


def word_distances(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Returns the mean cosine distance within and between two senses.

    first, second (K, H): the vectors of one word in the sentences of each sense. Sentences of the same number are not
    compared. Both are 0 if a vector is not finite, as in a diverged run.
    """
    vectors = np.concatenate([first, second]).astype(np.float64)                            # (2 K, H)
    if not np.isfinite(vectors).all():
        return 0.0, 0.0
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    distance = 1 - unit @ unit.T
    number, sense = np.tile(np.arange(len(first)), 2), np.repeat([0, 1], len(first))
    other, same = number[:, None] != number[None], sense[:, None] == sense[None]
    return float(distance[other & same].mean()), float(distance[other & ~same].mean())


def _vectors(model: PretrainingModel, backend, word: str, senses: tuple[list[str], list[str]],
             batch_size: int) -> list[np.ndarray]:
    """The vectors of a word in the sentences of each sense: two arrays (K, H)."""
    index, pad = backend.token_to_id(word), backend.token_to_id("[PAD]")
    vectors = []
    for sentences in senses:
        rows = [encoded.ids for encoded in backend.encode_batch_fast(sentences)]
        states = token_states(model, rows, pad, batch_size)
        vectors.append(np.stack([state[row.index(index)] for state, row in zip(states, rows, strict=True)]))
    return vectors


def example(model: PretrainingModel, backend) -> dict:
    """Returns what d2l.ai prints: the first numbers of the vector of "crane" in a text and in a pair of texts; and the
    cosine distance of the two vectors, 0 if they are not finite."""
    encodings = backend.encode(TEXT), backend.encode(*PAIR)
    vectors = [token_states(model, [encoded.ids], backend.token_to_id("[PAD]"), 1, [encoded.type_ids])[0][
        encoded.ids.index(backend.token_to_id(WORD))] for encoded in encodings]
    unit = [vector / max(float(np.linalg.norm(vector)), 1e-12) for vector in vectors]
    distance = 1 - float(unit[0] @ unit[1])
    return {"text": vectors[0][:SHOWN].tolist(), "pair": vectors[1][:SHOWN].tolist(),
            "distance": distance if np.isfinite(distance) else 0.0}
