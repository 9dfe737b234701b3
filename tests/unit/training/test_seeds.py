"""Sources of chance: each fixed seed holds one of them, and the cell's seed decides the rest."""
import numpy as np
import pytest
import torch

from study.config.seeds import Seeds, seeds_of
from study.objectives.pretraining_model import new_model
from study.training.schedule import phases
from study.training.trainer import Trainer, batch_source
from tests.support.studies import changed
from tests.support.training import trained, weights

FIXED = {"initialization_seed": 11, "order_seed": 12, "mask_seed": 13}


def batches_of(config, data, seed: int):
    source = batch_source(data, seed, phases(config)[0])
    return [source.batch(step) for step in range(3)]


def texts(batches, tokenizer):
    """The rows with [MASK] and random tokens undone: their true tokens."""
    restored = []
    for batch in batches:
        ids = batch.input_ids.copy()
        ids.reshape(-1)[batch.positions] = batch.targets
        restored.append(ids)
    return np.stack(restored)


def test_all_seeds_follow_the_cell_unless_they_are_fixed(config):
    assert seeds_of(config, 5) == Seeds(5, 5, 5)
    assert seeds_of(changed(config, training=FIXED), 5) == Seeds(11, 12, 13)
    assert seeds_of(changed(config, training={"mask_seed": 0}), 5) == Seeds(5, 5, 0)


def test_a_fixed_seed_equal_to_the_cell_s_changes_nothing(config, data):
    fixed = changed(config, training=dict.fromkeys(FIXED, 3))
    first, second = weights(trained(config, data, 3)[0]), weights(trained(fixed, data, 3)[0])
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("free", "same_text", "same_masks"), [
    ("initialization_seed", True, True), ("order_seed", False, False), ("mask_seed", True, False)])
def test_the_free_seed_alone_changes_what_it_decides(config, data, free, same_text, same_masks):
    arm = changed(config, training={name: value for name, value in FIXED.items() if name != free})
    initial = [weights(Trainer(arm, data, seed)) for seed in (1, 2)]
    assert torch.equal(*(part["encoder.token.weight"] for part in initial)) == (free != "initialization_seed")
    first, second = (batches_of(arm, data, seed) for seed in (1, 2))
    assert np.array_equal(texts(first, data.tokenizer), texts(second, data.tokenizer)) == same_text
    assert all(np.array_equal(a.input_ids, b.input_ids) for a, b in zip(first, second, strict=True)) == same_masks


def test_another_order_shows_every_example_with_its_masks_of_the_epoch(config, data):
    """So the arm that varies the order alone leaves the mask of an example as it is."""
    arm = changed(config, training={"mask_seed": 13})
    first, second = (batch_source(data, seed, phases(arm)[0]) for seed in (1, 2))
    epoch, example = np.zeros(6, np.int64), np.arange(6)
    assert np.array_equal(first.rows_of(epoch, example).input_ids, second.rows_of(epoch, example).input_ids)


def test_dropout_follows_the_seed_of_the_masks(config, data):
    dropped = changed(config, model={"dropout": 0.5}, training={"initialization_seed": 0, "order_seed": 0})
    first, second = (weights(trained(dropped, data, seed)[0]) for seed in (1, 2))
    again = weights(trained(changed(dropped, training={"mask_seed": 1}), data, 2)[0])
    assert not torch.equal(first["encoder.token.weight"], second["encoder.token.weight"])
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_the_untrained_encoder_of_a_cell_has_the_fixed_initial_weights(config, tokenizer):
    from study.evaluation.embedding import untrained_model

    arm = changed(config, training={"initialization_seed": 11})
    model = new_model(arm, tokenizer.vocabulary_size, seed=0)
    expected = new_model(arm, tokenizer.vocabulary_size, seed=11).encoder.token.weight
    assert torch.equal(untrained_model(arm, model, 5).encoder.token.weight, expected)
