"""Terminal output of `study plan`."""
from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from study.cli.console import show

if TYPE_CHECKING:
    from study.orchestration.plan import Plan


def show_plan(rows: list[Plan], jobs: int, has_examples: bool, words: float | None = None) -> None:
    """One row per arm, and the total work for the cells that are trained, with `jobs` of them in parallel.
    has_examples: whether the training time could be measured. words: the stated length of the text that epochs are of;
    None: the real one."""
    table = Table()
    stale, trained = sum(row.stale for row in rows), sum(row.trained for row in rows)
    counts = ("stale",) if stale == trained else ("stale", "trained")
    for name in ("arm", "cells", *counts, "tokens per cell", "epochs", "FLOPs per cell", "training per cell"):
        table.add_column(name, justify="left" if name == "arm" else "right")
    for row in rows:
        table.add_row(row.arm, f"{row.cells}", *(f"{getattr(row, name)}" for name in counts), f"{row.tokens:,.0f}",
                      "" if row.epochs is None else f"{row.epochs:,.1f}", f"{row.flops:.1e}",
                      "" if row.seconds is None else duration(row.seconds))
    show(table, _total_work(rows, stale, trained))
    if words is not None:
        show(f"epochs of {words:,.0f} words, one token for each; a text has more tokens than words, so there "
             f"will be fewer epochs")
    if trained:
        show(_training_time(rows, min(jobs, trained), has_examples))


def _total_work(rows: list[Plan], stale: int, trained: int) -> str:
    """How many cells are stale, and the tokens and FLOPs of those that are trained."""
    text = f"{stale} of {sum(row.cells for row in rows)} cells are stale"
    if stale and not trained:
        return f"{text}; none of them is trained, only evaluated, probed or fine-tuned"
    if stale != trained:
        text += f", of which {trained} {'is' if trained == 1 else 'are'} trained"
    return (f"{text}: {sum(row.trained * row.tokens for row in rows):,.0f} tokens, "
            f"{sum(row.trained * row.flops for row in rows):.1e} FLOPs")


def _training_time(rows: list[Plan], jobs: int, has_examples: bool) -> str:
    """How long the training of these cells takes with `jobs` in parallel, or why that is not known."""
    from study.orchestration.plan import elapsed_seconds

    if any(row.seconds is None for row in rows if row.trained):
        return ("the training time was not measured" if has_examples else
                "the training time can be measured once the examples exist: `dvc repro examples`")
    parallel = f" with {jobs} cells in parallel, if they do not slow each other down" if jobs > 1 else ""
    return (f"{duration(elapsed_seconds(rows, jobs))} of training on this machine{parallel}; search, evaluation, "
            f"probes and fine-tuning come on top")


def duration(seconds: float) -> str:
    """A duration as text, such as 42 s, 3 min or 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
