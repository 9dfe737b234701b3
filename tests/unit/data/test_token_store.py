"""Token stores: the text comes back unchanged, and the hash covers text and borders."""
import pytest

from study import StudyError
from study.data.corpus import write_documents
from study.data.token_store import TokenStore, write_store


def test_store_gives_back_the_sentences(store, documents, backend):
    flat = [sentence for document in documents for paragraph in document for sentence in paragraph]
    starts, ends = store.sentences[:-1], store.sentence_ends
    assert len(starts) == len(flat)
    for begin, end, text in zip(starts, ends, flat, strict=True):
        assert store.ids[begin:end].tolist() == backend.encode(text, add_special_tokens=False).ids
    assert (store.ids[store.document_ends] == backend.token_to_id("[SEP]")).all()
    assert len(store.documents) - 1 == len(documents)


def test_a_missing_store_is_named(tmp_path):
    with pytest.raises(StudyError, match=rf"{tmp_path}: no usable token store .* run `study examples` again"):
        TokenStore.open(tmp_path)


def test_a_truncated_or_changed_store_is_refused(backend, tokenizer, tmp_path):
    write_documents([[["ba de .", "fi ."]], [["go ."]]], tmp_path / "train.parquet", "made up")
    write_store(tmp_path / "train.parquet", backend, tokenizer.sep_id, tmp_path / "ids")
    TokenStore.open(tmp_path / "ids").check(tmp_path / "ids")
    file = tmp_path / "ids" / "ids.bin"
    content = file.read_bytes()
    file.write_bytes(content[2:])
    with pytest.raises(StudyError, match="but meta.json records"):
        TokenStore.open(tmp_path / "ids")
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(StudyError, match="changed since it was written"):
        TokenStore.open(tmp_path / "ids").check(tmp_path / "ids")


def test_a_store_of_several_batches_is_the_text(backend, tokenizer, tmp_path):
    documents = [[["ba de .", "fi ."], ["go lu ma ."]] if number % 3 else [["ne pi ."]] for number in range(4600)]
    write_documents(documents, tmp_path / "train.parquet", "made up")
    meta = write_store(tmp_path / "train.parquet", backend, tokenizer.sep_id, tmp_path / "ids")
    store = TokenStore.open(tmp_path / "ids")
    ids = {text: backend.encode(text, add_special_tokens=False).ids for text in ("ba de .", "fi .", "go lu ma .",
                                                                                "ne pi .")}
    expected = [token for document in documents
                for token in [*(t for paragraph in document for text in paragraph for t in ids[text]),
                              tokenizer.sep_id]]
    assert store.ids.tolist() == expected
    assert meta["sentences"] == sum(len(paragraph) for document in documents for paragraph in document) > 10_000
    assert meta["paragraphs"] == sum(map(len, documents))
    assert (store.ids[store.document_ends] == tokenizer.sep_id).all()


def test_the_hash_of_a_store_covers_its_text_and_its_borders(backend, tokenizer, tmp_path):
    texts = [[[["ba de .", "fi ."]], [["go ."]]], [[["ba de ."], ["fi ."]], [["go ."]]],
             [[["ba de .", "fu ."]], [["go ."]]], [[["ba de .", "fi ."]], [["go ."]]]]
    hashes = []
    for number, documents in enumerate(texts):
        write_documents(documents, tmp_path / f"{number}.parquet", "made up")
        write_store(tmp_path / f"{number}.parquet", backend, tokenizer.sep_id, tmp_path / str(number))
        hashes.append(TokenStore.open(tmp_path / str(number)).sha256)
    assert hashes[0] == hashes[3]
    assert len(set(hashes)) == 3
