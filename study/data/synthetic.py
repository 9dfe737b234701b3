"""A language in which the best possible prediction of a hidden word is known exactly.

A document keeps one topic z. Its theme m stays, or advances to the next with probability `advance`, at every full
stop, so that the order of sentences carries information. Within a sentence a grammar state k decides the class of the
word: a subject, singular or plural, a verb that agrees with it, objects, prepositional phrases, a full stop. The word
itself comes from a general, a topical or a thematic Zipf list. (z, m, k) is a hidden Markov chain, so the law of a
hidden word given all that is shown follows from the forward-backward recursion (Rabiner 1989). With q(x) the law of
the word at one position given the rest of its row, the best prediction at a selected position is

    [MASK] shown     q(x)
    word o shown     proportional to q(x) (keep 1{x = o} + random / V)

for words selected independently of their content; keep and random are shares of the selected.

Shapes: N rows, T positions, Z topics, M themes, K grammar states, V words, S selected positions.
"""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np

MASKED, ABSENT = -1, -2                     # what a row shows where a word is hidden, and where there is none
ROWS = 64                                   # rows that are worked on at once

# Successors of each grammar state. END has written a full stop and begins the next sentence.
_NEXT = {
    "det-s": {"adj-s": 0.4, "noun-s": 0.6}, "adj-s": {"adj-s": 0.15, "noun-s": 0.85}, "noun-s": {"verb-s": 1.0},
    "det-p": {"adj-p": 0.4, "noun-p": 0.6}, "adj-p": {"adj-p": 0.15, "noun-p": 0.85}, "noun-p": {"verb-p": 1.0},
    "verb-s": {"det-o": 0.6, "prep": 0.25, "end": 0.15}, "verb-p": {"det-o": 0.6, "prep": 0.25, "end": 0.15},
    "prep": {"det-o": 1.0}, "det-o": {"adj-o": 0.3, "noun-o": 0.7}, "adj-o": {"adj-o": 0.1, "noun-o": 0.9},
    "noun-o": {"prep": 0.25, "end": 0.75}, "end": {"det-s": 0.6, "det-p": 0.4},
}
STATES = tuple(_NEXT)
END = STATES.index("end")
_FUNCTION_WORDS = {"det-s": 6, "det-p": 6, "det-o": 8, "prep": 12}
_SECOND_SENSE = 0.2                         # share of nouns that also belong to another topic and theme


def _zipf(count: int) -> np.ndarray:
    weights = 1 / np.arange(1, count + 1)
    return weights / weights.sum()


def _stems(rng: np.random.Generator) -> Iterator[str]:
    syllables = np.array([consonant + vowel for consonant in "bdfgklmnprtv" for vowel in "aeiou"])
    two = np.char.add.outer(syllables, syllables).ravel()
    three = np.char.add.outer(two, syllables).ravel()
    return iter(rng.permutation(np.concatenate([two, three])).tolist())


class Language:
    """The language of one seed. Sizes count words per class: `general` shared by all topics, `topical` of one topic,
    `thematic` of one topic and theme; `mixture` weighs the three; `smoothing` is the share of every word law that is
    spread evenly over all topics and themes, so that nothing is certain."""

    def __init__(self, seed: int, topics: int, themes: int, general: int, topical: int, thematic: int,
                 mixture: tuple[float, float, float], advance: float, smoothing: float):
        self.topics, self.themes, self.advance = topics, themes, advance
        self.grammar = np.array([[_NEXT[a].get(b, 0.0) for b in STATES] for a in STATES])           # (K, K)
        self.turn = (1 - advance) * np.eye(themes) + advance * np.roll(np.eye(themes), 1, axis=1)   # (M, M)
        self.words, self.senses = ["."], []
        emission = self._lexicon(np.random.default_rng(seed), (general, topical, thematic), mixture)
        emission /= emission.sum(-1, keepdims=True)
        self.emission = (1 - smoothing) * emission + smoothing * emission.mean((0, 1))                      # (Z, M, K, V)
        start = np.zeros((topics, themes, len(STATES)))
        start[:] = self.grammar[END] / (topics * themes)
        self._priors = [start]

    def _lexicon(self, rng: np.random.Generator, sizes: tuple[int, int, int], mixture) -> np.ndarray:
        """Draws the words; returns weights (Z, M, K, V)."""
        stems, columns = _stems(rng), [np.zeros((self.topics, self.themes, len(STATES)))]
        columns[0][..., END] = 1.0

        def add(word: str, weight: float, states: tuple[str, ...], places: list[tuple]) -> None:
            column = np.zeros((self.topics, self.themes, len(STATES)))
            for place in places:
                for state in states:
                    column[place][..., STATES.index(state)] += weight
            self.words.append(word)
            columns.append(column)

        for state, count in _FUNCTION_WORDS.items():
            for weight in _zipf(count):
                add(next(stems), weight, (state,), [(slice(None), slice(None))])
        every = [(z, m) for z in range(self.topics) for m in range(self.themes)]
        homes = [(0, [(slice(None), slice(None))])] + [(1, [(z, slice(None))]) for z in range(self.topics)]
        homes += [(2, [place]) for place in every]
        for level, home in homes:
            for weight in mixture[level] * _zipf(sizes[level]):
                second = [every[rng.integers(len(every))]] if level and rng.random() < _SECOND_SENSE else []
                noun, verb = next(stems), next(stems)
                if second and not _inside(second[0], home[0]):
                    self.senses.append((len(self.words) + 1, home[0], second[0]))
                add(next(stems) + "y", weight, ("adj-s", "adj-p", "adj-o"), home)
                add(noun, weight, ("noun-s", "noun-o"), home + second)
                add(noun + "s", weight, ("noun-p",), home + second)
                add(verb + "s", weight, ("verb-s",), home)
                add(verb, weight, ("verb-p",), home)
        return np.stack(columns, axis=-1)

    # ---- drawing text

    def sample(self, documents: int, tokens: int, seed: int) -> tuple[np.ndarray, list[list[list[int]]]]:
        """Topics (documents,) and documents as sentences of word ids.

        A document is the chain run to the first full stop at or after `tokens` words: any window inside its first
        `tokens` words is drawn from the chain without a condition on where the document ends.
        """
        topics, text = self._run(documents, seed, lambda words, stops: words >= tokens)
        return topics, [_cut(row, tokens) for row in text]

    def sample_sentences(self, documents: int, low: int, high: int, seed: int) -> tuple[np.ndarray,
                                                                                       list[list[list[int]]]]:
        """Topics (documents,) and documents of low to high whole sentences, each number equally likely."""
        counts = np.random.default_rng([seed, 1]).integers(low, high + 1, documents)
        topics, text = self._run(documents, seed, lambda words, stops: stops >= high)
        return topics, [_sentences(row)[:count] for row, count in zip(text, counts, strict=True)]

    def _run(self, documents: int, seed: int, done) -> tuple[np.ndarray, np.ndarray]:
        """Runs the chain until every document is done and at a full stop: topics (N,), words (N, steps)."""
        rng = np.random.default_rng(seed)
        topic, theme = rng.integers(self.topics, size=documents), rng.integers(self.themes, size=documents)
        state, stops, over = np.full(documents, END), np.zeros(documents, int), np.zeros(documents, bool)
        grammar, emission, text = self.grammar.cumsum(-1), self.emission.cumsum(-1), []
        while not over.all():
            state = _draw(grammar[state], rng)
            text.append(_draw(emission[topic, theme, state], rng))
            ended = state == END
            stops += ended
            over |= ended & done(len(text), stops)
            theme = (theme + (ended & (rng.random(documents) < self.advance))) % self.themes
        return topic, np.stack(text, axis=1)

    # ---- exact inference

    def _forward(self, state: np.ndarray) -> np.ndarray:
        """One step of distributions (..., Z, M, K): topics stay, themes turn at full stops, grammar moves on."""
        after_stop = state[..., END] @ self.turn                                        # (..., Z, M)
        inside = state.copy()
        inside[..., END] = 0
        return inside @ self.grammar + after_stop[..., None] * self.grammar[END]

    def _backward(self, value: np.ndarray) -> np.ndarray:
        """The transpose of `_forward`: expected value (..., Z, M, K) of the next state."""
        result = value @ self.grammar.T
        result[..., END] = (value @ self.grammar[END]) @ self.turn.T
        return result

    def prior(self, offset: np.ndarray) -> np.ndarray:
        """Law (N, Z, M, K) of the state of the word `offset` (N,) words after the start of a document."""
        offset = np.asarray(offset)
        while len(self._priors) <= offset.max(initial=0):
            self._priors.append(self._forward(self._priors[-1]))
        return np.stack([self._priors[i] for i in offset.tolist()])

    def _infer(self, seen: np.ndarray, offset: np.ndarray, rate: float, keep: float, random: float):
        """Law of each state given the rest of its row (N, T, Z, M, K), log evidence (N,), law at the first word."""
        by_word = np.moveaxis(self.emission, -1, 0)                                     # (V, Z, M, K)
        shown = (1 - rate * (1 - keep)) * by_word[np.maximum(seen, 0)] + rate * random / len(self.words)
        evidence = np.where((seen < 0)[..., None, None, None], 1.0, shown)              # (N, T, Z, M, K)
        cavity, total, state = np.empty_like(evidence), np.zeros(len(seen)), self.prior(offset)
        for t in range(seen.shape[1]):
            cavity[:, t] = state
            joint = state * evidence[:, t]
            scale = joint.sum((1, 2, 3))
            total += np.log(scale)
            state = self._forward(joint / scale[:, None, None, None])
        value = np.ones_like(state)
        for t in reversed(range(seen.shape[1])):
            cavity[:, t] *= value
            cavity[:, t] /= cavity[:, t].sum((1, 2, 3), keepdims=True)
            value = self._backward(value * evidence[:, t])
            value /= value.max((1, 2, 3), keepdims=True)
        first = cavity[:, 0] * evidence[:, 0]
        return cavity, total, first / first.sum((1, 2, 3), keepdims=True)

    def floor(self, truth: np.ndarray, seen: np.ndarray, selected: np.ndarray, offset: np.ndarray, rate: float,
              keep: float = 0.0, random: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """NLL and entropy (S,), nats, of the best prediction at each selected position, row-major.

        truth, seen (N, T) word ids, seen with MASKED and ABSENT; selected (N, T) bool; offset (N,) where in its
        document a row begins; rate, keep, random: how words were selected and shown. With keep = random = 0 it is
        exact for any selection that does not look at the words. Raises ValueError where a selected position is ABSENT.
        """
        if (seen[selected] == ABSENT).any():
            raise ValueError("a selected position holds no word")
        results = [self._floor_block(truth[rows], seen[rows], selected[rows], offset[rows], rate, keep, random)
                   for rows in _row_blocks(len(truth))]
        nll, entropy = zip(*results, strict=True)
        return np.concatenate(nll), np.concatenate(entropy)

    def _floor_block(self, truth, seen, selected, offset, rate, keep, random):
        if not selected.any():
            return np.empty(0), np.empty(0)
        cavity, _, _ = self._infer(seen, offset, rate, keep, random)
        law = cavity[selected].reshape(selected.sum(), -1) @ self.emission.reshape(-1, len(self.words))  # (S, V)
        shown = seen[selected]
        word = np.flatnonzero(shown >= 0)
        if len(word):
            likelihood = np.full((len(word), len(self.words)), random / len(self.words))
            likelihood[np.arange(len(word)), shown[word]] += keep
            law[word] *= likelihood
        law /= law.sum(-1, keepdims=True)
        entropy = -(law * np.log(np.maximum(law, 1e-300))).sum(-1)
        return -np.log(law[np.arange(len(law)), truth[selected]]), entropy

    def context_floor(self, truth: np.ndarray, selected: np.ndarray, offset: np.ndarray, window: int) -> np.ndarray:
        """Best NLL (S,) when only `window` words on each side are seen; other selected words stay hidden.

        A window that covers the row gives the all-[MASK] floor.
        """
        row, place = np.nonzero(selected)
        begin = np.maximum(place - window, 0)
        index = begin[:, None] + np.arange(2 * window + 1)                              # (S, 2 window + 1)
        inside = (index < truth.shape[1]) & (index <= place[:, None] + window)
        index = np.minimum(index, truth.shape[1] - 1)
        hidden = np.where(selected, MASKED, truth)
        seen = np.where(inside, hidden[row[:, None], index], ABSENT)
        target = index == place[:, None]
        target &= inside
        return self.floor(truth[row[:, None], index], seen, target, offset[row] + begin, rate=0.0)[0]

    def unigram(self) -> np.ndarray:
        """Long-run law of words (V,)."""
        state = self._priors[0]
        for _ in range(4000):
            state = 0.5 * state + 0.5 * self._forward(state)
        return np.tensordot(state, self.emission, axes=3)

    def log_evidence(self, seen: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """log P of the words shown (N,)."""
        return np.concatenate([self._infer(seen[rows], offset[rows], 0.0, 0.0, 0.0)[1]
                               for rows in _row_blocks(len(seen))])

    def topic_posterior(self, seen: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """P(topic | words shown), (N, Z)."""
        return np.concatenate([self._infer(seen[rows], offset[rows], 0.0, 0.0, 0.0)[2].sum((2, 3))
                               for rows in _row_blocks(len(seen))])

    def next_sentence_log_odds(self, first: list[list[int]], second: list[list[int]]) -> np.ndarray:
        """log P(second follows first) / P(second stands alone), (N,), for lists of word ids that begin sentences."""
        alone = self._evidence_of(first) + self._evidence_of(second)
        return self._evidence_of([a + b for a, b in zip(first, second, strict=True)]) - alone

    def sentence_order_log_odds(self, first: list[list[int]], second: list[list[int]]) -> np.ndarray:
        """log P(first then second) / P(second then first), (N,)."""
        return (self._evidence_of([a + b for a, b in zip(first, second, strict=True)])
                - self._evidence_of([b + a for a, b in zip(first, second, strict=True)]))

    def _evidence_of(self, rows: list[list[int]]) -> np.ndarray:
        seen = np.full((len(rows), max(map(len, rows))), ABSENT)
        for index, row in enumerate(rows):
            seen[index, :len(row)] = row
        return self.log_evidence(seen, np.zeros(len(rows), int))


def _inside(place: tuple, home: tuple) -> bool:
    """Whether a (topic, theme) lies within a home, whose parts may be slices that stand for all."""
    return all(isinstance(part, slice) or part == own for own, part in zip(place, home, strict=True))


def _row_blocks(count: int) -> Iterator[slice]:
    return (slice(begin, begin + ROWS) for begin in range(0, count, ROWS))


def _draw(cumulative: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One index a row of cumulative laws (N, n)."""
    u = rng.random(len(cumulative))[:, None] * cumulative[:, -1:]
    return np.minimum((cumulative <= u).sum(-1), cumulative.shape[1] - 1)


def _sentences(words: np.ndarray) -> list[list[int]]:
    ends = np.flatnonzero(words == 0) + 1
    return [piece.tolist() for piece in np.split(words, ends)[:-1]]


def _cut(words: np.ndarray, tokens: int) -> list[list[int]]:
    """Whole sentences up to the first full stop at or after `tokens` words."""
    end = tokens - 1 + int(np.argmax(words[tokens - 1:] == 0)) + 1
    return _sentences(words[:end])
