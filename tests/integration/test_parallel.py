"""Several processes under torchrun give the result of one process."""
import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from study.training.search import search
from tests.support.studies import ROOT, tiny_study

ARMS = ("dynamic", "mlm-nsp", "large-batch")


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    study = tiny_study(tmp_path_factory.mktemp("parallel") / "tiny",
                       lambda text: text.replace("save_steps: 4", "save_steps: 8"))
    search(study)
    return study


def pretrain(study, arm: str, processes: int) -> subprocess.CompletedProcess:
    """Trains a cell from the command line."""
    command = [sys.executable, "-m", "study", "pretrain", "--arm", arm, "--seed", "0"]
    if processes > 1:
        command[1:1] = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port",
                        str(29600 + os.getpid() % 300)]
    return subprocess.run(command, cwd=study.folder, capture_output=True, text=True, check=False,
                          env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})


def records_and_weights(study, arm: str, processes: int) -> tuple[list[dict], dict[str, torch.Tensor]]:
    done = pretrain(study, arm, processes)
    assert done.returncode == 0, done.stderr
    cell = study.cell(arm, 0)
    records = [json.loads(line) for line in (cell / "metrics.jsonl").read_text().splitlines()]
    return records, {**load_file(cell / "encoder.safetensors"), **load_file(cell / "heads.safetensors")}


@pytest.mark.parametrize("arm", ARMS)
def test_two_processes_give_the_learning_curve_and_the_weights_of_one(searched, arm):
    expected, expected_weights = records_and_weights(searched, arm, 1)
    records, weights = records_and_weights(searched, arm, 2)
    assert [set(record) for record in records] == [set(record) for record in expected]
    for key in ("step", "tokens", "learning_rate"):
        assert [record.get(key) for record in records] == [record.get(key) for record in expected]
    for key in ("loss", "pair_loss", "validation_nll", "gradient_norm"):
        values = [record[key] for record in expected if key in record]
        assert [record[key] for record in records if key in record] == pytest.approx(values, rel=1e-5)
    for name, tensor in expected_weights.items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-3, atol=1e-4)


def test_more_processes_than_rows_are_rejected(searched):
    done = pretrain(searched, "small-batch", 3)
    assert done.returncode != 0
    assert "a batch can be divided among 2 processes, but 3 were started; start fewer" in done.stderr
