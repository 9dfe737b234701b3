"""Training in tests: a trainer that has run, a study with a trained cell, and a study with two tuned arms."""
import re
from pathlib import Path

import pytest
import torch

from study.training.trainer import Trainer
from tests.support.shared import made_once
from tests.support.studies import tiny_study


def trained(config, data, seed=0, **more):
    """A trainer that has run, and its progress."""
    trainer = Trainer(config, data, seed, **more)
    return trainer, trainer.train()


def weights(trainer):
    """The weights of a trainer's model by name."""
    return trainer.model.state_dict()


class Interrupted(Exception):
    pass


def interrupt(config, data, folder: Path, step: int) -> None:
    """Trains with checkpoints in `folder` until the record of `step`."""
    def on_record(record, speed):
        if record["step"] == step:
            raise Interrupted

    with pytest.raises(Interrupted):
        trained(config, data, state=folder, fingerprint="f", on_record=on_record)


def equal_weights(first: Trainer, second: Trainer) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(first).values(), weights(second).values(), strict=True))


def trained_project() -> Path:
    """The tiny study with dynamic-0 trained, evaluated and probed. All workers share it: copy it to change it."""
    return made_once("trained", _make_trained) / "study"


def _make_trained(folder: Path) -> None:
    from study.data.examples import write_input_manifests
    from study.evaluation.baselines import write_baselines
    from study.evaluation.evaluate import evaluate
    from study.evaluation.probe import probe
    from study.training.pretrain import pretrain
    from study.training.search import search

    study = tiny_study(folder / "study")
    write_baselines(study, study.runs / "examples")
    write_input_manifests(study, study.runs / "examples")
    search(study)
    for stage in (pretrain, evaluate, probe):
        stage(study, "dynamic", 0)


TUNED = ["dynamic", "pre-ln"]


def with_tuned_arms(text: str) -> str:
    """The tiny study's params.yaml with only the arms of TUNED, each tuned with three trials."""
    arms = f"arms: [{', '.join(TUNED)}]"
    text = re.sub(r"^arms: .*?\]", arms, text, count=1, flags=re.M | re.S)
    return re.sub(r"^search:\n  arms: .*\n  trials: .*$", f"search:\n  {arms}\n  trials: 3", text, flags=re.M)


def search_files(study) -> dict[str, bytes]:
    """The files that the search stage wrote."""
    return {path.name: path.read_bytes() for path in (study.runs / "search").iterdir() if path.name != ".gitignore"}


def counts(storage: str) -> dict[str, int]:
    """The number of trials of each tuned arm in a storage."""
    import optuna

    return {name.split("/")[1]: len(optuna.load_study(storage=storage, study_name=name).trials)
            for name in optuna.get_all_study_names(storage)}
