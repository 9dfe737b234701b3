"""Training speed against the Hugging Face Trainer and against a plain loop, for reports/benchmarks.md (`make bench`).

Each speed is the median of REPEATS measurements, each in its own process. The sides alternate, so that a slow phase
of the machine affects all of them. Shares of a step are medians within one process.
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
from tests.benchmarks.workload import POSITIONS, ROOT, SHAPES, WARMUP, stamp

REPEATS, SECONDS = 3, 5.0
SIDES = ("trainer", "plain", "ours")
PRECISIONS = ("float32", "bfloat16")
AVX2 = "float32, AVX2 only"                 # a third column: the instructions of a processor without AVX-512
AVX2_ENVIRONMENT = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
RESULTS = ROOT / "reports" / "benchmarks"


def measure(what: str, shape: str, column: str, seconds: float):
    """Returns the result of one run of `measure.py` in its own process. column: a precision, or AVX2."""
    command = [sys.executable, "-m", "tests.benchmarks.measure", what, shape, column.split(",")[0], str(seconds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False,
                          env=os.environ | {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1"}
                          | (AVX2_ENVIRONMENT if column == AVX2 else {}))
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def columns() -> list[str]:
    """Returns what the sides are measured at: both precisions and, with AVX-512 and no GPU, AVX2 instructions alone."""
    has_more = hardware()["gpu"] is None and "AVX512" in hardware()["processor"]
    return [*PRECISIONS, *([AVX2] if has_more else [])]


def run(repeats: int, seconds: float) -> dict:
    """Returns all measurements: {shape: {what: {column: [one number per repetition]}}}.

    What a step consists of is measured once, and the costs of the loop and of batches at our faster precision only.
    """
    measured: dict = {}

    def each(jobs: list[tuple[str, str, str]], times: int = 1) -> None:
        for what, shape, column in track(jobs * times, description="measuring", disable=not sys.stderr.isatty()):
            number = measure(what, shape, column, seconds)
            measured.setdefault(shape, {}).setdefault(what, {}).setdefault(column, []).append(number)

    each([(what, shape, column) for shape in SHAPES for column in columns() for what in SIDES], repeats)
    each([(kind, shape, best(measured[shape], "ours")[0]) for shape in SHAPES for kind in POSITIONS], repeats)
    each([(what, shape, best(measured[shape], "ours")[0]) for shape in SHAPES for what in ("loop", "batch")])
    each([("matmul", shape, precision) for shape in SHAPES for precision in PRECISIONS])
    return measured


def profiles(measured: dict) -> dict[str, dict[str, dict[str, float]]]:
    """Returns {shape: {side: {kind of operation: ms per step}}}, each side at its faster precision."""
    return {shape: {side: measure(f"{side}_parts", shape, best(numbers, side)[0], 0.0)
                    for side in ("trainer", "ours")} for shape, numbers in measured.items()}


def best(measured: dict, what: str) -> tuple[str, float]:
    """Returns the faster precision of one side, and its median."""
    medians = {precision: statistics.median(measured[what][precision]) for precision in PRECISIONS}
    return max(medians.items(), key=lambda item: item[1])


def ratio(measured: dict, peer: str, ours: str, theirs: str) -> dict[str, float]:
    """Returns our speed over that of a peer, each in its column: of the medians, and the range over repetitions."""
    pairs = zip(measured["ours"][ours], measured[peer][theirs], strict=True)
    turns = [mine / other for mine, other in pairs]
    medians = [statistics.median(numbers) for numbers in (measured["ours"][ours], measured[peer][theirs])]
    return {"ratio": medians[0] / medians[1], "low": min(turns), "high": max(turns)}


def step_time(measured: dict, kind: str, precision: str) -> dict[str, float]:
    """Returns how much longer a step takes with a kind of positions than with absolute ones, as a share: of the
    medians, and the range over repetitions."""
    absolute, other = (measured[name][precision] for name in ("absolute", kind))
    turns = [theirs / ours - 1 for theirs, ours in zip(absolute, other, strict=True)]
    return {"longer": statistics.median(absolute) / statistics.median(other) - 1, "low": min(turns), "high": max(turns)}


def summary(measured: dict) -> dict[str, dict]:
    """Returns for each shape: the sides at their faster precision and with AVX2 alone, our ratio to each peer, and the
    composition of our step."""
    result = {}
    for shape, numbers in measured.items():
        precision = best(numbers, "ours")[0]
        rows = {"": {side: best(numbers, side) for side in SIDES}}
        if AVX2 in numbers["ours"]:
            rows[AVX2] = {side: (AVX2, statistics.median(numbers[side][AVX2])) for side in SIDES}
        result[shape] = {
            "rows": {name: {"sides": sides, "ratios": {
                peer: ratio(numbers, peer, sides["ours"][0], sides[peer][0]) for peer in ("trainer", "plain")}}
                for name, sides in rows.items()},
            "positions": {kind: step_time(numbers, kind, precision) for kind in POSITIONS},
            "matmul_share": statistics.median(numbers["matmul"][precision]),
            "batch_share": statistics.median(numbers["batch"][precision]),
            "harness": statistics.median(numbers["loop"][precision])}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measurement")
    chosen = parser.parse_args()
    measured = run(chosen.repeats, chosen.seconds)
    RESULTS.mkdir(parents=True, exist_ok=True)
    content = stamp() | {"hardware": hardware(), "versions": versions(), "seconds": chosen.seconds, "warmup": WARMUP,
               "measured": measured, "parts": profiles(measured)}
    (RESULTS / "speed.json").write_text(json.dumps(content, indent=1) + "\n")
    from tests.benchmarks.table import write_table

    write_table()
    for shape, row in summary(measured).items():
        for name, part in row["rows"].items():
            print(shape, name, *(f"{peer} x {values['ratio']:.2f}" for peer, values in part["ratios"].items()))


if __name__ == "__main__":
    main()
