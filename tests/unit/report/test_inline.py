"""Figures in a page: fewer bytes, the same drawing."""
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from study.report.figures import probe_lines
from study.report.inline import Inline, short_path


def points(path: str) -> list[tuple]:
    """Each command of a path in absolute coordinates, ("z",) or (letter, x, y, ...): SVG 1.1, section 8.3."""
    found = re.findall(r"[A-Za-z]|-?\d*\.?\d+", path)
    out, here, begin, letter, at = [], np.zeros(2), np.zeros(2), "", 0
    while at < len(found):
        if found[at].isalpha():
            letter, at = found[at], at + 1
        if letter in "zZ":
            out, here = [*out, ("z",)], begin
            continue
        count = {"m": 2, "l": 2, "q": 4, "c": 6}[letter.lower()]
        values = np.array(found[at:at + count], float).reshape(-1, 2) + (here if letter.islower() else 0)
        at, here = at + count, values[-1]
        begin = here if letter in "Mm" else begin
        out.append((letter.upper(), *values.ravel()))
        letter = {"M": "L", "m": "l"}.get(letter, letter)
    return out


@pytest.mark.parametrize("path", [
    "M 62.64 -151.35 L 71.04 -1.26 L 71.04 -1.26 L 398.2 -0.04 z",
    "M 1.26 2.3 Q 3.1 4.2 5.55 6.66 Q 0 0 -7.001 8 z M 9 9 L 10 9",
    "M 0 1.5 C 0.397805 1.5 0.77937 1.341951 1.06066 1.06066 C 1.341951 0.77937 1.5 0.397805 1.5 0 z L 4 4",
    "M 100000.26 0 L 1234567.8 1e-7 M 5 5 M 6 6 L 6 6"])
def test_a_shorter_path_goes_through_the_same_points(path):
    made, exact = points(short_path(path)), points(re.sub(r"1e-7", "0", path))
    assert [command[0] for command in made] == [command[0] for command in exact]
    for ours, theirs in zip(made, exact, strict=True):
        np.testing.assert_allclose(np.array(ours[1:], float), np.array(theirs[1:], float), atol=0.05001)
    assert len(short_path(path)) < len(path)


def test_errors_of_rounding_do_not_add_up():
    rng = np.random.default_rng(0)
    exact = np.cumsum(rng.normal(0, 1, (500, 2)), axis=0)
    path = "M " + " L ".join(f"{x:.6f} {y:.6f}" for x, y in exact)
    made = np.array([command[1:] for command in points(short_path(path))])
    assert np.abs(made - exact).max() <= 0.05001
    assert len(short_path(path)) < 0.4 * len(path)


def test_a_path_of_other_commands_stays():
    assert short_path("M 1 2 A 3 3 0 0 1 9 9") == "M 1 2 A 3 3 0 0 1 9 9"


def resolved(element: ET.Element, ids: dict, styles: dict) -> list:
    """What an element draws: tag, attributes without ids, its style, and what it holds or refers to."""
    given = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    label = given.pop("class", None)
    given["style"] = styles[label] if label else re.sub(r"([:;]) ", r"\1", given.get("style", ""))
    given.pop("id", None)
    target = given.pop("href", "")[1:]
    inner = [resolved(one, ids, styles) for one in element if one.tag.rpartition("}")[2] != "defs"]
    if target:
        inner.append(resolved(ids[target], ids, styles))
    return [element.tag.rpartition("}")[2], given, inner]


def letters(drawn: list) -> list[str]:
    """The letters that a figure shows, in order, by their outlines."""
    tag, given, inner = drawn
    outline = [given.get("d", "")] if tag == "path" and "0.015625" in given.get("transform", "") else []
    return outline + [one for part in inner for one in letters(part)]


def test_a_page_defines_each_glyph_text_and_style_once_and_draws_the_same():
    lines = {"dynamic": [(0, 0.5), (1, 0.52)], "static": [(0, 0.5), (1, 0.56)]}
    colours = {"dynamic": "#0072b2", "static": "#d55e00"}
    first, second = (probe_lines(lines, colours, axis, log=False) for axis in ("layer", "rows"))
    inline = Inline()
    page = [str(inline(svg, name)) for svg, name in ((first, "layers"), (second, "sizes"), (first, "again"))]
    assert len(page[2]) < 0.6 * len(page[0]) < 0.6 * len(first)
    whole = "".join(page)
    ids = re.findall(r' id="([^"]*)"', whole)
    assert len(ids) == len(set(ids))
    styles = dict(re.findall(r"\.(s\d+)\{([^}]*)\}", whole))
    assert len(styles) == len(re.findall(r"\.s\d+\{", whole)) == len(set(styles.values()))
    assert " style=" not in whole

    trees = [ET.fromstring(svg) for svg in page]
    known = {element.get("id"): element for tree in trees for element in tree.iter() if element.get("id")}
    for tree, svg in zip(trees, (first, second, first), strict=True):
        before = ET.fromstring(svg[svg.index("<svg"):])
        own = {element.get("id"): element for element in before.iter() if element.get("id")}
        shown = [letters(resolved(root, names, styles)) for root, names in ((tree, known), (before, own))]
        assert shown[0] == [short_path(outline) for outline in shown[1]]
        assert len(shown[0]) > 20
        marks = [[(given.get("x"), given.get("y"), given["style"]) for one in root.iter()
                  for _, given, _ in [resolved(one, names, styles)] if given.get("y")]
                 for root, names in ((tree, known), (before, own))]
        assert marks[0] == marks[1]
        assert marks[0]
