"""Figures: deterministic SVG whose text stays text."""
import math
import re
from xml.etree import ElementTree

from study.report import canvas, figures

LINES = {"dynamic": [(0, 0.5), (1, 0.5273)], "static": [(0, 0.5), (1, 0.56)]}
COLORS = {"dynamic": "#000000", "static": "#d55e00"}


def test_text_is_text_and_the_same_numbers_give_the_same_bytes():
    drawn = figures.probe_lines(LINES, COLORS, "layer <0>", log=False)
    assert drawn == figures.probe_lines(LINES, COLORS, "layer <0>", log=False)
    texts = [element.text for element in ElementTree.fromstring(drawn).iter() if element.tag.endswith("}text")]
    assert {"layer <0>", "probe accuracy, %", "dynamic", "static"} <= set(texts)


def test_coordinates_are_short_and_numbers_in_texts_stay_whole():
    def paint(axes):
        axes.plot([0, 1 / 3], [0, 1 / 7])
        axes.annotate("1.23456", (0, 0))

    drawn = canvas.draw(3, 2, paint)
    assert ">1.23456<" in drawn
    assert not re.search(r"\d\.\d{3}", drawn.replace("1.23456", ""))


def test_a_figure_has_no_style_that_reaches_beyond_it():
    drawn = figures.probe_lines(LINES, COLORS, "layer", log=False)
    assert "<style" not in drawn
    assert 'stroke-linejoin="round"' in re.search(r"<svg[^>]*>", drawn)[0]


def test_arms_of_one_factor_share_a_colour_and_differ_in_their_dashes():
    colors = canvas.palette({"dynamic": "baseline", "dynamic-reseeded": "baseline", "static": "masks",
                             "static-10": "masks", "span": "selection"}, "dynamic")
    assert colors["dynamic"] == "#000000"
    assert colors["static"] == colors["static-10"] != colors["span"]
    assert len({colors["dynamic"], colors["dynamic-reseeded"], colors["static"], colors["span"]}) == 4
    dashes = canvas.dashes(colors)
    assert dashes["static"] != dashes["static-10"]
    assert dashes["static"] == dashes["span"]


def test_equal_differences_of_seeds_are_drawn_above_each_other():
    assert figures.stacked([1.0, 2.0, 1.0, 1.0], 0.5, 0.25) == [0.5, 0.5, 0.75, 1.0]


def test_names_at_the_ends_of_lines_do_not_touch():
    lines = {f"arm-{number}": [(0, 0.5), (1, 0.5 + number / 1000)] for number in range(20)}
    drawn = figures.probe_lines(lines, dict.fromkeys(lines, "#000000"), "layer", log=False)
    heights = sorted(float(y) for y in re.findall(r'y="([\d.]+)"[^>]*>arm-\d+<', drawn))
    assert len(heights) == 20
    assert all(b - a > 8.5 for a, b in zip(heights, heights[1:], strict=False))      # points: the font's size


def test_a_run_that_ends_early_does_not_shorten_the_curves_of_the_others():
    long = [{"step": step, "tokens": 100 * step, "validation_nll": 7.0 - step} for step in range(4)]

    def drawn(*runs):
        return figures.curves({"dynamic": list(runs)}, {"dynamic": "#000000"}, math.exp(7.0), None)

    assert drawn(long, long[:2]) == drawn(long, long[:2], long)
    assert drawn(long[:3], long[:2]) != drawn(long, long[:2], long)
