"""Results that must be equal to the last bit, and how much they differ where bits may differ."""
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
    """Hashes of weights and learning curve of dynamic-0, trained in a new process with these variables."""
    subprocess.run([sys.executable, "-m", "study", "pretrain", "--arm", "dynamic", "--seed", "0"], cwd=study.folder,
                   env=os.environ | {"PYTHONPATH": str(ROOT)} | environment, check=True, capture_output=True)
    folder = study.cell("dynamic", 0)
    return tuple(hashlib.sha256((folder / name).read_bytes()).hexdigest()
                 for name in ("encoder.safetensors", "metrics.jsonl"))


@pytest.fixture(scope="module")
def alone(ready):
    return trained_in(ready, OMP_NUM_THREADS="1", PYTHONHASHSEED="1", TZ="UTC", LC_ALL="C")


def test_a_cell_does_not_depend_on_the_environment(ready, alone):
    """The settings fix the number of threads. OMP_NUM_THREADS, hash seed, locale and time zone change nothing."""
    assert alone == trained_in(ready, OMP_NUM_THREADS="4", PYTHONHASHSEED="2", TZ="Asia/Tokyo", LC_ALL="C.UTF-8")


def test_a_cell_does_not_depend_on_what_its_process_did_before(ready, alone):
    pretrain(ready, "static", 0)
    torch.manual_seed(1234)                 # draws from the global generator change nothing either
    torch.rand(10)
    pretrain(ready, "dynamic", 0)
    folder = ready.cell("dynamic", 0)
    assert alone[0] == hashlib.sha256((folder / "encoder.safetensors").read_bytes()).hexdigest()


def test_another_number_of_threads_changes_only_rounding(config, data):
    """Sums are computed in another order, which changes bits. That is why the settings fix the number of threads."""
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


VOCABULARY = """
from study.config.schema import Tokenizer
from study.data.wordpiece import train_wordpiece
from tests.support.studies import made_up_documents
text = [sentence for document in made_up_documents(60) for paragraph in document for sentence in paragraph]
settings = Tokenizer(source="train", vocabulary_size=150, lowercase=True, min_frequency=1)
print(sorted(train_wordpiece(settings, lambda: text).get_vocab().items(), key=lambda entry: entry[1]))
"""


def test_a_trained_vocabulary_is_the_same_in_every_process():
    """The library numbers some pieces in the order of a hash table that differs between processes."""
    vocabularies = {subprocess.run([sys.executable, "-c", VOCABULARY], cwd=ROOT, check=True, capture_output=True,
                                   text=True).stdout for _ in range(4)}
    assert len(vocabularies) == 1
