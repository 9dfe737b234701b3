"""Several processes under torchrun give what one gives."""
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
def tiny(tmp_path_factory):
    study = tiny_study(tmp_path_factory.mktemp("parallel") / "tiny",
                       lambda text: text.replace("save_steps: 4", "save_steps: 8"))
    search(study)
    return study


def pretrained(study, arm, processes, seed=0, **environment):
    """Trains a cell by the command line; its records and weights."""
    command = [sys.executable, "-m", "study", "pretrain", "--arm", arm, "--seed", str(seed)]
    if processes > 1:
        command[1:1] = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port",
                        str(29600 + os.getpid() % 300)]
    done = subprocess.run(command, cwd=study.folder, capture_output=True, text=True, check=False,
                          env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment)
    assert done.returncode == 0, done.stderr
    config = study.cell(arm, seed)
    records = [json.loads(line) for line in (config / "metrics.jsonl").read_text().splitlines()]
    return records, {**load_file(config / "encoder.safetensors"), **load_file(config / "heads.safetensors")}


@pytest.mark.parametrize("arm", ARMS)
def test_two_processes_give_the_loss_curve_and_the_weights_of_one(tiny, arm):
    one, alone = pretrained(tiny, arm, 1)
    two, together = pretrained(tiny, arm, 2)
    assert [set(record) for record in one] == [set(record) for record in two]
    for key in ("step", "tokens", "learning_rate"):
        assert [r.get(key) for r in one] == [r.get(key) for r in two]
    for key in ("loss", "pair_loss", "validation_nll", "gradient_norm"):
        assert [r[key] for r in two if key in r] == pytest.approx([r[key] for r in one if key in r], rel=1e-5)
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, rtol=1e-3, atol=1e-4)


def test_more_processes_than_rows_are_refused(tiny):
    with pytest.raises(AssertionError, match="a batch has rows for 2 processes, and 3 were started; use fewer"):
        pretrained(tiny, "small-batch", 3)
