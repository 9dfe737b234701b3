"""The result files of a study. They are read here, once, and passed on as StudyResults."""
from __future__ import annotations

import hashlib
import json
import math
import zipfile
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from study import StudyError
from study.analysis.ladder import Reference, best_count_model, read_ladder
from study.config.fingerprint import read_settings
from study.config.schema import RunConfig
from study.config.study import Study
from study.config.yaml_files import read_yaml
from study.data.summary_tables import read_summaries, summarised_tasks


def read_json(path: Path) -> Any:
    """The content of a JSON result file. Raises StudyError if it does not exist or is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file yet; run `dvc repro` in the study's folder") from None
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: damaged ({error}); delete it and run `dvc repro`") from None


def read_records(path: Path) -> list[dict]:
    """The records of a metrics.jsonl. Raises StudyError if it cannot be read."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: cannot be read ({error}); run `dvc repro`") from None


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an evaluation.npz or probe.npz. Raises StudyError if it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise StudyError(f"{path}: cannot be read ({error}); run `dvc repro`") from None


class CellResults:
    """The result files of one cell. Each file is read when it is first used, and then kept.

    Every attribute raises StudyError if its file does not exist or cannot be read.
    """

    def __init__(self, folder: Path, arm: str, seed: int):
        self.folder, self.arm, self.seed = folder, arm, seed

    @property
    def name(self) -> str:
        return f"{self.arm}-{self.seed}"

    @cached_property
    def training(self) -> dict:
        """training.json: status, steps, tokens, seconds, versions and hardware of the run."""
        return read_json(self.folder / "training.json")

    @cached_property
    def records(self) -> list[dict]:
        """metrics.jsonl: one record per logged step."""
        return read_records(self.folder / "metrics.jsonl")

    @cached_property
    def validations(self) -> list[tuple[int, float]]:
        """(step, NLL in nats) of every validation in metrics.jsonl."""
        return [(record["step"], record["validation_nll"]) for record in self.records if "validation_nll" in record]

    @cached_property
    def evaluation(self) -> dict:
        """evaluation.json: scores on the fixed evaluation sets."""
        return read_json(self.folder / "evaluation.json")

    @cached_property
    def evaluation_arrays(self) -> dict[str, np.ndarray]:
        """evaluation.npz: sums per row of text, which paired comparisons need."""
        return read_arrays(self.folder / "evaluation.npz")

    @cached_property
    def probe(self) -> dict:
        """probe.json: scores of the probes by task and pooling."""
        return read_json(self.folder / "probe.json")

    @cached_property
    def probe_arrays(self) -> dict[str, np.ndarray]:
        """probe.npz: predicted classes per test row, labels and planes."""
        return read_arrays(self.folder / "probe.npz")

    @cached_property
    def finetune(self) -> dict:
        """finetune.json: scores of the fine-tuned encoders by task; empty if the cell was not fine-tuned."""
        path = self.folder / "finetune.json"
        return read_json(path) if path.exists() else {}

    @cached_property
    def finetune_arrays(self) -> dict[str, np.ndarray]:
        """finetune.npz: classes that the fine-tuned encoders predict per run and test row, and labels."""
        return read_arrays(self.folder / "finetune.npz")

    @cached_property
    def predictions(self) -> list[dict]:
        """predictions.json: the likeliest tokens at the masked positions of a few rows."""
        return read_json(self.folder / "predictions.json")

    @cached_property
    def inputs(self) -> dict:
        """inputs.json: what the cell was trained on, counted on its first rows."""
        return read_json(self.folder / "inputs.json")

    @cached_property
    def settings(self) -> RunConfig:
        """settings.yaml: the resolved settings that the cell was trained with."""
        return read_settings(self.folder / "settings.yaml")

    @cached_property
    def verification(self) -> dict | None:
        """verification.json: the result of `study verify`; None if the cell was not verified since it was trained."""
        path = self.folder / "verification.json"
        result = read_json(path) if path.exists() else None
        return result if result and result["record"] == record_hash(self.folder) else None


def record_hash(folder: Path) -> str:
    """16 hex digits that identify the results in a cell's folder. They change if the cell is trained again."""
    names = ["settings.yaml", "metrics.jsonl", "evaluation.json", "probe.json"]
    names += ["finetune.json"] if (folder / "finetune.json").exists() else []
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in names)).hexdigest()[:16]


class StudyResults:
    """The result files of a study, read once and passed to everything that needs them."""

    def __init__(self, study: Study):
        self.study = study
        self._cells = {(arm, seed): CellResults(study.cell(arm, seed), arm, seed) for arm, seed in study.cells}

    def cell(self, arm: str, seed: int) -> CellResults:
        return self._cells[arm, seed]

    @property
    def cells(self) -> list[CellResults]:
        """All cells, arm by arm in the order of params.yaml, seed by seed."""
        return list(self._cells.values())

    def of_arm(self, arm: str) -> list[CellResults]:
        """The cells of one arm, in the order of the seeds."""
        return [self._cells[arm, seed] for seed in self.study.settings.seeds]

    @cached_property
    def corpus(self) -> dict:
        """corpus/manifest.json: counts and hashes of the text."""
        return self._derived("corpus/manifest.json", "corpus")

    @cached_property
    def references(self) -> dict:
        """examples/references.json: perplexities of count models and hashes of the evaluation sets."""
        return self._derived("examples/references.json", "references")

    @cached_property
    def baselines(self) -> dict:
        """examples/baselines.json: probe accuracies that need no encoder, by task."""
        return self._derived("examples/baselines.json", "baselines")

    @cached_property
    def summaries(self) -> dict[str, dict]:
        """The summary.json of each stage and task that prepares data; empty if an older version wrote the data."""
        recorded = self.study.reports / "data.json"
        found = read_summaries(self.study.runs, summarised_tasks(self.study))
        return found or (read_json(recorded).get("summaries", {}) if recorded.exists() else {})

    @cached_property
    def pair_baselines(self) -> dict:
        """examples/minimal_pairs.json: accuracies of word frequencies and bigrams by task of minimal pairs."""
        return self._derived("examples/minimal_pairs.json", "minimal_pairs")

    def _derived(self, file: str, key: str) -> dict:
        """A file that is not in git; without it, what the compare stage recorded of it for the report."""
        path, recorded = self.study.runs / file, self.study.reports / "data.json"
        return read_json(recorded)[key] if recorded.exists() and not path.exists() else read_json(path)

    @cached_property
    def trials(self) -> list[dict]:
        """search/trials.json: the trials of the search over all tuned arms."""
        return read_json(self.study.runs / "search" / "trials.json")

    @cached_property
    def tuned(self) -> dict[str, dict[str, float]]:
        """search/best.yaml: arm -> tuned settings (dotted key -> value)."""
        return read_yaml(self.study.runs / "search" / "best.yaml")

    @cached_property
    def unigram_nll(self) -> float:
        """NLL of unigram frequencies on the masked validation tokens, nats: the level of the plateau."""
        return math.log(self.references["unigram"]["validation"])

    @cached_property
    def unigram_frequencies(self) -> np.ndarray:
        """Frequencies of the tokens of the training text, (V,), 0 for special tokens (examples/validation.npz, not in
        git)."""
        return np.exp(-read_arrays(self.study.runs / "examples" / "validation.npz")["unigram"])

    def ladder(self, split: str) -> list[Reference]:
        """The references on the all-[MASK] tokens of a split (`validation` or `test`), from the least to the most
        knowledge. The last one is the exact floor where it is known."""
        return read_ladder(self.references, split)

    @cached_property
    def best_count_nll(self) -> float:
        """Lowest NLL of a count model on the masked validation tokens, nats: an arm below it has learnt more than
        counts of neighbouring words."""
        return best_count_model(self.ladder("validation")).nll


class HeadlineProbe(NamedTuple):
    """The probe that claims and figures show."""
    task: str
    pooling: str


def headline_probe(study: Study) -> HeadlineProbe:
    """The first probe task, with mean pooling if the study has it, else with its first pooling."""
    poolings = study.settings.probe.poolings
    return HeadlineProbe(study.settings.probe.tasks[0].name, "mean" if "mean" in poolings else poolings[0])
