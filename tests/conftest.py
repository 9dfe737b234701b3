"""Fixtures: a small text with its tokenizer and token stores, and the settings of a small cell."""
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from study.config import Loaded, load_study, resolve
from study.data.batches import Lexicon
from study.data.corpus import _write_documents, write_corpus
from study.data.examples import TokenStore, write_store
from study.data.heldout import Heldout, MaskSet, masking_of, write_examples
from study.data.masking import mask_rows
from study.data.tokenizer import _trained, write_tokenizer
from study.schema import Tokenizer
from study.training.trainer import Data

torch.set_num_threads(1)                    # at this size threads only wait for each other
ROOT = Path(__file__).parent.parent


def tiny_study(root: Path, change=lambda text: text) -> Loaded:
    """The tiny study in a folder of its own, with its data made and no search; `change` edits its params.yaml."""
    (root / "experiments").mkdir(parents=True)
    for name in ("arms.yaml", "claims.yaml"):
        shutil.copy(ROOT / "experiments" / name, root / "experiments")
    params = (ROOT / "experiments/tiny/params.yaml").read_text().replace("root: ../..", "root: .")
    (root / "params.yaml").write_text(change(params.replace("trials: 2", "trials: 0")))
    study = load_study(root)
    write_corpus(study, study.runs / "corpus")
    write_tokenizer(study, study.runs / "tokenizer")
    write_examples(study, study.runs / "examples")
    return study


SYLLABLES = ["ba", "de", "fi", "go", "lu", "ma", "ne", "pi", "ro", "su", "tan", "vek"]


def made_up_documents(count: int = 12, seed: int = 0):
    """Documents of 1 to 3 paragraphs of 2 to 6 sentences of made-up words of 1 to 4 syllables."""
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(SYLLABLES, rng.integers(1, 5))) for _ in range(120)]

    def sentence():
        return " ".join(rng.choice(words, rng.integers(3, 12))) + " ."

    return [[[sentence() for _ in range(rng.integers(2, 7))] for _ in range(rng.integers(1, 4))] for _ in range(count)]


@pytest.fixture(scope="session")
def documents():
    return made_up_documents()


@pytest.fixture(scope="session")
def backend(documents):
    text = (sentence for document in documents for paragraph in document for sentence in paragraph)
    return _trained(Tokenizer(source="train", vocabulary_size=90, lowercase=True, min_frequency=1), text)


@pytest.fixture(scope="session")
def lexicon(backend):
    return Lexicon.of(backend)


@pytest.fixture(scope="session")
def store(documents, backend, lexicon, tmp_path_factory) -> TokenStore:
    folder = tmp_path_factory.mktemp("store")
    _write_documents(documents, folder / "train.parquet", "made up")
    write_store(folder / "train.parquet", backend, lexicon.specials.sep, folder / "ids")
    return TokenStore.open(folder / "ids")


@pytest.fixture(scope="session")
def study():
    return load_study(ROOT / "experiments" / "tiny")


@pytest.fixture
def cell(study):
    """Settings of the tiny study's baseline."""
    return resolve(study, "dynamic")


def changed(cell, **sections):
    """The cell with changed settings: changed(cell, model={"norm": "pre"})."""
    content = cell.model_dump()
    for section, values in sections.items():
        content[section] |= values
    return type(cell).model_validate(content)


@pytest.fixture(scope="session")
def heldout(store, lexicon) -> Heldout:
    rng = np.random.default_rng(1)
    ids = np.asarray(store.ids[:30 * 12], np.int64).reshape(12, 30)
    masked = mask_rows(ids, lexicon.is_ordinary[ids], ~lexicon.continues[ids], lexicon.vocabulary,
                       masking_of("mixed"), 3, 0, np.arange(12))
    unigram = -np.log(rng.dirichlet(np.ones(lexicon.vocabulary.size)))
    return Heldout(ids, {name: MaskSet(masked.shown, masked.kind, None) for name in ("mask_only", "mixed")}, {},
                   unigram, "hash")


@pytest.fixture(scope="session")
def data(store, heldout, lexicon) -> Data:
    return Data(store, heldout, lexicon)
