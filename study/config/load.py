"""Settings of a study: load them, merge an arm into them, name the result.

A study is a folder with `params.yaml`. `load_study` reads it together with `experiments/arms.yaml`; `resolve` merges
one arm into it and gives the settings of a cell.
"""
from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic
import yaml

from study import StudyError
from study.config.schema import Arm, RunConfig, Settings, StudyConfig

STORAGE = "STUDY_STORAGE"                   # the variable that names another storage of a search's trials


def parse_yaml(content: str | bytes) -> Any:
    """What a YAML text holds. Raises yaml.YAMLError where it is none, or repeats a key."""
    return yaml.load(content, Loader=_UniqueKeys)


def read_yaml(path: Path) -> dict:
    """The mapping in a YAML file. Raises StudyError when it cannot be read, is no mapping or repeats a key."""
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        hint = "; a study is a folder with params.yaml (`study create NAME` makes one)"
        raise StudyError(f"{path}: no such file{hint if path.name == 'params.yaml' else ''}") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise StudyError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise StudyError(f"{path}: expected keys and values, found {type(content).__name__}")
    return content


class _UniqueKeys(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """A safe loader that refuses repeated keys and reads 1e-3 as a number (YAML 1.1 takes it for text)."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep) for key, _ in node.value]
        if repeated := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"key {repeated[0]!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


_UniqueKeys.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"),
                                  list("-+0123456789"))


def validated(model: type[pydantic.BaseModel], content: Any, where: str):
    """`content` as `model`; the first fault becomes a StudyError naming the file, the key and the nearest known one.
    An unknown key comes before a missing one: it mostly is that one, misspelt."""
    try:
        return model.model_validate_json(json.dumps(content, default=str), strict=True)
    except pydantic.ValidationError as error:
        faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
        raise StudyError(f"{where}: {_explain(model, faults[0])}") from None


def _explain(model: type[pydantic.BaseModel], fault: dict) -> str:
    loc = fault["loc"]
    path = [str(part) for part in (loc[:1] + loc[2:] if loc[:1] == ("corpus",) else loc)]     # corpus.<kind>.key
    key = ".".join(path) or "settings"
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], _known_keys(model), n=1)
        return f"unknown key {key}" + (f"; did you mean {near[0]}?" if near else "; remove it")
    if fault["type"] == "missing":
        return f"missing key {key}; add it (experiments/tiny/params.yaml shows every key)"
    return f"{key}: {fault['msg'].removeprefix('Value error, ')} (found {fault['input']!r:.80})"


def _known_keys(model: type[pydantic.BaseModel]) -> list[str]:
    schema = model.model_json_schema()
    parts = [schema, *schema.get("$defs", {}).values()]
    return sorted({key for part in parts for key in part.get("properties", {})})


class Study(Settings):
    """A study with its arms. Paths: `folder` holds params.yaml; `runs` the results; `reports` the report."""
    folder: Path
    settings: StudyConfig
    arms: dict[str, Arm]

    @property
    def root(self) -> Path:
        return Path(os.path.normpath(self.folder / self.settings.root))

    @property
    def runs(self) -> Path:
        return self.root / "runs" / self.settings.name

    @property
    def reports(self) -> Path:
        return self.root / "reports" / self.settings.name

    @property
    def quotable(self) -> bool:
        """Whether lines of the corpus may stand in results: of a text as its settings say."""
        return getattr(self.settings.corpus, "quote", True)

    def cell(self, arm: str, seed: int) -> Path:
        return self.runs / f"{arm}-{seed}"

    @property
    def cells(self) -> list[tuple[str, int]]:
        return [(arm, seed) for arm in self.settings.arms for seed in self.settings.seeds]

    @property
    def storage(self) -> str:
        """Optuna's address of the search's trials, for `optuna-dashboard`: what STUDY_STORAGE says, which workers on
        other machines can reach, or else SQLite in `.state/search-<study>.db`."""
        place = self.root.resolve() / ".state" / f"search-{self.settings.name}.db"
        return os.environ.get(STORAGE) or f"sqlite:///{place}"

    def named(self, cell: str) -> tuple[str, int]:
        """Arm and seed of a cell by its name, as `dynamic-0`. Raises StudyError when the study has no such cell."""
        known = {f"{arm}-{seed}": (arm, seed) for arm, seed in self.cells}
        if cell not in known:
            raise StudyError(f"{self.folder / 'params.yaml'}: no cell {cell}{_nearest(cell, known)}; a cell is an arm "
                             f"({', '.join(self.settings.arms)}) with a seed "
                             f"({', '.join(map(str, self.settings.seeds))}), as {next(iter(known))}")
        return known[cell]


def load_study(folder: str | Path = ".") -> Study:
    """The study in `folder` (the folder, or the params.yaml or dvc.yaml in it)."""
    folder = Path(folder)
    folder = folder.parent if folder.suffix == ".yaml" else folder
    settings = validated(StudyConfig, read_yaml(folder / "params.yaml"), str(folder / "params.yaml"))
    path = folder / settings.root / "experiments" / "arms.yaml"
    if not path.exists():
        raise StudyError(f"{folder / 'params.yaml'}: root {settings.root!r} does not lead to experiments/arms.yaml")
    arms = {name: validated(Arm, content, f"{path}: {name}") for name, content in read_yaml(path).items()}
    for name, arm in arms.items():
        if arm.baseline is not None and arm.baseline not in arms:
            raise StudyError(f"{path}: {name}: baseline {arm.baseline!r} is no arm{_nearest(arm.baseline, arms)}")
        lineage(arms, name, path)
    loaded = Study(folder=folder, settings=settings, arms=arms)
    same: dict[str, str] = {}
    for name in settings.arms:
        config, baseline = resolve(loaded, name), arms[name].baseline
        if baseline is not None and config == resolve(loaded, baseline):
            raise StudyError(f"{folder / 'params.yaml'}: arms: {name} does not differ from {baseline} under this "
                             f"study's settings; take it out")
        if (twin := same.setdefault(config.model_dump_json(), name)) != name:
            raise StudyError(f"{folder / 'params.yaml'}: arms: {name} is the same as {twin} under this study's "
                             f"settings; take one out")
    if untrained := [arm for arm in settings.search.arms if not resolve(loaded, arm).training.steps]:
        raise StudyError(f"{folder / 'params.yaml'}: search.arms: {untrained[0]} is not trained; take it out")
    if blind := [arm for arm in settings.search.arms if resolve(loaded, arm).objective.token_objective == "causal"]:
        raise StudyError(f"{folder / 'params.yaml'}: search.arms: {blind[0]} reads left to right and has no NLL on "
                         f"[MASK] to be tuned by; take it out")
    _check_pipeline(loaded)
    _check_name(loaded)
    return loaded


def _check_name(study: Study) -> None:
    """Two studies of one name would write into the same places."""
    own = study.folder / "params.yaml"
    for path in (study.root / "params.yaml", *sorted((study.root / "experiments").glob("*/params.yaml"))):
        name = re.search(r"^study:\s*(\S+)", path.read_text(encoding="utf-8"), re.M) if path.exists() else None
        if name and name[1] == study.settings.name and not path.samefile(own):
            raise StudyError(f"{own}: study {study.settings.name} is that of {path.resolve()} already; choose another "
                             f"name")


def _check_pipeline(study: Study) -> None:
    """There is one pipeline, of which each study has a copy: DVC cannot follow a link in a past commit, and so would
    compare nothing with it."""
    one, copy = study.root / "dvc.yaml", study.folder / "dvc.yaml"
    if one.exists() and copy.exists() and one.read_bytes() != copy.read_bytes():
        raise StudyError(f"{copy}: is not the pipeline of the project, {one.resolve()}; copy that over it")


def lineage(arms: dict[str, Arm], name: str, path: Path) -> list[str]:
    """The arm's first ancestor, ..., its baseline, the arm itself."""
    line = [name]
    while (before := arms[line[0]].baseline) is not None:
        if before in line:
            raise StudyError(f"{path}: {name}: its baselines go round in a circle ({' <- '.join([before, *line])})")
        line.insert(0, before)
    return line


def _nearest(word: str, known) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def resolve(study: Study, arm: str, tuned: dict[str, Any] | None = None) -> RunConfig:
    """Settings of one arm: the study's, `tuned` (dotted key -> value) over them, then what its baseline, that one's
    baseline and so on change, and at last its own changes: an arm differs from its baseline in nothing else.

    Raises StudyError for an arm that arms.yaml does not have, or changes that do not fit.
    """
    if arm not in study.arms:
        raise StudyError(f"{study.folder / 'params.yaml'}: unknown arm {arm!r}{_nearest(arm, study.arms)}")
    content = study.settings.model_dump(include=set(RunConfig.model_fields))
    for key, value in (tuned or {}).items():
        section, name = key.split(".")
        content[section][name] = value
    path = study.root / "experiments" / "arms.yaml"
    for name in lineage(study.arms, arm, path):
        content = _merged(content, study.arms[name].changes)
    return validated(RunConfig, content, f"{path}: {arm}.changes")


def _merged(base: dict, changes: dict) -> dict:
    result = dict(base)
    for key, value in changes.items():
        times = value["times"] if isinstance(value, dict) and set(value) == {"times"} else None
        if isinstance(times, (int, float)) and isinstance(base.get(key), (int, float)):
            scaled = base[key] * times
            result[key] = max(min(1, base[key]), round(scaled)) if isinstance(base[key], int) else scaled
        elif isinstance(value, dict) and isinstance(base.get(key), dict):
            result[key] = _merged(base[key], value)
        else:
            result[key] = value
    return result


def flat(settings: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting as (dotted key, value)."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def fingerprint(config: RunConfig, seed: int, data: str) -> str:
    """16 hex digits that name one cell: its resolved settings, its seed and the hash of the examples it reads."""
    content = {"settings": config.model_dump(mode="json"), "seed": seed, "data": data}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def create_study(source: Study, name: str) -> Path:
    """Makes experiments/<name> with the settings of `source` and a copy of the one dvc.yaml; returns the folder."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise StudyError(f"{name!r}: a study's name has lower-case letters, digits and hyphens")
    folder = source.root / "experiments" / name
    if folder.exists() or name == source.settings.name:
        raise StudyError(f"{folder}: there is a study {name} already; choose another name")
    text = (source.folder / "params.yaml").read_text(encoding="utf-8")
    text = re.sub(r"^study:.*$", f"study: {name}", text, count=1, flags=re.M)
    text = re.sub(r"^root:.*$", "root: ../..", text, count=1, flags=re.M)
    folder.mkdir()
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    shutil.copy(source.root / "dvc.yaml", folder)
    (folder / "discussion.md").touch()      # of the report; written when there are results
    load_study(folder)
    return folder
