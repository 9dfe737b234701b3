"""Fixtures: a small text with its tokenizer and token store, a small evaluation set, the tiny study's settings, and a
folder that all workers share."""
import os
import shutil
import socket
import tempfile

import numpy as np
import pytest
import torch
from hypothesis import settings

from study.config.arms import resolve
from study.config.load import load_study
from study.config.schema import Tokenizer
from study.config.study import Study
from study.data.batches import Rows
from study.data.corpus import write_documents
from study.data.evaluation_sets import EvaluationSet, MaskSet, PairSet, masking_of
from study.data.masking import mask_rows
from study.data.token_store import TokenStore, write_store
from study.data.tokenizer import TokenizerInfo
from study.data.wordpiece import train_wordpiece
from study.training.trainer import Data
from tests.support.shared import VARIABLE
from tests.support.studies import ROOT, made_up_documents, tiny_study
from tests.support.training import trained_project

# In this order; the first one does without the finished project, which is made meanwhile for the second.
SLOWEST_FILES = ("test_docs.py", "test_pipeline.py", "test_cluster.py", "test_concurrency.py", "test_crash.py",
                 "test_every_arm.py")

settings.register_profile("study", deadline=None)       # no test depends on the speed of the machine
settings.load_profile("study")
torch.set_num_threads(1)                    # at this size threads only wait for each other


def pytest_configure(config):
    """Makes the shared folder before any worker starts; workers inherit the environment."""
    if not hasattr(config, "workerinput"):
        os.environ[VARIABLE] = tempfile.mkdtemp(prefix="study-tests-")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Looking up another machine fails at once, as it does without a network, and without its wait."""
    look_up = socket.getaddrinfo

    def local_only(host, *arguments, **options):
        if host in (None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0", socket.gethostname()):
            return look_up(host, *arguments, **options)
        raise socket.gaierror(socket.EAI_NONAME, f"a test looked up {host}")

    monkeypatch.setattr(socket, "getaddrinfo", local_only)


def pytest_collection_modifyitems(items):
    """Puts the slowest files first, so that no worker has one left when the others are done."""
    names = [*SLOWEST_FILES, *sorted({item.path.name for item in items if "unit" not in item.path.parts})]
    items.sort(key=lambda item: names.index(item.path.name) if item.path.name in names else len(names))


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(VARIABLE), ignore_errors=True)


@pytest.fixture(scope="session")
def documents():
    return made_up_documents()


@pytest.fixture(scope="session")
def backend(documents):
    text = [sentence for document in documents for paragraph in document for sentence in paragraph]
    settings = Tokenizer(source="train", vocabulary_size=90, lowercase=True, min_frequency=1)
    return train_wordpiece(settings, lambda: text)


@pytest.fixture(scope="session")
def tokenizer(backend):
    return TokenizerInfo.of(backend)


@pytest.fixture(scope="session")
def store(documents, backend, tokenizer, tmp_path_factory) -> TokenStore:
    folder = tmp_path_factory.mktemp("store")
    write_documents(documents, folder / "train.parquet", "made up")
    write_store(folder / "train.parquet", backend, tokenizer.sep_id, folder / "ids")
    return TokenStore.open(folder / "ids")


@pytest.fixture(scope="session")
def study():
    return load_study(ROOT / "experiments" / "tiny")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Study:
    """The tiny study with its data, nothing trained; tests do not change its files."""
    return tiny_study(tmp_path_factory.mktemp("tiny") / "study")


@pytest.fixture(scope="session")
def trained_tiny():
    """Folder of a tiny study whose cell dynamic-0 is trained, evaluated and probed; tests copy it to change it."""
    return trained_project()


@pytest.fixture
def config(study):
    """Settings of the tiny study's baseline."""
    return resolve(study, "dynamic")


@pytest.fixture(scope="session")
def heldout(store, tokenizer) -> EvaluationSet:
    rng = np.random.default_rng(1)
    ids = np.asarray(store.ids[:30 * 12], np.int64).reshape(12, 30)
    masked = mask_rows(ids, tokenizer.is_ordinary[ids], ~tokenizer.is_continuation[ids], tokenizer,
                       masking_of("mixed"), 3, 0, np.arange(12))
    unigram = -np.log(rng.dirichlet(np.ones(tokenizer.vocabulary_size)))
    masks = {name: MaskSet(masked.shown, masked.corruption, None) for name in ("mask_only", "mixed")}
    rows = Rows(ids, (np.arange(30) > 14).astype(np.int64) + 0 * ids, np.ones_like(ids, bool), np.arange(12) % 2)
    return EvaluationSet(ids, masks, {"nsp": PairSet(rows, masks["mask_only"], None)}, unigram, "hash")


@pytest.fixture(scope="session")
def data(store, heldout, tokenizer) -> Data:
    return Data(store, heldout, tokenizer)
