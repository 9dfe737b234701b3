"""Which of the package's modules a stage of dvc.yaml uses: the closure of its imports, read from the source.

DVC does not follow imports. The pipeline's first stage writes, for each stage, the hashes of what it uses into a file
that the stage then depends on. (Listed in dvc.yaml instead, some twenty modules a stage made most of dvc.lock, which
DVC reads and writes whole at every stage: two seconds at 21 cells, and more with each cell.)
"""
from __future__ import annotations

import ast
import hashlib
from importlib.metadata import version
from pathlib import Path

from study import StudyError
from study.config.load import Study

PACKAGE = Path(__file__).parent.parent
# The modules whose functions the command of a stage calls (study/cli.py).
ENTRIES = {
    "corpus": ("study.data.corpus",), "tokenizer": ("study.data.tokenizer",),
    "examples": ("study.data.evaluation_sets", "study.evaluation.baselines"), "search": ("study.training.search",),
    "pretrain": ("study.training.pretrain",), "evaluate": ("study.evaluation.evaluate",),
    "probe": ("study.evaluation.probe",), "compare": ("study.analysis.compare", "study.evaluation.exact_claims"),
    "report": ("study.report.page",), "track": ("study.tracking.runs",),
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
    """Files (relative to the root, sorted) that the entries import, themselves included; `__init__` files, which hold
    next to nothing, are left out."""
    seen, waiting = set(), list(entries)
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += imports(_file(module))
    files = {_file(module) for module in seen}
    return sorted(str(file.relative_to(PACKAGE.parent)) for file in files if file.name != "__init__.py")


def used(stage: str) -> list[Path]:
    """The files of the package that a stage uses; the report's templates too."""
    files = [PACKAGE.parent / file for file in closure(ENTRIES[stage])]
    return files + (sorted((PACKAGE / "report" / "templates").iterdir()) if stage == "report" else [])


def code_hash(stage: str) -> str:
    """16 hex digits that change with the files that a stage uses and with torch."""
    digest = hashlib.sha256(version("torch").encode())
    for file in used(stage):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def check_modules(folder: Path, stage: str) -> None:
    """Raises StudyError when a module of the stage is no longer what the hashes in `folder` say, so that DVC would note
    other code than it ran. Where there are none, nobody asked DVC."""
    path = folder / f"{stage}.txt"
    for line in path.read_text().splitlines() if path.exists() else ():
        digest, _, name = line.partition("  ")
        file = PACKAGE.parent / name
        if not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            raise StudyError(f"{file}: changed since the stage `code` ran; run `dvc repro` again, which begins with it")


def code_folder(study: Study) -> Path:
    """Where a study's hashes of code lie."""
    return study.root / ".state" / "code" / study.settings.name


def write_modules(folder: Path) -> None:
    """Writes `<stage>.txt` for every stage: SHA-256 and name of each file that it uses."""
    folder.mkdir(parents=True, exist_ok=True)
    for stage in ENTRIES:
        lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(PACKAGE.parent)}\n"
                 for file in used(stage)]
        (folder / f"{stage}.txt").write_text("".join(lines))
