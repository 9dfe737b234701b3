"""One cell from its settings to its files: `encoder.safetensors`, `heads.safetensors`, `settings.yaml`,
`training.json`, `metrics.jsonl`, and `inputs.json`, which says what it was fed."""
from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
import yaml
from safetensors.torch import save

from study import StudyError
from study.config.load import Study, fingerprint, read_yaml, validated
from study.config.schema import RunConfig
from study.data.evaluation_sets import load_evaluation_set
from study.data.examples import TokenStore
from study.data.preview import describe_inputs
from study.data.tokenizer import load
from study.data.tokenizer_info import TokenizerInfo
from study.files import write_atomically, write_json
from study.model.heads import flops_per_token, parameter_count, use_processor
from study.orchestration.code_identity import code_hash
from study.training.checkpoint import Progress
from study.training.parallel import Processes
from study.training.trainer import ALONE, Data, Phase, Trainer, batch_source, phases

LIBRARIES = ("torch", "transformers", "tokenizers", "datasets", "numpy", "scikit-learn", "optuna", "mlflow", "dvc")


def load_data(study: Study) -> Data:
    """Training rows, validation set and tokenizer of a study. Raises StudyError when a stage has yet to run."""
    tokenizer = TokenizerInfo.of(load(study.runs / "tokenizer"))
    examples = study.runs / "examples"
    train, size = TokenStore.open(examples / "train"), tokenizer.vocabulary_size
    train.check(examples / "train")
    if (largest := int(train.ids.max())) >= size:
        raise StudyError(f"{examples / 'train'}: token id {largest} is none of the tokenizer's {size:,}: the examples "
                         f"were made with another one; run `study examples` again")
    return Data(train, load_evaluation_set(examples / "validation.npz"), tokenizer)


def arm_settings(study: Study, arm: str) -> Path:
    """Where the search stage leaves the settings that an arm is trained with."""
    return study.runs / "search" / f"{arm}.yaml"


def cell_settings(study: Study, arm: str) -> RunConfig:
    """The settings that an arm is trained with. Raises StudyError before the search stage has run."""
    path = arm_settings(study, arm)
    if not path.exists():
        raise StudyError(f"{path}: not there yet; run `study search` (or `dvc repro`) first")
    return validated(RunConfig, read_yaml(path), str(path))


def pretrain(study: Study, arm: str, seed: int, on_start: Callable[[dict], None] = lambda about: None,
             on_record: Callable[[dict, float], None] = lambda record, speed: None,
             processes: Processes = ALONE) -> dict:
    """Trains one cell (or goes on with it) and writes its files, the first of several processes alone. Returns what
    training.json says."""
    config, data = cell_settings(study, arm), load_data(study)
    use_processor(config)
    mark = fingerprint(config, seed, data.train.sha256)
    about = {"study": study.settings.name, "arm": arm, "seed": seed, "fingerprint": mark,
             "commit": git_commit(study.root)}
    on_start(about | {"settings": config.model_dump(mode="json")})
    state = study.root / ".state" / mark
    own = seed + config.training.seed_offset
    trainer = Trainer(config, data, own, state, f"{mark}-{data.validation.hash}-{code_hash('pretrain')}", on_record,
                      processes)
    progress, model = trainer.train(), trainer.model
    content = about | _outcome(config, data, model, progress)
    if not processes.first:
        return content
    write_cell(study.cell(arm, seed), config, model, progress, content)
    sources = [(batch_source(config, data, own, phase), steps) for phase, steps in done_phases(config, progress)]
    fed = describe_inputs(sources, load(study.runs / "tokenizer"), study.quotable)
    write_json(study.cell(arm, seed) / "inputs.json", fed, ensure_ascii=False)
    shutil.rmtree(state, ignore_errors=True)
    return content


def done_phases(config: RunConfig, progress: Progress) -> list[tuple[Phase, int]]:
    """The phases of a run with the steps that were taken in each; an untrained one has its first with none."""
    steps = [(phase, min(progress.step, phase.end) - phase.begin) for phase in phases(config)]
    return [(phase, max(0, count)) for phase, count in steps if count > 0] or [(phases(config)[0], 0)]


def _outcome(config: RunConfig, data: Data, model, progress: Progress) -> dict:
    """training.json apart from the cell's name: the outcome, the work done, where and with what."""
    speed = progress.tokens / progress.seconds if progress.seconds else None
    return {"status": progress.status, "steps": progress.step, "tokens": progress.tokens,
            "parameters": parameter_count(model), "data": data.train.sha256,
            "flops": sum(flops_per_token(config, data.tokenizer.vocabulary_size, phase.length) * steps
                         for phase, steps in done_phases(config, progress)) * progress.slots / max(1, progress.step),
            "rows_seen": progress.rows,
            "padding_share": 1 - progress.tokens / progress.slots if progress.slots else 0.0,
            "seconds": round(progress.seconds, 3),
            "tokens_per_second": speed and round(speed, 1), "versions": versions(), "hardware": hardware()}


def write_cell(folder: Path, config: RunConfig, model, progress: Progress, content: dict) -> None:
    """Writes a cell's files; training.json comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    encoder = {name.removeprefix("encoder."): tensor for name, tensor in state.items() if name.startswith("encoder.")}
    heads = {name: tensor for name, tensor in state.items() if not name.startswith("encoder.")}
    write_atomically(folder / "encoder.safetensors", save(encoder))
    write_atomically(folder / "heads.safetensors", save(heads))
    write_atomically(folder / "settings.yaml", as_yaml(config))
    lines = "".join(json.dumps(record) + "\n" for record in progress.records)
    write_atomically(folder / "metrics.jsonl", lines.encode())
    write_json(folder / "training.json", content)


def as_yaml(config: RunConfig) -> bytes:
    """The settings as settings.yaml has them."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).encode()


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def hardware() -> dict[str, str | int]:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"processor": _processor(), "cores": os.cpu_count() or 1, "threads": torch.get_num_threads(),
            "gpu": gpu, "platform": f"{platform.system()} {platform.machine()}"}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def git_commit(root: Path) -> str | None:
    """The commit that the working tree was made from; None outside git."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
