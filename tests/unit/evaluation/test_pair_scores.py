"""Judging minimal pairs: pseudo-log-likelihoods against a plain loop, ties, the two baselines, and the files of a
cell."""
import json
import math
import shutil
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from study import StudyError
from study.analysis.further_tables import ALL, one_cell_rows
from study.analysis.metrics import cell_metric
from study.analysis.results import StudyResults
from study.analysis.statistics import rate_interval
from study.cli.app import app
from study.config.arms import resolve
from study.config.fingerprint import settings_yaml
from study.data.neighbour_laws import DISCOUNT
from study.data.pair_scores import Sentences, by_phenomenon, count_scores
from study.data.token_store import TokenStore
from study.data.tokenizer import TokenizerInfo, load
from study.evaluation.baselines import write_baselines
from study.evaluation.evaluate import evaluate
from study.evaluation.minimal_pairs import judge, pseudo_log_likelihoods
from study.objectives.pretraining_model import new_model
from study.training.checkpoint import Progress
from study.training.pretrain import write_cell
from tests.support.minimal_pairs import with_pairs, write_pairs
from tests.support.studies import changed, tiny_study

TEXTS = ["ba fi go .", "go fi ba .", "ba fi [UNK] go .", "fi", "ma ne pi ro su tan", "ba fi go ."]


@pytest.fixture(params=["mlm", "pairs"])
def model(request, config, tokenizer):
    of_pairs = {"inputs": {"format": "segment-pairs"}, "objective": {"sentence_objective": "nsp"}}
    config = changed(config, **of_pairs) if request.param == "pairs" else config
    return new_model(config, tokenizer.vocabulary_size, seed=0).eval()


def sentences_of(backend, texts: list[str]) -> list[tuple[int, ...]]:
    return [tuple(encoding.ids) for encoding in backend.encode_batch(texts, add_special_tokens=True)]


def one_at_a_time(model, ids: tuple[int, ...], tokenizer) -> float:
    """The definition: each ordinary token masked alone, in a batch of one."""
    total = 0.0
    for place, token in enumerate(ids):
        if token in tokenizer.ordinary:
            shown = torch.tensor([ids])
            shown[0, place] = tokenizer.mask_id
            with torch.inference_mode():
                state = model.encoder(shown, torch.zeros_like(shown))[0, place]
                total += float(model.mlm_head(state, model.encoder.token).log_softmax(-1)[token])
    return total


@pytest.mark.parametrize("batch_tokens", [1, 20, 10_000])
def test_scores_are_those_of_masking_each_token_in_turn(model, backend, tokenizer, batch_tokens):
    ids = sentences_of(backend, TEXTS)
    assert tokenizer.unk_id in ids[2]
    scores = pseudo_log_likelihoods(model, ids, tokenizer, batch_tokens)
    expected = [one_at_a_time(model, sentence, tokenizer) for sentence in ids]
    assert scores == pytest.approx(expected, abs=1e-4)
    assert len({round(score, 3) for score in scores}) == len(TEXTS) - 1


def test_a_sentence_without_a_token_to_score_has_the_score_0(model, tokenizer):
    empty = (tokenizer.cls_id, tokenizer.unk_id, tokenizer.sep_id)
    assert pseudo_log_likelihoods(model, [empty], tokenizer, 100).tolist() == [0.0]


def frame(*pairs: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame({"good": [good for good, _ in pairs], "bad": [bad for _, bad in pairs]})


def test_a_model_that_scores_both_alike_gets_half(config, backend, tokenizer):
    """Its states depend on neither the token nor the place, so a sentence's score is that of its tokens in any
    order."""
    blind = new_model(config, tokenizer.vocabulary_size, seed=0).eval()
    with torch.no_grad():
        blind.encoder.token.weight.zero_()
    pairs = frame(("ba fi go .", "go . ba fi"), ("ma ne pi", "pi ne ma"), ("ro su tan vek", "tan vek ro su"))
    sentences = Sentences(pairs, backend, 32)
    for batch_tokens in (7, 10_000):
        scores = pseudo_log_likelihoods(blind, sentences.ids, tokenizer, batch_tokens)
        assert sentences.correct(scores).tolist() == [0.5, 0.5, 0.5]
    assert sentences.correct(np.full(len(sentences.ids), -3.0)).mean() == 0.5


def test_the_likelier_sentence_wins_and_equal_sentences_tie(backend):
    sentences = Sentences(frame(("ba fi", "fi ba"), ("go", "go"), ("fi ba", "ba fi"), ("ba fi", "BA FI")), backend, 32)
    assert len(sentences.ids) == 3                          # each once; the tokenizer makes lower case
    scores = np.zeros(3)
    scores[sentences.good[0]] = -1.0
    scores[sentences.bad[0]] = -2.0
    assert sentences.correct(scores).tolist() == [1.0, 0.5, 0.0, 0.5]
    scores[sentences.bad[0]] = np.nan
    assert sentences.correct(scores).tolist() == [0.5, 0.5, 0.5, 0.5]


def test_a_sentence_that_is_longer_than_a_row_is_refused(backend):
    with pytest.raises(StudyError, match=r"the sentence 'ba ba ba .*more than the 8 tokens of a row; remove its pair"):
        Sentences(frame(("ba", "ba " * 9)), backend, 8)


def test_phenomena_keep_their_order():
    accuracies = by_phenomenon(np.array([1, 0, 0.5, 1]), ["b", "a", "b", "b"])
    assert list(accuracies) == ["b", "a"]
    assert accuracies["b"] == {"accuracy": pytest.approx(2.5 / 3), "pairs": 3}


def test_the_baselines_are_counts_of_the_training_text(backend, tokenizer, store):
    """Against plain counting: smoothed frequencies, and absolute discounting for the word before."""
    train = [int(token) for token in store.ids]
    ordinary = set(tokenizer.ordinary.tolist())
    counts = Counter(token for token in train if token in ordinary)
    frequency = {token: (counts[token] + 1) / (sum(counts.values()) + len(ordinary)) for token in ordinary}
    followers: dict[int, Counter] = {}
    for first, second in zip(train, train[1:], strict=False):
        if second in ordinary:
            followers.setdefault(first, Counter())[second] += 1

    def law(token: int, before: int | None) -> float:
        seen = followers.get(before)
        if not seen:
            return frequency[token]
        rest = DISCOUNT * len(seen) * frequency[token]
        return (max(seen[token] - DISCOUNT, 0) + rest) / sum(seen.values())

    ids = sentences_of(backend, TEXTS)
    scores = count_scores(ids, store.ids, tokenizer)
    for number, sentence in enumerate(ids):
        inside = sentence[1:-1]
        terms = [(token, before) for token, before in zip(inside, (None, *inside), strict=False) if token in ordinary]
        assert scores["word-frequency"][number] == pytest.approx(sum(math.log(frequency[token]) for token, _ in terms))
        assert scores["bigram"][number] == pytest.approx(sum(math.log(law(*term)) for term in terms))
    assert scores["word-frequency"][0] == pytest.approx(scores["word-frequency"][1])        # the same words
    assert scores["bigram"][0] != pytest.approx(scores["bigram"][1])


# ---- in a study

@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The tiny study with minimal pairs, and two cells with untrained weights that are evaluated."""
    root = tmp_path_factory.mktemp("pairs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_DATA", str(root / "data"))
        words = tiny_study(root / "plain").runs / "corpus" / "test.parquet"
        sentences = [text for text in dict.fromkeys(pd.read_parquet(words).text) if len(set(text.split())) > 3]
        write_pairs(root / "data", sentences)
        study = tiny_study(root / "study", with_pairs)
        write_baselines(study, study.runs / "examples")
        for seed, arm in enumerate(("dynamic", "left-to-right")):
            config = resolve(study, arm)
            model = new_model(config, TokenizerInfo.of(load(study.runs / "tokenizer")).vocabulary_size, seed=7 + seed)
            write_cell(study.cell(arm, 0), settings_yaml(config), model, Progress(), {"status": "finished"})
            evaluate(study, arm, 0)
    return study


def test_the_files_of_a_cell_hold_every_pair(study):
    cell = StudyResults(study).cell("dynamic", 0)
    section, arrays = cell.evaluation["minimal_pairs"]["order"], cell.evaluation_arrays
    correct = arrays["pairs/order/correct"]
    assert section["pairs"] == len(correct) == 36
    assert section["accuracy"] == pytest.approx(correct.mean())
    assert section["by_phenomenon"]["none"] == {"accuracy": 0.5, "pairs": 12}
    assert section["ties"] == pytest.approx(12 / 36)
    assert set(arrays["pairs/order/paradigm"]) == {"short", "long", "same"}
    assert 0 < section["by_phenomenon"]["order"]["accuracy"] < 1


def test_a_causal_model_is_not_scored(study):
    cell = StudyResults(study).cell("left-to-right", 0)
    assert cell.evaluation["minimal_pairs"] == {}
    assert cell_metric(StudyResults(study), cell, "minimal_pairs_accuracy") is None
    with pytest.raises(StudyError, match="left-to-right-0 is not a masked language model"):
        judge(study, "left-to-right", 0, frame(("a", "b")))


def test_metrics_take_the_pairs_of_a_paradigm_together(study):
    results = StudyResults(study)
    cell = results.cell("dynamic", 0)
    value, over = (cell_metric(results, cell, name) for name in ("minimal_pairs_accuracy", "minimal_pairs_over_bigram"))
    correct, paradigm = (cell.evaluation_arrays[f"pairs/order/{name}"] for name in ("correct", "paradigm"))
    expected = [correct[paradigm == name].mean() for name in sorted(set(paradigm))]
    assert value.cell == pytest.approx(correct.mean())
    assert value.texts == pytest.approx(expected)
    level = json.loads((study.runs / "examples" / "minimal_pairs.json").read_text())["order"]["bigram"]["accuracy"]
    assert over.cell == pytest.approx(value.cell - level)
    assert level > 0.8                                      # of the language, a sentence backwards is easily told


def test_without_the_setting_a_cell_has_no_such_results(study, tmp_path):
    plain = tiny_study(tmp_path / "study")
    shutil.copytree(study.cell("dynamic", 0), plain.cell("dynamic", 0))
    evaluate(plain.model_copy(update={"settings": changed(plain.settings, evaluation={"token_identity": None})}),
             "dynamic", 0)
    cell = StudyResults(plain).cell("dynamic", 0)
    assert not {"minimal_pairs", "token_identity"} & cell.evaluation.keys()
    assert not [name for name in cell.evaluation_arrays if name.startswith(("pairs/", "token_identity/"))]
    assert [cell_metric(StudyResults(plain), cell, name) for name in (
        "minimal_pairs_accuracy", "minimal_pairs_over_bigram", "token_identity_last_layer")] == [None] * 3


def test_the_command_gives_what_the_stage_gives(study, tmp_path):
    train = TokenStore.open(study.runs / "examples" / "train").ids
    assert len(train) > 1000
    file = study.folder.parent / "data" / "pairs" / "test.parquet"
    result = CliRunner().invoke(app, ["minimal-pairs", "dynamic-0", "--task", str(file), "--study", str(study.folder)])
    assert result.exit_code == 0, result.output
    section = StudyResults(study).cell("dynamic", 0).evaluation["minimal_pairs"]["order"]
    lines = {line.split("│")[1].strip(): [part.strip() for part in line.split("│")[2:-1]]
             for line in result.output.splitlines() if line.startswith("│")}
    assert lines[ALL][:2] == ["36", f"{100 * section['accuracy']:.1f}"]
    assert lines["order"][1] == f"{100 * section['by_phenomenon']['order']['accuracy']:.1f}"
    assert lines["none"][3:] == ["50.0", "50.0"]


def test_intervals_of_one_cell_are_over_pairs_and_over_paradigms():
    pairs = pd.DataFrame({"phenomenon": ["a"] * 10 + ["b"] * 10, "paradigm": ["1"] * 10 + ["2"] * 5 + ["3"] * 5})
    correct = np.array([1.0] * 10 + [0.5] * 5 + [0.0] * 5)
    rows = one_cell_rows(pairs, {"encoder": correct, "word-frequency": 1 - correct, "bigram": 0 * correct})
    assert [row["phenomenon"] for row in rows] == [ALL, "a", "b"]
    assert [row["accuracy"] for row in rows] == pytest.approx([0.625, 1.0, 0.25])
    assert [row["word-frequency"] for row in rows] == pytest.approx([0.375, 0.0, 0.75])
    assert rows[1]["low"] == pytest.approx(0.025 ** (1 / 10))           # even if all pairs are right
    assert rows[0]["high"] == 1.0
    assert rows[0]["low"] < rows[1]["low"]


def test_the_interval_of_a_share_is_the_exact_one():
    from scipy.stats import binomtest

    for count in (0, 3, 10):
        exact = binomtest(count, 10).proportion_ci(method="exact")
        assert rate_interval(count, 10) == pytest.approx((exact.low, exact.high))
    low, high = rate_interval(3.5, 10)
    assert rate_interval(3, 10)[0] < low < rate_interval(4, 10)[0]
    assert rate_interval(3, 10)[1] < high < rate_interval(4, 10)[1]
