"""Which of the package's modules a stage of dvc.yaml uses: the closure of its imports, read from the source.

DVC does not follow imports, so dvc.yaml lists them; a test holds the lists equal to these.
"""
from __future__ import annotations

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).parent
# The modules whose functions the command of a stage calls (study/cli.py).
ENTRIES = {
    "corpus": ("study.data.corpus",), "tokenizer": ("study.data.tokenizer",),
    "examples": ("study.data.heldout", "study.evaluation.baselines"), "search": ("study.training.search",),
    "pretrain": ("study.training.pretrain",), "evaluate": ("study.evaluation.predictions",),
    "probe": ("study.evaluation.probe",), "compare": ("study.analysis.compare", "study.checks"),
    "report": ("study.report.page",), "track": ("study.tracking",),
}


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "study":
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "study"}
    return {name for name in found if _file(name)}


def _file(module: str) -> Path | None:
    path = PACKAGE.parent.joinpath(*module.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.exists()), None)


def closure(entries: tuple[str, ...]) -> list[str]:
    """Files (relative to the root, sorted) that the entries import, themselves included; packages' own
    `__init__` hold no code but the first and are left out."""
    seen, waiting = set(), list(entries)
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += imports(_file(module))
    files = {_file(module) for module in seen}
    return sorted(str(file.relative_to(PACKAGE.parent)) for file in files if file.name != "__init__.py")


def module_lists() -> dict[str, list[str]]:
    """For each stage, the files that its `deps` must hold; the report's templates too."""
    lists = {stage: closure(entries) for stage, entries in ENTRIES.items()}
    lists["report"].append("study/report/templates")
    return lists


def write_module_lists(path: Path) -> None:
    """Rewrites the module entries in the `deps` of every stage of a dvc.yaml."""
    text = path.read_text(encoding="utf-8")
    for stage, files in module_lists().items():
        begin = text.index(f"\n  {stage}:\n")
        following = re.compile(r"\n  [a-z]+:\n|\n[a-z]+:\n").search(text, begin + 2)
        end = following.start() if following else len(text)
        block = re.sub(r"\n      - \$\{root\}/study/[^\n]*", "", text[begin:end]).replace("deps: []", "deps:")
        lines = "".join(f"\n      - ${{root}}/{file}" for file in files)
        text = text[:begin] + block.replace("\n    deps:", f"\n    deps:{lines}", 1) + text[end:]
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_module_lists(Path("dvc.yaml"))
