"""The book's data preparation: vocabulary, pairs and masks, row by row against tests/support/book.py."""
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from study import StudyError
from study.config.arms import resolve
from study.config.load import load_study
from study.data import corpus_text
from study.data.batches import BatchSource
from study.data.corpus import write_documents
from study.data.paragraph_pairs import paragraph_pairs
from study.data.token_store import TokenStore, write_store
from study.data.tokenizer import TokenizerInfo
from study.data.wordpiece import build_tokenizer
from study.objectives import objective_of
from tests.support import book
from tests.support.studies import ROOT

LENGTH = 24                                 # short enough that some pairs do not fit


def made_up_lines(articles: int = 8, seed: int = 0) -> list[str]:
    """Lines of WikiText: titles, headings, blank lines, and paragraphs of 1 to 6 sentences with rare words, <unk>, @-@
    and capitals. Some headings have a period, and some lines none."""
    rng = np.random.default_rng(seed)
    words = [f"w{number}" for number in rng.integers(0, 40, 4000)] + ["The", "<unk>", "@-@", ",", "U.S."] * 200
    words += [f"rare{number}" for number in range(300)]
    lines = []
    for article in range(articles):
        title = f" = Mr . Title {article} = \n" if article % 3 == 0 else f" = Title {article} = \n"
        lines += ["", title, "", " = = Heading without = = \n", " = = Heading . with = = \n", " A line without end \n"]
        for _ in range(rng.integers(4, 9)):
            sentences = [" ".join(rng.choice(words, rng.integers(1, 14))) for _ in range(rng.integers(1, 7))]
            lines.append(" " + " . ".join(sentences) + " . \n")
    return lines


@pytest.fixture(scope="module")
def d2l():
    return load_study(ROOT / "experiments" / "d2l")


@pytest.fixture(scope="module")
def prepared(d2l, tmp_path_factory):
    """The lines, and what our stages make of them: the tokenizer and the token store."""
    folder, lines = tmp_path_factory.mktemp("book"), made_up_lines()
    (folder / "data").mkdir()
    pd.DataFrame({"text": lines}).to_parquet(folder / "data" / "train.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_DATA", str(folder))
        corpus = d2l.settings.corpus.model_copy(update={"local": "data"})
        study = d2l.model_copy(update={"settings": d2l.settings.model_copy(update={"corpus": corpus})})
        write_documents(corpus_text._documents(study, "train"), folder / "train.parquet", "made up")
    text = pd.read_parquet(folder / "train.parquet").text
    backend = build_tokenizer(d2l.settings.tokenizer, lambda: text, None, ROOT)
    write_store(folder / "train.parquet", backend, backend.token_to_id("[SEP]"), folder / "ids")
    return lines, backend, TokenStore.open(folder / "ids")


def batch_source(d2l, backend, store, seed: int) -> BatchSource:
    return BatchSource(store, TokenizerInfo.of(backend), objective_of(resolve(d2l, "d2l")), seed, LENGTH, 8)


def test_the_vocabulary_is_that_of_the_book(prepared):
    lines, backend, _ = prepared
    vocabulary, _ = book.examples_of(lines, 5, LENGTH, 0)
    assert sorted(backend.get_vocab(), key=backend.get_vocab().get) == vocabulary
    assert any(word.startswith("w") for word in vocabulary)
    assert not any(word.startswith("rare") for word in vocabulary)


@pytest.mark.parametrize("seed", [0, 7])
def test_pairs_and_masks_are_those_of_the_book(d2l, prepared, seed):
    lines, backend, store = prepared
    vocabulary, expected = book.examples_of(lines, 5, LENGTH, seed)
    source = batch_source(d2l, backend, store, seed)
    assert len(source.layout) == len(expected) > 50
    batch = source.rows_of(np.zeros(len(expected), int), np.arange(len(expected)))
    targets = iter(zip(batch.positions.tolist(), batch.targets.tolist(), strict=True))
    for row, example in enumerate(expected):
        size = len(example.tokens)
        shown = [vocabulary[index] for index in batch.input_ids[row].tolist()]
        assert shown == example.shown + ["[PAD]"] * (LENGTH - size)
        assert batch.token_type_ids[row].tolist() == example.segments + [0] * (LENGTH - size)
        assert batch.attention_mask[row].tolist() == [True] * size + [False] * (LENGTH - size)
        assert (batch.next_sentence_label[row] == 0) == example.is_next
        ours = [next(targets) for _ in example.positions]
        assert ours == [(row * LENGTH + place, vocabulary.index(label))
                        for place, label in zip(example.positions, example.labels, strict=True)]
    assert next(targets, None) is None
    assert any("[UNK]" in example.labels for example in expected)


def test_pairs_and_masks_are_made_once(d2l, prepared):
    _, backend, store = prepared
    source, example = batch_source(d2l, backend, store, 0), np.arange(40)
    first, later = (source.rows_of(np.full(40, epoch), example) for epoch in (0, 9))
    for name in ("input_ids", "targets", "next_sentence_label"):
        assert (getattr(first, name) == getattr(later, name)).all()
    other = batch_source(d2l, backend, store, 1).rows_of(np.zeros(40, int), example)
    assert (other.input_ids != first.input_ids).any()


def test_negatives_are_random_sentences_of_random_paragraphs(store):
    """Paragraphs are drawn first, so a sentence of a short paragraph is drawn more often."""
    draws = np.concatenate([_negative_starts(store, seed) for seed in range(60)])
    starts = store.sentences[:-1]
    paragraph = np.searchsorted(store.paragraphs, starts, side="right") - 1
    _, index, count = np.unique(paragraph, return_inverse=True, return_counts=True)
    expected = 1 / (len(count) * count[index])
    observed = np.array([(draws == start).sum() for start in starts])
    assert expected.sum() == pytest.approx(1)
    assert stats.chisquare(observed, expected * len(draws)).pvalue > 1e-4
    labels = np.concatenate([paragraph_pairs(store, 1000, seed).pairs.label for seed in range(60)])
    low, high = stats.binom.interval(1 - 1e-6, len(labels), 0.5)
    assert low <= labels.sum() <= high


def _negative_starts(store, seed: int) -> np.ndarray:
    pairs = paragraph_pairs(store, 1000, seed).pairs
    return pairs.second[pairs.label == 1]


def test_rows_that_are_too_short_for_every_pair_are_refused(store):
    with pytest.raises(StudyError, match="no two adjacent sentences of a paragraph fit into rows of 4 tokens"):
        paragraph_pairs(store, 4, 0)


def test_the_mean_number_of_tokens_is_that_of_the_rows(d2l, prepared):
    _, backend, store = prepared
    source = batch_source(d2l, backend, store, 0)
    every = np.arange(len(source.layout))
    mask = source.rows_of(np.zeros_like(every), every).attention_mask
    assert source.layout.mean_tokens == pytest.approx(mask.sum(1).mean())
