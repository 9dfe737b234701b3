"""Vocabularies of characters: every character is a token, and rows are consecutive characters of the text."""
import math

import numpy as np
import pytest

from study import StudyError
from study.config.schema import Tokenizer
from study.data.batches import gather
from study.data.corpus import write_documents
from study.data.layouts import single_layout
from study.data.neighbour_laws import masked_tokens
from study.data.references import reference_ladder, unigram_nll
from study.data.token_store import TokenStore, write_store
from study.data.tokenizer import SPECIALS, TokenizerInfo
from study.data.wordpiece import build_tokenizer, save

TEXT = ["The cat # sat , on é [UNK] mat .", "A cat sat [ twice ] ."]
DOCUMENTS = [[TEXT, ["It sat ."]], [["The mat ."]]]


def characters(text=TEXT, **changes):
    values = {"source": "characters", "vocabulary_size": 100, "lowercase": False, "min_frequency": 1}
    return build_tokenizer(Tokenizer(**values | changes), lambda: text, None, None)


def test_every_character_is_a_token_and_comes_back():
    backend = characters()
    for text in ("A cat sat .\nThe mat", " ", "\n", "[ # ]"):
        encoded = backend.encode(text)
        assert encoded.tokens == ["[CLS]", *text, "[SEP]"]
        assert backend.decode(encoded.ids) == text
    assert backend.encode("Zeta\r").tokens == ["[CLS]", "[UNK]", "e", "t", "a", "[UNK]", "[SEP]"]
    assert backend.encode("a [UNK] m", add_special_tokens=False).tokens == ["a", " ", "[UNK]", " ", "m"]
    info = TokenizerInfo.of(backend)
    kept = {"\n", *"".join(TEXT).replace("[UNK]", "")}
    assert {backend.id_to_token(int(index)) for index in info.ordinary} == kept
    assert info.vocabulary_size == len(kept) + len(SPECIALS)
    assert not info.is_continuation.any()


def test_a_word_that_its_source_withheld_adds_no_characters():
    assert "U" not in characters().get_vocab()


def test_rare_characters_are_unknown_but_never_those_that_join_sentences():
    vocabulary = characters(min_frequency=4).get_vocab()
    counts = {character: "".join(TEXT).replace("[UNK]", "").count(character) for character in set("".join(TEXT))}
    assert set(vocabulary) == {*SPECIALS, " ", "\n", *(c for c, count in counts.items() if count >= 4)}
    assert "é" not in vocabulary


def test_lowercase_merges_both_cases():
    backend = characters(lowercase=True)
    assert "T" not in backend.get_vocab()
    assert backend.encode("The", add_special_tokens=False).tokens == ["t", "h", "e"]


def test_a_vocabulary_that_is_too_small_is_refused_with_its_remedy():
    with pytest.raises(StudyError, match=r"tokenizer.source characters: .* more than tokenizer.vocabulary_size 12; "
                                         r"raise it, or raise tokenizer.min_frequency"):
        characters(vocabulary_size=12)


def test_transformers_loads_the_same_tokenizer(tmp_path):
    from transformers import AutoTokenizer

    backend = characters()
    save(backend, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("A cat sat .\nThe  mat", "Zeta [MASK] a"):
        assert loaded(text).input_ids == backend.encode(text).ids
    assert loaded.mask_token_id == backend.token_to_id("[MASK]")
    lines = (tmp_path / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert [backend.token_to_id(line.replace("\\n", "\n")) for line in lines] == list(range(len(lines)))


@pytest.fixture
def store(tmp_path):
    backend = characters([sentence for document in DOCUMENTS for paragraph in document for sentence in paragraph])
    write_documents(DOCUMENTS, tmp_path / "train.parquet", "made up")
    write_store(tmp_path / "train.parquet", backend, backend.token_to_id("[SEP]"), tmp_path / "ids")
    return backend, TokenStore.open(tmp_path / "ids")


def test_a_store_of_characters_is_the_running_text(store):
    backend, ids = store
    tokens = [backend.id_to_token(int(index)) for index in ids.ids]
    first = [*"The cat # sat , on é ", "[UNK]", *" mat . A cat sat [ twice ] .\nIt sat ."]
    assert tokens == [*first, "[SEP]", *"The mat .", "[SEP]"]
    assert [tokens[begin] for begin in ids.sentences[:-1]] == ["T", " ", "\n", "T"]
    assert [tokens[begin] for begin in ids.paragraphs[:-1]] == ["T", "\n", "T"]


def test_rows_are_consecutive_characters(store):
    backend, ids = store
    layout = single_layout(ids, "full-sentences", 10)
    rows = gather(ids.ids, layout.spans(np.zeros(2, int), np.array([0, 1]), 0), 10, TokenizerInfo.of(backend), False)
    assert [[backend.id_to_token(int(index)) for index in row] for row in rows.ids] == [
        ["[CLS]", *"The cat ", "[SEP]"], ["[CLS]", *"# sat , ", "[SEP]"]]


def test_count_models_read_the_characters_on_both_sides():
    """In a text where each character follows from either neighbour, the count models find it; frequencies do not."""
    backend = characters(["ab cd"], min_frequency=1)
    info, cycle = TokenizerInfo.of(backend), backend.encode("ab cd ", add_special_tokens=False).ids
    train, rows = np.array(cycle * 400), np.array([cycle * 3] * 6)
    corruption = np.zeros(rows.shape, np.uint8)
    corruption[np.arange(6), 4 + np.arange(6)] = 1
    shown = np.where(corruption > 0, info.mask_id, rows)
    tokens = masked_tokens(rows, shown, corruption, info.layout_ids)
    ladder, _ = reference_ladder(train, unigram_nll(train, info), {"validation": tokens}, {})
    nll = {rung["name"]: rung["nll"] for rung in ladder["validation"]}
    assert nll["uniform"] == pytest.approx(math.log(6))      # a, b, c, d, space and line end
    assert nll["unigram"] == pytest.approx((4 * math.log(6) + 2 * math.log(3)) / 6, rel=0.01)
    assert nll["neighbours-mixture"] < 0.4                   # a space follows b and d; b and d precede it
    assert nll["neighbours-product"] < 0.02
    assert nll["two-neighbours-product"] < 0.02
