"""The ladder of references for any text and tokenizer, under two corruptions: all [MASK], and the user's own.

The models are the count models of study/data/references.py. Part of the text is counted, another fits weights and
exponents, a third is scored. Lines are joined to rows; words of other lines do not count as neighbours.

Where a token is shown at random or kept, a model also sees the shown token s. The law of the true token x is then, by
Bayes' rule and given its law p(x) from the words around it,

    P(x | s) = p(x) (keep [x = s] + random / V) / (keep p(s) + random / V)

and the NLL of a selected token is  mask (-ln p(x)) + keep (-ln P(x | s = x)) + random (-ln P(x | s)), where s of the
last term is drawn at random. This is exact given p, but for that draw. Neighbours are taken as they are shown: a random
one counts as the word that it shows. Weights and exponents are fitted once, under all [MASK].

Shapes: V vocabulary, S selected positions, D draws of a random token, N rows, T positions.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from study import StudyError
from study.analysis.ladder import LABELS
from study.config.schema import Masking
from study.data.masking import mask_rows
from study.data.neighbour_laws import MaskedTokens, masked_tokens
from study.data.references import BLOCK_ROWS, PRODUCTS, CountModels, product_nlls, unigram_nll
from study.doctor.tokenizer import Vocabulary

PARTS = 40                                  # pieces of the text; of ten, eight are counted, one fits and one is scored
FIT_PLACE, SCORE_PLACE = 4, 9               # which of ten
FIT_TOKENS, SCORE_TOKENS = 6000, 8000       # masked tokens, at most
LEAST_SCORED = 50
LEAST_EXPECTED = 60                         # scored tokens, which chance then seldom takes below LEAST_SCORED


@dataclass(frozen=True)
class Level:
    """A rung of the ladder: NLL per selected token, nats, under each corruption, with the standard error of the second.

    `all_mask`: every selected token is shown as [MASK]. `own`: the user's corruption, by a model that knows it and uses
    the shown token; for the uniform distribution, which uses nothing, ln V.
    """
    name: str
    all_mask: float
    own: float
    error: float

    @property
    def label(self) -> str:
        """The name for readers."""
        return LABELS[self.name]


@dataclass(frozen=True)
class Ladder:
    """Levels from the least to the most knowledge. `counted` and `scored`: tokens; `vocabulary`: ordinary pieces."""
    levels: list[Level]
    counted: int
    scored: int
    vocabulary: int

    def __getitem__(self, name: str) -> Level:
        return next(level for level in self.levels if level.name == name)


def own_masking(mlm_probability: float, mix: tuple[float, float, float]) -> Masking:
    """Masking of single tokens. mix: shares of [MASK], random and kept."""
    mask, random, keep = mix
    return Masking(mlm_probability=mlm_probability, mask=mask, random=random, keep=keep, selection="token",
                   span_mean=3.0, schedule="dynamic", dupe_factor=1)


def measure_ladder(ids: np.ndarray, vocabulary: Vocabulary, masking: Masking, max_seq_length: int, seed: int,
                   progress: Callable = lambda items, **_: items) -> Ladder:
    """Returns the ladder of a text. ids (tokens,): its lines with a boundary after each.

    Raises StudyError if the text is too short.
    """
    ordinary = int(vocabulary.info.is_ordinary[ids].sum())
    needed = math.ceil(10 * LEAST_EXPECTED / masking.mlm_probability)       # a tenth of the text is scored
    if ordinary < needed:
        raise StudyError(f"the text has {ordinary:,} tokens of the vocabulary; the ladder needs {needed:,}: pass more "
                         f"text, or check that the tokenizer belongs to it")
    counted, fit, score = split(ids, max_seq_length, vocabulary.boundary)
    unigram = unigram_nll(counted, vocabulary.info)
    all_mask = masking.model_copy(update={"mask": 1.0, "random": 0.0, "keep": 0.0})
    sets = {"fit": select(fit, vocabulary, all_mask, seed, FIT_TOKENS),
            "all_mask": select(score, vocabulary, all_mask, seed, SCORE_TOKENS),
            "own": select(score, vocabulary, masking, seed, SCORE_TOKENS)}
    if (least := min(map(len, sets.values()))) < LEAST_SCORED:
        raise StudyError(f"the text gives {least} masked tokens to score; the ladder needs {LEAST_SCORED}: pass more "
                         f"text")
    steps = iter(progress(range(4), description="counting and fitting"))
    next(steps)
    models = CountModels.of(counted, unigram, sets)
    next(steps)
    fitted = Fitted.to(models, sets["fit"])
    nlls, rng = {}, np.random.default_rng(seed)
    for kind, mix in (("all_mask", all_mask), ("own", masking)):
        next(steps)
        shown = rng.choice(vocabulary.ordinary, (1, len(sets[kind])))
        nlls[kind] = fitted.token_nlls(sets[kind], mix, shown)
    list(steps)
    uniform = float(np.log(len(vocabulary.ordinary)))
    levels = [Level("uniform", uniform, uniform, 0.0)]
    levels += [Level(name, float(nlls["all_mask"][name].mean()), float(own.mean()), float(own.std() / len(own)**0.5))
               for name, own in nlls["own"].items()]
    return Ladder(levels, len(counted), len(sets["own"]), len(vocabulary.ordinary))


def split(ids: np.ndarray, max_seq_length: int, boundary: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the tokens to count, (tokens,), and the rows to fit and to score, each (N, T).

    Rows are windows of the text between two boundaries.
    """
    pieces = np.array_split(ids, PARTS)
    counted = np.concatenate([piece for number, piece in enumerate(pieces)
                              if number % 10 not in (FIT_PLACE, SCORE_PLACE)])
    rows = []
    for place in (FIT_PLACE, SCORE_PLACE):
        inner = min(max_seq_length - 2, len(pieces[-1]))        # the last pieces are the shortest, by one token
        windows = [piece[:len(piece) // inner * inner].reshape(-1, inner) for piece in pieces[place::10]]
        rows.append(np.pad(np.concatenate(windows), ((0, 0), (1, 1)), constant_values=boundary))
    return counted, *rows


def select(rows: np.ndarray, vocabulary: Vocabulary, masking: Masking, seed: int, limit: int) -> MaskedTokens:
    """Returns selected tokens of rows (N, T), at most about `limit`, from rows evenly spaced. Boundaries, special and
    unused ids are never selected."""
    info = vocabulary.info
    selected = info.is_ordinary[rows].sum() * masking.mlm_probability
    rows = rows[::max(1, int(np.ceil(selected / limit)))].astype(np.int64)
    masked = mask_rows(rows, info.is_ordinary[rows], np.ones(rows.shape, bool), info, masking, seed, 0,
                       np.arange(len(rows)))
    return masked_tokens(rows, masked.shown, masked.corruption, info.layout_ids)


@dataclass(frozen=True)
class Fitted:
    """Count models with the weights (3,) of the mixture and the exponents of each product."""
    models: CountModels
    weights: np.ndarray
    exponents: dict[str, tuple[float, ...]]

    @classmethod
    def to(cls, models: CountModels, tokens: MaskedTokens) -> Fitted:
        """Fits weights and exponents to these tokens."""
        return cls(models, models.fitted_mixture(tokens),
                   {name: models.fitted_exponents(tokens, words) for name, words in PRODUCTS.items()})

    def token_nlls(self, score: MaskedTokens, masking: Masking, shown: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the expected NLL (S,) of each scored token, nats, by model. shown (D, S): random tokens."""
        tokens = np.concatenate([score.truth[None], shown]) if masking.random else score.truth[None]
        laws = {"unigram": self.models.unigram[tokens], "neighbours-mixture": self.mixture(score, tokens)}
        laws |= {name: self.product(name, score, tokens) for name in self.exponents}
        size = int(np.isfinite(self.models.unigram).sum())
        return {name: shown_token_nll(law[:1], law[1:], score.truth, shown, masking, size)
                for name, law in laws.items()}

    def mixture(self, part: MaskedTokens, tokens: np.ndarray) -> np.ndarray:
        """Returns -ln of the mixture at `tokens` (D, S) in the contexts of `part`, (D, S) nats."""
        return np.stack([-np.log(self.weights @ self.models.mixture_parts(MaskedTokens(truth, part.left, part.right)))
                         for truth in tokens])

    def product(self, name: str, part: MaskedTokens, tokens: np.ndarray) -> np.ndarray:
        """Returns -ln of a product at `tokens` (D, S) in the contexts of `part`, (D, S) nats."""
        models, exponents, blocks = self.models, self.exponents[name], []
        for begin in range(0, len(part), BLOCK_ROWS):
            block = slice(begin, begin + BLOCK_ROWS)
            gains = models.gains(part[block], len(exponents) - 1)
            blocks.append(np.stack([product_nlls(gains, truth, models.unigram, exponents)
                                    for truth in tokens[:, block]]))
        return np.concatenate(blocks, 1)


def shown_token_nll(true: np.ndarray, other: np.ndarray, truth: np.ndarray, shown: np.ndarray, masking: Masking,
                    vocabulary: int) -> np.ndarray:
    """Returns the expected NLL (S,) of the true tokens by a model that sees the shown token; see above.

    true (1, S): -ln p(x). other (D, S): -ln p(s) of random tokens `shown` (D, S); their mean is taken.
    """
    one = masking.random / vocabulary       # chance of each token to be shown at random
    kept = true - np.log(masking.keep + one) + np.log(masking.keep * np.exp(-true) + one) if masking.keep else true
    noisy = true
    if masking.random:
        noisy = true - np.log(masking.keep * (shown == truth) + one) + np.log(masking.keep * np.exp(-other) + one)
    return masking.mask * true[0] + masking.keep * kept[0] + masking.random * noisy.mean(0)
