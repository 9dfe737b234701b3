"""Batches: known collators are recognised, faults are found, and pickles are refused."""
import json
import pickle

import numpy as np
import pytest

from study import StudyError
from study.doctor.batch_checks import check_batches
from study.doctor.batches import read_batch
from study.doctor.collator import SPLITS, Counts, count, split_p_values, tokens_to_tell
from study.doctor.tokenizer import encode_lines

LENGTH, IGNORED, MASK_ID, PAD_ID, CLS_ID, SEP_ID = 64, -100, 4, 0, 2, 3


@pytest.fixture(scope="module")
def rows(vocabulary, lines):
    """Rows (2000, 64): [CLS], text, [SEP]; the last ten positions of every fourth row are padding."""
    ids = encode_lines(vocabulary, lines).ids
    ids = np.resize(ids[vocabulary.info.is_ordinary[ids]], 2000 * (LENGTH - 2)).reshape(2000, -1)
    full = np.pad(ids, ((0, 0), (1, 1)), constant_values=((0, 0), (CLS_ID, SEP_ID))).astype(np.int64)
    full[::4, -10:] = PAD_ID
    full[::4, -11] = SEP_ID
    return full


def collate(rows, rng, vocabulary, rate=0.15, split=(0.8, 0.1, 0.1), over_all_ids=False):
    """Arrays of a batch that is masked with one uniform per token."""
    selected = (rng.random(rows.shape) < rate) & vocabulary.is_ordinary[rows]
    u = rng.random(rows.shape)
    ids = np.arange(vocabulary.size) if over_all_ids else vocabulary.ordinary
    shown = np.where(u < split[0], MASK_ID, np.where(u < split[0] + split[1], rng.choice(ids, rows.shape), rows))
    return {"input_ids": np.where(selected, shown, rows), "labels": np.where(selected, rows, IGNORED),
            "attention_mask": (rows != PAD_ID).astype(np.int64)}


def independent_draws(rows, rng, vocabulary):
    """Two independent draws of a tenth; where both hit, the random token wins: 81/10/9."""
    selected = (rng.random(rows.shape) < 0.15) & vocabulary.is_ordinary[rows]
    random, keep = rng.random((2, *rows.shape)) < 0.1
    shown = np.where(random, rng.choice(vocabulary.ordinary, rows.shape), np.where(keep, rows, MASK_ID))
    return {"input_ids": np.where(selected, shown, rows), "labels": np.where(selected, rows, IGNORED)}


def examined(folder, vocabulary, *batches, corruption=(0.8, 0.1, 0.1)):
    """The findings about these batches, by title. corruption: what the user says of the collator."""
    paths = [folder / f"batch{number}.npz" for number in range(len(batches))]
    for path, arrays in zip(paths, batches, strict=True):
        np.savez(path, **arrays)
    findings = check_batches([read_batch(path, vocabulary) for path in paths], vocabulary, 0.15, corruption)
    return {finding.title: finding for finding in findings}


CORRUPTION, RATE = "corruption of selected tokens", "selected tokens"


def test_the_collator_of_transformers_is_recognised(tmp_path, tokenizer_folder, vocabulary, rows):
    import torch
    from transformers import AutoTokenizer, DataCollatorForLanguageModeling

    torch.manual_seed(3)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    batch = collator([{"input_ids": row.tolist(), "attention_mask": (row != PAD_ID).tolist()} for row in rows])
    found = examined(tmp_path, vocabulary, {name: array.numpy() for name, array in batch.items()})
    assert found["labels"].severity == found[RATE].severity == found[CORRUPTION].severity == "fine"
    assert "Compatible with 80/10/10" in found[CORRUPTION].detail
    assert "81/10/9" not in found[CORRUPTION].detail
    # it draws random tokens from all ids
    assert "special or unused ids" in found["special ids among random tokens"].detail


@pytest.mark.parametrize("split", ["80/10/10", "100/0/0", "80/20/0", "80/2/18", "90/10/0"])
def test_a_known_split_is_recognised_in_a_large_batch(split, tmp_path, vocabulary, rows, rng):
    found = examined(tmp_path, vocabulary, collate(rows, rng, vocabulary, split=SPLITS[split][1]))[CORRUPTION]
    assert f"Compatible with {split} (" in found.detail
    assert found.detail.count("p =") == 1
    assert found.severity == ("fine" if split == "80/10/10" else "note")
    assert (f"Pass --corruption {split} to measure" in found.remedy) == (split != "80/10/10")


@pytest.mark.parametrize("split", [(1.0, 0.0, 0.0), (0.8, 0.2, 0.0), (0.5, 0.25, 0.25)])
def test_the_split_that_was_passed_is_fine_if_it_fits(split, tmp_path, vocabulary, rows, rng):
    batch = collate(rows, rng, vocabulary, split=split)
    found = examined(tmp_path, vocabulary, batch, corruption=split)[CORRUPTION]
    assert (found.severity, found.remedy) == ("fine", "")
    other = examined(tmp_path, vocabulary, batch, corruption=(0.6, 0.2, 0.2))[CORRUPTION]
    assert other.severity == "note"
    assert "60/20/20" in other.detail


def test_two_independent_draws_are_recognised_with_enough_tokens(tmp_path, vocabulary, rows, rng):
    found = examined(tmp_path, vocabulary, independent_draws(np.tile(rows, (3, 1)), rng, vocabulary))[CORRUPTION]
    assert "Compatible with 81/10/9 (two independent draws" in found.detail
    assert "80/10/10 (" not in found.detail
    assert found.severity == "note"


def test_a_small_batch_is_too_small_to_tell_splits_apart(tmp_path, vocabulary, rows, rng):
    found = examined(tmp_path, vocabulary, collate(rows[:32], rng, vocabulary))[CORRUPTION]
    assert "80/10/10" in found.detail
    assert "81/10/9" in found.detail
    assert "Too small to tell these apart: about" in found.detail


def test_the_size_that_is_said_to_suffice_suffices_four_times_in_five():
    rng = np.random.default_rng(0)
    shares = {name: split for name, (_, split) in SPLITS.items()}
    needed = tokens_to_tell(shares["81/10/9"], shares["80/10/10"])
    draws = rng.multinomial(needed, SPLITS["81/10/9"][1], 400)
    rejected = np.mean([split_p_values(tuple(draw), 10**9, shares)["80/10/10"] < 0.05 for draw in draws])
    assert rejected == pytest.approx(0.8, abs=0.06)
    assert tokens_to_tell(shares["80/10/10"], shares["80/20/0"]) == np.ceil(np.log(0.2) / np.log(0.9))


def test_no_known_split_fits_an_unknown_one(tmp_path, vocabulary, rows, rng):
    found = examined(tmp_path, vocabulary, collate(rows, rng, vocabulary, split=(0.5, 0.25, 0.25)))[CORRUPTION]
    assert "No known split fits" in found.detail


def test_the_interval_of_the_rate_contains_it_and_no_other(tmp_path, vocabulary, rows, rng):
    assert examined(tmp_path, vocabulary, collate(rows, rng, vocabulary))[RATE].severity == "fine"
    other = examined(tmp_path, vocabulary, collate(rows, rng, vocabulary, rate=0.25))[RATE]
    assert other.severity == "note"
    assert other.detail.startswith("25.") or other.detail.startswith("24.")


def test_counts_are_those_of_the_positions(vocabulary, tmp_path):
    w = int(vocabulary.ordinary[0])
    np.savez(tmp_path / "a.npz",
             input_ids=[[CLS_ID, MASK_ID, w, w + 1, w + 2, 5, SEP_ID, PAD_ID]],
             labels=[[IGNORED, w + 3, w, w + 4, IGNORED, w + 5, SEP_ID, PAD_ID]])
    counts = count(read_batch(tmp_path / "a.npz", vocabulary), vocabulary)
    assert counts == Counts(eligible=5, selected=4, mask=1, random=2, keep=1, real=7, labelled=6, labelled_special=1,
                            labelled_padding=1, random_special=1)
    assert counts + counts == Counts(**{name: 2 * value for name, value in vars(counts).items()})


def test_labels_everywhere_are_found(tmp_path, vocabulary, rows, rng):
    batch = collate(rows[:100], rng, vocabulary)
    found = examined(tmp_path, vocabulary, batch | {"labels": rows[:100]})
    assert found["labels at unselected positions"].severity == "problem"
    assert {"labels at special tokens", "labels at padding"} <= found.keys()
    assert CORRUPTION not in found


def test_a_batch_that_was_masked_in_place_before_its_labels_were_taken_has_nothing_masked(tmp_path, vocabulary, rows):
    found = examined(tmp_path, vocabulary, {"input_ids": rows, "labels": np.where(rows > 6, rows, IGNORED)})
    assert found["no token is masked"].severity == "problem"


def test_a_batch_without_labels_is_found(tmp_path, vocabulary, rows):
    found = examined(tmp_path, vocabulary, {"input_ids": rows, "labels": np.full_like(rows, IGNORED)})
    assert found["no labels"].severity == "problem"


def test_masks_without_labels_and_ids_outside_the_vocabulary_are_found(tmp_path, vocabulary, rows, rng):
    batch = collate(rows, rng, vocabulary)
    batch["labels"][:50] = IGNORED
    batch["input_ids"][-1, 5] = vocabulary.size
    found = examined(tmp_path, vocabulary, batch)
    hidden = int((batch["input_ids"][:50] == MASK_ID).sum())
    assert found["[MASK] without a label"].detail.startswith(f"{hidden} positions show [MASK]")
    assert found["ids outside the vocabulary"].detail.startswith("1 positions")


def test_special_ids_among_random_tokens_are_held_against_their_expected_number(tmp_path, vocabulary, rows, rng):
    over_all = examined(tmp_path, vocabulary, collate(rows, rng, vocabulary, over_all_ids=True))
    finding = over_all["special ids among random tokens"]
    assert finding.severity == "note"
    hits, expected = int(finding.detail.split()[0]), float(finding.detail.split()[-4])
    assert 0.5 * expected < hits < 1.2 * expected       # a random [MASK] cannot be told from a masked token
    ordinary = examined(tmp_path, vocabulary, collate(rows, rng, vocabulary))
    assert ordinary["special ids among random tokens"].severity == "fine"


def test_static_masks_are_recognised_in_any_order_of_rows(tmp_path, vocabulary, rows, rng):
    batch, order = collate(rows[:200], rng, vocabulary), rng.permutation(200)
    found = examined(tmp_path, vocabulary, batch, {name: array[order] for name, array in batch.items()})
    finding = found["masks of batch0.npz and batch1.npz"]
    assert finding.severity == "note"
    assert finding.detail.startswith("200 rows occur in both batches. 100.0% ")
    assert "static masking" in finding.detail


def test_dynamic_masks_overlap_as_much_as_chance(tmp_path, vocabulary, rows, rng):
    found = examined(tmp_path, vocabulary, *(collate(rows[:200], rng, vocabulary) for _ in range(2)))
    finding = found["masks of batch0.npz and batch1.npz"]
    assert finding.severity == "fine"
    assert "dynamic masking" in finding.detail


def test_in_short_rows_only_positions_that_can_be_selected_count(tmp_path, vocabulary, rng):
    """Of 5 positions, 2 are [CLS] and [SEP]: the chance is 15 % as in long rows, and not 9 %."""
    rows = np.stack([np.full(4000, CLS_ID), *rng.choice(vocabulary.ordinary, (3, 4000)), np.full(4000, SEP_ID)], 1)
    found = examined(tmp_path, vocabulary, *(collate(rows, rng, vocabulary) for _ in range(2)))
    finding = found["masks of batch0.npz and batch1.npz"]
    chance = float(finding.detail.split("; ")[1].split("%")[0])
    assert chance == pytest.approx(15, abs=1.5)
    assert finding.severity == "fine"


def test_batches_of_other_rows_cannot_be_compared(tmp_path, vocabulary, rows, rng):
    found = examined(tmp_path, vocabulary, *(collate(part, rng, vocabulary) for part in (rows[:50], rows[50:100])))
    assert found["masks of batch0.npz and batch1.npz"].severity == "not checked"


def test_json_gives_the_same_batch_as_npz(tmp_path, vocabulary, rows, rng):
    batch = collate(rows[:5], rng, vocabulary)
    np.savez(tmp_path / "a.npz", **batch)
    (tmp_path / "a.json").write_text(json.dumps({name: array.tolist() for name, array in batch.items()}))
    one, two = (read_batch(tmp_path / name, vocabulary) for name in ("a.npz", "a.json"))
    for name in ("ids", "labels", "real"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


class Unpickled:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickled_objects_are_refused_and_never_loaded(tmp_path, vocabulary):
    trap = tmp_path / "trap"
    np.savez(tmp_path / "object.npz", input_ids=np.array([Unpickled(trap)], object), labels=[[1]])
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(Unpickled(trap)))
    trap.unlink(missing_ok=True)
    for name in ("object.npz", "pickle.npz"):
        with pytest.raises(StudyError, match=f"{name}: holds pickled objects, which are never loaded"):
            read_batch(tmp_path / name, vocabulary)
    assert not trap.exists()


def test_one_array_of_numpy_save_under_the_name_of_an_npz_is_one_line_with_the_remedy(tmp_path, vocabulary):
    with (tmp_path / "a.npz").open("wb") as file:
        np.save(file, np.zeros((2, 3), int))
    with pytest.raises(StudyError, match="a.npz: one array without a name, .*; save .* with numpy.savez$") as error:
        read_batch(tmp_path / "a.npz", vocabulary)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(("header", "place", "value", "message"), [
    (b"PK\3\4", 63, 0b111, "invalid block type"), (b"PK\1\2", 10, 99, "compression method is not supported"),
    (b"PK\1\2", 8, 1, "is encrypted")])
def test_a_damaged_npz_is_one_line_with_the_remedy(header, place, value, message, tmp_path, vocabulary):
    """One byte is overwritten: the first one of the compressed data, the method of compression, or the flags."""
    ids = np.arange(64).reshape(8, 8)
    np.savez_compressed(tmp_path / "a.npz", input_ids=ids, labels=ids)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[content.index(header) + place] = value
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(StudyError, match=f"a.npz: not a usable .npz .*{message}.*; save it again with") as error:
        read_batch(tmp_path / "a.npz", vocabulary)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(("name", "content", "message"), [
    ("missing.npz", None, "missing.npz: no such file; --batch takes a batch as .npz or .json"),
    ("batch.pt", b"x", "batch.pt: not a known kind of batch"),
    ("a.npz", b"PK\x03\x04", "a.npz: not a usable .npz"),
    ("a.npz", b"", "a.npz: not a usable .npz"),
    ("a.json", b"{", "a.json: not JSON"),
    ("a.json", b"[1]", "a.json: not an object; write one with input_ids and labels"),
    ("a.json", b'{"input_ids": [[1]]}', "a.json: no labels; it has input_ids; a batch needs"),
    ("a.json", b'{"input_ids": [[1, 2], [3]], "labels": [[1]]}', "the rows of input_ids differ in length; pad them"),
    ("a.json", b'{"input_ids": [[1.5]], "labels": [[1]]}', "input_ids has the type float64, not whole numbers"),
    ("a.json", b'{"input_ids": [["a"]], "labels": [[1]]}', "input_ids has the type <U1, not whole numbers"),
    ("a.json", b'{"input_ids": [[1, 2]], "labels": [[1]]}', r"labels has the shape \(1, 1\), input_ids \(1, 2\)"),
    ("a.json", b'{"input_ids": [[]], "labels": [[]]}', "input_ids has"),
])
def test_an_unusable_batch_is_one_line_with_the_remedy(name, content, message, tmp_path, vocabulary):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(StudyError, match=message) as error:
        read_batch(tmp_path / name, vocabulary)
    assert len(str(error.value).splitlines()) == 1
