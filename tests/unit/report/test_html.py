"""README.md as a page: figures, captions, anchors, and no HTML but our own."""
import re
from xml.etree import ElementTree

import pytest

from study.report.formatting import escape_markdown, slug
from study.report.html import html_page, inline_svg

SVG = ('<?xml version="1.0"?>\n<svg xmlns:xlink="http://www.w3.org/1999/xlink" xmlns="http://www.w3.org/2000/svg">'
       '<defs><path id="m1" d="M 0 0"/></defs><g id="axes_1" clip-path="url(#p1)"><use xlink:href="#m1"/></g>'
       '<clipPath id="p1"/></svg>')


def page(markdown: str) -> str:
    """The main part of the page."""
    html = html_page(markdown, "title", {"figures/a.svg": SVG, "figures/b.svg": SVG})
    return html.partition("<main>")[2].partition("</main>")[0]


@pytest.mark.parametrize("text", [
    "<script>alert(1)</script>", "<b>x</b>", "a & b &amp; c", "*x* _y_ `z`", "x | y", "1. x", "- x", "+ x", "# x",
    "> x", "[a](b)", "![a](b)", "~~~", "<details>", "\\", "a\nb", "http://x.org <http://x.org>", "2) y", "==="])
def test_escaped_text_is_shown_as_it_is(text):
    for html in (page(f"{escape_markdown(text)}\n"), page(f"| h |\n|---|\n| {escape_markdown(text)} |\n")):
        shown = ElementTree.fromstring(f"<r>{html}</r>").itertext()
        assert text.replace("\n", " ") in "".join(shown)
        assert not re.search(r"<(script|b|em|strong|code|a|img|ul|ol|h1|blockquote|details)\b", html)


def test_html_is_shown_as_text_except_for_folded_parts():
    html = page("<details>\n<summary>More</summary>\n\ntext <i>x</i>\n\n</details>\n\n<details open onclick=x>\n\n"
                "<summary><img src=x></summary>\n\n<div>y</div>\n")
    assert "<details>\n<summary>More</summary>" in html
    assert html.count("</details>") == 1
    assert not re.search(r"<(i|img|div|details [^>]*)>", html)


def test_a_table_scrolls_and_has_its_caption_and_header_cells():
    html = page("## Part\n\n*About [MASK]*\n\n| arm | n |\n|---|--:|\n| a | 1 |\n")
    assert '<div class="scroll" tabindex="0" role="region" aria-label="About [MASK]">' in html
    assert "<caption><span>About [MASK]</span></caption>" in html
    assert '<th scope="col">arm</th>' in html
    assert '<th class="n" scope="col">n</th>' in html
    assert '<th scope="row">a</th>' in html
    assert '<td class="n">1</td>' in html
    assert 'aria-label="Part"' in page("## Part\n\ntext\n\n| a |\n|---|\n| 1 |\n")


def test_emphasis_inside_a_paragraph_is_no_caption():
    html = page("*a* and *b*\n\n| a |\n|---|\n| 1 |\n")
    assert "<caption>" not in html
    assert "<em>a</em> and <em>b</em>" in html


def test_outcomes_are_marked_and_claims_lead_to_the_parts_about_them():
    html = page("| claim | outcome |\n|---|---|\n| L2 | holds, exploratory |\n| b | no difference |\n\n"
                "<details>\n<summary>Details</summary>\n\n**L2**\n\n- text\n\n**b** is not alone\n\n</details>\n")
    assert '<table class="outcomes">' in html
    assert '<td class="outcome holds">holds, exploratory</td>' in html
    assert '<td class="outcome no-difference">' in html
    assert '<th scope="row"><a href="#claim-l2">L2</a></th>' in html
    assert '<p id="claim-l2"><strong>L2</strong></p>' in html
    assert '<th scope="row">b</th>' in html
    assert 'class="outcomes"' not in page("| claim | text |\n|---|---|\n| a | holds |\n")


def test_a_figure_is_inline_with_its_alternative_text_and_caption():
    html = page("![two \\[MASK\\] \"lines\"](figures/a.svg)\n\n*How to read it.*\n\n![other](figures/b.svg)\n\ntext\n")
    assert html.count("<figure>") == html.count("<svg ") == 2
    assert 'role="img" aria-label="two [MASK] &#34;lines&#34;"' in html
    assert html.count("<figcaption>How to read it.</figcaption>") == html.count("<figcaption>") == 1
    assert "<p>text</p>" in html
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids)) == 4
    assert set(re.findall(r'href="#([^"]+)"', html) + re.findall(r"url\(#([^)]+)\)", html)) == set(ids)


def test_findings_and_ladder_are_columns_if_one_follows_the_other():
    first, second, rest = "## Findings\n\n- a\n\n", "## Ladder of references\n\nb\n\n", "## Outcomes\n\nc\n"
    html = page(f"# T\n\n{first}{second}{rest}")
    columns = re.search(r'<div class="columns">\s*<section>(.*?)</section>\s*<section>(.*?)</section>\s*</div>', html,
                        re.S)
    assert [re.findall(r"<h2 id=\"([\w-]+)", part) for part in columns.groups()] == [
        ["findings"], ["ladder-of-references"]]
    assert "<li>a</li>" in columns[1]
    assert "<p>b</p>" in columns[2]
    assert "<p>c</p>" in html[columns.end():]
    assert '<section>\n<h2 id="ladder-of-references">' in page(first + second)
    for other in (first + rest, first + rest + second, second + first, second, first):
        assert "<section>" not in page(other)


def test_an_inlined_figure_draws_the_same():
    def drawn(element):
        attributes = {key.rpartition("}")[2]: re.sub(r"#(a-)?", "#", value) for key, value in element.attrib.items()
                      if key not in ("id", "role", "aria-label", "version")}
        return [element.tag, attributes, [drawn(child) for child in element]]

    assert drawn(ElementTree.fromstring(inline_svg(SVG, "a", "label"))) == drawn(ElementTree.fromstring(SVG))


def test_a_figure_grows_by_a_quarter_at_most():
    svg = SVG.replace("<svg ", '<svg width="400.5pt" height="100pt" ', 1)
    assert 'style="max-width:501pt"' in inline_svg(svg, "a", "label").split(">", 1)[0]
    assert "max-width" not in inline_svg(SVG, "a", "label")


def test_headings_have_the_anchors_that_github_gives_them():
    assert slug("S0.2: Of the selected, 80 % are [MASK].") == "s02-of-the-selected-80--are-mask"
    html = page("# T\n\n## A b\n\n### x\n\n## A b\n")
    assert re.findall(r'<h[1-6] id="([^"]+)"', html) == ["t", "a-b", "x", "a-b-1"]
    assert '<h2 id="a-b-1"><a href="#a-b-1">A b</a></h2>' in html


def test_groups_without_attributes_are_left_out_of_inlined_figures():
    svg = ('<svg ><g id="a">\n<g id="b" clip-path="url(#c)">\n<path d="M0 0"/>\n</g>\n<g id="d"/>\n</g>\n'
           '<g transform="x">\n<g>\n<use/>\n</g>\n</g>\n</svg>')
    shown = inline_svg(svg, "f0", "label")
    assert shown.split("\n", 1)[0].endswith('><g clip-path="url(#f0-c)">')
    assert re.findall(r"</?\w+", shown) == ["<svg", "<g", "<path", "</g", "<g", "<use", "</g", "</svg"]
