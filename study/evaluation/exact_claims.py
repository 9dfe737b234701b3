"""Claims about code and arithmetic, decided by running it. Each check says whether the claim holds, why, and what was
measured, in words made from the measurement. Called from the command line: it runs parts of all the others."""
from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from study.analysis.claims import AnyClaim, Exact
from study.config.load import Study, resolve
from study.config.schema import Masking, RunConfig
from study.data.batches import Batch
from study.data.masking import KEEP, MASK, RANDOM, mask_rows
from study.data.tokenizer_info import TokenizerInfo

ROWS, LENGTH, WORDS = 4000, 64, 500         # of the made-up rows that shares are counted on
LEVEL = 0.95


def run_checks(study: Study, claims: dict[str, AnyClaim]) -> dict[str, dict]:
    """The outcome of each exact claim: `holds`, `reason`, `measured`."""
    config = resolve(study, study.settings.baseline)
    done: dict[str, dict] = {}
    for name, claim in claims.items():
        if isinstance(claim, Exact):
            done[name] = _stated(claim) if claim.check == "stated" else CHECKS[claim.check](config)
    return done


def _outcome(holds: bool, reason: str, measured: str) -> dict:
    return {"holds": bool(holds), "reason": reason, "measured": measured}


def _stated(claim: Exact) -> dict:
    if isinstance(claim.claimed, str) or isinstance(claim.found, str):
        holds = claim.claimed == claim.found
    else:
        holds = abs(claim.claimed - claim.found) <= (claim.tolerance or 0.0)
    shown = [f"{x:g}" if isinstance(x, float) else str(x) for x in (claim.claimed, claim.found)]
    return _outcome(holds, f"claimed {shown[0]}; {claim.evidence}: {shown[1]}", f"{shown[0]} against {shown[1]}")


def _kinds(masking: Masking) -> np.ndarray:
    """Kinds of 256,000 made-up tokens under a recipe."""
    rng = np.random.default_rng(0)
    tokenizer = TokenizerInfo(WORDS + 5, 0, 1, 2, 3, 4, np.arange(5, WORDS + 5), np.zeros(WORDS + 5, bool))
    ids = rng.integers(5, WORDS + 5, (ROWS, LENGTH))
    every = np.ones_like(ids, bool)
    return mask_rows(ids, every, every, tokenizer, masking, 0, 0, np.arange(ROWS)).corruption


def _within(count: int, total: int, share: float) -> bool:
    low, high = stats.binom.interval(LEVEL, total, share)
    return bool(low <= count <= high)


BERT = Masking(mlm_probability=0.15, mask=0.8, random=0.1, keep=0.1, selection="token", span_mean=3.0, schedule="dynamic",
               dupe_factor=1)


def selected_share(_: RunConfig) -> dict:
    """About 15 % of the ordinary tokens are selected."""
    kind = _kinds(BERT)
    share = float((kind > 0).mean())
    return _outcome(_within(int((kind > 0).sum()), kind.size, 0.15), "the share of ordinary tokens, counted; specials "
                    "are never selected, so that it is less of all tokens", f"{share:.2%} of {kind.size:,} tokens")


def mix_80_10_10(_: RunConfig) -> dict:
    """80 % of the selected are masked, 10 % replaced, 10 % kept."""
    return _mix(_counts(_kinds(BERT)), "one uniform a token, partitioned")


def mix_overlapping(_: RunConfig) -> dict:
    """The same claimed of two independent draws, of which random wins: 10 % random, 10 % kept."""
    rng, selected = np.random.default_rng(0), 200_000
    random, keep = rng.random(selected) < 0.1, rng.random(selected) < 0.1
    counts = {"mask": int((~random & ~keep).sum()), "random": int(random.sum()), "keep": int((keep & ~random).sum())}
    return _mix(counts, "two draws that overlap, as in the tutorial's code")


def _counts(kind: np.ndarray) -> dict[str, int]:
    return {"mask": int((kind == MASK).sum()), "random": int((kind == RANDOM).sum()), "keep": int((kind == KEEP).sum())}


def _mix(counts: dict[str, int], how: str) -> dict:
    total = sum(counts.values())
    holds = all(_within(counts[name], total, share) for name, share in (("mask", 0.8), ("random", 0.1), ("keep", 0.1)))
    shares = " / ".join(f"{100 * counts[name] / total:.1f}" for name in ("mask", "random", "keep"))
    return _outcome(holds, f"counted over {total:,} selected tokens; {how}", f"{shares} % masked, random, kept")


def _model(config: RunConfig):
    """A small model with a batch of random tokens (3 rows of 16) and 6 targets."""
    import torch

    from study.model.heads import new_model

    small = config.model_copy(update={
        "model": config.model.model_copy(update={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
                                               "num_attention_heads": 2, "dropout": 0.0}),
        "examples": config.examples.model_copy(update={"max_seq_length": 16})})
    model, generator = new_model(small, 50, 0).eval(), torch.Generator().manual_seed(0)
    ids = torch.randint(5, 50, (3, 16), generator=generator)
    positions = torch.tensor([2, 7, 19, 24, 35, 40])
    return model, ids, torch.zeros_like(ids), positions, torch.randint(5, 50, (6,), generator=generator)


def loss_elsewhere(config: RunConfig) -> dict:
    """Only selected positions give gradient: the loss does not depend on the logits anywhere else."""
    import torch

    model, ids, types, positions, targets = _model(config)
    logits = model.words(model.encoder(ids, types), model.encoder.token)
    logits.retain_grad()
    torch.nn.functional.cross_entropy(logits.view(-1, 50)[positions], targets, reduction="sum").backward()
    elsewhere = torch.ones(ids.numel(), dtype=torch.bool)
    elsewhere[positions] = False
    largest = float(logits.grad.view(-1, 50)[elsewhere].abs().max())
    return _outcome(largest == 0, "the gradient of the loss at all other logits", f"largest {largest:g}")


def masked_loss_is_full_loss(config: RunConfig) -> dict:
    """Projecting selected positions alone gives the loss that projecting all of them gives."""
    import torch

    model, ids, types, positions, targets = _model(config)
    with torch.no_grad():
        ours = float(model(ids, types, None, positions, targets, None).words)
        labels = torch.full((ids.numel(),), -100)
        labels[positions] = targets
        logits = model.words(model.encoder(ids, types), model.encoder.token).view(-1, 50)
        full = float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
    return _outcome(abs(ours - full) < 1e-4, "loss at selected positions against loss over full logits",
                    f"difference {abs(ours - full):.1e} nats")


def perplexity_by_tokens(_: RunConfig) -> dict:
    """exp(mean NLL over all masked tokens) does not depend on the evaluation batch; the mean of batch means does."""
    rng = np.random.default_rng(0)
    rows = [rng.gamma(2.0, 1.5, rng.integers(1, 12)) for _ in range(61)]

    def token_weighted(size: int) -> float:
        parts = [np.concatenate(rows[i:i + size]) for i in range(0, len(rows), size)]
        return math.exp(sum(float(part.sum()) for part in parts) / sum(map(len, parts)))

    def of_means(size: int) -> float:
        return math.exp(float(np.mean([np.concatenate(rows[i:i + size]).mean() for i in range(0, len(rows), size)])))

    right, wrong = ({f(size) for size in (1, 8, 16, 61)} for f in (token_weighted, of_means))
    spread = (max(right) - min(right)) / min(right)
    return _outcome(spread < 1e-12, "by tokens it is the same for any batch size; averaged over batches it is not",
                    f"spread over batch sizes {spread:.0e} by tokens, {max(wrong) / min(wrong) - 1:.1%} by batch means")


def padding_segment(config: RunConfig) -> dict:
    """The segment id of padding may be any: with the right attention mask no real token sees it."""
    import torch

    model, ids, types, _, _ = _model(config)
    mask = torch.arange(16)[None].expand(3, 16) < torch.tensor([[16], [9], [12]])
    with torch.no_grad():
        one, two = (model.encoder(ids, torch.where(mask, types, torch.full_like(types, other)), mask)[mask]
                    for other in (0, 1))
    largest = float((one - two).abs().max())
    return _outcome(largest < 1e-6, "states of real tokens under either id", f"largest difference {largest:.0e}")


def accumulation(config: RunConfig) -> dict:
    """Micro-batches weighted by what they predict add up to the large batch; averaging their means does not."""
    import torch

    from study.training.trainer import micro_batches

    model, ids, types, _, _ = _model(config)
    ids, types = ids.repeat(2, 1)[:4].numpy(), types.repeat(2, 1)[:4].numpy()
    positions = np.array([1, 2, 3, 4, 5, 20, 40, 50])
    batch = Batch(ids, types, None, positions, ids.reshape(-1)[positions], None, ids.size, None)

    def gradient(parts: int, weighted: bool) -> torch.Tensor:
        model.zero_grad()
        for part in micro_batches(batch, parts):
            tensors = [None if x is None else torch.from_numpy(np.ascontiguousarray(x)) for x in part]
            loss = model(*tensors).words
            (loss / len(positions) if weighted else loss / len(tensors[4]) / parts).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    whole = gradient(1, True)
    right, wrong = (float((gradient(4, weighted) - whole).norm() / whole.norm()) for weighted in (True, False))
    return _outcome(right < 1e-5, "four micro-batches against one batch: equal only where tokens are weighted alike",
                    f"relative difference {right:.0e} by tokens, {wrong:.0%} by means of means")


CHECKS: dict[str, Callable[[RunConfig], dict]] = {
    function.__name__: function for function in (
        selected_share, mix_80_10_10, mix_overlapping, loss_elsewhere, masked_loss_is_full_loss, perplexity_by_tokens,
        padding_segment, accumulation)}
