"""Figures of ours inside one page, in fewer bytes: they are most of a page, and say the same thing many times."""
from __future__ import annotations

import re

from markupsafe import Markup


class Inline:
    """Figures as they stand in one page, in the order of their calls.

    Without XML's heading, their ids unique over the page, hidden from readers who hear the alternative text; a glyph,
    a text or a style that stands earlier in the page is not defined again.
    """

    def __init__(self):
        self.glyphs: set[str] = set()
        self.ids: dict[tuple[str, str], int] = {}
        self.texts: dict[str, str] = {}     # glyphs in their places, to the id
        self.styles: dict[str, str] = {}    # to the name of the class

    def __call__(self, svg: str, name: str) -> Markup:
        """The SVG that matplotlib wrote, whose ids are its own under `name`."""
        body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg[svg.index("<svg"):], flags=re.S)
        body = re.sub(r'<path id="(DejaVuSans[^"]*)".*?/>', self._glyph, body, flags=re.S)
        body = re.sub(r'xlink:href="(#DejaVuSans[^"]*)" transform="translate\((-?\d+)[\d.]* 0\)"',
                      r'xlink:href="\1" x="\2"', body)       # letters stand on hundredths of their size
        body = _without_idle_groups(re.sub(r'<g id="[^"]*"', "<g", body))
        body = re.sub(r'(?<= d=")[^"]*', lambda found: short_path(found[0]), body)
        body = re.sub(r'(id="|url\(#|xlink:href="#)(?!DejaVuSans)([^")]+)',
                      lambda found: f"{found[1]}i{self.ids.setdefault((name, found[2]), len(self.ids))}", body)
        body = body.replace("xlink:href", "href").replace("DejaVuSans-", "c")
        body = body.replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")
        body = re.sub(r"\s*\n\s*", "\n", re.sub(r"<defs>\s*</defs>", "", body)).replace("/>\n<use", "/><use")
        body = re.sub(r'<use href="#c[^>]*/>(?:<use href="#c[^>]*/>)+', self._text, body)
        known = len(self.styles)
        body = re.sub(r'style="([^"]*)"', self._class, body)
        rules = "".join(f".{label}{{{style}}}" for style, label in list(self.styles.items())[known:])
        head, rest = body.split(">", 1)
        return Markup(head.replace("<svg", '<svg aria-hidden="true"') + ">"
                      + (f"\n<style>{rules}</style>" if rules else "") + rest)

    def _glyph(self, found: re.Match) -> str:
        known = found[1] in self.glyphs
        self.glyphs.add(found[1])
        return "" if known else found[0]

    def _text(self, found: re.Match) -> str:
        if found[0] in self.texts:
            return f'<use href="#{self.texts[found[0]]}"/>'
        label = self.texts[found[0]] = f"t{len(self.texts)}"
        return f'<g id="{label}">{found[0]}</g>'

    def _class(self, found: re.Match) -> str:
        style = re.sub(r"([:;]) ", r"\1", found[1])
        return f'class="{self.styles.setdefault(style, f"s{len(self.styles)}")}"'


def short_path(path: str) -> str:
    """A path of SVG (M, L, Q, C, z) rounded to tenths, from point to point; one of other commands as it is."""
    found = re.findall(r"[A-Za-z]|-?[\d.]+(?:e-?\d+)?", path)
    if not {part for part in found if part.isalpha()} <= set("MLQCz"):
        return path
    out, last, command, here, begin, at = "", "", "", (0, 0), (0, 0), 0
    while at < len(found):
        if found[at].isalpha():
            command, at = found[at], at + 1
        if command == "z":
            out, last, here = out + "z", "z", begin
            continue
        count = {"M": 2, "L": 2, "Q": 4, "C": 6}[command]
        points, at = [round(10 * float(part)) for part in found[at:at + count]], at + count
        start = (0, 0) if command == "M" else here
        said = [_tenths(value - start[place % 2]) for place, value in enumerate(points)]
        letter = command if command == "M" else command.lower()
        if letter == last and letter != "M":
            letter = "" if said[0].startswith("-") else " "
        out += letter + said[0] + "".join(part if part.startswith("-") else f" {part}" for part in said[1:])
        here = (points[-2], points[-1])
        begin, last = here if command == "M" else begin, command if command == "M" else command.lower()
    return out


def _tenths(value: int) -> str:
    whole, part = divmod(abs(value), 10)
    return ("-" if value < 0 else "") + (f"{whole or ''}.{part}" if part else f"{whole}")


def _without_idle_groups(svg: str) -> str:
    """SVG without groups that have no attributes, and with neighbours that are clipped alike in one group."""
    opened: list[str] = []

    def begin(tag: str) -> str:
        opened.append(tag)
        return "" if tag == "<g>" else tag

    def tags(found: re.Match) -> str:
        if not found[0].startswith("</g>"):
            return begin(found[0])
        before = opened.pop()
        if found[1] == before and re.fullmatch(r'<g clip-path="[^"]*">', before):
            opened.append(before)
            return "\n"
        return ("" if before == "<g>" else "</g>") + (begin(found[1]) if found[1] else "")

    return re.sub(r"</g>(?:\s*(<g\b[^>]*>))?|<g\b[^>]*>", tags, re.sub(r"<g\b[^>]*/>", "", svg))
