"""Several processes under torchrun give the result of one process."""
import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from study.training.pretrain import pretrain
from study.training.search import search
from tests.support.studies import ROOT, tiny_study


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    study = tiny_study(tmp_path_factory.mktemp("parallel") / "tiny",
                       lambda text: text.replace("save_steps: 4", "save_steps: 8"))
    search(study)
    return study


def results(study, arm: str) -> tuple[list[dict], dict[str, torch.Tensor]]:
    """The records and the weights of the arm's cell."""
    cell = study.cell(arm, 0)
    records = [json.loads(line) for line in (cell / "metrics.jsonl").read_text().splitlines()]
    return records, {**load_file(cell / "encoder.safetensors"), **load_file(cell / "heads.safetensors")}


@pytest.mark.parametrize("arm", ["mlm-nsp", "large-batch"])
def test_two_processes_give_the_learning_curve_and_the_weights_of_one(searched, arm):
    pretrain(searched, arm, 0)
    expected, expected_weights = results(searched, arm)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port",
               str(29600 + os.getpid() % 300), "-m", "study", "pretrain", "--arm", arm, "--seed", "0"]
    process = subprocess.run(command, cwd=searched.folder, capture_output=True, text=True, check=False,
                             env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    assert process.returncode == 0, process.stderr
    records, weights = results(searched, arm)
    assert [set(record) for record in records] == [set(record) for record in expected]
    for key in ("step", "tokens", "learning_rate"):
        assert [record.get(key) for record in records] == [record.get(key) for record in expected]
    for key in ("loss", "pair_loss", "validation_nll", "gradient_norm"):
        values = [record[key] for record in expected if key in record]
        assert [record[key] for record in records if key in record] == pytest.approx(values, rel=1e-5)
    for name, tensor in expected_weights.items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-3, atol=1e-4)
