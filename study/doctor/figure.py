"""The curve over the ladder's lines, as PNG or as one self-contained HTML page with the tables."""
from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from study import StudyError
from study.doctor.curve import Position
from study.doctor.diagnose import Diagnosis, summary
from study.doctor.ladder import Ladder
from study.doctor.sections import Section, sections
from study.files import write_atomically
from study.report.canvas import COLORS, GREY, STYLE, draw, name_line_ends
from study.report.formatting import escape_markdown
from study.report.html import html_page

WIDTH, HEIGHT = 7.6, 4.2                    # inches
DPI = 150
ROOM = 0.05                                 # of the range, above and below
SHORT = {"uniform": "uniform", "unigram": "unigram", "neighbours-mixture": "one word, mixture",
         "neighbours-product": "one word, product", "two-neighbours-product": "two words, product"}
IMAGE = "figure.svg"


def check_path(path: Path, has_text: bool) -> None:
    """Raises StudyError if a figure of this kind cannot be written."""
    if path.suffix.lower() not in (".png", ".html"):
        raise StudyError(f"{path}: --figure writes .png or .html; choose one of these endings")
    if path.suffix.lower() == ".png" and not has_text:
        raise StudyError(f"{path}: the figure shows the ladder of a text; pass --text, or write .html")


def write_figure(diagnosis: Diagnosis, path: Path) -> None:
    """Writes a figure, or a page with the figure and everything that the command prints. See `check_path`."""
    paint = painter(diagnosis.ladder, diagnosis.position) if diagnosis.ladder is not None else None
    if path.suffix.lower() == ".png":
        write_atomically(path, png(paint))
        return
    figures = {} if paint is None else {IMAGE: draw(WIDTH, HEIGHT, paint)}
    write_atomically(path, html_page(markdown(diagnosis, bool(figures)), "study doctor", figures).encode())


def painter(ladder: Ladder, position: Position | None) -> Callable:
    """A function that draws the curve, or the loss as a point, over the levels of its corruption."""
    def paint(axes) -> None:
        on_mask = position is not None and position.on_mask
        levels = {f"{SHORT[level.name]} {(nll := level.all_mask if on_mask else level.own):.2f}": nll
                  for level in ladder.levels}
        if position is not None and position.levels.plateau_top > position.levels.plateau:
            axes.axhspan(position.levels.plateau, position.levels.plateau_top, color=GREY, alpha=0.15, linewidth=0)
            axes.annotate("unigram plateau", (0.01, position.levels.plateau_top), textcoords="offset points",
                          xytext=(0, -4), xycoords=("axes fraction", "data"), va="top", color=GREY, fontsize=8)
        for nll in levels.values():
            axes.axhline(nll, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
        points = position.points if position is not None else []
        heights = [*levels.values(), *(nll for _, nll in points)]
        room = ROOM * (max(heights) - min(heights))
        axes.set_ylim(min(heights) - room, max(heights) + room)
        if points:
            axes.plot(*zip(*points, strict=True), color=COLORS[0], linewidth=1.6,
                      marker="o" if len(points) < 60 else None, markersize=3.5)
        last = points[-1][0] if points else 0
        axes.set_xlim(0, max(last, 1))
        if len(points) < 2:
            axes.set_xlim(last - 1, last + 1)
            ticks = [last] if last else []                  # a loss without a log is at step 0
            axes.set_xticks(ticks, [f"{step:,}" for step in ticks])
        name_line_ends(axes, [(axes.get_xlim()[1], nll, name) for name, nll in levels.items()],
                       dict.fromkeys(levels, "#444444"))
        axes.set_xlabel("step" if last else "")
        axes.set_ylabel(f"{position.measure if position is not None else 'NLL'}, nats")
    return paint


def png(paint: Callable) -> bytes:
    """A PNG on the canvas of the report's figures."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    out = io.BytesIO()
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, HEIGHT), layout="constrained")
        paint(axes)
        figure.savefig(out, format="png", dpi=DPI)
        plt.close(figure)
    return out.getvalue()


def markdown(diagnosis: Diagnosis, with_figure: bool) -> str:
    """The page: summary, figure and the tables that the command prints."""
    parts = ["# Why does the loss stop?", *map(escape_markdown, summary(diagnosis))]
    if with_figure:
        caption = ("The loss over the levels of the ladder." if diagnosis.position is not None else
                   "The levels of the ladder.")
        parts += [f"![{caption}]({IMAGE})", f"*{caption}*"]
    facts = [escape_markdown(f"{name}: {fact}") for name, fact in diagnosis.text.items()]
    return "\n\n".join([*parts, *map(_table, sections(diagnosis)), *facts]) + "\n"


def _table(section: Section) -> str:
    marks = ["--:" if column in section.numbers else "---" for column in section.columns]
    lines = [section.columns, marks, *([escape_markdown(cell) for cell in row] for row in section.rows)]
    rows = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    return "\n\n".join([f"## {section.title}", rows, *map(escape_markdown, section.notes)])
