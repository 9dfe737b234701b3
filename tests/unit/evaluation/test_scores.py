"""Scores on the evaluation sets: per token, whatever the batch size, next to references on the same tokens."""
from dataclasses import replace

import numpy as np
import pytest
import torch

from study.data.evaluation_sets import PAIR_SET, SETS, MaskSet, build_evaluation_set, load_evaluation_set
from study.data.masking import CORRUPTIONS
from study.data.references import unigram_nll
from study.evaluation import evaluate
from study.evaluation.evaluate import mask_scores, pair_scores, with_null
from study.evaluation.perplexity import by_label, row_sums, summarize
from study.evaluation.predictions import predict_tokens, top_predictions
from study.files import save_arrays
from study.objectives.masked_lm import token_nll
from study.objectives.pretraining_model import new_model
from study.objectives.sentence_pairs import correct_pairs
from tests.support.studies import changed


@pytest.fixture
def model(config, tokenizer):
    return new_model(config, tokenizer.vocabulary_size, seed=0).eval()


@pytest.fixture(scope="module")
def evaluation(study, store, tokenizer, tmp_path_factory):
    """The evaluation set of the made-up text."""
    arrays = build_evaluation_set(study.settings.examples, store, unigram_nll(store.ids, tokenizer), tokenizer, rows=20)
    path = tmp_path_factory.mktemp("sets") / "test.npz"
    save_arrays(arrays, path)
    return load_evaluation_set(path)


@pytest.fixture(scope="module")
def pairs(evaluation):
    """NSP pairs of the made-up text, with masks."""
    return evaluation.pairs["nsp"]


def test_nll_does_not_depend_on_the_batch_size(model, heldout):
    by_row, by_five, at_once = (token_nll(model, heldout.ids, heldout.sets["mixed"], size) for size in (1, 5, 12))
    np.testing.assert_allclose(by_row, by_five, atol=1e-5)
    np.testing.assert_allclose(by_row, at_once, atol=1e-5)


@pytest.mark.parametrize("name", ["mask_only", "mixed"])
def test_nll_is_that_of_each_selected_token(model, heldout, name):
    masks = heldout.sets[name]
    nll = token_nll(model, heldout.ids, masks, 7)
    assert len(nll) == (masks.corruption > 0).sum()
    with torch.inference_mode():
        shown = torch.from_numpy(masks.shown)
        states = model.encoder(shown, torch.zeros_like(shown))
        log_probabilities = model.mlm_head(states, model.encoder.token).log_softmax(-1)
    rows, places = np.nonzero(masks.corruption)
    np.testing.assert_allclose(nll, -log_probabilities[rows, places, heldout.ids[rows, places]].numpy(), atol=1e-5)


def test_the_validation_loss_is_the_mean_over_masked_tokens(model, heldout):
    nll = token_nll(model, heldout.ids, heldout.sets["mask_only"], 7)
    assert model.objective.token.validation_nll(model, heldout, 5) == pytest.approx(nll.mean(), abs=1e-6)


def test_groups_add_up_to_the_total(model, heldout, tokenizer):
    nll = token_nll(model, heldout.ids, heldout.sets["mixed"], 4)
    assert row_sums(nll, heldout.sets["mixed"]).sum() == pytest.approx(nll.sum())
    scores = summarize(nll, heldout.ids, heldout.sets["mixed"], heldout.unigram, tokenizer.is_continuation)
    assert set(scores["by_kind"]) <= set(CORRUPTIONS[1:])
    assert scores["perplexity"] == pytest.approx(np.exp(nll.mean()))
    assert scores["floor_perplexity"] is None
    for groups in (scores["by_kind"].values(), scores["by_decile"], scores["by_piece"].values(), scores["by_place"]):
        assert sum(group["tokens"] for group in groups) == scores["tokens"]
        assert sum(group["nll"] * group["tokens"] for group in groups if group["tokens"]) == pytest.approx(nll.sum())
    unigram = [group["unigram_nll"] for group in scores["by_decile"]]
    assert unigram == sorted(unigram)
    assert scores["by_piece"]["continuation"]["tokens"] > 0


def test_row_sums_belong_to_their_rows(model, heldout):
    masks = heldout.sets["mixed"]
    sums = row_sums(token_nll(model, heldout.ids, masks, 4), masks)
    for row in range(len(heldout.ids)):
        alone = MaskSet(masks.shown[row:row + 1], masks.corruption[row:row + 1], None)
        assert sums[row] == pytest.approx(token_nll(model, heldout.ids[row:row + 1], alone, 4).sum(), abs=1e-4)


def test_references_are_computed_on_the_same_tokens(heldout, tokenizer):
    masks = heldout.sets["mixed"]
    unigram = heldout.unigram[heldout.ids[masks.corruption > 0]]
    arguments = heldout.unigram, tokenizer.is_continuation
    scores = summarize(unigram, heldout.ids, masks, *arguments)
    assert scores["nll"] == pytest.approx(scores["unigram_nll"])
    assert scores["bits"] == pytest.approx(scores["nll"] / np.log(2))
    exact = MaskSet(masks.shown, masks.corruption, 0.5 * unigram)
    for nll, share_closed, excess in ((exact.floor, 1.0, 0.0), (unigram, 0.0, exact.floor.mean())):
        scores = summarize(nll, heldout.ids, exact, *arguments)
        assert scores["share_closed"] == pytest.approx(share_closed, abs=1e-9)
        assert scores["excess_nll"] == pytest.approx(excess)


def test_accuracy_on_pairs_does_not_depend_on_the_batch_size(model, pairs):
    rows = pairs.rows
    one_by_one, by_three, at_once = (correct_pairs(model, rows, size) for size in (1, 3, 100))
    assert (one_by_one == by_three).all()
    assert (one_by_one == at_once).all()
    assert (correct_pairs(model, replace(rows, label=1 - rows.label), 4) == ~one_by_one).all()


def test_nll_in_pairs_is_that_of_all_logits_given_token_types_and_padding(model, pairs):
    rows, masks = pairs.rows, pairs.masks
    nll = token_nll(model, rows.ids, masks, 7, rows)
    with torch.inference_mode():
        states = model.encoder(*map(torch.from_numpy, (masks.shown, rows.token_type_ids, rows.attention_mask)))
        log_probabilities = model.mlm_head(states, model.encoder.token).log_softmax(-1)
    row, place = np.nonzero(masks.corruption)
    np.testing.assert_allclose(nll, -log_probabilities[row, place, rows.ids[row, place]].numpy(), atol=1e-5)
    assert not np.allclose(nll, token_nll(model, rows.ids, masks, 7), atol=1e-3)
    assert not rows.attention_mask.all()


def test_nll_in_pairs_is_split_by_label(pairs):
    nll = np.random.default_rng(0).random((pairs.masks.corruption > 0).sum())
    parts = by_label(nll, pairs.masks, pairs.rows.label)
    assert parts.keys() == {"consecutive", "random"}
    assert sum(part["nll"] * part["tokens"] for part in parts.values()) == pytest.approx(nll.sum())


def test_every_set_is_scored_on_its_own_rows(model, evaluation, tokenizer):
    result, arrays = mask_scores(model, evaluation, tokenizer.is_continuation, 16)
    assert result.keys() == {*SETS, PAIR_SET}
    for name, masks in evaluation.sets.items():
        nll = token_nll(model, evaluation.ids, masks, 16)
        assert result[name]["nll"] == pytest.approx(nll.mean(), abs=1e-6)
        assert arrays[f"{name}/nll"].sum() == pytest.approx(nll.sum(), abs=1e-3)
    assert len(arrays[f"{PAIR_SET}/nll"]) == len(evaluation.pairs["nsp"].rows.ids)
    assert arrays[f"{PAIR_SET}/tokens"].sum() == result[PAIR_SET]["tokens"]


def test_a_text_without_pairs_is_scored_without_them(model, evaluation, tokenizer):
    result, arrays = mask_scores(model, replace(evaluation, pairs={}), tokenizer.is_continuation, 16)
    assert result.keys() == set(SETS)
    assert [name for name in arrays if name.startswith(PAIR_SET)] == []


def test_equal_masks_are_scored_once(model, evaluation, tokenizer, monkeypatch):
    sets = evaluation.sets | {"whole_word": evaluation.sets["mask_only"]}       # as in a text without pieces of words
    calls = []
    monkeypatch.setattr(evaluate, "token_nll", lambda *arguments: calls.append(1) or token_nll(*arguments))
    result, _ = mask_scores(model, replace(evaluation, sets=sets), tokenizer.is_continuation, 16)
    assert result["whole_word"] == result["mask_only"]
    assert len(calls) == len(SETS)                                              # with that of the pairs


def test_models_without_a_sentence_objective_have_no_accuracy_on_pairs(model, evaluation):
    assert pair_scores(model, evaluation, 16) == ({}, {})


def test_the_ceiling_is_measured_on_the_pairs_that_are_scored(config, tokenizer, evaluation):
    of_pairs = changed(config, inputs={"format": "segment-pairs"}, objective={"sentence_objective": "nsp"})
    with_head = new_model(of_pairs, tokenizer.vocabulary_size, seed=0).eval()
    result, arrays = pair_scores(with_head, evaluation, 16)
    assert [result[task]["ceiling"] for task in ("nsp", "sop")] == [None, None]
    label = evaluation.pairs["sop"].rows.label
    log_odds = np.where(label == 1, -1.0, 2.0)
    log_odds[0] *= -1
    known = replace(evaluation, pairs={"sop": replace(evaluation.pairs["sop"], log_odds=log_odds)})
    result, arrays = pair_scores(with_head, known, 16)
    assert result["sop"]["ceiling"] == pytest.approx(1 - 1 / len(label))
    assert arrays["sop/best_correct"].mean() == result["sop"]["ceiling"]
    assert (~arrays["sop/best_correct"]).nonzero()[0].tolist() == [0]


def test_predictions_are_the_likeliest_tokens(model, backend):
    ids = np.array(backend.encode("ba [MASK] fi go").ids)
    position = int(np.flatnonzero(ids == backend.token_to_id("[MASK]"))[0])
    (top,) = predict_tokens(model, ids, np.array([position]), backend, top=5)
    with torch.inference_mode():
        states = model.encoder(torch.from_numpy(ids[None]), torch.zeros(1, len(ids), dtype=torch.long))
        probabilities = model.mlm_head(states[0, position], model.encoder.token).softmax(-1)
    assert [probability for _, probability in top] == pytest.approx(probabilities.topk(5).values.tolist(), abs=1e-6)
    assert backend.token_to_id(top[0][0]) == int(probabilities.argmax())


def test_samples_show_each_mask_with_its_true_token(model, heldout, backend):
    masks = heldout.sets["mask_only"]
    samples = top_predictions(model, heldout, backend, rows=2)
    assert len(samples) == 2
    for row, sample in enumerate(samples):
        positions = [masked["position"] for masked in sample["masked"]]
        assert positions == np.flatnonzero(masks.corruption[row]).tolist()
        truth = [backend.token_to_id(masked["truth"]) for masked in sample["masked"]]
        assert truth == heldout.ids[row, positions].tolist()


def test_json_has_null_in_place_of_numbers_that_are_not_finite():
    assert with_null({"a": [1.5, float("nan")], "b": {"c": float("inf")}}) == {"a": [1.5, None], "b": {"c": None}}
