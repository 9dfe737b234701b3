"""The exact floor on evaluation sets: token ids become word ids, and more context never hurts."""
import json

import numpy as np
import pytest

from study.data.evaluation_sets import SETS, load_evaluation_set
from study.data.synthetic import MASKED
from study.data.synthetic_floor import synthetic_floor
from tests.support.studies import tiny_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return tiny_study(tmp_path_factory.mktemp("floor") / "study")


@pytest.fixture(scope="module")
def references(study):
    return json.loads((study.runs / "examples" / "references.json").read_text())


def test_floor_equals_that_of_the_language_on_the_words_of_a_row(study):
    exact = synthetic_floor(study)
    evaluation = load_evaluation_set(study.runs / "examples" / "test.npz")
    lexicon = (study.runs / "corpus" / "lexicon.txt").read_text().split()
    pieces = (study.runs / "tokenizer" / "vocab.txt").read_text().split()
    words = np.array([[lexicon.index(pieces[i]) for i in row[1:-1]] for row in evaluation.ids])
    selected = evaluation.sets["mask_only"].corruption[:, 1:-1] > 0
    text = [line.split() for line in _documents(study)]
    offsets = np.array([_offset(text, [lexicon[word] for word in row]) for row in words])
    nll, _ = exact.language.floor(words, np.where(selected, MASKED, words), selected, offsets, rate=0.15)
    np.testing.assert_allclose(evaluation.sets["mask_only"].floor, nll, atol=1e-9)


def _documents(study) -> list[str]:
    import pandas as pd

    frame = pd.read_parquet(study.runs / "corpus" / "test.parquet")
    return frame.groupby("document").text.agg(" ".join).tolist()


def _offset(text: list[list[str]], row: list[str]) -> int:
    """Where in its document a row of words begins."""
    return next(begin for document in text for begin in range(0, len(document), len(row))
                if document[begin:begin + len(row)] == row)


def test_every_set_has_its_floor_in_the_references(study, references):
    for split in ("validation", "test"):
        evaluation = load_evaluation_set(study.runs / "examples" / f"{split}.npz")
        for name in SETS:
            masks, floor = evaluation.sets[name], references["floors"][split][name]
            assert len(masks.floor) == (masks.corruption > 0).sum() == references["tokens"][split][name]
            assert floor["nll"] == pytest.approx(masks.floor.mean())
            assert floor["perplexity"] == pytest.approx(np.exp(masks.floor.mean()))
            assert floor["error"] == pytest.approx(masks.floor.std(ddof=1) / np.sqrt(len(masks.floor)))
        assert references["hash"][split] == evaluation.hash


def test_more_context_helps_and_none_beats_the_floor(references):
    contexts = references["contexts"]
    assert list(contexts) == ["1", "2", "4", "8"]
    floor = references["floors"]["test"]["mask_only"]["perplexity"]
    assert contexts["1"] > contexts["4"] > floor
    assert contexts["8"] > 0.95 * floor                     # equal up to the noise of 200 tokens
    levels = {rung["name"]: rung["perplexity"] for rung in references["ladder"]["test"]}
    assert levels["floor"] == floor
    assert floor < levels["neighbours-product"] < references["unigram"]["test"]
