"""The pretrain stage: trains one cell and writes its files.

Written to the cell's folder: `encoder.safetensors`, `heads.safetensors`, `settings.yaml`, `metrics.jsonl` (a record per
line), `training.json` (the outcome) and `inputs.json` (what the cell was trained on).
"""
from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from study import StudyError
from study.config.arms import resolve
from study.config.fingerprint import fingerprint, read_settings
from study.config.git import git_commit
from study.config.schema import RunConfig
from study.config.study import Study
from study.data.batches import BatchSource
from study.data.evaluation_sets import load_evaluation_set
from study.data.prepared import prepared, write_rows
from study.data.preview import describe_inputs
from study.data.token_store import TokenStore
from study.data.tokenizer import TokenizerInfo, load
from study.files import write_atomically, write_json
from study.model.heads import parameter_count
from study.model.kernels import configure_processor
from study.objectives import objective_of
from study.training.checkpoint import Progress
from study.training.parallel import Processes
from study.training.schedule import Phase, phases
from study.training.trainer import SINGLE_PROCESS, Data, Trainer, drawn_source

LIBRARIES = ("torch", "transformers", "tokenizers", "datasets", "numpy", "scikit-learn", "optuna", "mlflow", "dvc")


def load_data(study: Study) -> Data:
    """Returns the training rows, validation set and tokenizer of a study.

    Raises StudyError if one of them is missing, is damaged or does not match the others.
    """
    tokenizer = TokenizerInfo.of(load(study.runs / "tokenizer"))
    examples = study.runs / "examples"
    train, size = TokenStore.open(examples / "train"), tokenizer.vocabulary_size
    train.check(examples / "train")
    if (largest := int(train.ids.max())) >= size:
        raise StudyError(f"{examples / 'train'}: token id {largest} is not in the tokenizer's vocabulary of {size:,}, "
                         f"so the examples were made with another tokenizer; run `study examples` again")
    return Data(train, load_evaluation_set(examples / "validation.npz"), tokenizer)


def arm_settings(study: Study, arm: str) -> Path:
    """Returns the file in which the search stage writes the settings that an arm is trained with."""
    return study.runs / "search" / f"{arm}.yaml"


def cell_settings(study: Study, arm: str) -> RunConfig:
    """Returns the settings that an arm is trained with. Raises StudyError if the search stage has not run."""
    path = arm_settings(study, arm)
    if not path.exists():
        raise StudyError(f"{path}: does not exist yet; run `study search` (or `dvc repro`) first")
    return read_settings(path)


def pretrain(study: Study, arm: str, seed: int, on_start: Callable[[dict], None] = lambda start: None,
             on_record: Callable[[dict, float], None] = lambda record, speed: None,
             processes: Processes = SINGLE_PROCESS, code_hash: str = "") -> dict:
    """Trains one cell, or resumes it, and writes its files. Returns the content of training.json.

    on_start: called with the identity and the settings of the cell. on_record: see Trainer. code_hash: identifies the
    code; a checkpoint is used only if it has the same. With several processes, the first one writes.
    """
    config, data = cell_settings(study, arm), load_data(study)
    configure_processor(config.training.threads)
    cell_fingerprint = fingerprint(arm_settings(study, arm), seed, data.train.sha256)
    identity = {"study": study.settings.name, "arm": arm, "seed": seed, "fingerprint": cell_fingerprint,
                "commit": git_commit(study.root)}
    on_start(identity | {"settings": config.model_dump(mode="json")})
    state, training_seed = study.state / cell_fingerprint, seed + config.training.seed_offset
    trainer = Trainer(config, data, training_seed, state, f"{cell_fingerprint}-{data.validation.hash}-{code_hash}",
                      on_record, processes)
    progress = trainer.train()
    sources = [(drawn_source(data, training_seed, phase), steps) for phase, steps in completed_phases(config, progress)]
    content = identity | _outcome(sources, data, trainer.model, progress)
    if not processes.first:
        return content
    write_cell(study.cell(arm, seed), arm_settings(study, arm).read_bytes(), trainer.model, progress, content)
    inputs = describe_inputs([(prepared(source), steps) for source, steps in sources], load(study.runs / "tokenizer"),
                             study.quotable)
    write_json(study.cell(arm, seed) / "inputs.json", inputs, ensure_ascii=False)
    shutil.rmtree(state, ignore_errors=True)
    return content


def write_training_rows(study: Study, arm: str, seed: int, path: Path) -> int:
    """Writes the rows that a cell is trained on to a parquet data set (study/data/prepared.py); returns their number.

    With a length curriculum they are the full rows. Raises StudyError unless the arm's masks are the same in every
    epoch.
    """
    config = resolve(study, arm)
    if config.masking.schedule != "static" or config.objective.token_objective != "mlm":
        raise StudyError(f"arm {arm}: its rows are not the same in every epoch; choose an arm with "
                         f"objective.token_objective mlm and masking.schedule static")
    if not path.parent.is_dir():
        raise StudyError(f"{path.parent}: no such folder; create it or choose another file")
    return write_rows(drawn_source(load_data(study), seed + config.training.seed_offset, phases(config)[-1]), path)


def completed_phases(config: RunConfig, progress: Progress) -> list[tuple[Phase, int]]:
    """Returns the phases that were begun, each with its number of completed steps; the first phase with 0 if none."""
    steps = [(phase, min(progress.step, phase.end) - phase.begin) for phase in phases(config)]
    return [(phase, count) for phase, count in steps if count > 0] or [(phases(config)[0], 0)]


def _outcome(sources: list[tuple[BatchSource, int]], data: Data, model: nn.Module, progress: Progress) -> dict:
    """The content of training.json apart from the identity of the cell. sources: with their numbers of steps."""
    speed = progress.tokens / progress.seconds if progress.seconds else None
    return {"status": progress.status, "steps": progress.step, "tokens": progress.tokens,
            "parameters": parameter_count(model), "data": data.train.sha256,
            "flops": training_flops(sources, data.tokenizer.vocabulary_size,
                                    progress.tokens if model.encoder.skip_padding else progress.positions),
            "rows_seen": progress.rows,
            "padding_share": 1 - progress.tokens / progress.positions if progress.positions else 0.0,
            "seconds": round(progress.seconds, 3),
            "tokens_per_second": speed and round(speed, 1), "versions": versions(), "hardware": hardware()}


def training_flops(parts: Sequence[tuple[Phase | BatchSource, int]], vocabulary_size: int, positions: int) -> float:
    """Returns the floating-point operations of training.

    parts: phases, or the sources of their batches, each with its number of steps. positions: those of all steps,
    without padding if it is skipped.
    """
    largest = max(part.batch_size * part.length for part, _ in parts)
    # steps of the largest batch that have the positions of a part
    shares = [steps * (part.batch_size * part.length / largest) for part, steps in parts]
    operations = sum(objective_of(part.config).token.flops_per_token(vocabulary_size, part.length) * share
                     for (part, _), share in zip(parts, shares, strict=True))
    return operations * positions / (sum(shares) or 1)


def write_cell(folder: Path, settings: bytes, model: nn.Module, progress: Progress, content: dict) -> None:
    """Writes a cell's files, training.json last. `settings`: the content of settings.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    encoder = {name.removeprefix("encoder."): tensor for name, tensor in state.items() if name.startswith("encoder.")}
    heads = {name: tensor for name, tensor in state.items() if not name.startswith("encoder.")}
    weights = {"encoder.safetensors": save(encoder), "heads.safetensors": save(heads)}
    for name, data in weights.items():
        write_atomically(folder / name, data)
    write_atomically(folder / "settings.yaml", settings)
    lines = "".join(json.dumps(record) + "\n" for record in progress.records)
    write_atomically(folder / "metrics.jsonl", lines.encode())
    digests = {name: hashlib.md5(data, usedforsecurity=False).hexdigest() for name, data in weights.items()}
    write_json(folder / "training.json", content | {"weights": digests})


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that affect results."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def hardware() -> dict[str, str | int | None]:
    """Returns the processor with its vector instructions, as in "AMD EPYC (AVX512)", its cores, torch's threads, the
    GPU (None if there is none) and the platform."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    processor = f"{_processor()} ({torch.backends.cpu.get_cpu_capability()})"
    return {"processor": processor, "cores": os.cpu_count() or 1, "threads": torch.get_num_threads(),
            "gpu": gpu, "platform": f"{platform.system()} {platform.machine()}"}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
