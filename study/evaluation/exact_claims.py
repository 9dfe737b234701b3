"""Claims about code and arithmetic, decided by running it. To add a check, add a function to CHECKS.

A check takes the settings of the study's baseline. It returns whether the claim holds, why, and the measurement in
words. Shapes: T = 16 positions, V = 50 token ids.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.overrides import TorchFunctionMode

from study import StudyError
from study.config.arms import resolve
from study.config.schema import Masking, Model, RunConfig
from study.config.study import Study
from study.data.batches import Batch, micro_batches
from study.data.masking import KEEP, MASK, RANDOM, mask_rows
from study.data.tokenizer import TokenizerInfo
from study.model.encoder import Encoder
from study.model.heads import parameter_count
from study.objectives.pretraining_model import PretrainingModel, new_model

BERT_VOCABULARY, BERT_LENGTH = 30_522, 512  # entries of the uncased vocabulary, positions
ROWS, LENGTH, ORDINARY = 4000, 64, 500      # of the random rows on which shares are counted
LEVEL = 0.95                                # of the binomial interval that a share must fall in
BERT_MASKING = Masking(mlm_probability=0.15, mask=0.8, random=0.1, keep=0.1, selection="token", span_mean=3.0,
                       schedule="dynamic", dupe_factor=1)


def run_checks(study: Study, names: Iterable[str]) -> dict[str, dict]:
    """The outcome of each of these checks: `holds`, `reason` and `measured`.

    Raises StudyError for a check that does not exist.
    """
    config, outcomes, threads = resolve(study, study.settings.baseline), {}, torch.get_num_threads()
    torch.set_num_threads(1)                # in models as small as these, threads only wait for each other
    try:
        for name in names:
            if name not in CHECKS:
                raise StudyError(f"{study.root / 'experiments' / 'claims.yaml'}: check: {name!r} is not one of "
                                 f"{', '.join(CHECKS)}")
            outcomes[name] = CHECKS[name](config)
    finally:
        torch.set_num_threads(threads)
    return outcomes


def _outcome(holds: bool, reason: str, measured: str) -> dict:
    return {"holds": bool(holds), "reason": reason, "measured": measured}


# ---- masking

def selected_share(_: RunConfig) -> dict:
    """About 15 % of the ordinary tokens are selected."""
    corruption = _masked_tokens()
    count = int((corruption > 0).sum())
    return _outcome(_within(count, corruption.size, 0.15), "the selected share of ordinary tokens was counted; special "
                    "tokens are never selected, so the share of all tokens is lower",
                    f"{count / corruption.size:.2%} of {corruption.size:,} tokens")


def mix_80_10_10(_: RunConfig) -> dict:
    """80 % of the selected tokens are masked, 10 % replaced and 10 % kept."""
    corruption = _masked_tokens()
    counts = {name: int((corruption == code).sum()) for name, code in (("mask", MASK), ("random", RANDOM),
                                                                       ("keep", KEEP))}
    return _mix(counts, "one uniform number per token, partitioned")


def mix_overlapping(_: RunConfig) -> dict:
    """The same shares for two independent draws of 10 %, where a token that both select is replaced."""
    rng, selected = np.random.default_rng(0), 200_000
    random, keep = rng.random(selected) < 0.1, rng.random(selected) < 0.1
    counts = {"mask": int((~random & ~keep).sum()), "random": int(random.sum()), "keep": int((keep & ~random).sum())}
    return _mix(counts, "two overlapping draws, as in the tutorial's code")


def _masked_tokens() -> np.ndarray:
    """What BERT's recipe does to each of 256,000 random tokens: (ROWS, LENGTH) codes."""
    rng = np.random.default_rng(0)
    size = ORDINARY + 5
    tokenizer = TokenizerInfo(size, 0, 1, 2, 3, 4, np.arange(5, size), np.zeros(size, bool))
    ids = rng.integers(5, size, (ROWS, LENGTH))
    every = np.ones_like(ids, bool)
    return mask_rows(ids, every, every, tokenizer, BERT_MASKING, 0, 0, np.arange(ROWS)).corruption


def _mix(counts: dict[str, int], method: str) -> dict:
    total = sum(counts.values())
    holds = all(_within(counts[name], total, share) for name, share in (("mask", 0.8), ("random", 0.1), ("keep", 0.1)))
    shares = " / ".join(f"{100 * counts[name] / total:.1f}" for name in ("mask", "random", "keep"))
    return _outcome(holds, f"counted over {total:,} selected tokens; {method}",
                    f"{shares} % masked, replaced, kept")


def _within(count: int, total: int, share: float) -> bool:
    low, high = stats.binom.interval(LEVEL, total, share)
    return bool(low <= count <= high)


# ---- loss and gradient

@dataclass(frozen=True)
class _Example:
    """A small model with random tokens: 3 rows of 16, and 6 selected positions."""
    model: PretrainingModel
    ids: Tensor                             # (3, T)
    types: Tensor                           # (3, T)
    positions: Tensor                       # (6,) flat indices into (3 T)
    targets: Tensor                         # (6,)


def _example(config: RunConfig) -> _Example:
    model = config.model.model_copy(update={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
                                            "num_attention_heads": 2, "dropout": 0.0})
    examples = config.examples.model_copy(update={"max_seq_length": 16})
    small = config.model_copy(update={"model": model, "examples": examples})
    generator = torch.Generator().manual_seed(0)
    network = new_model(small, 50, 0).eval()
    ids = torch.randint(5, 50, (3, 16), generator=generator)
    targets = torch.randint(5, 50, (6,), generator=generator)
    return _Example(network, ids, torch.zeros_like(ids), torch.tensor([2, 7, 19, 24, 35, 40]), targets)


def _full_logits(example: _Example) -> Tensor:
    """Logits at every position, (3, T, V)."""
    encoder = example.model.encoder
    return example.model.mlm_head(encoder(example.ids, example.types), encoder.token)


def loss_elsewhere(config: RunConfig) -> dict:
    """Only selected positions contribute gradient: the loss does not depend on the logits elsewhere."""
    example = _example(config)
    logits = _full_logits(example)
    logits.retain_grad()
    selected = logits.view(-1, 50)[example.positions]
    cross_entropy(selected, example.targets, reduction="sum").backward()
    elsewhere = torch.ones(example.ids.numel(), dtype=torch.bool)
    elsewhere[example.positions] = False
    largest = float(logits.grad.view(-1, 50)[elsewhere].abs().max())
    return _outcome(largest == 0, "the gradient of the loss with respect to all other logits", f"largest {largest:g}")


def masked_loss_is_full_loss(config: RunConfig) -> dict:
    """Projecting only the selected positions to the vocabulary gives the same loss as projecting all positions."""
    example = _example(config)
    with torch.no_grad():
        masked = float(example.model(example.ids, example.types, None, example.positions, example.targets, None).token)
        labels = torch.full((example.ids.numel(),), -100)
        labels[example.positions] = example.targets
        logits = _full_logits(example).view(-1, 50)
        full = float(cross_entropy(logits, labels, reduction="sum"))
    return _outcome(abs(masked - full) < 1e-4, "the loss at selected positions against the loss over full logits",
                    f"difference {abs(masked - full):.1e} nats")


def padding_segment(config: RunConfig) -> dict:
    """The segment id of padding is arbitrary: with the right attention mask, it does not change any real token."""
    example = _example(config)
    mask = torch.arange(16)[None].expand(3, 16) < torch.tensor([[16], [9], [12]])
    segments = [torch.where(mask, example.types, torch.full_like(example.types, segment)) for segment in (0, 1)]
    with torch.no_grad():
        first, second = (example.model.encoder(example.ids, types, mask)[mask] for types in segments)
    largest = float((first - second).abs().max())
    return _outcome(largest < 1e-6, "hidden states of real tokens under either segment id",
                    f"largest difference {largest:.0e}")


def accumulation(config: RunConfig) -> dict:
    """The gradients of micro-batches add up to that of the large batch if their losses are weighted by token counts;
    averaging their mean losses gives another gradient."""
    example = _example(config)
    model, (ids, types) = example.model, (x.repeat(2, 1)[:4].numpy() for x in (example.ids, example.types))
    positions = np.array([1, 2, 3, 4, 5, 20, 40, 50])
    batch = Batch(ids, types, None, positions, ids.reshape(-1)[positions], None, ids.size, None)

    def gradient(parts: int, by_tokens: bool) -> Tensor:
        model.zero_grad()
        for part in micro_batches(batch, parts):
            tensors = [None if x is None else torch.from_numpy(np.ascontiguousarray(x)) for x in part]
            loss, targets = model(*tensors).token, len(tensors[4])
            (loss / len(positions) if by_tokens else loss / targets / parts).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    whole = gradient(1, True)
    right, wrong = (float((gradient(4, by_tokens) - whole).norm() / whole.norm()) for by_tokens in (True, False))
    return _outcome(right < 1e-5, "four micro-batches against one batch: equal only if every token has the same weight",
                    f"relative difference {right:.0e} weighted by tokens, {wrong:.0%} for the mean of means")


# ---- arithmetic

class _Undrawn(TorchFunctionMode):
    """Modules are built without drawing normal numbers, for which torch would import its compiler on `meta`."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        return kwargs["tensor"] if function is nn.init.normal_ else function(*args, **(kwargs or {}))


def bert_sizes(_: RunConfig) -> dict:
    """BERT-base has 110 million parameters and BERT-large 340 million."""
    sizes = {"base": (12, 768, 12, 110e6), "large": (24, 1024, 16, 340e6)}
    counts = {}
    for name, (layers, width, heads, _) in sizes.items():
        model = Model(hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
                      intermediate_size=4 * width, norm="post", embedding_norm=True, dropout=0.1, initialization="bert",
                      tied_decoder=True, decoder_transform=True)
        with torch.device("meta"), _Undrawn():
            parts = Encoder(model, BERT_VOCABULARY, BERT_LENGTH, causal=False), nn.Linear(width, width)
        counts[name] = sum(parameter_count(part) for part in parts)                     # the encoder and its pooler
    close = all(abs(counts[name] / published - 1) < 0.02 for name, (*_, published) in sizes.items())
    return _outcome(close, "the encoder with its pooler was built and its parameters counted; agrees within 2 %",
                    f"{counts['base'] / 1e6:.1f} and {counts['large'] / 1e6:.1f} million")


def perplexity_by_tokens(_: RunConfig) -> dict:
    """exp(mean NLL over all masked tokens) does not depend on the batch size; the mean of batch means does."""
    rng = np.random.default_rng(0)
    rows = [rng.gamma(2.0, 1.5, rng.integers(1, 12)) for _ in range(61)]

    def by_tokens(size: int) -> float:
        parts = [np.concatenate(rows[i:i + size]) for i in range(0, len(rows), size)]
        return math.exp(sum(float(part.sum()) for part in parts) / sum(map(len, parts)))

    def by_batches(size: int) -> float:
        return math.exp(float(np.mean([np.concatenate(rows[i:i + size]).mean() for i in range(0, len(rows), size)])))

    right, wrong = ({perplexity(size) for size in (1, 8, 16, 61)} for perplexity in (by_tokens, by_batches))
    spread = (max(right) - min(right)) / min(right)
    return _outcome(spread < 1e-12, "averaged over tokens, it is the same for any batch size; averaged over batch "
                    "means, it is not", f"spread over batch sizes {spread:.0e} by tokens, "
                    f"{max(wrong) / min(wrong) - 1:.1%} by batch means")


CHECKS: dict[str, Callable[[RunConfig], dict]] = {check.__name__: check for check in (
    selected_share, mix_80_10_10, mix_overlapping, loss_elsewhere, masked_loss_is_full_loss, padding_segment,
    accumulation, bert_sizes, perplexity_by_tokens)}
