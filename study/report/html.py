"""index.html from README.md: the same text as one page that fetches nothing.

The Markdown follows three conventions. A paragraph in emphasis before a table is the table's caption; one after an
image is the figure's caption; `<details>` and `<summary>` alone on their lines fold a part. Any other HTML is shown as
text.
"""
from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape

from study.report.formatting import TEMPLATES, render, slug

FOLD = re.compile(r"<details>\n<summary>[^<>]*</summary>\n?|</details>\n?")
CLAIM = "claim"                             # head of the column whose names lead to the paragraphs that are these names
LARGEST = 1.25                              # times its own width that a figure may have
LONG_CELL = 40                              # characters; such a cell gets a wider column
FIRST_SCREEN = ("findings", "ladder-of-references")     # sections that a wide screen shows beside each other
OWN = "own"                                 # meta key of the HTML that this module inserts


def html_page(markdown: str, title: str, figures: dict[str, str]) -> str:
    """The page. figures: path of an image in the Markdown -> its SVG text, which is inlined."""
    parser = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable("table")
    parser.add_render_rule("html_block", _html)
    parser.add_render_rule("html_inline", _html)
    tokens = parser.parse(markdown)
    contents, claims = _anchor_headings(tokens), _anchor_names(tokens)
    tokens = _columns(_figures(_tables(tokens, claims), figures), *FIRST_SCREEN)
    body = parser.renderer.render(tokens, parser.options, {})
    return render("page.html", {"title": title, "contents": contents, "body": Markup(body),
                                "style": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
                                "script": Markup((TEMPLATES / "open.js").read_text(encoding="utf-8"))})


def _html(renderer, tokens: list[Token], index: int, options, env) -> str:
    token = tokens[index]
    return token.content if token.meta.get(OWN) or FOLD.fullmatch(token.content) else str(escape(token.content))


def _own(content: str) -> Token:
    return Token("html_block", "", 0, content=content, block=True, meta={OWN: True})


def _text(inline: Token) -> str:
    """The text of an inline token, without its marks."""
    return "".join(child.content for child in inline.children or [])


def _anchor_headings(tokens: list[Token]) -> list[dict]:
    """Gives each heading an id and makes it a link to itself; returns level, id and text of those below the title."""
    contents, seen = [], {}
    for heading, inline in zip(tokens, tokens[1:], strict=False):
        if heading.type != "heading_open":
            continue
        anchor = slug(_text(inline))
        seen[anchor] = count = seen.get(anchor, -1) + 1
        anchor += f"-{count}" if count else ""
        heading.attrSet("id", anchor)
        if heading.tag != "h1":
            contents.append({"level": int(heading.tag[1]), "id": anchor, "text": _text(inline)})
            _link(inline, f"#{anchor}")
    return contents


def _anchor_names(tokens: list[Token]) -> dict[str, str]:
    """Gives each paragraph that is nothing but a bold name an id; returns the ids by name."""
    ids = {}
    for paragraph, inline in zip(tokens, tokens[1:], strict=False):
        kinds = [child.type for child in inline.children or [] if child.content or child.nesting]
        if paragraph.type == "paragraph_open" and kinds[:1] == ["strong_open"] and kinds.index("strong_close") == len(
                kinds) - 1:
            ids[_text(inline)] = anchor = f"{CLAIM}-{slug(_text(inline))}"
            paragraph.attrSet("id", anchor)
    return ids


def _link(inline: Token, target: str) -> None:
    """Makes all of an inline token a link."""
    inline.children = [Token("link_open", "a", 1, attrs={"href": target}), *inline.children,
                       Token("link_close", "a", -1)]


def _caption(tokens: list[Token], start: int) -> Token | None:
    """The inline token of the paragraph that starts here, if all of it is in emphasis."""
    if start < 0 or [token.type for token in tokens[start:start + 3]] != ["paragraph_open", "inline",
                                                                         "paragraph_close"]:
        return None
    children = tokens[start + 1].children
    whole = children[0].type == "em_open" and [child.type for child in children].index("em_close") == len(children) - 1
    return Token("inline", "", 0, children=children[1:-1]) if whole else None


def _tables(tokens: list[Token], claims: dict[str, str]) -> list[Token]:
    """Tables with their captions, in boxes that scroll, with the header cells that a screen reader needs. claims: name
    -> id of the part about it."""
    result, section = [], Token("inline", "", 0)
    for index, token in enumerate(tokens):
        if token.type == "heading_open":
            section = tokens[index + 1]
        if token.type == "table_open":
            caption = _caption(result, len(result) - 3)
            label = _text(caption or section)
            result = result[:-3] if caption else result
            result += [_own(f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">'), token]
            if caption:
                result += [_own("<caption><span>"), caption, _own("</span></caption>")]
            if _mark_cells(tokens[index:], claims):
                token.attrSet("class", "outcomes")
        else:
            result.append(token)
        if token.type == "table_close":
            result.append(_own("</div>\n"))
    return result


def _mark_cells(tokens: list[Token], claims: dict[str, str]) -> bool:
    """Scopes of the header cells, links of claims, and the classes of numbers and outcomes, in the table that these
    tokens start with. Returns whether it is a table of outcomes."""
    heads: list[str] = []
    column = 0
    for index, token in enumerate(tokens):
        if token.type == "table_close":
            break
        if token.type == "tr_open":
            column = 0
        elif token.type in ("th_open", "td_open"):
            if token.attrs.pop("style", "") == "text-align:right":
                token.attrSet("class", "n")
            text = _text(tokens[index + 1])
            if token.type == "th_open":
                heads.append(text)
                token.attrSet("scope", "col")
            elif heads[column] == "outcome":
                token.attrSet("class", f"outcome {slug(text.split(',')[0])}")
            elif heads[column] == CLAIM and text in claims:
                _link(tokens[index + 1], f"#{claims[text]}")
            elif len(text) > LONG_CELL:
                token.attrSet("class", "text")
            if token.type == "td_open" and column == 0:
                token.tag = tokens[index + 2].tag = "th"
                token.attrSet("scope", "row")
            column += 1
    return "outcome" in heads


def _columns(tokens: list[Token], left: str, right: str) -> list[Token]:
    """The two sections with these ids as columns, if the second one follows the first."""
    starts = [place for place, token in enumerate(tokens) if token.type == "heading_open" and token.tag == "h2"]
    ids = [tokens[place].attrs["id"] for place in starts]
    if left not in ids or ids[ids.index(left) + 1:][:1] != [right]:
        return tokens
    first, second, end = [*starts, len(tokens)][ids.index(left):][:3]
    return [*tokens[:first], _own('<div class="columns">\n<section>\n'), *tokens[first:second],
            _own("</section>\n<section>\n"), *tokens[second:end], _own("</section>\n</div>\n"), *tokens[end:]]


def _figures(tokens: list[Token], figures: dict[str, str]) -> list[Token]:
    """Images that are paragraphs of their own as figures with inline SVG; the caption follows in emphasis."""
    result, skip = [], 0
    for index, token in enumerate(tokens):
        if skip:
            skip -= 1
            continue
        inline = tokens[index + 1] if token.type == "paragraph_open" else None
        images = [child for child in (inline.children if inline else []) if child.type == "image"]
        if not images:
            result.append(token)
            continue
        image, caption = images[0], _caption(tokens, index + 3)
        svg = inline_svg(figures[image.attrs["src"]], f"f{list(figures).index(image.attrs['src'])}", _text(image))
        result.append(_own(f'<figure><div class="drawing">{svg}</div>'))
        result += [_own("<figcaption>"), caption, _own("</figcaption>")] if caption else []
        result.append(_own("</figure>\n"))
        skip = 5 if caption else 2
    return result


def inline_svg(svg: str, prefix: str, label: str) -> str:
    """An SVG file as an element of a page: its ids start with `prefix`, a screen reader reads `label`."""
    svg = _without_bare_groups(re.sub(r'<g id="[^"]*"', "<g", svg[svg.index("<svg"):]))     # nothing uses these ids
    svg = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{prefix}-", svg).replace("xlink:href", "href")
    svg = svg.replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "", 1).replace(' version="1.1"', "", 1)
    width = re.search(r' width="([\d.]+)pt"', svg[:svg.index(">")])
    style = f' style="max-width:{LARGEST * float(width[1]):.0f}pt"' if width else ""
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}"{style} ', 1)


def _without_bare_groups(svg: str) -> str:
    """The SVG without groups that have no attributes: they draw nothing, but are a tenth of a figure."""
    kept: list[bool] = []

    def tag(match: re.Match) -> str:
        if match[0].startswith("</"):
            return match[0] if kept.pop() else ""
        if "/>" in match[0]:
            return ""
        kept.append(match[0].strip() != "<g>")
        return match[0] if kept[-1] else ""

    return re.sub(r"(?:<g/>|<g(?: [^>]*[^>/])?>|</g>)\n?", tag, svg)
