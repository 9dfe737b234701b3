"""Corpus folders: WikiText is read as articles, and documents keep their order and borders."""
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from study import StudyError
from study.data.corpus import write_documents
from study.data.corpus_text import _sentences, _split_at_periods, _wikitext_articles
from study.data.tasks import subset


def test_an_article_begins_at_a_title_between_blank_lines():
    lines = ["", " = One = ", "", " First . ", " = Not a title = ", " Second @,@ 000 <unk> . ", " = = Heading = = ", "",
             " Third . ", "", " = Two = ", "", " Fourth @-@ fifth . "]
    assert list(_wikitext_articles(lines, headings=False)) == [[" First . ", " Second,000 [UNK] . ", " Third . "],
                                               [" Fourth-fifth . "]]


def test_periods_split_paragraphs_and_nothing_else_is_changed():
    lines = ["", " = Mr . One = \n", "", " First . \n", " No period \n", " Second @,@ 000 <unk> . B . \n", "",
             " = = A . heading = = \n", "", " = Two = \n", "", " U.S. alone . \n"]
    articles = list(_wikitext_articles(lines, headings=True, verbatim=True))
    assert [len(article) for article in articles] == [5, 2]
    assert [_split_at_periods(article, 0) for article in articles] == [
        [["= Mr", "One ="], ["First ."], ["Second @,@ 000 [UNK]", "B ."], ["= = A", "heading = ="]],
        [["U.S. alone ."]]]
    assert [_split_at_periods(article, 15) for article in articles] == [
        [["Second @,@ 000 [UNK]", "B ."], ["= = A", "heading = ="]], []]


def test_sentences_are_split_and_blank_paragraphs_left_out():
    paragraphs = ["A dog barks. It runs. ", "  ", "The end."]
    assert _sentences(paragraphs, "en", 0) == [["A dog barks.", "It runs."], ["The end."]]


def test_documents_are_numbered_and_empty_ones_left_out(tmp_path):
    documents = [[["a b .", "c ."], ["d ."]], [], [["e ."]]]
    counts = write_documents(iter(documents), tmp_path / "test.parquet", "made up")
    assert counts == {"test_documents": 2, "test_paragraphs": 3, "test_sentences": 4, "test_words": 9}
    assert pq.read_table(tmp_path / "test.parquet").to_pydict() == {
        "document": [0, 0, 0, 1], "paragraph": [0, 0, 1, 2], "text": ["a b .", "c .", "d .", "e ."]}


def test_one_document_is_too_few(tmp_path):
    with pytest.raises(StudyError, match="made up: 1 documents with text; at least 2 are needed"):
        write_documents([[["a ."]]], tmp_path / "test.parquet", "made up")


def test_headings_and_short_paragraphs_are_kept_or_left_out():
    lines = ["", " = A = ", "", " Short . ", " == Part == ", " A longer paragraph . ", ""]
    assert list(_wikitext_articles(lines, headings=True)) == [[" = A = ", " Short . ", " == Part == ",
                                                               " A longer paragraph . "]]
    assert _sentences([" Short . ", " A longer one . "], "en", 7) == [["A longer one ."]]
    assert _sentences([" Short . ", " A longer one . "], "en", 6) == [["Short ."], ["A longer one ."]]


def test_a_subset_has_classes_of_equal_size_and_is_the_same_every_time():
    frame = pd.DataFrame({"text": [str(number) for number in range(60)], "label": [0] * 40 + [1] * 15 + [2] * 5})
    assert subset(frame, 12).label.value_counts().to_dict() == {0: 4, 1: 4, 2: 4}
    assert subset(frame, 30).label.value_counts().to_dict() == {0: 13, 1: 12, 2: 5}
    assert subset(frame, 30).equals(subset(frame, 30))


@pytest.mark.parametrize("rows", [None, 60])
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_all_rows_are_mixed_if_each_class_stands_in_one_block(order, rows):
    frame = pd.DataFrame({"text": [str(number) for number in range(60)], "label": np.repeat(order, 20)})
    mixed = subset(frame, rows)
    assert set(mixed.label[:10]) == {0, 1, 2}
    assert mixed.sort_values("text", key=lambda text: text.astype(int)).reset_index(drop=True).equals(frame)
    assert mixed.equals(subset(frame, rows))


@pytest.mark.parametrize("labels", [[0, 1, 0, 1], [0, 0, 1, 1, 0], [1, 1, 1]])
def test_other_rows_keep_their_order(labels):
    frame = pd.DataFrame({"text": list("abcde")[:len(labels)], "label": labels})
    assert subset(frame, None) is frame
