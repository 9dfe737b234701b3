"""Rows that are made before training: a data set with the columns and the rows that its recipe describes."""
import random

import numpy as np
import pytest

from study.config.schema import RunConfig
from study.data.batches import BatchSource
from study.data.prepared import COLUMNS, PreparedSource, prepared, write_rows
from study.objectives import objective_of
from study.randomness import PAIR, REPLACE, SELECT, uniforms
from study.training.trainer import Trainer
from tests.support.studies import changed
from tests.support.training import trained

PAIRS = {"inputs": {"format": "segment-pairs", "prepared": True}, "objective": {"sentence_objective": "nsp"},
         "masking": {"schedule": "static", "dupe_factor": 2}}
RECIPES = {
    "pairs": PAIRS,
    "pairs without NSP": PAIRS | {"objective": {"sentence_objective": "none"}},
    "one copy": PAIRS | {"masking": {"schedule": "static", "dupe_factor": 1}},
    "part of the text": PAIRS | {"training": {"data_fraction": 0.5}},
    "packed rows": {"inputs": {"prepared": True}, "masking": {"schedule": "static", "dupe_factor": 1}},
    "fewer targets": {"inputs": {"prepared": True}, "masking": {"schedule": "static", "dupe_factor": 1},
                      "objective": {"target_fraction": 0.5}}}


def source_of(config, data, seed: int = 3, batch_size: int = 8) -> BatchSource:
    return BatchSource(data.train, data.tokenizer, objective_of(config), seed, config.examples.max_seq_length,
                       batch_size)


def read(path):
    from datasets import Dataset

    return Dataset.from_parquet(str(path))


@pytest.mark.parametrize("name", RECIPES)
def test_batches_equal_those_of_static_masks(config, data, tmp_path, name):
    """Over three epochs, so that copies are reused."""
    config = changed(config, **RECIPES[name])
    source = source_of(config, data)
    write_rows(source, tmp_path / "rows.parquet")
    read_source = PreparedSource(source, tmp_path / "rows.parquet")
    for step in range(3 * source.rows // 8 + 1):
        expected, batch = source.batch(step), read_source.batch(step)
        for field in ("input_ids", "token_type_ids", "attention_mask", "positions", "targets", "next_sentence_label"):
            np.testing.assert_array_equal(getattr(batch, field), getattr(expected, field), err_msg=field)
        assert batch.tokens == expected.tokens
        same = batch.corruption == expected.corruption      # a random token can be the true one: then it reads as kept
        assert (same | (batch.input_ids == np.where(same, -1, original(source, expected)))).all()


def original(source, batch):
    """The true tokens (N, T) of a batch."""
    ids = batch.input_ids.copy()
    ids.reshape(-1)[batch.positions] = batch.targets
    return ids


def reference_rows(tokens_of_sentences, rng, length, special, ordinary):
    """The recipe of the tutorial in plain loops, for one document: pairs of a whole sentence or more on each side, half
    of them with a second segment from elsewhere, 15 % of the tokens selected, 80/10/10. It states what each column
    means; its draws are Python's."""
    cls, sep, mask = special
    for number in range(len(tokens_of_sentences) - 1):
        first, second = tokens_of_sentences[number], tokens_of_sentences[number + 1]
        is_random = rng.random() < 0.5
        if is_random:
            second = rng.choice(tokens_of_sentences)
        tokens = [cls, *first, sep, *second, sep]
        segments = [0] * (len(first) + 2) + [1] * (len(second) + 1)
        positions, labels = [], []
        for position, token in enumerate(tokens):
            if token in (cls, sep) or rng.random() >= 0.15:
                continue
            positions.append(position)
            labels.append(token)
            draw = rng.random()
            tokens[position] = mask if draw < 0.8 else rng.choice(ordinary) if draw < 0.9 else token
        yield {"tokens": tokens[:length], "segment_ids": segments[:length], "is_random_next": is_random,
               "masked_positions": positions, "masked_labels": labels}


def facts(rows, tokenizer) -> dict[str, float]:
    """What a data set of pairs is, counted with no use of the project's own code."""
    selected = ordinary = masked = kept = negative = 0
    for row in rows:
        tokens, segments = list(row["tokens"]), list(row["segment_ids"])
        assert len(tokens) == len(segments)
        assert tokens[0] == tokenizer.cls_id
        assert tokens[-1] == tokenizer.sep_id
        assert sum(token == tokenizer.sep_id for token in tokens) == 2
        border = tokens.index(tokenizer.sep_id)
        assert segments == [0] * (border + 1) + [1] * (len(tokens) - border - 1)
        assert list(row["masked_positions"]) == sorted(set(row["masked_positions"]))
        true = dict(zip(row["masked_positions"], row["masked_labels"], strict=True))
        assert all(tokenizer.is_ordinary[token] for token in true.values())
        assert all(position in true for position, token in enumerate(tokens) if token == tokenizer.mask_id)
        selected += len(true)
        ordinary += len(tokens) - 3
        masked += sum(tokens[position] == tokenizer.mask_id for position in true)
        kept += sum(tokens[position] == label for position, label in true.items())
        negative += row["is_random_next"]
    return {"selected": selected / ordinary, "mask": masked / selected, "keep": kept / selected,
            "negative": negative / len(rows)}


def test_the_data_set_is_what_the_tutorial_describes(config, data, tmp_path):
    config = changed(changed(config, **PAIRS), masking={"dupe_factor": 20})
    source = source_of(config, data)
    count = write_rows(source, tmp_path / "rows.parquet")
    rows = read(tmp_path / "rows.parquet")
    assert tuple(sorted(rows.column_names)) == tuple(sorted(COLUMNS))
    assert len(rows) == count == 20 * source.rows
    rng, info = random.Random(0), data.tokenizer
    sentences = [[int(token) for token in data.train.ids[begin:end]] for begin, end in
                 zip(data.train.sentences[:-1], data.train.sentence_ends, strict=True)]
    reference = [row for _ in range(20)
                 for row in reference_rows(sentences, rng, 10**6, (info.cls_id, info.sep_id, info.mask_id),
                                           [int(token) for token in info.ordinary])]
    ours, theirs = facts(rows, info), facts(reference, info)
    for name, tolerance in (("selected", 0.01), ("mask", 0.03), ("keep", 0.03), ("negative", 0.05)):
        assert ours[name] == pytest.approx(theirs[name], abs=tolerance), name


def test_every_row_follows_from_one_number_per_token_and_pair(config, data, tmp_path):
    """The masks and labels again, in loops over rows and positions."""
    seed, config = 3, changed(config, **PAIRS)
    source, info = source_of(config, data, seed), data.tokenizer
    write_rows(source, tmp_path / "rows.parquet")
    for number, row in enumerate(read(tmp_path / "rows.parquet")):
        copy, example = divmod(number, source.rows)
        assert row["is_random_next"] == (uniforms(seed, PAIR, copy, example) < 0.5)
        true = list(row["tokens"])
        for position, label in zip(row["masked_positions"], row["masked_labels"], strict=True):
            true[position] = label
        shown, positions = [], []
        for position, token in enumerate(true):
            u = uniforms(seed, SELECT, copy, example, position) / 0.15
            if token not in info.ordinary or u >= 1:
                shown.append(token)
                continue
            positions.append(position)
            if u < 0.8:
                shown.append(info.mask_id)
            elif u < 0.9:
                pick = uniforms(seed, REPLACE, copy, example, position) * len(info.ordinary)
                shown.append(int(info.ordinary[int(pick)]))
            else:
                shown.append(token)
        assert row["tokens"] == shown
        assert row["masked_positions"] == positions


def test_pairs_and_masks_are_those_of_the_text(config, data, tmp_path):
    """With the masked tokens put back, a row is two pieces of the text; they are adjacent unless it is a negative."""
    source = source_of(changed(config, **PAIRS), data)
    write_rows(source, tmp_path / "rows.parquet")
    stream, info = " ".join(map(str, data.train.ids)), data.tokenizer
    for row in read(tmp_path / "rows.parquet"):
        tokens = list(row["tokens"])
        for position, label in zip(row["masked_positions"], row["masked_labels"], strict=True):
            tokens[position] = label
        border = tokens.index(info.sep_id)
        first, second = tokens[1:border], tokens[border + 1:-1]
        assert f" {' '.join(map(str, first))} " in f" {stream} "
        assert f" {' '.join(map(str, second))} " in f" {stream} "
        follows = f" {' '.join(map(str, first + second))} " in f" {stream} "
        assert follows or row["is_random_next"]


def test_masks_stay_the_same_in_every_epoch(config, data):
    one_copy = changed(changed(config, **PAIRS), masking={"dupe_factor": 1})
    source = prepared(source_of(one_copy, data))
    assert isinstance(source, PreparedSource)
    example = np.arange(8)
    first, later = (source.rows_of(np.full(8, epoch), example) for epoch in (0, 9))
    np.testing.assert_array_equal(first.input_ids, later.input_ids)
    assert not isinstance(prepared(source_of(config, data)), PreparedSource)


def test_a_run_on_prepared_rows_equals_one_on_static_masks_and_resumes(config, data, tmp_path):
    config = changed(changed(config, **PAIRS), training={"save_steps": 5, "steps": 12})
    (whole, progress), (static, expected) = (
        trained(settings, data) for settings in (config, changed(config, inputs={"prepared": False})))
    assert progress.records == expected.records
    for name, tensor in whole.model.state_dict().items():
        assert (tensor == static.model.state_dict()[name]).all(), name
    trained(changed(config, training={"steps": 12}), data, state=tmp_path, fingerprint="a")
    resumed = Trainer(config, data, 0, tmp_path, "a")
    assert resumed.progress.step == 10
    assert resumed.train().records == progress.records


@pytest.mark.parametrize("sections", [{"masking": {"schedule": "dynamic"}},
                                      {"objective": {"token_objective": "causal", "sentence_objective": "none"}}])
def test_rows_with_masks_that_change_cannot_be_prepared(config, sections):
    with pytest.raises(ValueError, match=r"inputs.prepared needs objective.token_objective mlm and masking.schedule"):
        changed(changed(config, **PAIRS), **sections)
    assert isinstance(changed(config, **PAIRS), RunConfig)
