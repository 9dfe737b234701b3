"""The same bytes whatever stands around a cell; where bits may differ, by how much."""
import hashlib
import os
import subprocess
import sys

import pytest
import torch

from study.training.pretrain import pretrain
from study.training.search import search
from tests.support.studies import ROOT, changed, tiny_study
from tests.support.training import trained, weights


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    study = tiny_study(tmp_path_factory.mktemp("determinism") / "study")
    search(study)
    return study


def trained_in(study, **environment: str) -> tuple[str, str]:
    """Hashes of weights and learning curve of dynamic-0, trained by a process of its own."""
    subprocess.run([sys.executable, "-m", "study", "pretrain", "--arm", "dynamic", "--seed", "0"], cwd=study.folder,
                   env=os.environ | {"PYTHONPATH": str(ROOT)} | environment, check=True, capture_output=True)
    folder = study.cell("dynamic", 0)
    return tuple(hashlib.sha256((folder / name).read_bytes()).hexdigest()
                 for name in ("encoder.safetensors", "metrics.jsonl"))


def test_a_cell_does_not_depend_on_what_the_machine_offers(ready):
    """Threads of the environment, the hash seed of Python, the locale and the time zone: the settings name the number
    of threads, and nothing else counts."""
    first = trained_in(ready, OMP_NUM_THREADS="1", PYTHONHASHSEED="1", TZ="UTC", LC_ALL="C")
    assert first == trained_in(ready, OMP_NUM_THREADS="4", PYTHONHASHSEED="2", TZ="Asia/Tokyo", LC_ALL="C.UTF-8")


def test_cells_trained_one_after_the_other_in_one_process_are_the_same(ready):
    alone = trained_in(ready)
    pretrain(ready, "static", 0)
    torch.manual_seed(1234)                 # nor on what drew random numbers before
    torch.rand(10)
    pretrain(ready, "dynamic", 0)
    folder = ready.cell("dynamic", 0)
    assert alone[0] == hashlib.sha256((folder / "encoder.safetensors").read_bytes()).hexdigest()


def test_other_threads_change_no_more_than_rounding(config, data):
    """Sums of other length in another order: not the same bits, so the settings name the number of threads."""
    config = changed(config, training={"steps": 12})
    try:
        one = trained(config, data)
        torch.set_num_threads(2)
        two = trained(config, data)
    finally:
        torch.set_num_threads(1)
    for name, tensor in weights(one[0]).items():
        assert torch.allclose(tensor, weights(two[0])[name], atol=2e-4), name
    assert one[1].records[-1]["validation_nll"] == pytest.approx(two[1].records[-1]["validation_nll"], abs=1e-4)
