"""Which source files a stage of dvc.yaml depends on, and whether they have changed.

DVC does not follow imports. So the first stage of the pipeline, `code`, writes one file per stage with the hashes of
the modules that the stage imports, directly or not, and the stage depends on that file. (With all modules listed in
dvc.yaml instead, dvc.lock becomes so long that reading and writing it takes seconds per stage.) `.package`, on which
`code` itself depends, is a link to the package. Hashes follow what the
code does, not its wording: see syntax_hash.py.
"""
from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from study import StudyError
from study.config.arms import arm_identity
from study.config.schema import Settings
from study.config.study import Study
from study.files import write_json
from study.orchestration.syntax_hash import file_hash, parsed

ROOT = Path(__file__).parents[2]            # the folder that contains the package
# Modules whose functions the command of a stage calls (study/cli/stages.py and result_stages.py). {kind} is the kind of
# the corpus.
ENTRIES = {
    "corpus": ("study.data.corpus_{kind}",), "tokenizer": ("study.data.wordpiece",),
    "examples": ("study.data.examples", "study.evaluation.baselines"), "search": ("study.training.search",),
    "pretrain": ("study.training.pretrain",), "evaluate": ("study.evaluation.evaluate", "study.evaluation.probe"),
    "tasks": ("study.data.task_rows",), "finetune": ("study.finetuning.finetune",),
    "compare": ("study.analysis.compare", "study.evaluation.exact_claims"),
    "report": ("study.report.page",), "track": ("study.tracking.runs",),
}
# Settings that DVC would otherwise have to read for every cell. Lists of arms are left out: they decide which cells
# there are, and not what is in them. Scores depend on those of the text even if its tokens stay the same: they may
# quote it, and they record its settings (study/config/made_with.py).
SETTINGS = {"evaluate": ("corpus", "tokenizer", "examples", "evaluation", "probe"),
            "finetune": ("finetune", "baseline")}
# Settings that a params.yaml may lack, which DVC would not accept. They count unless they are at their default.
LATER_SETTINGS = dict.fromkeys(("corpus", "examples"), (("evaluation", "minimal_pairs"),))
# In addition, for the synthetic corpus.
SYNTHETIC_ENTRIES = {"examples": ("study.data.synthetic_floor",), "tasks": ("study.data.corpus_synthetic",)}
# Declarations of settings. A stage depends on the values of settings, which DVC compares (params.yaml, settings.yaml),
# so that adding a setting for one stage leaves the others up to date.
DECLARATIONS = ("study.config.schema", "study.config.versions")


def entries(stage: str, kind: str) -> tuple[str, ...]:
    """Returns the modules that a stage calls in a study with this kind of corpus."""
    more = SYNTHETIC_ENTRIES.get(stage, ()) if kind == "synthetic" else ()
    return tuple(name.format(kind=kind) for name in ENTRIES[stage]) + more


def closure(modules: Iterable[str], root: Path = ROOT) -> list[Path]:
    """Returns the files that these modules consist of and import, directly or not, sorted.

    Importing a module also runs the `__init__` of its packages. DECLARATIONS are left out.
    """
    files, waiting = {}, list(modules)
    while waiting:
        module = waiting.pop()
        if module in files or any(module == name or module.startswith(f"{name}.") for name in DECLARATIONS):
            continue
        files[module] = _module_file(module, root)
        _, names = parsed(files[module].read_text(encoding="utf-8"))
        waiting += [name for name in names if name.partition(".")[0] == "study" and _module_file(name, root)]
        if "." in module:
            waiting.append(module.rpartition(".")[0])
    return sorted(files.values())


def _module_file(module: str, root: Path) -> Path | None:
    path = root.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def stage_hashes(stage: str, kind: str, root: Path = ROOT) -> dict[str, str]:
    """Returns the hash of every file that a stage depends on, by its path below `root`: modules and, for `report`,
    templates; for `track`, that of its page; for `evaluate`, the sentences of the sense probe."""
    files, templates = closure(entries(stage, kind), root), root / "study" / "report" / "templates"
    if stage == "report":
        files += sorted(templates.iterdir())
    if stage == "track":
        files.append(templates / "mlflow.html")
    if stage == "evaluate":
        files.append(root / "study" / "evaluation" / "senses.yaml")
    return {file.relative_to(root).as_posix(): file_hash(file) for file in files}


def code_hash(study: Study, stage: str) -> str:
    """Returns 16 hex digits that identify the code of a stage and the version of torch."""
    content = [version("torch"), stage_hashes(stage, study.settings.corpus.kind)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def code_folder(study: Study) -> Path:
    """Returns the folder with the study's code identity, which the `code` stage writes."""
    return study.state / "code" / study.settings.name


def _identity(study: Study, stage: str) -> dict[str, str]:
    """Hashes of the files that a stage depends on, of its SETTINGS and of its LATER_SETTINGS."""
    content = study.settings.model_dump(mode="json", exclude_defaults=True)
    settings = {f"params.yaml: {name}": _settings_hash(getattr(study.settings, name))
                for name in SETTINGS.get(stage, ())}
    for section, name in LATER_SETTINGS.get(stage, ()):
        if name in content[section]:
            digest = hashlib.sha256(json.dumps(content[section][name]).encode()).hexdigest()
            settings[f"params.yaml: {section}.{name}"] = digest
    return stage_hashes(stage, study.settings.corpus.kind) | settings


def _settings_hash(value: Settings | str) -> str:
    content = value if isinstance(value, str) else value.model_dump_json(exclude_defaults=True, exclude={"arms"})
    return hashlib.sha256(content.encode()).hexdigest()


def write_code_identity(study: Study) -> None:
    """Writes `<stage>.txt` for every stage (a hash and a name per line), and arms.json: what determines each arm."""
    folder = code_folder(study)
    folder.mkdir(parents=True, exist_ok=True)
    for stage in ENTRIES:
        hashes = _identity(study, stage)
        (folder / f"{stage}.txt").write_text("".join(f"{digest}  {name}\n" for name, digest in hashes.items()))
    write_json(folder / "arms.json", {arm: arm_identity(study, arm) for arm in study.settings.arms}, sort_keys=True)


@contextmanager
def current_code_identity(study: Study) -> Iterator[None]:
    """Within this context, the study's code identity is the current one. Afterwards it is what it was before."""
    folder = code_folder(study)
    before = {path: path.read_bytes() for path in folder.glob("*")} if folder.exists() else None
    try:
        write_code_identity(study)
        yield
    finally:
        if before is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            for path in folder.glob("*"):
                if path not in before:
                    path.unlink()
                elif path.read_bytes() != before[path]:
                    path.write_bytes(before[path])


def check_code(study: Study, stage: str) -> None:
    """Raises StudyError if the code of a stage is not the one that the `code` stage recorded.

    DVC would then record a result under code that did not produce it. Without a record, DVC is not involved, and
    nothing is checked.
    """
    path = code_folder(study) / f"{stage}.txt"
    if not path.exists():
        return
    hashes = _identity(study, stage)
    recorded = dict(reversed(line.split("  ", 1)) for line in path.read_text().splitlines())
    if changed := sorted(name for name in hashes.keys() | recorded.keys() if hashes.get(name) != recorded.get(name)):
        raise StudyError(f"{changed[0]}: changed since the stage `code` ran; run `dvc repro` again, which runs "
                         f"that stage first")
