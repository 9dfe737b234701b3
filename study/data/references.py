"""The ladder of references: how far prediction gets without an encoder. It puts an encoder's perplexity on a scale
where the best possible perplexity of a text is unknown.

    uniform                   all ordinary tokens alike
    unigram                   P(x): the frequency of a token
    neighbours-mixture        a weighted mean of P(x), P(x | left word) and P(x | right word)
    neighbours-product        (P(x | left word) P(x | right word))^a P(x)^b, normalised over the ordinary tokens
    two-neighbours-product    the same times (P(x | two left words) P(x | two right words))^c
    floor                     the best possible prediction, where it is known

A product lets two words that each allow a few tokens allow only those that both do, as Hinton's product of experts
(2002) does; a mixture cannot. The laws of the neighbours are described in neighbour_laws.py. Weights and exponents are
fitted to the validation set.

Shapes: V vocabulary, S selected positions.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from study.data.neighbour_laws import BLOCK_TOKENS, Law, MaskedTokens, context_keys, excess, side_laws
from study.data.tokenizer import TokenizerInfo

if TYPE_CHECKING:
    from scipy import sparse

EM_ROUNDS = 30
FIT_TOKENS = 2000                           # validation tokens, evenly spaced, that exponents are fitted to
BLOCK_ROWS = 256                            # tokens whose products are normalised at once, to bound memory
START = (0.8, -0.7, 0.0)                    # exponents a, b and c that the fit starts from
WEIGHT_DIGITS = 6                           # of the weights that are written
EXPONENT_DIGITS = 3                         # the last bits of a fit differ between machines
PRODUCTS = {"neighbours-product": 1, "two-neighbours-product": 2}       # name -> words on each side


def unigram_nll(train: np.ndarray, tokenizer: TokenizerInfo) -> np.ndarray:
    """Returns -ln P(token), (V,) nats: add-one smoothed counts of ordinary tokens in `train` (tokens,); infinite for
    other tokens."""
    counts = np.zeros(tokenizer.vocabulary_size)
    for begin in range(0, len(train), BLOCK_TOKENS):
        counts += np.bincount(train[begin:begin + BLOCK_TOKENS], minlength=len(counts))[:len(counts)]
    counts = np.where(tokenizer.is_ordinary, counts + 1, 0)
    with np.errstate(divide="ignore"):
        return -np.log(counts / counts.sum())


def reference_ladder(train: np.ndarray, unigram: np.ndarray, tokens: dict[str, MaskedTokens],
                     floors: dict[str, float]) -> tuple[dict[str, list[dict]], dict[str, dict[str, float]]]:
    """Returns the ladder of each split and what was fitted.

    A rung of the ladder has `name`, `nll` (nats per token), `perplexity` and `tokens`. train (tokens,): the training
    text. unigram (V,): nats, infinite for tokens that are never predicted. tokens: those of `validation`, which weights
    and exponents are fitted to, and of other splits. floors: split -> NLL of the exact floor, where it is known.
    """
    models = CountModels.of(train, unigram, tokens)
    weights = models.fitted_mixture(tokens["validation"])
    exponents = {name: models.fitted_exponents(tokens["validation"], words) for name, words in PRODUCTS.items()}
    ladder = {}
    for split, part in tokens.items():
        levels = {"uniform": np.log(np.isfinite(unigram).sum()), "unigram": unigram[part.truth].mean(),
                  "neighbours-mixture": models.mixture_nll(part, weights)}
        levels |= {name: models.product_nll(part, values) for name, values in exponents.items()}
        levels |= {"floor": floors[split]} if split in floors else {}
        ladder[split] = [{"name": name, "nll": float(nll), "perplexity": float(np.exp(nll)), "tokens": len(part)}
                         for name, nll in levels.items()]
    shares = zip(("unigram", "left", "right"), weights.round(WEIGHT_DIGITS).tolist(), strict=True)
    fitted = {"neighbours-mixture": dict(shares)}
    return ladder, fitted | {name: dict(zip("abc", values, strict=False)) for name, values in exponents.items()}


@dataclass(frozen=True)
class CountModels:
    """Mixture and products of the laws of both sides. unigram (V,) nats; left, right: laws given one and two words."""
    unigram: np.ndarray
    left: list[Law]
    right: list[Law]

    @classmethod
    def of(cls, train: np.ndarray, unigram: np.ndarray, tokens: dict[str, MaskedTokens]) -> CountModels:
        """The models for the contexts of these tokens and no others, which bounds their memory."""
        left, right = (np.concatenate([getattr(part, side) for part in tokens.values()]) for side in ("left", "right"))
        return cls(unigram, side_laws(train, left, unigram), side_laws(train[::-1], right, unigram))

    def mixture_parts(self, tokens: MaskedTokens) -> np.ndarray:
        """P(truth), P(truth | left word) and P(truth | right word), (3, S)."""
        frequency, parts = np.exp(-self.unigram[tokens.truth]), []
        for law, neighbours in ((self.left[0], tokens.left), (self.right[0], tokens.right)):
            row = law.rows(context_keys(neighbours[:, :1], len(self.unigram)))
            parts.append(law.scale[row] * frequency * (1 + np.asarray(law.excess[row, tokens.truth]).ravel()))
        return np.stack([frequency, *parts])

    def fitted_mixture(self, tokens: MaskedTokens) -> np.ndarray:
        """Weights (3,) under which the mixture makes the tokens likeliest, by EM."""
        parts = self.mixture_parts(tokens)
        weights = np.full(len(parts), 1 / len(parts))
        for _ in range(EM_ROUNDS):
            posterior = weights[:, None] * parts
            weights = (posterior / posterior.sum(0)).mean(1)
        return weights

    def mixture_nll(self, tokens: MaskedTokens, weights: np.ndarray) -> float:
        """Mean NLL of the mixture, nats."""
        return float(-np.log(weights @ self.mixture_parts(tokens)).mean())

    def gains(self, tokens: MaskedTokens, words: int) -> list[sparse.csr_array]:
        """ln of P(x | left) P(x | right) / P(x)^2, up to a constant per token, sparse (S, V): given one word on each
        side, and so on up to this many. All have their entries in the same places."""
        return [excess(self.left[:count], tokens.left).log1p() + excess(self.right[:count], tokens.right).log1p()
                for count in range(1, words + 1)]

    def product_nll(self, tokens: MaskedTokens, exponents: tuple[float, ...], block: int = BLOCK_ROWS) -> float:
        """Mean NLL of a product, nats. exponents: a and b, or a, b and c."""
        total, words = 0.0, len(exponents) - 1
        for begin in range(0, len(tokens), block):
            part = tokens[begin:begin + block]
            total += product_nlls(self.gains(part, words), part.truth, self.unigram, exponents).sum()
        return float(total / len(tokens))

    def fitted_exponents(self, tokens: MaskedTokens, words: int) -> tuple[float, ...]:
        """The exponents under which a product makes the tokens likeliest, of at most FIT_TOKENS.

        The NLL is convex in them, since a product is a log-linear model.
        """
        from scipy.optimize import minimize

        part = tokens[::-(-len(tokens) // FIT_TOKENS)]
        gains = self.gains(part, words)
        best = minimize(lambda exponents: product_nlls(gains, part.truth, self.unigram, exponents).mean(),
                        START[:words + 1], method="BFGS", options={"gtol": 1e-4})
        return tuple(round(float(value), EXPONENT_DIGITS) for value in best.x)


def product_nlls(gains: list[sparse.csr_array], truth: np.ndarray, unigram: np.ndarray,
                 exponents: Sequence[float]) -> np.ndarray:
    """Returns -ln of the normalised product at the true tokens, (S,) nats.

    gains: as CountModels.gains. Most are zero: the sum over the vocabulary is that of P(x)^(2a + b + 2c), which is the
    same for every token, plus corrections where there are counts.
    """
    a, b, *c = exponents
    ordinary, power = np.isfinite(unigram), b + 2 * sum((a, *c))
    base = np.zeros(len(unigram))
    base[ordinary] = np.exp(-power * unigram[ordinary])
    data = sum(exponent * part.data for exponent, part in zip((a, *c), gains, strict=True))
    gain = type(gains[0])((data, gains[0].indices, gains[0].indptr), shape=gains[0].shape)
    own = np.asarray(gain[np.arange(len(truth)), truth]).ravel()
    gain.data = np.expm1(gain.data)
    return np.log(base.sum() + gain @ base) + power * unigram[truth] - own
