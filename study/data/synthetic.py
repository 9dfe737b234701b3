"""A language for which the best possible prediction of a hidden word is known exactly.

A document has one topic z. At every full stop its theme m advances to the next theme with probability `advance`, so
the order of sentences carries information. Within a sentence a grammar state k decides the class of the word: a
singular or plural subject, a verb that agrees with it, objects, prepositional phrases, a full stop. The word itself is
drawn from a general, a topical or a thematic Zipf list. (z, m, k) is a hidden Markov chain, so the distribution of a
hidden word given everything shown follows from the forward-backward recursion (Rabiner 1989). Let q(x) be the
distribution of the word at a position given the rest of its row. The best prediction at a selected position is

    [MASK] shown     q(x)
    word o shown     proportional to q(x) (keep 1{x = o} + random / V)

provided that words are selected independently of their content. keep and random are fractions of the selected words.

Shapes: N rows, T positions, Z topics, M themes, K grammar states, V words, S selected positions.
"""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from study.config.schema import Synthetic

MASKED, ABSENT = -1, -2                     # shown where a word is hidden, and where there is no word
UNKNOWN = -1                                # in `stops`: whether a sentence ends here is unknown
BLOCK_ROWS = 64                             # rows processed at once, to bound memory

# Successors of each grammar state. END writes a full stop; its successors begin the next sentence.
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
_SECOND_SENSE = 0.2                         # probability that a noun also belongs to another topic and theme


def _zipf(count: int) -> np.ndarray:
    weights = 1 / np.arange(1, count + 1)
    return weights / weights.sum()


def _stems(rng: np.random.Generator) -> Iterator[str]:
    syllables = np.array([consonant + vowel for consonant in "bdfgklmnprtv" for vowel in "aeiou"])
    two = np.char.add.outer(syllables, syllables).ravel()
    three = np.char.add.outer(two, syllables).ravel()
    return iter(rng.permutation(np.concatenate([two, three])).tolist())


class Language:
    """The language of one seed.

    Sizes are words per class: `general` words are shared by all topics, `topical` words belong to one topic,
    `thematic` words to one topic and theme. `mixture` weights the three lists. `smoothing` is the fraction of every
    word distribution that is averaged over all topics and themes, so that no word rules out a topic or theme.
    """

    def __init__(self, seed: int, topics: int, themes: int, general: int, topical: int, thematic: int,
                 mixture: tuple[float, float, float], advance: float, smoothing: float):
        self.topics, self.themes, self.advance = topics, themes, advance
        self.grammar = np.array([[_NEXT[a].get(b, 0.0) for b in STATES] for a in STATES])           # (K, K)
        self.turn = (1 - advance) * np.eye(themes) + advance * np.roll(np.eye(themes), 1, axis=1)   # (M, M)
        self.words, self.senses = ["."], []
        emission = self._lexicon(np.random.default_rng(seed), (general, topical, thematic), mixture)
        emission /= emission.sum(-1, keepdims=True)
        self.emission = (1 - smoothing) * emission + smoothing * emission.mean((0, 1))              # (Z, M, K, V)
        start = np.zeros((topics, themes, len(STATES)))
        start[:] = self.grammar[END] / (topics * themes)
        self._priors = [start]

    @classmethod
    def of(cls, settings: Synthetic) -> Language:
        """Returns the language of a synthetic corpus."""
        return cls(settings.seed, settings.topics, settings.themes, settings.general, settings.topical,
                   settings.thematic, settings.mixture, settings.advance, settings.smoothing)

    def _lexicon(self, rng: np.random.Generator, sizes: tuple[int, int, int], mixture) -> np.ndarray:
        """Draws the words and returns their weights (Z, M, K, V)."""
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

    # ---- sampling text

    def sample(self, documents: int, tokens: int, seed: int) -> tuple[np.ndarray, list[list[list[int]]]]:
        """Returns topics (documents,) and documents as sentences of word ids.

        A document ends at the first full stop at or after `tokens` words. A window within the first `tokens` words is
        therefore a sample of the chain that is not conditioned on where the document ends.
        """
        topics, text = self._run(documents, seed, lambda words, stops: words >= tokens)
        return topics, [_cut(row, tokens) for row in text]

    def sample_sentences(self, documents: int, low: int, high: int,
                         seed: int) -> tuple[np.ndarray, list[list[list[int]]]]:
        """Returns topics (documents,) and documents of low to high whole sentences, each count equally likely."""
        counts = np.random.default_rng([seed, 1]).integers(low, high + 1, documents)
        topics, text = self._run(documents, seed, lambda words, stops: stops >= high)
        return topics, [_sentences(row)[:count] for row, count in zip(text, counts, strict=True)]

    def _run(self, documents: int, seed: int, is_long_enough) -> tuple[np.ndarray, np.ndarray]:
        """Topics (N,) and words (N, steps) of a chain that runs until every document has reached a full stop at which
        it is long enough."""
        rng = np.random.default_rng(seed)
        topic, theme = rng.integers(self.topics, size=documents), rng.integers(self.themes, size=documents)
        state, stops, finished = np.full(documents, END), np.zeros(documents, int), np.zeros(documents, bool)
        grammar, emission, text = self.grammar.cumsum(-1), self.emission.cumsum(-1), []
        while not finished.all():
            state = _draw(grammar[state], rng)
            text.append(_draw(emission[topic, theme, state], rng))
            at_stop = state == END
            stops += at_stop
            finished |= at_stop & is_long_enough(len(text), stops)
            theme = (theme + (at_stop & (rng.random(documents) < self.advance))) % self.themes
        return topic, np.stack(text, axis=1)

    # ---- exact inference

    def _forward(self, state: np.ndarray) -> np.ndarray:
        """Distributions (..., Z, M, K) one word later: the topic stays, the theme may advance at a full stop."""
        after_stop = state[..., END] @ self.turn                                        # (..., Z, M)
        inside = state.copy()
        inside[..., END] = 0
        return inside @ self.grammar + after_stop[..., None] * self.grammar[END]

    def _backward(self, value: np.ndarray) -> np.ndarray:
        """The transpose of `_forward`: expected value (..., Z, M, K) of a function of the next state."""
        result = value @ self.grammar.T
        result[..., END] = (value @ self.grammar[END]) @ self.turn.T
        return result

    def prior(self, offset: np.ndarray) -> np.ndarray:
        """Returns the state distribution (N, Z, M, K) of the word `offset` (N,) words after the start of a document."""
        offset = np.asarray(offset)
        while len(self._priors) <= offset.max(initial=0):
            self._priors.append(self._forward(self._priors[-1]))
        return np.stack([self._priors[i] for i in offset.tolist()])

    def _filter(self, seen: np.ndarray, offset: np.ndarray, rate: float = 0.0, keep: float = 0.0, random: float = 0.0,
                stops: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """State distribution at each position given what precedes it, and evidence at each position, both
        (N, T, Z, M, K), and log evidence of the rows (N,).

        stops (N, T): 1 where a sentence is known to end, 0 where it is known not to, UNKNOWN elsewhere. This counts as
        known at the position itself, too.
        """
        by_word = np.moveaxis(self.emission, -1, 0)                                     # (V, Z, M, K)
        shown = (1 - rate * (1 - keep)) * by_word[np.maximum(seen, 0)] + rate * random / len(self.words)
        evidence = np.where((seen < 0)[..., None, None, None], 1.0, shown)              # (N, T, Z, M, K)
        if stops is not None:
            possible = (stops[..., None] == UNKNOWN) | (stops[..., None] == (np.arange(len(STATES)) == END))
            evidence *= possible[:, :, None, None]
        before, total, state = np.empty_like(evidence), np.zeros(len(seen)), self.prior(offset)
        for t in range(seen.shape[1]):
            before[:, t] = state if stops is None else state * possible[:, t, None, None]
            joint = state * evidence[:, t]
            scale = joint.sum((1, 2, 3))
            total += np.log(scale)
            state = self._forward(joint / scale[:, None, None, None])
        return before, evidence, total

    def _infer(self, seen: np.ndarray, offset: np.ndarray, *arguments) -> tuple[np.ndarray, np.ndarray]:
        """State distribution at each position given the rest of its row (N, T, Z, M, K), and at the first position
        given the whole row (N, Z, M, K). The further arguments are those of `_filter`."""
        cavity, evidence, _ = self._filter(seen, offset, *arguments)
        value = np.ones_like(cavity[:, 0])
        for t in reversed(range(seen.shape[1])):
            cavity[:, t] *= value
            cavity[:, t] /= cavity[:, t].sum((1, 2, 3), keepdims=True)
            value = self._backward(value * evidence[:, t])
            value /= value.max((1, 2, 3), keepdims=True)
        first = cavity[:, 0] * evidence[:, 0]
        return cavity, first / first.sum((1, 2, 3), keepdims=True)

    def floor(self, truth: np.ndarray, seen: np.ndarray, selected: np.ndarray, offset: np.ndarray, rate: float,
              keep: float = 0.0, random: float = 0.0, stops: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns NLL and entropy (S,), nats, of the best prediction at each selected position, row-major.

        truth (N, T): true word ids. seen (N, T): shown word ids, MASKED or ABSENT. selected (N, T): bool. offset (N,):
        words between the start of the document and the row. rate, keep, random: how words were selected and shown.
        stops (N, T): 1 where a sentence is known to end, 0 where it is known not to, UNKNOWN elsewhere. With keep =
        random = 0 the result is exact for any selection that does not depend on the words. Raises ValueError if a
        selected position is ABSENT.
        """
        if (seen[selected] == ABSENT).any():
            raise ValueError("a selected position has no word")
        results = [self._floor_block(truth[rows], seen[rows], selected[rows], offset[rows], rate, keep, random,
                                     None if stops is None else stops[rows]) for rows in _row_blocks(len(truth))]
        nll, entropy = zip(*results, strict=True)
        return np.concatenate(nll), np.concatenate(entropy)

    def _floor_block(self, truth, seen, selected, offset, rate, keep, random, stops):
        if not selected.any():
            return np.empty(0), np.empty(0)
        cavity, _ = self._infer(seen, offset, rate, keep, random, stops)
        best = cavity[selected].reshape(selected.sum(), -1) @ self.emission.reshape(-1, len(self.words))  # (S, V)
        shown = seen[selected]
        word = np.flatnonzero(shown >= 0)
        if len(word):
            likelihood = np.full((len(word), len(self.words)), random / len(self.words))
            likelihood[np.arange(len(word)), shown[word]] += keep
            best[word] *= likelihood
        best /= best.sum(-1, keepdims=True)
        entropy = -(best * np.log(np.maximum(best, 1e-300))).sum(-1)
        return -np.log(best[np.arange(len(best)), truth[selected]]), entropy

    def context_floor(self, truth: np.ndarray, selected: np.ndarray, offset: np.ndarray, window: int) -> np.ndarray:
        """Returns the best NLL (S,), nats, given only `window` words on each side; other selected words stay hidden.

        A window that covers the row gives the floor of all-[MASK] masking.
        """
        row, position = np.nonzero(selected)
        begin = np.maximum(position - window, 0)
        index = begin[:, None] + np.arange(2 * window + 1)                              # (S, 2 window + 1)
        inside = (index < truth.shape[1]) & (index <= position[:, None] + window)
        index = np.minimum(index, truth.shape[1] - 1)
        hidden = np.where(selected, MASKED, truth)
        seen = np.where(inside, hidden[row[:, None], index], ABSENT)
        target = index == position[:, None]
        target &= inside
        return self.floor(truth[row[:, None], index], seen, target, offset[row] + begin, rate=0.0)[0]

    def unigram(self) -> np.ndarray:
        """Returns the long-run distribution of words (V,)."""
        state = self._priors[0]
        for _ in range(4000):
            state = 0.5 * state + 0.5 * self._forward(state)
        return np.tensordot(state, self.emission, axes=3)

    def log_evidence(self, seen: np.ndarray, offset: np.ndarray, stops: np.ndarray | None = None) -> np.ndarray:
        """Returns log P(words shown), (N,); with stops (see `floor`), log P(words shown, sentences end there)."""
        return np.concatenate([self._filter(seen[rows], offset[rows], stops=None if stops is None else stops[rows])[2]
                               for rows in _row_blocks(len(seen))])

    def topic_posterior(self, seen: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Returns P(topic | words shown), (N, Z)."""
        return np.concatenate([self._infer(seen[rows], offset[rows])[1].sum((2, 3)) for rows in _row_blocks(len(seen))])


def _inside(place: tuple, home: tuple) -> bool:
    """Whether `home` contains the (topic, theme) `place`; a slice in `home` means all topics or all themes."""
    return all(isinstance(part, slice) or part == index for index, part in zip(place, home, strict=True))


def _row_blocks(count: int) -> Iterator[slice]:
    return (slice(begin, begin + BLOCK_ROWS) for begin in range(0, count, BLOCK_ROWS))


def _draw(cumulative: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One index per row of cumulative distributions (N, n)."""
    u = rng.random(len(cumulative))[:, None] * cumulative[:, -1:]
    return np.minimum((cumulative <= u).sum(-1), cumulative.shape[1] - 1)


def _sentences(words: np.ndarray) -> list[list[int]]:
    ends = np.flatnonzero(words == 0) + 1
    return [piece.tolist() for piece in np.split(words, ends)[:-1]]


def _cut(words: np.ndarray, tokens: int) -> list[list[int]]:
    """Whole sentences up to the first full stop at or after `tokens` words."""
    end = tokens - 1 + int(np.argmax(words[tokens - 1:] == 0)) + 1
    return _sentences(words[:end])
