"""Figures of measures that only some studies take."""
from __future__ import annotations

from study.report.canvas import COLORS, GREY, draw

ROW = 0.24                                  # inches that a phenomenon takes


def phenomena(rows: list[dict], arm: str) -> str:
    """Accuracy on minimal pairs in percent, a row per phenomenon: the arm (dot) with its 95 % interval (bar), word
    frequencies (ring) and bigrams (square).

    rows: phenomenon, accuracy, low, high, word-frequency and bigram, as shares; from the top down.
    """
    def paint(axes) -> None:
        axes.axvline(50, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
        for place, row in enumerate(rows):
            axes.plot([100 * row["low"], 100 * row["high"]], [place, place], color="black", linewidth=1.8,
                      solid_capstyle="butt")
            for key, marker, color, fill in (("word-frequency", "o", COLORS[0], "none"),
                                             ("bigram", "s", COLORS[1], "none"), ("accuracy", "o", "black", "full")):
                label = {"accuracy": arm, "word-frequency": "word frequency"}.get(key, key) if place == 0 else None
                axes.plot(100 * row[key], place, marker, color=color, fillstyle=fill, markersize=5, label=label)
        axes.set_yticks(range(len(rows)), [row["phenomenon"].replace("_", " ") for row in rows], fontsize=8.5)
        axes.get_yticklabels()[0].set_fontweight("bold")
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("pairs in which the acceptable sentence is likelier, %")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, handlelength=1.0)

    return draw(7.2, 0.8 + ROW * len(rows), paint)
