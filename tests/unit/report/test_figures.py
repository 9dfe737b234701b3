"""Figures: deterministic SVG whose text stays text."""
import math
import re
from xml.etree import ElementTree

import pandas as pd

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


def points(path):
    """The points of an SVG path of straight lines, in tenths."""
    found, relative, last = [], False, (0, 0)
    for command, x, y in re.findall(r"([MLl ]?)(-?[\d.]+) (-?[\d.]+)", path):
        relative = command == "l" or (command == " " and relative)
        last = tuple(round(10 * float(value)) + relative * before for value, before in zip((x, y), last, strict=True))
        found.append(last)
    return found


def test_lines_are_drawn_from_point_to_point_with_fewer_digits():
    path = "M142.1 -69.2L146.2 70.2L150.2 70.4L150.2 -70.4z M1.0 2.0L3.5 2.0"
    short = canvas._shorter(path)
    assert short == "M142.1 -69.2l4.1 139.4 4 0.2 0 -140.8zM1 2l2.5 0"
    assert points(short) == points(path)
    curve = "M1.0 2.0C1.0 2.5 3.0 4.0 5.0 6.0"
    assert canvas._shorter(curve) == curve


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


def along(arm, effect):
    return pd.DataFrame([{"treatment": arm, "baseline": "dynamic", "fraction": part / 20, "effect": effect,
                          "low": effect - 9, "high": effect + 9} for part in range(1, 21)])


def test_effects_along_training_have_a_panel_each_in_one_small_figure():
    arms = [f"arm-{number}" for number in range(12)]
    table = pd.concat([along(arm, number / 10) for number, arm in enumerate(arms)])
    drawn = figures.along_training(table, dict.fromkeys(arms, "#000000"))
    names = [element.text for element in ElementTree.fromstring(drawn).iter() if element.tag.endswith("}text")]
    assert [name for name in names if name in arms] == arms[::-1]       # the largest effects first
    assert names.count("− dynamic") == 12
    assert len(drawn) < 3000 * len(arms)


def test_a_run_that_ends_early_does_not_shorten_the_curves_of_the_others():
    long = [{"step": step, "tokens": 100 * step, "validation_nll": 7.0 - step} for step in range(4)]

    def drawn(*runs):
        return figures.curves({"dynamic": list(runs)}, {"dynamic": "#000000"}, {"unigram": math.exp(7.0)})

    assert drawn(long, long[:2]) == drawn(long, long[:2], long)
    assert drawn(long[:3], long[:2]) != drawn(long, long[:2], long)
