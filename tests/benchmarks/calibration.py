"""How often outcomes are false and how often intervals cover, in simulated studies with known true effects.

    python -m tests.benchmarks.calibration          simulate (minutes) and write reports/calibration.md
    python -m tests.benchmarks.calibration --page   write the page from the recorded counts

Each scenario has random numbers of its own, made from its name, so its counts are the same every time.
"""
from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass

import numpy as np
from rich.progress import track

from study.files import write_atomically
from tests.support.simulated import ProbeStudy, RowStudy, simulate_claims, simulate_families
from tests.support.simulated_numbers import NumberStudy, simulate_numbers
from tests.support.studies import ROOT

STUDIES = 1500                              # simulated for each scenario
RESULTS = ROOT / "reports" / "calibration" / "results.jsonl"
SEEDS, ARTICLES = (3, 5, 8), (20, 60, 200)
OF_SEEDS = {"small": 0.005, "medium": 0.02, "large": 0.08}          # nats
OF_ARTICLES = {"small": 0.02, "medium": 0.06, "large": 0.2}         # nats
OF_DRAWS = {"small": 0.002, "medium": 0.01, "large": 0.03}          # accuracy
LEVELS = (("small", "small"), ("small", "large"), ("medium", "medium"), ("large", "small"), ("large", "large"))
OTHER_SIZES = {"very unequal": 0.3, "nearly equal": 100.0}          # concentration of their law
STRONG_INTERACTION = 0.2                                            # nats
NUMBERS = {"band": (2, 3, 5, 8), "point": (2, 3, 5, 8), "spread": (5, 10, 20), "rate": (5, 10), "escape": (3, 5, 8)}
BASELINES = {True: "one baseline", False: "own baselines"}          # whether the claims of a family share it


@dataclass(frozen=True)
class Scenario:
    """Studies to simulate. table: where the page has it. shared: whether a family's claims have one baseline; None
    where each claim is alone in its family."""
    table: str
    name: str
    study: RowStudy | ProbeStudy | NumberStudy
    shared: bool | None = None

    def simulate(self, studies: int = STUDIES) -> dict:
        """The scenario with its counts, as it is recorded."""
        rng = np.random.default_rng(list(f"{self.table}: {self.name}".encode()))
        if isinstance(self.study, NumberStudy):
            found = simulate_numbers(self.study, rng, studies)
        elif self.shared is None:
            found = simulate_claims(self.study, rng, studies)
        else:
            found = simulate_families(self.study, rng, studies, self.shared)
        record = {"table": self.table, "name": self.name, "study": asdict(self.study), "studies": studies}
        return json.loads(json.dumps(record | {"found": found}))


def on_rows(table: str, seeds: int, articles: int, levels: tuple[str, str], more: str = "", shared: bool | None = None,
            **changes: float) -> Scenario:
    """A scenario with NLL on rows of articles. levels: the noise of seeds and of articles. more: ends its name."""
    study = RowStudy(seeds, articles, OF_SEEDS[levels[0]], OF_ARTICLES[levels[1]], **changes)
    return Scenario(table, f"{seeds} seeds, {articles} articles, {'/'.join(levels)}{more}", study, shared)


def scenarios() -> list[Scenario]:
    """All scenarios, in the order of the page."""
    rows = [on_rows("rows", seeds, articles, levels) for seeds in SEEDS for articles in ARTICLES for levels in LEVELS]
    special = [on_rows("special", 2, 60, levels) for levels in LEVELS[1:4]]
    special += [on_rows("special", seeds, articles, LEVELS[1], f", sizes {name}", concentration=OTHER_SIZES[name])
                for name, seeds, articles in (("very unequal", 3, 20), ("very unequal", 5, 20), ("very unequal", 3, 60),
                                              ("very unequal", 5, 60), ("nearly equal", 5, 20))]
    special += [on_rows("special", 5, 60, LEVELS[2], ", strong interaction", interaction=STRONG_INTERACTION)]
    probes = [Scenario("probes", f"{seeds} seeds, noise of draws {level}", ProbeStudy(seeds, draw=noise))
              for seeds in SEEDS for level, noise in OF_DRAWS.items()]
    return rows + special + probes + _families() + _numbers()


def _families() -> list[Scenario]:
    medium = [(seeds, 60, LEVELS[2]) for seeds in SEEDS]
    others = [(5, 20, LEVELS[2]), (5, 200, LEVELS[2]), (5, 60, LEVELS[1]), (3, 20, LEVELS[1])]
    probes = [(5, True), (8, True), (5, False)]
    return [*(on_rows("families", *of, f", {BASELINES[True]}", True) for of in medium + others),
            *(on_rows("families", *of, f", {BASELINES[False]}", False) for of in medium),
            *(Scenario("families", f"probe, {seeds} seeds, {BASELINES[shared]}", ProbeStudy(seeds), shared)
              for seeds, shared in probes)]


def _numbers() -> list[Scenario]:
    studies = [NumberStudy(kind, seeds) for kind, numbers in NUMBERS.items() for seeds in numbers]
    studies += [NumberStudy(kind, seeds, law) for kind, seeds in (("band", 5), ("point", 5), ("spread", 20))
                for law in ("heavy tails", "skewed")]
    studies += [NumberStudy("escape", 5, limit=limit) for limit in (1.5, 1.0)]
    return [Scenario("numbers", f"{study.kind}, {study.seeds} seeds" + (
        f", {study.law}" if study.law != "normal" else
        f", limit {study.limit:g}" if study.limit < 10 else ""), study) for study in studies]


def recorded() -> list[dict]:
    """The recorded scenarios."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="write the page from the recorded counts")
    if not parser.parse_args().page:
        records = [scenario.simulate() for scenario in track(scenarios(), disable=not sys.stderr.isatty())]
        write_atomically(RESULTS, "".join(json.dumps(record) + "\n" for record in records).encode())
    from tests.benchmarks.calibration_page import write_page

    print(write_page())


if __name__ == "__main__":
    main()
