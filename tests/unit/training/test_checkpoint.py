"""Checkpoints: resumed training equals uninterrupted training bit for bit, and damage is noticed."""
import pytest
import torch

from study.training.checkpoint import read_checkpoint, write_checkpoint
from study.training.trainer import Trainer
from tests.support.studies import changed
from tests.support.training import equal_weights, interrupt, trained


@pytest.mark.parametrize("stop", [4, 8])
def test_resumed_training_equals_uninterrupted_training(config, data, tmp_path, stop):
    config = changed(config, model={"dropout": 0.1}, training={"steps": 12, "save_steps": 4, "logging_steps": 4})
    uninterrupted, progress = trained(config, data)
    interrupt(config, data, tmp_path, stop + 4)
    resumed = Trainer(config, data, 0, tmp_path, "f")
    assert resumed.progress.step == stop
    resumed.train()
    assert equal_weights(uninterrupted, resumed)
    assert resumed.progress.records == progress.records
    assert resumed.progress.tokens == progress.tokens


def test_damaged_checkpoints_and_those_of_other_cells_are_refused(config, data, tmp_path):
    config = changed(config, training={"steps": 12, "save_steps": 4})
    trainer = Trainer(config, data, 0)
    first = write_checkpoint(tmp_path, "f", trainer.progress, trainer.tensors())
    trainer.progress.step = 8
    last = write_checkpoint(tmp_path, "f", trainer.progress, trainer.tensors())
    last.write_bytes(last.read_bytes()[:-7])
    progress, _ = read_checkpoint(tmp_path, "f")
    assert progress.step == 0
    assert last.with_suffix(".refused").exists()
    assert read_checkpoint(tmp_path, "other settings") is None
    assert not first.exists()


@pytest.mark.parametrize("damage", [lambda b: b[:-7], lambda b: b[:40], lambda b: b"", lambda b: b"\xff" * len(b),
                                    lambda b: b[:-50] + bytes([b[-50] ^ 1]) + b[-49:]])
def test_every_damage_is_noticed(config, data, tmp_path, damage):
    trainer = Trainer(config, data, 0)
    path = write_checkpoint(tmp_path, "f", trainer.progress, trainer.tensors())
    path.write_bytes(damage(path.read_bytes()))
    assert read_checkpoint(tmp_path, "f") is None
    assert [file.suffix for file in tmp_path.iterdir()] == [".refused"]


def test_a_checkpoint_returns_what_was_written(config, data, tmp_path):
    trainer, _ = trained(changed(config, training={"steps": 3, "warmup_steps": 0}), data)
    tensors = trainer.tensors()
    write_checkpoint(tmp_path, "f", trainer.progress, tensors)
    progress, read = read_checkpoint(tmp_path, "f")
    assert progress == trainer.progress
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    assert {name.rpartition(".")[2] for name in read if name.startswith("optimizer.")} == {"step", "exp_avg",
                                                                                           "exp_avg_sq"}


def test_only_the_newest_checkpoints_stay_on_disk(config, data, tmp_path):
    trained(changed(config, training={"steps": 20, "save_steps": 2}), data, state=tmp_path, fingerprint="f")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["step-00000016.safetensors", "step-00000018.safetensors"]
