"""The canvas that every figure is drawn on: style, colours, line names and the SVG text."""
from __future__ import annotations

import io
import re
from collections.abc import Callable

# Okabe and Ito's colours come first; readers with any colour vision can tell them apart. Black is the baseline's.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8c6d31", "#7a3e9d", "#7f8f00", "#b2182b",
          "#1b3a8c", "#e7298a")
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)), (0, (8, 2.5)))
MARKERS = "os^Dv"
GREY, LIGHT = "#767676", "#bdbdbd"
LABEL_HEIGHT = 0.155                        # inches that a line's name takes at the right edge
FONT = "'DejaVu Sans', sans-serif"          # DejaVu Sans comes with matplotlib: the layout is the same everywhere
STYLE = {
    "svg.hashsalt": "study", "svg.fonttype": "none", "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10,
    "axes.titlelocation": "left", "axes.edgecolor": "#444444", "figure.dpi": 100, "figure.facecolor": "white",
    "legend.frameon": False}
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def draw(width: float, height: float, paint: Callable) -> str:
    """SVG of `paint(axes)` on a canvas of width x height inches. Text stays text; the same numbers give the same
    bytes."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    out = io.StringIO()
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)             # the layout is that of the widths of text in an SVG
        paint(figure.subplots())
        figure.get_layout_engine().execute(figure)
        figure.set_layout_engine("none")    # with a layout to be made, savefig draws everything twice
        figure.savefig(out, format="svg", metadata=NO_METADATA)
    return _compact(out.getvalue())


def _compact(svg: str) -> str:
    """The SVG with coordinates to a hundredth of a point, no indents, and its font and joins on the root element.

    matplotlib writes the joins as a style sheet, which would apply to a whole page once the figure is part of one.
    """
    svg = re.sub(r"<style.*?</style>|<!--.*?-->", "", svg, flags=re.S).replace(f"font-family: {FONT}; ", "")
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d+\.\d\d)\d+", r"\1", tag[0]), svg)
    svg = re.sub(r' d="([^"]*)"', lambda path: f' d="{_shorter(path[1])}"', svg)
    svg = re.sub(r' style="[^"]*"', lambda style: style[0].replace(": ", ":").replace("; ", ";"), svg)
    svg = re.sub(r' transform="rotate\(-?0 [^"]*"', "", svg)
    svg = re.sub(r"#([0-9a-f])\1([0-9a-f])\2([0-9a-f])\3(?=[;\"])", r"#\1\2\3", svg)
    svg = re.sub(r"<defs>\s*</defs>", "", _without_repeats(svg))
    svg = svg.replace("<svg ", f'<svg font-family="{FONT}" stroke-linejoin="round" stroke-linecap="butt" ', 1)
    return "\n".join(line.strip() for line in svg.splitlines() if line.strip()) + "\n"


def _without_repeats(svg: str) -> str:
    """The SVG without what a use of a marker repeats: declarations that the marker's own path has, which prevail."""
    own = {name: {part.split(":")[0] for part in style.split(";")}
           for name, style in re.findall(r'<path id="([^"]*)" [^>]*?style="([^"]*)"', svg)}

    def shorter(use: re.Match) -> str:
        style = ";".join(part for part in use[3].split(";") if part.split(":")[0] not in own.get(use[1], ()))
        return f'<use xlink:href="#{use[1]}"{use[2]}' + (f' style="{style}"/>' if style else "/>")

    return re.sub(r'<use xlink:href="#([^"]*)"([^>]*?) style="([^"]*)"/>', shorter, svg)


def _shorter(path: str) -> str:
    """The data of an SVG path with a tenth of a pixel and no white space that is not needed."""
    path = re.sub(r"(\d+\.\d)\d+", r"\1", path)
    path = re.sub(r"\s*([MLCQZz])\s*", r"\1", path).strip()
    return path if re.search("[CQ]", path) else _relative(path)


def _relative(path: str) -> str:
    """A path of straight lines with each point given relative to the last one, which takes fewer digits."""
    parts, last = [], (0, 0)
    for command, numbers in re.findall(r"([MLZz])([^MLZz]*)", path):
        if command in "Zz":
            parts.append("z")
            continue
        x, y = (round(10 * float(number)) for number in numbers.split())
        step = (x, y) if command == "M" else (x - last[0], y - last[1])
        repeats = command == "L" and parts and parts[-1][0] in "l "
        parts.append(f"{' ' if repeats else command if command == 'M' else 'l'}{step[0] / 10:g} {step[1] / 10:g}")
        last = (x, y)
    return "".join(parts)


def palette(factors: dict[str, str], baseline: str) -> dict[str, str]:
    """The colour of each arm. factors: arm -> factor.

    Arms of one factor share a colour. The study's baseline is black; other reference arms are grey.
    """
    others = dict.fromkeys(factor for factor in factors.values() if factor != factors[baseline])
    by_factor = {factor: COLORS[index % len(COLORS)] for index, factor in enumerate(others)}
    by_factor[factors[baseline]] = GREY
    return {arm: by_factor[factor] for arm, factor in factors.items()} | {baseline: "#000000"}


def dashes(colors: dict[str, str]) -> dict[str, str | tuple]:
    """The dash pattern of each arm, so that arms of one colour differ in print too. colors: arm -> colour."""
    used: dict[str, int] = {}
    patterns = {}
    for arm, color in colors.items():
        patterns[arm] = DASHES[used.setdefault(color, 0) % len(DASHES)]
        used[color] += 1
    return patterns


def height_for_names(names) -> float:
    """Inches that a figure needs to show these names at its right edge."""
    return LABEL_HEIGHT * len(names) + 0.9


def name_line_ends(axes, ends: list[tuple[float, float, str]], colors: dict[str, str]) -> None:
    """Names the lines that end at (x, y, arm), pushed apart so that no two names touch. Set the axis limits first."""
    height = axes.figure.get_figheight() - 0.6
    to_share = axes.transData + axes.transAxes.inverted()
    wanted = sorted((float(to_share.transform((x, y))[1]), x, y, arm) for x, y, arm in ends)
    places: list[float] = []
    for share, *_ in wanted:                # from the lowest up
        places.append(max(min(share, 1.0), places[-1] + LABEL_HEIGHT / height if places else 0.0))
    top = 1.0
    for index in reversed(range(len(places))):
        places[index] = min(places[index], top)
        top = places[index] - LABEL_HEIGHT / height
    for (share, x, y, arm), place in zip(wanted, places, strict=True):
        limit = axes.get_ylim()[1]
        axes.annotate(arm if share <= 1 else f"{arm} (off scale)", (x, min(y, limit)), xytext=(1.03, place),
                      textcoords="axes fraction", color=colors[arm], fontsize=8.5, va="center", annotation_clip=False,
                      arrowprops={"arrowstyle": "-", "color": colors[arm], "linewidth": 0.5, "alpha": 0.6,
                                  "relpos": (0, 0.5), "shrinkA": 0, "shrinkB": 1})


def plain_ticks(axis, subs: tuple[int, ...] = (1, 2, 5)) -> None:
    """Ticks of a logarithmic axis at these multiples of powers of ten, written without exponents."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def reference_level(axes, level: float, name: str) -> None:
    """A dashed horizontal line at a level, with its name and value."""
    axes.axhline(level, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.annotate(f"{name} {level:.1f}", (0.99, level), xycoords=("axes fraction", "data"), xytext=(0, 3),
                  textcoords="offset points", color=GREY, fontsize=8, ha="right", zorder=5,
                  bbox={"facecolor": "white", "alpha": 0.85, "linewidth": 0, "pad": 0.5})
