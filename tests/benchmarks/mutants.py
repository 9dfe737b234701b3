"""Do the unit tests notice a wrong line? Changes one place in each core module and runs the module's unit tests.

    python -m tests.benchmarks.mutants                  one mutant per module
    python -m tests.benchmarks.mutants --seed 1         other places
    python -m tests.benchmarks.mutants study/data/masking.py ...        only these modules

A mutant swaps one operator (+ and -, * and /, < and <=, == and !=, `and` and `or`, min and max) or adds 1 to a number.
The place is drawn at random, with a fixed seed. The work happens in a copy of the repository, and the report is
printed. A mutant that survives shows a missing test, or a change without an effect.
"""
from __future__ import annotations

import argparse
import ast
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.workload import ROOT

PACKAGES = ("analysis", "config", "data", "evaluation", "model", "objectives", "training")
TESTS = {"config": ("tests/unit/config", "tests/integration/test_made_with.py"),
         "data": ("tests/unit/data", "tests/unit/arms"),
         "evaluation": ("tests/unit/evaluation", "tests/integration/test_probe_stage.py"),
         "objectives": ("tests/unit/training", "tests/unit/model", "tests/unit/arms"),
         "training": ("tests/unit/training", "tests/integration/test_search.py")}       # others: tests/unit/<package>
SWAPS = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=",
         ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.And: "or", ast.Or: "and"}
NAMES = {"min": "max", "max": "min"}
LIMIT = 600                                 # seconds for the tests of one mutant


def places(source: str) -> Iterator[tuple[int, int, str]]:
    """Yields (begin, end, replacement) of every place that can be changed, as offsets in the source's bytes."""
    tree = ast.parse(source)
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def offset(node: ast.expr, end: bool = False) -> int:
        line, column = (node.end_lineno, node.end_col_offset) if end else (node.lineno, node.col_offset)
        return starts[line - 1] + column

    text = source.encode()
    for node in ast.walk(tree):
        pairs = []
        if isinstance(node, ast.BinOp):
            pairs = [(node.left, node.op, node.right)]
        elif isinstance(node, ast.Compare):
            pairs = list(zip([node.left, *node.comparators], node.ops, node.comparators, strict=False))
        elif isinstance(node, ast.BoolOp):
            pairs = [(left, node.op, right) for left, right in zip(node.values, node.values[1:], strict=False)]
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
            yield offset(node), offset(node, end=True), f"({ast.unparse(node)} + 1)"
        elif isinstance(node, ast.Name) and node.id in NAMES:
            yield offset(node), offset(node, end=True), NAMES[node.id]
        for left, operator, right in pairs:
            between = text[offset(left, end=True):offset(right)]
            symbol = between.decode().strip("() \n\\")
            if type(operator) in SWAPS and symbol and symbol.encode() in between and not isinstance(left, ast.Tuple):
                begin = offset(left, end=True) + between.index(symbol.encode())
                yield begin, begin + len(symbol), SWAPS[type(operator)]


def mutant(source: str, generator: random.Random) -> tuple[str, int] | None:
    """Returns the source with one change and the number of the changed line; None if nothing can be changed."""
    candidates = sorted(set(places(source)))
    if not candidates:
        return None
    begin, end, replacement = generator.choice(candidates)
    text = source.encode()
    changed = (text[:begin] + replacement.encode() + text[end:]).decode()
    ast.parse(changed)
    return changed, text[:begin].count(b"\n") + 1


def is_caught(copy: Path, tests: tuple[str, ...]) -> bool:
    """Whether one of the tests fails in the copy of the repository."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider", *tests]
    try:
        return subprocess.run(command, cwd=copy, env=None, capture_output=True, timeout=LIMIT).returncode != 0
    except subprocess.TimeoutExpired:
        return True                         # an endless loop is noticed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", type=Path, help="files below study/; default: all of the core")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    modules = arguments.modules or [path.relative_to(ROOT) for package in PACKAGES
                                    for path in sorted((ROOT / "study" / package).glob("*.py"))]
    caught = total = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(ROOT, copy, symlinks=True,
                        ignore=shutil.ignore_patterns(".git", ".venv", ".dvc", ".state", "__pycache__"))
        for module in modules:
            source = (ROOT / module).read_text()
            change = mutant(source, random.Random(f"{arguments.seed} {module}"))
            if change is None:
                continue
            package = module.parts[1]
            (copy / module).write_text(change[0])
            noticed = is_caught(copy, TESTS.get(package, (f"tests/unit/{package}",)))
            (copy / module).write_text(source)
            caught, total = caught + noticed, total + 1
            line = change[0].splitlines()[change[1] - 1].strip()
            print(f"{'caught  ' if noticed else 'SURVIVED'} {module}:{change[1]}: {line}", flush=True)
    print(f"{caught} of {total} mutants caught")


if __name__ == "__main__":
    main()
