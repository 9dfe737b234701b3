"""The classifier and its training: what it reads, what is frozen, and what determines its weights."""
import itertools
import shutil

import numpy as np
import pytest
import torch

from study.config.load import load_study
from study.data.tokenizer import TokenizerInfo, load
from study.evaluation.embedding import embed_layers, load_cell
from study.finetuning.classifier import new_classifier
from study.finetuning.finetune import Encoder, choose, classes_of, varied
from study.finetuning.fit import fit, optimisation, predict
from study.finetuning.texts import Texts
from tests.support.training import trained_project

CLASSES = 3


@pytest.fixture(scope="module")
def encoder():
    study = load_study(trained_project())
    config, model = load_cell(study, "dynamic", 0)
    return Encoder(model, config, TokenizerInfo.of(load(study.runs / "tokenizer")), 0)


@pytest.fixture(scope="module")
def recipe():
    return load_study(trained_project()).settings.finetune.recipe


def made_up_texts(encoder, rows=48, seed=0) -> Texts:
    """Texts of which every class has words of its own: easy to learn."""
    rng, info = np.random.default_rng(seed), encoder.tokenizer
    labels = np.arange(rows) % CLASSES
    words = np.array_split(info.ordinary[:60], CLASSES)
    ids = [[info.cls_id, *rng.choice(words[label], rng.integers(2, 12)).tolist(), info.sep_id] for label in labels]
    return Texts(ids, [[0] * len(row) for row in ids], labels)


def trained(encoder, recipe, texts, rate=0.003, run=0):
    """A classifier after training, and what that took."""
    classifier = new_classifier(encoder.model, encoder.config, recipe, encoder.tokenizer, CLASSES, encoder.seed, run)
    done = fit(classifier, texts, optimisation(encoder.config, recipe, len(texts.ids), rate), recipe, encoder.seed, run)
    return classifier, done


def logits(encoder, recipe, classifier, texts):
    return predict(classifier, texts, optimisation(encoder.config, recipe, 1, 1e-3))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_linear_layer_reads_the_pooled_state_of_the_pre_trained_encoder(encoder, recipe, pooling):
    recipe, texts = varied(recipe, {"pooling": pooling}), made_up_texts(encoder)
    classifier = new_classifier(encoder.model, encoder.config, recipe, encoder.tokenizer, CLASSES, 0, 0)
    vectors = getattr(embed_layers(encoder.model, texts.ids, encoder.tokenizer.pad_id, 16)[-1], pooling)
    expected = vectors @ classifier.classifier.weight.detach().numpy().T
    assert logits(encoder, recipe, classifier, texts) == pytest.approx(expected, abs=1e-5)


def test_it_learns_an_easy_task(encoder, recipe):
    recipe = varied(recipe, {"epochs": 8})
    classifier, done = trained(encoder, recipe, made_up_texts(encoder))
    unseen = made_up_texts(encoder, seed=1)
    assert not done.diverged
    assert (logits(encoder, recipe, classifier, unseen).argmax(1) == unseen.labels).mean() > 0.8


def test_steps_and_tokens_are_counted(encoder, recipe):
    texts = made_up_texts(encoder)
    _, done = trained(encoder, varied(recipe, {"epochs": 2, "batch_size": 10}), texts)
    assert (done.steps, done.tokens) == (2 * 5, 2 * sum(map(len, texts.ids)))


FREEZING = list(itertools.product((0, 1, 2, 5, "all"), (False, True)))


@pytest.mark.parametrize(("layers", "embeddings"), FREEZING)
def test_frozen_weights_stay_as_pre_trained_and_others_do_not(encoder, recipe, layers, embeddings):
    classifier, _ = trained(encoder, varied(recipe, {"frozen_layers": layers, "freeze_embeddings": embeddings}),
                            made_up_texts(encoder))
    count = 2 if layers == "all" else min(layers, 2)
    frozen = {f"layers.{number}" for number in range(count)}
    frozen |= {"token", "segment", "embedding_norm"} if embeddings else set()
    before, after = encoder.model.encoder.state_dict(), classifier.encoder.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    for name in before:
        part = ".".join(name.split(".")[:2]) if name.startswith("layers") else name.split(".")[0]
        assert (name in changed) == (part not in frozen), name


CHANGES = {"epochs": {"epochs": 3}, "batch size": {"batch_size": 16}, "warm-up": {"warmup_fraction": 0.5},
           "schedule": {"lr_scheduler_type": "constant"}, "dropout": {"dropout": 0.0}, "beta1": {"adam_beta1": 0.8},
           "beta2": {"adam_beta2": 0.9}, "epsilon": {"adam_epsilon": 1e-3}, "decay": {"weight_decay": 0.5},
           "clipping": {"max_grad_norm": 0.01}, "no clipping": {"max_grad_norm": None}, "pooling": {"pooling": "cls"}}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_every_setting_of_the_recipe_changes_the_weights(encoder, recipe, changes):
    recipe = varied(recipe, {"max_grad_norm": 0.1})
    texts = made_up_texts(encoder)
    before, after = (trained(encoder, settings, texts)[0].classifier.weight for settings in (
        recipe, varied(recipe, changes)))
    assert not torch.equal(before, after)


def test_the_arm_decides_neither_optimiser_nor_schedule(encoder, recipe):
    """Only precision and threads are the cell's own, so that arms are fine-tuned alike."""
    other = encoder.config.training.model_copy(update={
        "optimizer": "muon", "learning_rate": 9.0, "adam_beta2": 0.5, "weight_decay": 0.5, "max_grad_norm": None,
        "lr_scheduler_type": "constant", "position_learning_rate": 4.0, "steps": 9, "warmup_steps": 9, "batch_size": 9,
        "warmup_from_zero": True, "decay_biases_and_norms": True})
    config = encoder.config.model_copy(update={"training": other})
    assert optimisation(config, recipe, 48, 0.01) == optimisation(encoder.config, recipe, 48, 0.01)


def test_weights_depend_on_the_run_and_on_nothing_else(encoder, recipe):
    texts = made_up_texts(encoder)
    first, again, other = (trained(encoder, recipe, texts, run=run)[0].state_dict() for run in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])
    torch.manual_seed(99)
    assert torch.equal(trained(encoder, recipe, texts)[0].classifier.weight, first["classifier.weight"])


def test_fine_tuning_leaves_the_pre_trained_model_alone(encoder, recipe):
    before = {name: tensor.clone() for name, tensor in encoder.model.state_dict().items()}
    trained(encoder, recipe, made_up_texts(encoder))
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.model.state_dict().items())


def test_bfloat16_is_used_where_the_settings_say_so(encoder, recipe):
    texts = made_up_texts(encoder)
    training = encoder.config.training.model_copy(update={"precision": "bfloat16"})
    reduced = Encoder(encoder.model, encoder.config.model_copy(update={"training": training}), encoder.tokenizer, 0)
    full, half = (trained(settings, recipe, texts)[0].classifier.weight for settings in (encoder, reduced))
    assert half.dtype == torch.float32
    assert not torch.equal(full, half)
    assert torch.allclose(full, half, atol=0.05)


def test_the_rate_is_the_best_on_the_rows_held_out_and_ties_go_to_the_lower_loss(encoder, recipe):
    recipe = varied(recipe, {"learning_rates": [1e-6, 0.003, 1e-5], "epochs": 8})
    chosen = choose(encoder, recipe, made_up_texts(encoder), CLASSES, run=0)
    best = max(chosen.candidates, key=lambda candidate: (candidate["accuracy"], -candidate["loss"]))
    assert chosen.rate == best["rate"] == 0.003
    assert [candidate["rate"] for candidate in chosen.candidates] == recipe.learning_rates


def test_the_labels_of_the_rows_held_out_train_nothing(encoder, recipe):
    """With other labels there, the classifier of a single rate has the same weights."""
    texts, recipe = made_up_texts(encoder), varied(recipe, {"learning_rates": [0.003]})
    held_out = round(0.25 * len(texts.ids))
    other = texts.labels.copy()
    other[:held_out] = (other[:held_out] + 1) % CLASSES
    weights = [choose(encoder, recipe, Texts(texts.ids, texts.types, labels), CLASSES, 0).classifier.classifier.weight
               for labels in (texts.labels, other)]
    assert torch.equal(*weights)


def test_a_diverged_run_predicts_the_commonest_class_and_is_chosen_last(encoder, recipe):
    texts = made_up_texts(encoder)
    broken = new_classifier(encoder.model, encoder.config, recipe, encoder.tokenizer, CLASSES, 0, 0)
    with torch.no_grad():
        broken.encoder.token.weight.fill_(torch.nan)
    done = fit(broken, texts, optimisation(encoder.config, recipe, 48, 0.01), recipe, 0, 0)
    assert done.diverged
    assert done.steps == 0
    labels = np.array([2, 2, 0])
    assert classes_of(logits(encoder, recipe, broken, texts), labels).tolist() == [2] * 48
    chosen = choose(encoder, varied(recipe, {"learning_rates": [1e30, 1e-4], "max_grad_norm": None}), texts, CLASSES, 0)
    assert chosen.candidates[0]["diverged"]
    assert chosen.rate == 1e-4


def test_dropout_of_the_recipe_is_in_the_encoder_too(encoder, recipe):
    classifier = new_classifier(encoder.model, encoder.config, recipe, encoder.tokenizer, CLASSES, 0, 0)
    assert encoder.config.model.dropout == 0.0
    modules = classifier.dropout, classifier.encoder.dropout
    assert {*(module.probability for module in modules), classifier.encoder.layers[0].attention.dropout} == {0.1}


def test_a_copy_of_the_study_gives_equal_logits(tmp_path, encoder, recipe):
    copied = load_study(shutil.copytree(trained_project(), tmp_path / "study"))
    config, model = load_cell(copied, "dynamic", 0)
    other, texts = Encoder(model, config, encoder.tokenizer, 0), made_up_texts(encoder)
    results = [logits(each, recipe, trained(each, recipe, texts)[0], texts) for each in (encoder, other)]
    assert (results[0] == results[1]).all()
