"""What a person sees on a terminal: progress of long work. Silent, or one line a while, when nobody looks."""
from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

console = Console(stderr=True)
_PLAIN_WIDTH = 120                          # columns of a table that goes to a file or a pipe


def columns(*texts: str) -> list:
    return [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            *map(TextColumn, texts)]


def track(items: Iterable, description: str = "", total: int | None = None) -> Iterator:
    """`items`, with a progress bar on a terminal."""
    if total is None:
        total = len(items) if hasattr(items, "__len__") else None
    with Progress(*columns(), console=console, disable=not console.is_terminal, transient=True) as progress:
        yield from progress.track(items, total=total, description=description)


class TrainingBar:
    """Progress of one cell: loss, learning rate, tokens a second, time left. Off a terminal, a line each 30 seconds."""

    def __init__(self, name: str, steps: int):
        self.name, self.steps, self.said = name, steps, time.monotonic()
        self.progress = Progress(*columns("{task.fields[state]}"), console=console, disable=not console.is_terminal)

    def __enter__(self) -> TrainingBar:
        self.progress.start()
        self.task = self.progress.add_task(self.name, total=self.steps, state="")
        return self

    def __exit__(self, *_) -> None:
        self.progress.stop()

    def update(self, record: dict, speed: float) -> None:
        """Shows a record of metrics.jsonl."""
        parts = [f"loss {record['loss']:.3f}  lr {record['learning_rate']:.1e}" if record.get("loss") else "",
                 f"validation {record['validation_nll']:.3f}" if "validation_nll" in record else "",
                 f"{speed:,.0f} tokens/s" if speed else ""]
        state = "  ".join(filter(None, parts))
        self.progress.update(self.task, completed=record["step"], state=state)
        if not console.is_terminal and time.monotonic() - self.said > 30:
            self.said = time.monotonic()
            print(f"{self.name} step {record['step']}/{self.steps}  {state}", file=sys.stderr, flush=True)


class CellsTable:
    """Cells that run side by side, each with its newest line. Off a terminal, a line for each cell that ends."""

    def __init__(self, jobs: int):
        self.jobs, self.said = jobs, set()
        self.live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> CellsTable:
        return self

    def __exit__(self, *_) -> None:
        if self.live is not None and self.live.is_started:
            self.live.stop()

    def update(self, cells: list) -> None:
        """Shows the states of the cells."""
        ended = [cell for cell in cells if cell.ended is not None]
        if self.live is None:
            for cell in ended:
                if cell.name not in self.said:
                    self.said.add(cell.name)
                    print(f"{len(self.said & {one.name for one in cells})}/{len(cells)}  {cell.name}  {cell.status}  "
                          f"{cell.ended - cell.began:.0f} s", file=sys.stderr, flush=True)
            return
        if not self.live.is_started:
            self.live.start()
        table = Table(title=f"{len(ended)} of {len(cells)} done, {self.jobs} at a time", title_justify="left")
        for name in ("cell", "state", "seconds", "newest line"):
            table.add_column(name, no_wrap=True, justify="right" if name == "seconds" else "left")
        now = time.monotonic()
        order = {"running": 0, "failed": 1, "done": 2, "waiting": 3}
        for cell in sorted(cells, key=lambda cell: order[cell.status])[:console.height - 6]:
            seconds = f"{(cell.ended or now) - cell.began:.0f}" if cell.began else ""
            table.add_row(cell.name, cell.status, seconds, escape(cell.line[:80]))
        self.live.update(table, refresh=True)


def _print(*parts) -> None:
    out = Console()
    out = out if out.is_terminal else Console(width=_PLAIN_WIDTH)
    for part in parts:
        out.print(part)


def show_masks(passes: list, shares: dict) -> None:
    """The tutorial's table for each pass (original, shown, label, kind), and the realised shares below."""
    for number, seen in enumerate(passes):
        table = Table(title=f"pass {number + 1}" if len(passes) > 1 else None, title_justify="left")
        for name in ("original", "shown", "label", "kind"):
            table.add_column(name)
        for token in seen:
            style = "" if token.label is None else "bold"
            table.add_row(escape(token.original), escape(token.shown), escape(token.label or ""), token.corruption,
                          style=style)
        _print(table)
    if shares["selected"] is None:
        _print(f"left to right: {shares['predicted']:.1%} of the ordinary tokens are targets")
        return
    mix = ", ".join(f"{shares[name]:.1%} {name}" for name in ("mask", "random", "keep"))
    _print(f"over {shares['rows']:,} maskings of this text: {shares['selected']:.1%} of the ordinary tokens selected, "
           f"of these {mix}; {shares['predicted']:.1%} predicted")


def show_guesses(found: dict[str, list]) -> None:
    """The likeliest pieces of several cells side by side, a table a [MASK]."""
    places = len(next(iter(found.values())))
    for place in range(places):
        table = Table(title=f"[MASK] {place + 1}" if places > 1 else None, title_justify="left")
        for cell in found:
            table.add_column(cell)
        for row in zip(*(guesses[place] for guesses in found.values()), strict=True):
            table.add_row(*(f"{escape(word)} {share:.1%}" for word, share in row))
        _print(table)


def show_states(tokens: list[str], states) -> None:
    """Shape and first values of hidden states (T, H), a row a token."""
    table = Table(title=f"hidden states: {states.shape[0]} tokens x {states.shape[1]}", title_justify="left")
    for name in ("token", "first values", "norm"):
        table.add_column(name)
    for token, state in zip(tokens, states, strict=True):
        table.add_row(escape(token), "  ".join(f"{value:+.3f}" for value in state[:5]), f"{(state**2).sum()**0.5:.2f}")
    _print(table)


def show_plan(rows: list, jobs: int, stages: str) -> None:
    """The plan of a study, an arm a line, and what is still to be done in all with `jobs` cells at a time. `stages` is
    its dvc.yaml."""
    table = Table()
    for name in ("arm", "cells", "stale", "tokens a cell", "operations a cell", "training a cell"):
        table.add_column(name, justify="left" if name == "arm" else "right")
    for row in rows:
        table.add_row(row.arm, f"{row.cells}", f"{row.stale}", f"{row.tokens:,.0f}", f"{row.flops:.1e}",
                      "" if row.seconds is None else clock(row.seconds))
    stale = sum(row.stale for row in rows)
    _print(table, f"{stale} of {sum(row.cells for row in rows)} cells are stale: "
                  f"{sum(row.stale * row.tokens for row in rows):,.0f} tokens, "
                  f"{sum(row.stale * row.flops for row in rows):.1e} operations")
    if stale and any(row.seconds is None for row in rows if row.stale):
        _print(f"how long they take is measured once the examples are made: `dvc repro {stages}:examples`")
    elif stale:
        seconds = sum(row.stale * row.seconds for row in rows if row.stale)
        _print(f"{clock(seconds / jobs)} of training on this machine"
               + (f" with {jobs} cells at a time, if each is as fast as one alone" if jobs > 1 else "")
               + "; search, evaluation and probing come on top")


def clock(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def verified(found: dict) -> str:
    """What came out when a cell was trained anew, in a line."""
    weights = "the same" if found["weights_equal"] else "other"
    text = f"{found['outcome']}: {weights} weights, {found['differing']:,} of {found['numbers']:,} numbers differ"
    if found["first_differing"] is None:
        return text
    gaps = ", ".join(f"{name} {'not comparable' if gap is None else f'{gap:.2g}'}"
                     for name, gap in found["largest"].items())
    step = "" if found["parts_at"] is None else f"; the curves part at step {found['parts_at']:,}"
    return f"{text}, the first {found['first_differing']}; largest difference in {gaps}{step}"


TINT = {"supported": "green", "contradicted": "red", "equivalent": "blue"}


def show_claims(rows: list[dict]) -> None:
    """The verdict table."""
    table = Table()
    for name in ("claim", "what was claimed", "published", "measured here", "verdict"):
        table.add_column(name, no_wrap=name == "claim")
    for row in rows:
        verdict = row["verdict"] + (" (exploratory)" if row["exploratory"] else "")
        table.add_row(escape(row["id"]), escape(row["statement"]), escape(row["published"]), escape(row["measured"]),
                      verdict, style=TINT.get(row["verdict"], ""))
    _print(table)


def show_claim(row: dict) -> None:
    """Everything about one claim."""
    _print(f"[bold]{escape(row['id'])}[/bold]  {escape(row['statement'])}",
           f"verdict: [bold]{row['verdict']}[/bold] - {escape(row['reason'])}")
    facts = {"measured": row["measured"], "published": f"{row['published']} ({row['source']})",
             "predicted": row["expected"], "scope": row["scope"], "at odds with": ", ".join(row["contradicts"]),
             "exploratory": "yes: not what was recorded before the first run" if row["exploratory"] else ""}
    for name, text in facts.items():
        if text:
            _print(f"{name}: {escape(text)}")
    for arm, values in row["outcome"]["values"].items():
        _print(f"{escape(arm)}, a number a seed: {', '.join(f'{value:.4g}' for value in values)}")
    for sentence in row["about"]:
        _print(escape(sentence))
