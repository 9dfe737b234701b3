"""Numbers and text as the report shows them, and the templates that use them."""
from __future__ import annotations

import math
import re
from pathlib import Path
from typing import NamedTuple

from study.analysis.metrics import display_unit, is_log10, shown_power

DIGITS = {"nats": 3, "points": 1, "steps": 0, "tokens": 0, "norm": 2, "spikes": 1, "share": 2, "distance": 4,
          "log10 rate": 2, "log10 ratio": 2, "": 2}
BARE = ("share", "distance", "norm", "spikes")      # not written after a number: the labels of the metrics say it
TEMPLATES = Path(__file__).parent / "templates"
SAME = "the same at every seed"             # in place of an interval without width


def number(value: float | None, digits: int = 2) -> str:
    """A number, or a dash if there is none."""
    missing = value is None or (isinstance(value, float) and not math.isfinite(value))
    return "–" if missing else f"{value:z,.{digits}f}"


def plural(count: float, noun: str) -> str:
    """A count with its noun, which takes an s unless the count is 1: `1 seed`, `1,000 steps`."""
    shown = number(count, 0)
    return f"{shown} {noun}" if shown == "1" else f"{shown} {noun}s"


def whole(value: float) -> str:
    """A number without decimals; ∞ for an infinite one."""
    return "∞" if value == math.inf else number(value, 0)


def difference(value: float | None, digits: int = 2) -> str:
    """A number with its sign; empty if there is none."""
    return "" if value is None or math.isnan(value) else f"{value:+z,.{digits}f}".replace("-", "−")


def percent(value: float | None) -> str:
    """A share in percent, without the sign, or a dash if there is none."""
    return number(None if value is None else 100 * value, 1)


def span(low: float, high: float, digits: int = 2, scale: float = 1, sign: str = "", bound: str = "") -> str:
    """An interval in brackets; empty if it is not finite (one seed gives none). sign: "+" to always show the sign.
    bound: `≥` or `≤` if the number is a lower or an upper bound, so that its interval is open on the other side."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    first, last = (f"{scale * end:{sign}z,.{digits}f}" for end in (low, high))
    return f"[{'-∞' if bound == '≤' else first}, {'∞' if bound == '≥' else last}]"


def signed(effect: dict, digits: int = 3, scale: float = 1, interval: bool = True) -> str:
    """The effect of a comparison with its interval, both signed. effect: keys effect, low, high."""
    bounds = span(effect["low"], effect["high"], digits, scale, "+") if interval else ""
    return f"{scale * effect['effect']:+z,.{digits}f} {bounds}".strip()


class Unit(NamedTuple):
    """How readers see the numbers of a metric: multiplied by `scale`, with so many decimals. A log10 of learning rates
    is seen as a rate or a ratio in text, and as it is in figures."""
    name: str
    scale: float
    digits: int

    @property
    def suffix(self) -> str:
        """What follows a number."""
        return "" if self.is_log or self.name in BARE else f" {self.name}".rstrip()

    @property
    def is_log(self) -> bool:
        """Whether the numbers are log10 of rates or ratios."""
        return is_log10(self.name)

    def text(self, value: float, sign: str = "") -> str:
        """A number with its unit. sign: empty for a level, "-" for a difference, "+" for one that always has its sign.
        """
        return self._followed(self.bare(value, sign))

    def limit(self, value: float) -> str:
        """A margin, or another difference that the rules ask for, with its unit and without needless decimals."""
        return self.text(value, "-") if self.is_log else self._followed(f"{self.scale * value:g}")

    def interval(self, low: float, high: float, sign: str = "", bound: str = "") -> str:
        """An interval without its unit, as `span`."""
        if self.is_log:
            is_finite = math.isfinite(low) and math.isfinite(high)
            return f"[{self.bare(low, sign)}, {self.bare(high, sign)}]" if is_finite else ""
        return span(low, high, self.digits, self.scale, sign, bound)

    def bare(self, value: float, sign: str = "") -> str:
        """A number without its unit."""
        if self.is_log:
            return shown_power(self.name, value, is_difference=bool(sign))
        return f"{self.scale * value:{sign}z,.{self.digits}f}"

    def _followed(self, shown: str) -> str:
        """A number as text with its unit, in the singular after 1: `1 point`, `1.0 points`."""
        return shown + (self.suffix.removesuffix("s") if shown.lstrip("+-") == "1" else self.suffix)


def unit_of(metric: str | None) -> Unit:
    scale, name = display_unit(metric)
    return Unit(name, scale, DIGITS[name])


def same_at_every_seed(numbers: dict) -> bool:
    """Whether a number is the same at every seed: its interval has no width, or it has none although there are several
    seeds. numbers: low and high; None if unknown; of the result of a claim also `values`, arm -> a number per seed."""
    if numbers["low"] is not None:
        return numbers["low"] == numbers["high"]
    arms = list(numbers.get("values", {}).values())
    seeds = [values[0] - sum(values[1:]) for values in zip(*arms, strict=True)]
    return len(seeds) > 1 and all(math.isclose(seed, seeds[0], abs_tol=1e-12) for seed in seeds)


def in_unit(metric: str | None, numbers: dict, signed: bool = True, spread: bool = False) -> str:
    """A number with its unit and, where it has one, its interval. numbers: of `same_at_every_seed`, with effect and, if
    it is a bound, `bound` (of `span`). signed: a difference with its sign. spread: a difference without one."""
    sign = "-" if spread else "+" if signed else ""
    unit, bound = unit_of(metric), numbers.get("bound", "")
    text = f"{bound} {unit.text(numbers['effect'], sign)}".strip()
    if same_at_every_seed(numbers):
        return f"{text} at every seed" if bound else f"{text}, {SAME}"
    low, high = (math.nan if numbers[key] is None else numbers[key] for key in ("low", "high"))
    return f"{text} {unit.interval(low, high, sign, bound)}".strip()


def p_value(p: float | None) -> str:
    """A p value, or a dash if there is none."""
    if p is None or math.isnan(p):
        return "–"
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def counts(numbers: dict[str, int]) -> str:
    """`2 supported, 1 contradicted`; names with a count of 0 are left out."""
    return ", ".join(f"{count} {name}" for name, count in numbers.items() if count)


def tally(numbers: dict[str, int]) -> str:
    """`holds 2, reversed 1`; names with a count of 0 are left out."""
    return ", ".join(f"{name} {count}" for name, count in numbers.items() if count)


def escape_markdown(text) -> str:
    """Text from data that Markdown shows as it is: on one line, never as HTML, emphasis, a table cell or a list."""
    text = str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")
    text = re.sub(r"([\\`*_{}\[\]|#~])", r"\\\1", text)
    return re.sub(r"^(\s*)(?:(\d+)(?=[.)](?:\s|$))|(?=[-+=](?:\s|$)))", r"\1\2\\", text)


def prose(text: str) -> str:
    """Text that a person wrote: as `escape_markdown` has it, but with `code` shown as code."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(part if part.startswith("`") else escape_markdown(part) for part in parts)


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub derives it from the heading's text."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


FILTERS = {"number": number, "difference": difference, "p": p_value, "percent": percent, "span": span,
           "signed": signed, "whole": whole, "md": escape_markdown, "prose": prose, "slug": slug, "counts": counts,
           "tally": tally, "plural": plural}


def render(template: str, context: dict) -> str:
    """A template of this package as Markdown. Raises jinja2.UndefinedError for a name that the context lacks."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=template.endswith(".html"),
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
                              keep_trailing_newline=True)
    environment.filters |= FILTERS
    environment.globals["span_md"] = lambda *bounds: escape_markdown(span(*bounds))
    return environment.get_template(template).render(context)
