"""The command that examines a pre-training run of any project: text, tokenizer, log and collator. It needs no study."""
from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import echo
from typer.core import TyperCommand

from study import StudyError

if TYPE_CHECKING:
    from rich.table import Table

    from study.doctor.diagnose import Diagnosis
    from study.doctor.sections import Section

commands = typer.Typer()
WIDTH = 100                                 # columns of the tables
CHECK_WIDTH = 20
COLOURS = {"problem": "red", "note": "yellow", "fine": "green", "not checked": "dim"}
LISTS = ("--text", "--batch")               # options that take several values


class ManyFiles(TyperCommand):
    """A command whose options in LISTS take all values up to the next option: `--text A B` is `--text A --text B`."""

    def parse_args(self, ctx, args: list[str]) -> list[str]:
        rewritten, current, first = [], None, False
        for word in args:
            if word.startswith("-"):
                current, first = (word if word in LISTS else None), True
                rewritten.append(word)
            else:
                rewritten += [word] if current is None or first else [current, word]
                first = False
        return super().parse_args(ctx, rewritten)


Text = Annotated[list[Path] | None, typer.Option(
    metavar="FILE...", help="Text: .txt, .txt.gz, .jsonl, .json, .csv, .tsv or .parquet.")]
Tokenizer = Annotated[str, typer.Option(
    metavar="FOLDER|FILE|ID",
    help="A saved tokenizer, a tokenizer.json, a vocab.txt or an id on the Hugging Face hub.")]
Loss = Annotated[float | None, typer.Option(help="The loss, in nats.", show_default="none")]
Log = Annotated[Path | None, typer.Option(
    metavar="FILE", help="trainer_state.json, metrics.jsonl, or a CSV with step and loss.")]
Batches = Annotated[list[Path] | None, typer.Option(
    metavar="FILE...", help="A collated batch, .npz or .json: input_ids, labels, attention_mask.")]
Figure = Annotated[Path | None, typer.Option(metavar="FILE", help="Write a figure (.png) or a page (.html).")]
Json = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the result as JSON.")]
Corruption = Annotated[str, typer.Option(
    metavar="MASK/RANDOM/KEEP", help="What is shown for selected tokens, in percent.")]
BatchSize = Annotated[int | None, typer.Option(
    min=1, help="Rows per step, over all devices and accumulated batches.", show_default="that in the log")]


@commands.command(cls=ManyFiles, rich_help_panel="Examining other runs")
def doctor(
        tokenizer: Tokenizer, text: Text = None, loss: Loss = None, log: Log = None, batch: Batches = None,
        figure: Figure = None, json: Json = None,
        column: Annotated[str, typer.Option(help="Column of the text in tables and JSON.")] = "text",
        corruption: Corruption = "80/10/10",
        mlm_probability: Annotated[float, typer.Option(help="Share of the tokens that is selected.")] = 0.15,
        max_seq_length: Annotated[int, typer.Option(min=8, max=100_000, help="Tokens per row.")] = 128,
        batch_size: BatchSize = None,
        sample_mb: Annotated[float, typer.Option(help="MiB of text to read at most.")] = 16,
        seed: Annotated[int, typer.Option(min=0, help="Seed of the sample and of the masks.")] = 0):
    """Find out why a masked language model's loss stops where it does.

    Measures what can be predicted in a text without an encoder, holds a loss or a log against these levels, and checks
    text, tokenizer, log and collated batches for usual faults. It needs no study and trains nothing.

    Writes nothing, unless --figure or --json names a file.

    Example: study doctor --text corpus.txt --tokenizer bert-base-uncased --log checkpoint-5000/trainer_state.json
    """
    from study.cli.console import progress
    from study.doctor.diagnose import Request, as_json, examine
    from study.doctor.figure import check_path, write_figure
    from study.files import write_json

    if figure is not None:
        check_path(figure, bool(text))
    _check_numbers(mlm_probability, sample_mb, loss)
    request = Request(text or [], tokenizer, loss, log, batch or [], column, parse_corruption(corruption),
                      mlm_probability, max_seq_length, batch_size, int(sample_mb * 2**20), seed)
    diagnosis = examine(request, progress)
    show(diagnosis)
    if figure is not None:
        write_figure(diagnosis, figure)
        echo(f"doctor: wrote {figure}")
    if json is not None:
        write_json(json, as_json(diagnosis))
        echo(f"doctor: wrote {json}")


def _check_numbers(mlm_probability: float, sample_mb: float, loss: float | None) -> None:
    if not 0 < mlm_probability < 1:
        raise StudyError(f"--mlm-probability {mlm_probability:g}: must be between 0 and 1, such as 0.15")
    if not 0.1 <= sample_mb <= 100_000:
        raise StudyError(f"--sample-mb {sample_mb:g}: must be between 0.1 and 100,000")
    if loss is not None and not math.isfinite(loss):
        raise StudyError(f"--loss {loss}: the run has diverged; pass the last finite loss, or the log with --log")


def parse_corruption(text: str) -> tuple[float, float, float]:
    """Shares from percentages such as 80/10/10. Raises StudyError if they are no three numbers that add up to 100."""
    try:
        mask, random, keep = (float(part) / 100 for part in text.split("/"))
    except ValueError:
        raise StudyError(f"--corruption {text}: three percentages are needed, such as 80/10/10") from None
    if not all(0 <= share <= 1 for share in (mask, random, keep)) or abs(mask + random + keep - 1) > 1e-9:
        raise StudyError(f"--corruption {text}: the percentages of [MASK], random and kept must add up to 100")
    return mask, random, keep


def show(diagnosis: Diagnosis) -> None:
    """Prints the result: facts, summary and tables, at most WIDTH columns wide."""
    from rich.console import Console
    from rich.markup import escape

    from study.doctor.diagnose import summary
    from study.doctor.sections import ladder_section

    out = Console()
    out = Console(width=min(WIDTH, out.width) if out.is_terminal else WIDTH, highlight=False)
    for name, fact in diagnosis.text.items():
        out.print(f"{name}: {escape(fact)}")
    for sentence in summary(diagnosis):
        out.print(f"[bold]{escape(sentence)}[/bold]")
    if diagnosis.ladder is not None:
        section = ladder_section(diagnosis)
        out.print(_numbers(section), *map(escape, section.notes), sep="\n")
    out.print(_findings(diagnosis))


def _numbers(section: Section) -> Table:
    """The table of a section."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=section.title, title_justify="left", title_style="bold")
    for column in section.columns:
        table.add_column(escape(column), justify="right" if column in section.numbers else "left")
    for row in section.rows:
        table.add_row(*map(escape, row))
    return table


def _findings(diagnosis: Diagnosis) -> Table:
    """Findings in three columns, each remedy below its result."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="What was checked", title_justify="left", title_style="bold", show_lines=True)
    for name, width in (("", None), ("check", CHECK_WIDTH), ("result", None)):
        table.add_column(name, max_width=width)
    for finding in diagnosis.findings:
        remedy = f"\n[bold]->[/bold] {escape(finding.remedy)}" if finding.remedy else ""
        table.add_row(f"[{COLOURS[finding.severity]}]{finding.severity}[/]", escape(finding.title),
                      escape(finding.detail) + remedy)
    return table
