"""Figures: deterministic SVG whose text stays text."""
import math
import re
import subprocess
import sys
from xml.etree import ElementTree

import pandas as pd

from study.report import canvas, figures, overview, panels
from tests.support.studies import ROOT

COLORS = {"dynamic": "#000000", "static": "#d55e00", "span": "#0072b2"}


def row(arm: str, effect: float, **more) -> dict:
    return {"treatment": arm, "baseline": "dynamic", "effect": effect, "low": effect - 0.1, "high": effect + 0.1,
            "gated": False} | more


def texts(svg: str) -> list[str]:
    return [element.text for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("}text")]


def test_text_is_text_and_the_same_numbers_give_the_same_bytes():
    drawn = figures.forest({"masks": [row("static", 0.2)]}, COLORS, "layer <0>", 3)
    assert drawn == figures.forest({"masks": [row("static", 0.2)]}, COLORS, "layer <0>", 3)
    assert {"layer <0>", "masks", "static − dynamic", "+0.200 [+0.100, +0.300]"} <= set(texts(drawn))


def test_drawing_a_report_loads_no_library_that_it_does_not_need():
    heavy = "{'torch', 'transformers', 'mlflow', 'sklearn', 'scipy.stats', 'matplotlib.pyplot'}"
    code = ("import sys, study.report.page; from study.report import figures; "
            "figures.claim([1, 0, 2, 0.5], [1.0], 'x'); "
            f"assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_comparison_that_fails_the_gate_is_drawn_hollow():
    drawn = [figures.forest({"masks": [row("static", 0.2, gated=gated)]}, COLORS, "x", 3) for gated in (False, True)]
    hollow = [re.findall(r'<use [^>]*style="fill:#fff', svg) for svg in drawn]
    assert [len(found) for found in hollow] == [0, 1]


def test_the_noise_is_a_band_behind_the_comparisons():
    rows = {"masks": [row("static", 0.2)]}
    with_band, without = (figures.forest(rows, COLORS, "x", 3, noise) for noise in ((-0.05, 0.07), None))
    assert with_band.count("opacity:0.18") == 1
    assert "opacity:0.18" not in without


def test_an_effect_far_off_does_not_squeeze_the_others():
    rows = [row("static", 0.2), row("span", -0.1), row("static", 0.15), row("span", 5.0)]
    low, high = figures.forest_limits(rows, (-0.03, 0.05))
    assert low < -0.2
    assert 0.3 < high < 1.0
    drawn = figures.forest({"masks": rows}, COLORS, "x", 3)
    assert "+5.000 [+4.900, +5.100]" in texts(drawn)
    assert figures.forest_limits([row("span", 5.0)], None)[1] > 5.0


def test_the_ladder_shows_every_rung_with_its_perplexity_and_the_runs_of_the_baseline():
    rungs = [{"label": "unigram", "nll": 6.0, "perplexity": 403.43, "is_baseline": False},
             {"label": "baseline, dynamic", "nll": 3.0, "perplexity": 20.09, "is_baseline": True}]
    drawn = figures.ladder(rungs, [2.9, 3.0, 3.1])
    assert {"unigram", "403.4", "baseline, dynamic", "20.1"} <= set(texts(drawn))
    assert drawn.count("fill-opacity:0") == 3


def test_a_run_that_never_left_the_plateau_is_a_cross_at_the_edge():
    runs = {"the baseline": [(100.0, 3.0), (200.0, 3.1)], "masks": [(None, 6.0)]}
    drawn = figures.escapes(runs, {"the baseline": "#000000", "masks": "#d55e00"}, {"unigram": 6.1})
    assert {"the baseline", "masks", "unigram 6.1"} <= set(texts(drawn))
    cross = re.search(r'<path id="(\w+)" d="M-2.2 2.2l4.4 -4.4M', drawn)[1]
    dots = re.findall(r'x="([\d.]+)" y="[\d.]+" style="fill-opacity:0.75"', drawn)[:2]      # the third is in the legend
    (x,) = re.findall(rf'#{cross}" x="([\d.]+)"', drawn)
    assert float(x) > max(map(float, dots))


def test_a_tenth_without_a_difference_is_blank():
    table = pd.DataFrame([[1.0, 2.0], [1.04, 2.4]], index=["dynamic", "static"])
    shown = texts(figures.deciles(table, "dynamic"))
    assert {"1.00", "2.00", "+0.40"} <= set(shown)
    assert "+0.04" not in shown


def test_layers_have_a_panel_per_question_and_the_untrained_encoder_dotted():
    lines = [("dynamic", [(0, 0.5), (1, 0.6)], "#000000"), ("dynamic, untrained", [(0, 0.4), (1, 0.4)], canvas.GREY)]
    drawn = panels.layers({"corruption": lines, "size": lines}, [0.25])
    assert texts(drawn).count("dynamic, untrained") == 2
    assert {"corruption", "size"} <= set(texts(drawn))
    assert drawn.count("stroke-dasharray:1.56,1.56") == 4           # two lines and their two entries of a legend


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
    drawn = figures.forest({"masks": [row("static", 0.2)]}, COLORS, "x", 3)
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
    records = {f"arm-{number}": [[{"step": step, "tokens": step, "validation_nll": 3 + number / 1000}
                                  for step in range(3)]] for number in range(20)}
    drawn = figures.curves(records, dict.fromkeys(records, "#000000"), {"unigram": math.exp(4)})
    heights = sorted(float(y) for y in re.findall(r'y="([\d.]+)"[^>]*>arm-\d+<', drawn))
    assert len(heights) == 20
    assert all(b - a > 8.5 for a, b in zip(heights, heights[1:], strict=False))      # points: the font's size


def along(arm, effect):
    return pd.DataFrame([{"treatment": arm, "baseline": "dynamic", "fraction": part / 20, "effect": effect,
                          "low": effect - 9, "high": effect + 9} for part in range(1, 21)])


def test_effects_along_training_have_a_panel_each_in_one_small_figure():
    arms = [f"arm-{number}" for number in range(12)]
    table = pd.concat([along(arm, number / 10) for number, arm in enumerate(arms)])
    drawn = panels.along_training(table, dict.fromkeys(arms, "#000000"))
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


def test_a_study_without_an_a_a_control_has_none(study):
    empty = pd.DataFrame(columns=["treatment", "baseline", "metric", "effect", "low", "high"])
    assert overview.control_row(study, empty, "nll") is None
    rows = pd.DataFrame([row(arm, 0.1, metric="nll") for arm in ("static", "dynamic-reseeded")])
    assert overview.control_row(study, rows, "nll")["treatment"] == "dynamic-reseeded"
