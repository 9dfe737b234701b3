"""Text of the synthetic language as files, and its tokenizers, for the tests of the doctor."""
import numpy as np
import pytest

from study.data.wordpiece import save, wordpiece
from study.doctor.tokenizer import load_vocabulary
from tests.support.synthetic_text import default_language

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@pytest.fixture(scope="session")
def language():
    return default_language()


@pytest.fixture(scope="session")
def lines(language) -> list[str]:
    """Sentences of the synthetic language, all different."""
    _, documents = language.sample(400, 60, seed=5)
    sentences = [" ".join(language.words[word] for word in sentence) for document in documents for sentence in document]
    return list(dict.fromkeys(sentences))


@pytest.fixture(scope="session")
def text(lines, tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def tokenizer_folder(language, tmp_path_factory):
    """A tokenizer as save_pretrained writes it, with two unused entries."""
    folder = tmp_path_factory.mktemp("doctor") / "tokenizer"
    pieces = [*SPECIALS, "[unused0]", "[unused1]", *language.words]
    save(wordpiece({piece: index for index, piece in enumerate(pieces)}, True), folder)
    return folder


@pytest.fixture(scope="session")
def vocabulary(tokenizer_folder):
    return load_vocabulary(str(tokenizer_folder))


@pytest.fixture
def rng():
    return np.random.default_rng(11)
