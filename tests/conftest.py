"""Fixtures: a small text with its tokenizer and token stores, and the settings of a small cell."""

import numpy as np
import pytest
import torch

from study.config.load import load_study, resolve
from study.config.schema import Tokenizer
from study.data.corpus import _write_documents
from study.data.evaluation_sets import EvaluationSet, MaskSet, masking_of
from study.data.examples import TokenStore, write_store
from study.data.masking import mask_rows
from study.data.tokenizer import _trained
from study.data.tokenizer_info import TokenizerInfo
from study.training.trainer import Data
from tests.support.studies import ROOT, made_up_documents

torch.set_num_threads(1)                    # at this size threads only wait for each other


@pytest.fixture(scope="session")
def documents():
    return made_up_documents()


@pytest.fixture(scope="session")
def backend(documents):
    text = (sentence for document in documents for paragraph in document for sentence in paragraph)
    return _trained(Tokenizer(source="train", vocabulary_size=90, lowercase=True, min_frequency=1), text)


@pytest.fixture(scope="session")
def tokenizer(backend):
    return TokenizerInfo.of(backend)


@pytest.fixture(scope="session")
def store(documents, backend, tokenizer, tmp_path_factory) -> TokenStore:
    folder = tmp_path_factory.mktemp("store")
    _write_documents(documents, folder / "train.parquet", "made up")
    write_store(folder / "train.parquet", backend, tokenizer.sep_id, folder / "ids")
    return TokenStore.open(folder / "ids")


@pytest.fixture(scope="session")
def study():
    return load_study(ROOT / "experiments" / "tiny")


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
    return EvaluationSet(ids, {name: MaskSet(masked.shown, masked.corruption, None) for name in ("mask_only", "mixed")}, {},
                   unigram, "hash")


@pytest.fixture(scope="session")
def data(store, heldout, tokenizer) -> Data:
    return Data(store, heldout, tokenizer)
