"""Fixtures of all tests: a small text with its tokenizer and token store, a small evaluation set, the tiny study's
settings, a study with a trained cell, and reports without drawings."""
import numpy as np
import pytest
import torch

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
from tests.support.drawings import without_drawings
from tests.support.studies import ROOT, made_up_documents, tiny_study
from tests.support.training import trained_project

torch.set_num_threads(1)                    # at this size threads only wait for each other


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


@pytest.fixture
def undrawn():
    """Empty figures, for tests of text alone."""
    with without_drawings():
        yield
