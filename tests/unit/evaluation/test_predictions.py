"""Predictions for [MASK]: in typed sentences, in texts that are masked as in training, and in a cell's file."""
import json

import numpy as np
import pytest

from study import StudyError
from study.config.arms import resolve
from study.config.fingerprint import settings_yaml
from study.config.load import load_study
from study.config.made_with import EVALUATED_WITH
from study.data.tokenizer import TokenizerInfo, load
from study.evaluation.baselines import write_baselines
from study.evaluation.evaluate import evaluate
from study.evaluation.predictions import masked_text, predict, predict_tokens, typed_example
from study.objectives.pretraining_model import new_model
from study.training.checkpoint import Progress
from study.training.pretrain import write_cell
from tests.support.studies import changed, tiny_study

TEXT = "magoku datuke petepo fogete magoku datuke petepo fogete"


@pytest.fixture
def model(config, tokenizer):
    return new_model(config, tokenizer.vocabulary_size, seed=0).eval()


def test_a_typed_sentence_has_predictions_and_no_truth(model, backend):
    example = typed_example(model, backend, "ba [MASK] fi go [MASK]", 32, 3, "here")
    places = [place for place, token in enumerate(example["tokens"]) if token == "[MASK]"]
    assert [masked["position"] for masked in example["masked"]] == places
    assert [masked["truth"] for masked in example["masked"]] == [None, None]
    ids = np.array(backend.encode("ba [MASK] fi go [MASK]").ids)
    for masked, expected in zip(example["masked"], predict_tokens(model, ids, np.array(places), backend, 3),
                                strict=True):
        assert [token for token, _ in masked["top"]] == [token for token, _ in expected]
        assert [share for _, share in masked["top"]] == pytest.approx([share for _, share in expected], abs=1e-4)


def test_a_sentence_without_a_mask_or_with_one_beyond_the_row_is_refused(model, backend):
    with pytest.raises(StudyError, match=r"the text has no \[MASK\]"):
        typed_example(model, backend, "ba fi", 32, 3, "here")
    with pytest.raises(StudyError, match=r"1 of the 2 \[MASK\] are beyond the 8 tokens that dynamic-0 reads"):
        typed_example(model, backend, "[MASK] " + "ba " * 9 + "[MASK]", 8, 3, "dynamic-0")


@pytest.mark.parametrize("selection", ["token", "whole-word"])
def test_a_text_is_masked_as_in_training_but_with_mask_alone(config, backend, tokenizer, selection):
    masking = changed(config, masking={"selection": selection}).masking
    ids = np.array(backend.encode("bade figo luma nepi rosu tanvek bade figo luma nepi").ids)
    texts = [masked_text(ids, masking, tokenizer, seed) for seed in range(200)]
    assert (masked_text(ids, masking, tokenizer, 3) == texts[3]).all()
    for shown in texts:
        differing = shown != ids
        assert differing.any()
        assert (shown[differing] == tokenizer.mask_id).all()
        assert not differing[~tokenizer.is_ordinary[ids]].any()
        if selection == "whole-word":
            follows = np.flatnonzero(tokenizer.is_continuation[ids])
            assert (differing[follows] == differing[follows - 1]).all()
    expected = masking.mlm_probability * tokenizer.is_ordinary[ids].sum()
    assert np.mean([(shown != ids).sum() for shown in texts]) == pytest.approx(expected, rel=0.35)


def test_a_text_without_words_to_mask_is_refused(config, tokenizer):
    ids = np.array([tokenizer.cls_id, tokenizer.unk_id, tokenizer.sep_id])
    with pytest.raises(StudyError, match="no word of the text can be masked; use words"):
        masked_text(ids, config.masking, tokenizer, 0)


# ---- in a study

@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The tiny study with two untrained cells and one that predicts from left to right."""
    study = tiny_study(tmp_path_factory.mktemp("predictions") / "study")
    write_baselines(study, study.runs / "examples")
    size = TokenizerInfo.of(load(study.runs / "tokenizer")).vocabulary_size
    for seed, arm in enumerate(("dynamic", "all-mask", "left-to-right")):
        config = resolve(study, arm)
        write_cell(study.cell(arm, 0), settings_yaml(config), new_model(config, size, seed), Progress(),
                   {"status": "finished"})
    return study


def test_all_cells_see_the_same_masks_and_the_truth_stands_beside_them(study):
    examples = predict(study, TEXT, [("dynamic", 0), ("all-mask", 0)], 4, mask_words=True, seed=1)
    first, second = examples.values()
    words = ["[CLS]", *TEXT.split(), "[SEP]"]
    assert first["tokens"] == second["tokens"]
    assert first["tokens"].count("[MASK]") == len(first["masked"]) > 0
    for masked in first["masked"]:
        assert masked["truth"] == words[masked["position"]]
        assert len(masked["top"]) == 4
    assert [masked["top"] for masked in first["masked"]] != [masked["top"] for masked in second["masked"]]


def test_typed_masks_are_kept_when_words_are_to_be_masked(study):
    (example,) = predict(study, "magoku [MASK] petepo", [("dynamic", 0)], 2, mask_words=True).values()
    assert example["tokens"] == ["[CLS]", "magoku", "[MASK]", "petepo", "[SEP]"]
    assert [masked["truth"] for masked in example["masked"]] == [None]


def test_a_model_from_left_to_right_fills_nothing_in(study):
    with pytest.raises(StudyError, match=r"left-to-right-0 is not a masked language model"):
        predict(study, TEXT, [("left-to-right", 0)], 2, mask_words=True)


def test_the_file_of_a_cell_has_rows_of_the_test_set_and_the_typed_sentences(study):
    evaluate(study, "dynamic", 0)
    examples = json.loads((study.cell("dynamic", 0) / "predictions.json").read_text())
    assert [all(masked["truth"] for masked in example["masked"]) for example in examples] == [True, True, False]
    assert examples[-1]["tokens"] == ["[CLS]", "magoku", "[MASK]", "petepo", "[SEP]"]
    (expected,) = predict(study, study.settings.evaluation.sentences[0], [("dynamic", 0)], 5).values()
    assert examples[-1] == expected
    evaluate(study, "left-to-right", 0)
    assert json.loads((study.cell("left-to-right", 0) / "predictions.json").read_text()) == []


def test_a_sentence_that_is_too_long_is_named_with_its_setting_before_anything_is_written(study):
    text = "magoku " * 90 + "[MASK]"
    evaluation = study.settings.evaluation.model_copy(update={"sentences": [text]})
    other = study.model_copy(update={"settings": study.settings.model_copy(update={"evaluation": evaluation})})
    (study.cell("all-mask", 0) / EVALUATED_WITH).write_text("of earlier scores\n")
    with pytest.raises(StudyError, match=r"params.yaml: evaluation.sentences: 'magoku .*\[MASK\]': 1 of the 1"):
        evaluate(other, "all-mask", 0)
    assert (study.cell("all-mask", 0) / EVALUATED_WITH).exists()
    assert not (study.cell("all-mask", 0) / "evaluation.npz").exists()


def test_a_sentence_without_a_mask_is_no_setting(tmp_path, study):
    text = study.params_path.read_text()
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "arms.yaml").write_text((study.root / "experiments/arms.yaml").read_text())
    (tmp_path / "params.yaml").write_text(text.replace("magoku [MASK] petepo", "magoku petepo"))
    with pytest.raises(StudyError, match=r"evaluation\.sentences") as error:
        load_study(tmp_path)
    assert "\n" not in str(error.value)
