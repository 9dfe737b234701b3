"""The fixed evaluation sets: rows inside documents, masks on ordinary tokens, and a hash of the content."""
import numpy as np
import pytest

from study import StudyError
from study.data.evaluation_sets import (
    PAIR_SET,
    SETS,
    build_evaluation_set,
    content_hash,
    document_windows,
    load_evaluation_set,
    masking_of,
)
from study.data.references import unigram_nll
from study.data.synthetic import Language
from study.data.synthetic_floor import synthetic_floor
from study.data.token_store import TokenStore
from study.data.tokenizer import TokenizerInfo, load
from study.files import save_arrays


@pytest.fixture(scope="module")
def arrays(study, store, tokenizer):
    """An evaluation set of the made-up text, as the examples stage builds it for real text."""
    return build_evaluation_set(study.settings.examples, store, unigram_nll(store.ids, tokenizer), tokenizer, rows=20)


def test_windows_are_inside_single_documents(store):
    starts, offsets = document_windows(store, 22, 100, None, seed=0)
    document = store.document_of(starts)
    assert (starts + 20 <= store.document_ends[document]).all()
    assert (starts - store.documents[document] == offsets).all()
    assert len(np.unique(starts)) == len(starts)


def test_the_document_of_each_row_and_pair_is_recorded_if_asked_for(arrays, study, store, tokenizer, tmp_path):
    recorded = build_evaluation_set(study.settings.examples, store, unigram_nll(store.ids, tokenizer), tokenizer,
                                    rows=20, documents=True)
    assert recorded.keys() - arrays.keys() == {"documents", "nsp/documents", "sop/documents"}
    for row, document in zip(recorded["ids"], recorded["documents"], strict=True):
        text = store.ids[store.documents[document]:store.document_ends[document]]
        windows = np.lib.stride_tricks.sliding_window_view(text, len(row) - 2)
        assert (windows == row[1:-1]).all(1).any()
    for task in ("nsp", "sop"):
        for ids, document in zip(recorded[f"{task}/ids"], recorded[f"{task}/documents"], strict=True):
            segment = ids[1:ids.tolist().index(tokenizer.sep_id)]
            text = store.ids[store.documents[document]:store.document_ends[document]]
            assert (np.lib.stride_tricks.sliding_window_view(text, len(segment)) == segment).all(1).any()
    save_arrays(recorded, tmp_path / "test.npz")
    save_arrays(arrays, tmp_path / "validation.npz")
    assert load_evaluation_set(tmp_path / "test.npz").documents.tolist() == recorded["documents"].tolist()
    assert load_evaluation_set(tmp_path / "test.npz").pairs["sop"].documents is not None
    assert load_evaluation_set(tmp_path / "validation.npz").documents is None


def test_paragraphs_are_kept_for_a_validation_with_new_masks(arrays, study, store, tokenizer, tmp_path):
    """The first paragraphs of the text, one per row, cut or padded, and part of the hash."""
    kept = build_evaluation_set(study.settings.examples, store, unigram_nll(store.ids, tokenizer), tokenizer, rows=20,
                                paragraphs=7)
    save_arrays(kept, tmp_path / "kept.npz")
    save_arrays(arrays, tmp_path / "without.npz")
    evaluation = load_evaluation_set(tmp_path / "kept.npz")
    assert load_evaluation_set(tmp_path / "without.npz").paragraphs is None
    assert evaluation.hash != content_hash(arrays)
    size = study.settings.examples.max_seq_length - 2
    for number, (ids, attention) in enumerate(zip(evaluation.paragraphs.ids, evaluation.paragraphs.attention_mask,
                                                  strict=True)):
        text = store.ids[store.paragraphs[number]:store.paragraphs[number + 1]]
        text = text[text != tokenizer.sep_id][:size]        # [SEP] stands between documents
        assert ids[attention].tolist() == [tokenizer.cls_id, *text.tolist(), tokenizer.sep_id]
        assert (ids[~attention] == tokenizer.pad_id).all()
    assert len(evaluation.paragraphs.ids) == 7


def test_mask_sets_share_their_rows_and_select_only_ordinary_tokens(arrays, tokenizer):
    ids = arrays["ids"]
    for name, (_, mix, _) in SETS.items():
        shown, selected = arrays[f"{name}/shown"], arrays[f"{name}/kind"] > 0
        assert selected.any()
        assert tokenizer.is_ordinary[ids[selected]].all()
        assert (shown[~selected] == ids[~selected]).all()
        assert mix["mask"] < 1 or (shown[selected] == tokenizer.mask_id).all()
    assert ((arrays["mask_only/kind"] > 0) == (arrays["mixed/kind"] > 0)).all()
    assert ((arrays["mask_only/kind"] > 0) <= (arrays["mask_only_40/kind"] > 0)).all()
    assert masking_of("mixed").keep == 0.1


def test_pairs_are_masked_at_ordinary_tokens_of_both_segments(arrays, tokenizer):
    ids, shown, selected = arrays["nsp/ids"], arrays[f"{PAIR_SET}/shown"], arrays[f"{PAIR_SET}/kind"] > 0
    assert tokenizer.is_ordinary[ids[selected]].all()
    assert arrays["nsp/attention"][selected].all()
    assert (shown[selected] == tokenizer.mask_id).all()
    assert (shown[~selected] == ids[~selected]).all()
    assert set(arrays["nsp/types"][selected].tolist()) == {0, 1}
    assert set(arrays["nsp/label"].tolist()) == {0, 1}
    rate = selected.sum() / tokenizer.is_ordinary[ids].sum()
    assert rate == pytest.approx(SETS["mask_only"][0], abs=0.06)


def test_pairs_and_their_masks_decide_the_hash(study, store, tokenizer, arrays):
    unigram = unigram_nll(store.ids, tokenizer)
    again = build_evaluation_set(study.settings.examples, store, unigram, tokenizer, rows=20)
    assert content_hash(again) == content_hash(arrays)
    for name in ("nsp/ids", "nsp/label", "sop/ids", f"{PAIR_SET}/shown", f"{PAIR_SET}/kind"):
        changed = arrays | {name: arrays[name].copy()}
        changed[name].flat[1] += 1
        assert content_hash(changed) != content_hash(arrays), name
    fewer = study.settings.examples.model_copy(update={"pair_rows": 5})
    assert content_hash(build_evaluation_set(fewer, store, unigram, tokenizer, rows=20)) != content_hash(arrays)


def test_the_unigram_reference_is_a_distribution_over_ordinary_tokens(arrays, store, tokenizer):
    probability = np.exp(-arrays["unigram"])
    assert probability.sum() == pytest.approx(1)
    assert (probability > 0).tolist() == tokenizer.is_ordinary.tolist()
    counts = np.bincount(store.ids, minlength=len(probability))
    order = np.argsort(counts[tokenizer.ordinary], kind="stable")
    assert (np.diff(probability[tokenizer.ordinary][order]) >= 0).all()


def test_the_last_bit_of_a_floor_does_not_change_the_hash(tiny, monkeypatch):
    """It differs between machines."""
    tokenizer = TokenizerInfo.of(load(tiny.runs / "tokenizer"))
    test, train = (TokenStore.open(tiny.runs / "examples" / split) for split in ("test", "train"))
    arguments = (tiny.settings.examples, test, unigram_nll(train.ids, tokenizer), tokenizer, 20, synthetic_floor(tiny))
    arrays, exact, calls = build_evaluation_set(*arguments), Language.floor, []

    def on_another_machine(*floor_arguments, **keywords):
        nll, entropy = exact(*floor_arguments, **keywords)
        calls.append(nll[0])
        nll[0] = np.nextafter(nll[0], np.inf)
        return nll, entropy

    monkeypatch.setattr(Language, "floor", on_another_machine)
    assert content_hash(build_evaluation_set(*arguments)) == content_hash(arrays)
    assert len(calls) == len(SETS)      # with the pairs; on words, whole_word has the masks and floor of mask_only
    assert (arrays["whole_word/floor"] == arrays["mask_only/floor"]).all()
    changed = arrays | {"mask_only/floor": arrays["mask_only/floor"] + 1e-12}
    assert content_hash(changed) != content_hash(arrays)


def test_a_file_returns_what_was_written_and_damage_is_reported(arrays, tmp_path):
    path, copy = tmp_path / "test.npz", tmp_path / "copy.npz"
    save_arrays(arrays, path)
    save_arrays(dict(reversed(arrays.items())), copy)
    assert path.read_bytes() == copy.read_bytes()
    read = load_evaluation_set(path)
    assert (read.ids == arrays["ids"]).all()
    assert {task: pairs.masks is not None for task, pairs in read.pairs.items()} == {"nsp": True, "sop": False}
    assert all(pairs.log_odds is None for pairs in read.pairs.values())         # this text has no exact floor
    assert read.hash == content_hash(arrays) == content_hash(dict(reversed(arrays.items())))
    assert all(content_hash(arrays | {name: array + 1}) != read.hash for name, array in arrays.items()
               if array.dtype == np.int32)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(StudyError, match="study examples"):
        load_evaluation_set(path)
