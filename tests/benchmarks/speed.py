"""Training speed against the Hugging Face Trainer: `make bench` writes reports/benchmarks.md and its figures.

Each number is the median of REPEATS measurements, each in its own process. The two sides alternate, so that a slow
phase of the machine affects both.
"""
from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys

from rich.progress import track

from study.training.pretrain import hardware, versions
from tests.benchmarks.workload import ROOT, SHAPES, WARMUP

REPEATS, SECONDS = 3, 8.0
PRECISIONS = ("float32", "bfloat16")
RESULTS = ROOT / "reports" / "benchmarks"


def measure(what: str, shape: str, precision: str, seconds: float):
    """The result of one run of `measure.py` in its own process."""
    command = [sys.executable, "-m", "tests.benchmarks.measure", what, shape, precision, str(seconds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False,
                          env=os.environ | {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1"})
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def run(repeats: int, seconds: float) -> dict:
    """All measurements: {shape: {what: {precision: [one number per repetition]}}}. The cost of the loop and of batches
    is measured at our faster precision only."""
    found: dict = {}

    def each(jobs: list[tuple[str, str, str]]) -> None:
        for what, shape, precision in track(jobs * repeats, description="measuring", disable=not sys.stderr.isatty()):
            number = measure(what, shape, precision, seconds)
            found.setdefault(shape, {}).setdefault(what, {}).setdefault(precision, []).append(number)

    each([(what, shape, precision) for shape in SHAPES for precision in PRECISIONS for what in ("trainer", "ours")])
    each([(what, shape, best(found[shape], "ours")[0]) for shape in SHAPES for what in ("loop", "batch")])
    each([("matmul", shape, precision) for shape in SHAPES for precision in PRECISIONS])
    return found


def profiles(found: dict) -> dict[str, dict[str, dict[str, float]]]:
    """{shape: {side: {kind of operation: ms per step}}}, each side at its faster precision."""
    return {shape: {side: measure(f"{side}_parts", shape, best(numbers, side)[0], 0.0)
                    for side in ("trainer", "ours")} for shape, numbers in found.items()}


def best(found: dict, what: str) -> tuple[str, float]:
    """The faster precision of one side, and its median."""
    medians = {precision: statistics.median(numbers) for precision, numbers in found[what].items()}
    return max(medians.items(), key=lambda item: item[1])


def summary(found: dict) -> dict[str, dict]:
    """For each shape: both sides at their faster precision, their ratio, and the composition of our step."""
    result = {}
    for shape, numbers in found.items():
        (trainer_precision, theirs), (precision, ours) = best(numbers, "trainer"), best(numbers, "ours")
        ratios = [a / b for a, b in zip(numbers["ours"][precision], numbers["trainer"][trainer_precision], strict=True)]
        result[shape] = {"trainer": theirs, "trainer_precision": trainer_precision, "ours": ours,
                         "precision": precision,
                         "ratio": ours / theirs, "ratios": (min(ratios), max(ratios)),
                         "matmul_share": statistics.median(numbers["matmul"][precision]),
                         "batch_share": statistics.median(numbers["batch"][precision]),
                         "harness": statistics.median(numbers["loop"][precision])}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measurement")
    chosen = parser.parse_args()
    found = run(chosen.repeats, chosen.seconds)
    RESULTS.mkdir(parents=True, exist_ok=True)
    content = {"hardware": hardware(), "versions": versions(), "seconds": chosen.seconds, "warmup": WARMUP,
             "measured": found, "parts": profiles(found)}
    (RESULTS / "speed.json").write_text(json.dumps(content, indent=1) + "\n")
    from tests.benchmarks.table import write_table

    write_table()
    small, tutorial = (summary(found)[name] for name in SHAPES)
    print(f"ratio_small={small['ratio']:.2f} ratio_tutorial={tutorial['ratio']:.2f} "
          f"matmul_share={min(small['matmul_share'], tutorial['matmul_share']):.2f}")


if __name__ == "__main__":
    main()
