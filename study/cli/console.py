"""Terminal output: progress of long work, and tables. Without a terminal, progress is off or an occasional line."""
from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

console = Console(stderr=True)
PLAIN_WIDTH = 120                           # columns of a table that is written to a file or a pipe
CLAIMS_WIDTH = 100                          # columns of the table of outcomes, and of all else about claims
LOG_INTERVAL = 30                           # seconds between progress lines without a terminal
EFFECT_WIDTH = 24                           # columns of an effect in that table
OUTCOME_COLOURS = {"holds": "green", "reversed": "red", "no difference": "blue", "split": "magenta"}


def _columns(*texts: str) -> list:
    return [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            *map(TextColumn, texts)]


def progress(items: Iterable, description: str = "", total: int | None = None) -> Iterator:
    """Yields `items` and, on a terminal, shows a progress bar."""
    if total is None:
        total = len(items) if hasattr(items, "__len__") else None
    with Progress(*_columns(), console=console, disable=not console.is_terminal, transient=True) as bar:
        yield from bar.track(items, total=total, description=description)


def written_files(folder: Path) -> Iterator[str]:
    """Yields a line for every file below a folder: its name and size."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield f"  {path.relative_to(folder)}  {path.stat().st_size:,} bytes"


class TrainingBar:
    """Progress of one cell: loss, learning rate, tokens per second, time left. Without a terminal, a line per 30 s."""

    def __init__(self, name: str, steps: int):
        self.name, self.steps, self.last_line = name, steps, time.monotonic()
        self.bar = Progress(*_columns("{task.fields[state]}"), console=console, disable=not console.is_terminal)

    def __enter__(self) -> TrainingBar:
        self.bar.start()
        self.task = self.bar.add_task(self.name, total=self.steps, state="")
        return self

    def __exit__(self, *_) -> None:
        self.bar.stop()

    def update(self, record: dict, tokens_per_second: float) -> None:
        """Shows a record of metrics.jsonl."""
        parts = [f"loss {record['loss']:.3f}  lr {record['learning_rate']:.1e}" if record.get("loss") else "",
                 f"validation {record['validation_nll']:.3f}" if "validation_nll" in record else "",
                 f"{tokens_per_second:,.0f} tokens/s" if tokens_per_second else ""]
        state = "  ".join(filter(None, parts))
        self.bar.update(self.task, completed=record["step"], state=state)
        if not console.is_terminal and time.monotonic() - self.last_line > LOG_INTERVAL:
            self.last_line = time.monotonic()
            print(f"{self.name} step {record['step']}/{self.steps}  {state}", file=sys.stderr, flush=True)


class CellsTable:
    """Cells that run in parallel, each with its newest line of output. Without a terminal, a line per finished cell."""

    def __init__(self, jobs: int):
        self.jobs, self.printed = jobs, set()
        self.live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> CellsTable:
        return self

    def __exit__(self, *_) -> None:
        if self.live is not None and self.live.is_started:
            self.live.stop()

    def update(self, cells: list) -> None:
        """Shows the progress of the cells, a list of CellProgress."""
        if self.live is None:
            self._print_finished(cells)
            return
        if not self.live.is_started:
            self.live.start()
        self.live.update(self._table(cells), refresh=True)

    def _print_finished(self, cells: list) -> None:
        names = {cell.name for cell in cells}
        for cell in cells:
            if cell.ended is not None and cell.name not in self.printed:
                self.printed.add(cell.name)
                print(f"{len(self.printed & names)}/{len(cells)}  {cell.name}  {cell.status}  "
                      f"{cell.ended - cell.began:.0f} s", file=sys.stderr, flush=True)

    def _table(self, cells: list) -> Table:
        finished = sum(cell.ended is not None for cell in cells)
        table = Table(title=f"{finished} of {len(cells)} finished, {self.jobs} in parallel", title_justify="left")
        for name in ("cell", "status", "seconds", "last output"):
            table.add_column(name, no_wrap=True, justify="right" if name == "seconds" else "left")
        now, order = time.monotonic(), ("running", "failed", "done", "waiting")
        for cell in sorted(cells, key=lambda cell: order.index(cell.status))[:console.height - 6]:
            seconds = f"{(cell.ended or now) - cell.began:.0f}" if cell.began else ""
            table.add_row(cell.name, cell.status, seconds, escape(cell.line[:80]))
        return table


def show(*parts) -> None:
    """Prints texts and tables, in PLAIN_WIDTH columns without a terminal."""
    out = Console()
    out = out if out.is_terminal else Console(width=PLAIN_WIDTH)
    for part in parts:
        out.print(part)


def _print_narrow(*parts) -> None:
    """Prints claims in at most CLAIMS_WIDTH columns, on a terminal too."""
    out = Console()
    out = Console(width=min(out.width, CLAIMS_WIDTH) if out.is_terminal else CLAIMS_WIDTH)
    for part in parts:
        out.print(part)


def show_summary(stage: str, summary: dict) -> None:
    """The tables of a summary.json, and its warnings."""
    from study.data.summary_tables import summary_tables

    for content in summary_tables({stage: summary}):
        table = Table(box=SIMPLE_HEAD)
        for number, name in enumerate(content.header):
            table.add_column(escape(name), justify="right" if number else "left")
        for row in content.rows:
            table.add_row(*map(escape, row))
        show(table)
    show_warnings(summary["warnings"])


def show_warnings(warnings: Iterable[str]) -> None:
    """A line for each warning."""
    for warning in warnings:
        show(f"[yellow]warning:[/yellow] {escape(warning)}")


def show_masks(passes: list, shares: dict) -> None:
    """A table per pass (original, shown, label, corruption) and the measured shares."""
    for number, tokens in enumerate(passes):
        table = Table(title=f"pass {number + 1}" if len(passes) > 1 else None, title_justify="left")
        for name in ("original", "shown", "label", "corruption"):
            table.add_column(name)
        for token in tokens:
            style = "" if token.label is None else "bold"
            table.add_row(escape(token.original), escape(token.shown), escape(token.label or ""), token.corruption,
                          style=style)
        show(table)
    if shares["selected"] is None:
        show(f"left to right: {shares['predicted']:.1%} of the ordinary tokens are targets")
        return
    mix = ", ".join(f"{shares[name]:.1%} {name}" for name in ("mask", "random", "keep"))
    show(f"over {shares['rows']:,} maskings of this text: {shares['selected']:.1%} of the ordinary tokens selected, "
         f"of these {mix}; {shares['predicted']:.1%} predicted")


def show_predictions(examples: dict[str, dict]) -> None:
    """A table per [MASK]: the most likely tokens, one column per cell. examples: cell -> as in predictions.json."""
    masks = len(next(iter(examples.values()))["masked"])
    for number in range(masks):
        table = Table(title=f"[MASK] {number + 1}" if masks > 1 else None, title_justify="left")
        for cell in examples:
            table.add_column(cell)
        for row in zip(*(example["masked"][number]["top"] for example in examples.values()), strict=True):
            table.add_row(*(f"{escape(token)} {probability:.1%}" for token, probability in row))
        show(table)


def show_masked(examples: dict[str, dict]) -> None:
    """A table per cell: one row per [MASK] with the true token, where it is known, and the likeliest ones, with their
    probabilities. examples: cell -> as in predictions.json."""
    first = next(iter(examples.values()))
    show(escape(" ".join(first["tokens"])))
    known = any(masked["truth"] is not None for masked in first["masked"])
    for cell, example in examples.items():
        table = Table(title=cell, title_justify="left")
        for name in ("[MASK]", *(["truth"] if known else []), *map(str, range(1, len(first["masked"][0]["top"]) + 1))):
            table.add_column(escape(name), justify="right" if name == "[MASK]" else "left")
        for number, masked in enumerate(example["masked"], 1):
            table.add_row(str(number), *([escape(masked["truth"])] if known else []),
                          *(f"{escape(token)} {probability:.1%}" for token, probability in masked["top"]))
        show(table)


def show_states(tokens: list[str], states) -> None:
    """Hidden states (tokens, hidden size): one row per token with its first values and its norm."""
    table = Table(title=f"hidden states: {states.shape[0]} tokens x {states.shape[1]}", title_justify="left")
    for name in ("token", "first values", "norm"):
        table.add_column(name)
    for token, state in zip(tokens, states, strict=True):
        table.add_row(escape(token), "  ".join(f"{value:+.3f}" for value in state[:5]), f"{(state**2).sum()**0.5:.2f}")
    show(table)


def show_minimal_pairs(rows: list[dict]) -> None:
    """Accuracy on minimal pairs in percent, with a 95 % interval, beside baselines: one row per phenomenon."""
    table = Table()
    for name in ("phenomenon", "pairs", "accuracy, %", "95 % interval", "word frequency, %", "bigram, %"):
        table.add_column(name, justify="left" if name == "phenomenon" else "right")
    for row in rows:
        accuracy, low, high, frequency, bigram = (
            f"{100 * row[key]:.1f}" for key in ("accuracy", "low", "high", "word-frequency", "bigram"))
        table.add_row(escape(row["phenomenon"]), f"{row['pairs']:,}", accuracy, f"[{low}, {high}]".replace("[", r"\["),
                      frequency, bigram)
    show(table, "Ties count half. Interval: over pairs for a phenomenon, over templates for all of them (over pairs "
                "if there is one template, or one for each pair).")


def verification_summary(result: dict) -> str:
    """The content of verification.json in one line."""
    weights = {True: "equal", False: "different", None: "unrecorded"}[result["weights_equal"]]
    text = (f"{result['outcome']}: weights {weights}, {result['differing']:,} of {result['numbers']:,} numbers differ")
    if result["first_differing"] is None:
        return text
    gaps = ", ".join(f"{name} {'not comparable' if gap is None else f'{gap:.2g}'}"
                     for name, gap in result["largest"].items())
    step = "" if result["parts_at"] is None else f"; the learning curves differ from step {result['parts_at']:,} on"
    return f"{text}, first {result['first_differing']}; largest differences: {gaps}{step}"


def show_ladder(rows: list[dict]) -> None:
    """References and the baseline on the masked test tokens, from the highest to the lowest NLL."""
    table = Table(box=SIMPLE_HEAD)
    for name in ("reference", "perplexity", "NLL, nats", "baseline, nats"):
        table.add_column(name, justify="left" if name == "reference" else "right")
    for row in rows:
        distance = "" if row["is_baseline"] else f"{row['distance']:+.3f}"
        table.add_row(escape(row["label"]), f"{row['perplexity']:,.2f}", f"{row['nll']:.3f}", distance,
                      style="bold" if row["is_baseline"] else "")
    _print_narrow(table)


def show_claims(rows: list[dict]) -> None:
    """The table of outcomes, grouped by question, and how many claims are not in it."""
    from study.report.claims import by_question, with_runs
    from study.report.formatting import plural

    table, shown = Table(box=SIMPLE_HEAD, expand=True), with_runs(rows)
    for name in ("claim", "statement", "outcome", "effect", "fidelity"):
        table.add_column(name, no_wrap=name == "claim", ratio=1 if name == "statement" else None,
                         max_width=EFFECT_WIDTH if name == "effect" else None)
    for question, part in by_question(shown).items():
        table.add_row("", f"[bold]{escape(question.capitalize())}[/bold]")
        for row in part:
            effect, outcome = row["measured"].replace(" [", "\n["), row["shown"].replace(", ", ",\n")
            table.add_row(escape(row["id"]), escape(row["statement"]), outcome, escape(effect), row["fidelity"],
                          style=OUTCOME_COLOURS.get(row["outcome"], ""))
        table.add_section()
    checks = sum(row["claim_type"] == "exact" for row in rows)
    others = len(rows) - len(shown) - checks
    verb = "is" if others == 1 else "are"
    _print_narrow(table, f"{plural(len(shown), 'claim')} tested by training runs; {plural(checks, 'check')} of code "
                  f"and arithmetic and {plural(others, 'claim')} that {verb} not testable here are in "
                  "tables/claims.csv")


def show_claim(row: dict) -> None:
    """Everything about one claim."""
    _print_narrow(f"[bold]{escape(row['id'])}[/bold]  {escape(row['statement'])} ({escape(row['source'])})",
           f"outcome: [bold]{row['shown']}[/bold]" + (f"; fidelity: {row['fidelity']}" if row["fidelity"] else ""))
    if row["measured"]:
        _print_narrow(f"measured: {escape(row['measured'])}")
    for label, text in row["details"].items():
        _print_narrow(f"{label.lower()}: {escape(text)}")
    if row["exploratory"]:
        _print_narrow("exploratory: not registered before its arms were trained, or changed since")
    for arm, values in row["result"]["values"].items():
        _print_narrow(f"{escape(arm)}, per seed: {', '.join(f'{value:.4g}' for value in values)}")
