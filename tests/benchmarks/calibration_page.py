"""reports/calibration.md, made from the recorded counts."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from study.analysis.decision_rules import ALPHA
from study.analysis.verdict import DECIDED
from tests.benchmarks import calibration
from tests.benchmarks.calibration import RESULTS, recorded
from tests.support.simulated import (
    COVERAGE,
    EFFECTS,
    FAMILY,
    FAMILY_EFFECTS,
    KINDS,
    ProbeStudy,
    Rate,
    RowStudy,
    claims_about,
    is_false,
    standard_error,
)
from tests.support.simulated_numbers import HEAVY, RIGHT, NumberStudy, false_at_the_edge

NAMED = 4                                   # misses that a sentence names
NONE, _, MARGIN = EFFECTS
CLAIMS = dict(zip(KINDS, claims_about(RowStudy()), strict=True))


def claims_row(record: dict) -> dict:
    """The rates of a scenario whose claims are each alone in their family."""
    found, studies = {effect: record["found"][str(effect)] for effect in EFFECTS}, record["studies"]

    def rate(effect: float, kind: str, outcomes: Sequence[str], highest: float = ALPHA) -> Rate:
        return Rate(sum(found[effect][kind].get(outcome, 0) for outcome in outcomes), studies, highest=highest)

    covered = max((counts["covered"] for counts in found.values()), key=lambda count: abs(count / studies - 1 + ALPHA))
    return {"name": record["name"], "study": record["study"], "coverage": Rate(covered, studies, *COVERAGE),
            "direction": [rate(effect, "direction", false_outcomes(effect, "direction")) for effect in EFFECTS],
            "equality": [rate(effect, "equality", false_outcomes(effect, "equality")) for effect in EFFECTS],
            "either": rate(MARGIN, "equality", ["holds", "reversed"]),
            "power": [rate(MARGIN, "direction", ["holds"], 1.0), rate(NONE, "equality", ["holds"], 1.0)]}


def false_outcomes(effect: float, kind: str) -> list[str]:
    """The outcomes of a claim of direction or equality that are false."""
    return [outcome for outcome in DECIDED if is_false(CLAIMS[kind], outcome, effect)]


def family_row(record: dict) -> dict:
    """The rates of a scenario with families of claims, for each of FAMILY_EFFECTS."""
    found, studies = [record["found"][name] for name in FAMILY_EFFECTS], record["studies"]
    return {"name": record["name"], "false": [Rate(counts["false"], studies, highest=ALPHA) for counts in found],
            "either": [Rate(counts["either"], studies, highest=ALPHA) for counts in found],
            "decided": [Rate(counts["decided"], FAMILY * studies) for counts in found]}


def numbers_row(record: dict) -> dict:
    """The rates of a scenario with claims about numbers of runs."""
    study, found, studies = NumberStudy(**record["study"]), record["found"], record["studies"]
    return {"name": record["name"], "study": study,
            "false": Rate(false_at_the_edge(study, found["edge"]), studies, highest=ALPHA),
            "right": Rate(found["far"].get(RIGHT[study.kind], 0), studies)}


def sentences(what: str, rates: Sequence[tuple[str, Rate]]) -> list[str]:
    """Where the rates of scenarios, given by name, are on target and where not, in words, with the worst misses."""
    low, high = min(rates, key=lambda pair: pair[1].share), max(rates, key=lambda pair: pair[1].share)
    found = [f"{what}: {low[1].percent} to {high[1].percent} %. On target in "
             f"{sum(not rate.missed for _, rate in rates)} of {len(rates)} scenarios."]
    for side in ("too_low", "too_high"):
        missed = sorted((pair for pair in rates if getattr(pair[1], side)), key=lambda pair: pair[1].share,
                        reverse=side == "too_high")
        if missed:
            named = "; ".join(f"{name} ({rate.percent} %)" for name, rate in missed[:NAMED])
            found.append(f"{side.capitalize().replace('_', ' ')} in {len(missed)}: {named}"
                         f"{', and others' if len(missed) > NAMED else ''}.")
    return found


def page_text(records: list[dict]) -> str:
    """The page."""
    kinds = {"rows": claims_row, "special": claims_row, "probes": claims_row, "families": family_row,
             "numbers": numbers_row}
    rows = {table: [row(record) for record in records if record["table"] == table] for table, row in kinds.items()}
    alone = rows["rows"] + rows["special"] + rows["probes"]

    def worst(rates: Iterable[Rate]) -> Rate:
        return max(rates, key=lambda rate: rate.share)

    summary = [sentences("Coverage of the interval", [(row["name"], row["coverage"]) for row in alone])]
    summary += [sentences(f"False outcomes of a single {words}", [(row["name"], worst(row[kind])) for row in alone])
                for kind, words in zip(KINDS, ("claim of a direction", "claim of equality"), strict=True)]
    summary += [sentences(f"Families of {FAMILY} with a false outcome",
                          [(row["name"], worst(row["false"])) for row in rows["families"]]),
                sentences("False outcomes of other claims (last table)",
                          [(row["name"], row["false"]) for row in rows["numbers"]])]
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    studies = records[0]["studies"]
    return environment.get_template("calibration.md").render(
        rows=rows, summary=summary, few="5 seeds, 20 articles", studies=studies, constants=calibration, family=FAMILY,
        usual=RowStudy(), heavy=HEAVY, probe=ProbeStudy(), effects=list(FAMILY_EFFECTS), target=COVERAGE, alpha=ALPHA,
        points=[100 * noise for noise in calibration.OF_DRAWS.values()],
        wrong=[[", ".join(false_outcomes(effect, kind)) for kind in CLAIMS] for effect in EFFECTS],
        errors={share: 100 * standard_error(share, studies) for share in (ALPHA, 1 - ALPHA, 0.5)},
        limit=100 * (ALPHA + 2 * standard_error(ALPHA, studies)),
        either=worst(row["either"] for row in alone),
        family_either=worst(row["either"][list(FAMILY_EFFECTS).index("the margin")] for row in rows["families"]),
        named={row["name"]: row for of_table in rows.values() for row in of_table})


def write_page() -> Path:
    """Writes the page; returns its path."""
    path = RESULTS.parent.with_suffix(".md")
    path.write_text(page_text(recorded()))
    return path
