"""What a person sees on a terminal: progress of long work. Silent, or one line a while, when nobody looks."""
from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console(stderr=True)


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
