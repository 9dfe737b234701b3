"""Masks: the fractions that the settings state, ordinary tokens only, and a pure function of their coordinates."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from study.config.schema import Masking
from study.data.masking import KEEP, MASK, RANDOM, UNTOUCHED, draw_epoch, mask_rows
from study.data.tokenizer import TokenizerInfo

TOKENIZER = TokenizerInfo(50, 0, 1, 2, 3, 4, np.arange(5, 50), np.zeros(50, bool))
ROWS = np.random.default_rng(0).integers(5, 50, size=(400, 62))
STARTS = np.random.default_rng(1).random(ROWS.shape) < 0.6
STARTS[:, 0] = True


def masking(**changes) -> Masking:
    base = {"mlm_probability": 0.15, "mask": 0.8, "random": 0.1, "keep": 0.1, "selection": "token", "span_mean": 3.0,
            "schedule": "dynamic", "dupe_factor": 1}
    return Masking(**base | changes)


def masked(settings, rows=ROWS, starts=STARTS, seed=0, epoch=0, example=None, eligible=None):
    example = np.arange(len(rows)) if example is None else example
    eligible = np.ones(rows.shape, bool) if eligible is None else eligible
    return mask_rows(rows, eligible, starts, TOKENIZER, settings, seed, draw_epoch(settings, epoch), example)


def within(count: int, total: int, probability: float) -> bool:
    """Whether a count is within the central 1 - 1e-6 of its binomial distribution."""
    low, high = stats.binom.ppf([5e-7, 1 - 5e-7], total, probability)
    return low <= count <= high


MIXES = [(0.8, 0.1, 0.1), (1.0, 0.0, 0.0), (0.8, 0.0, 0.2), (0.8, 0.2, 0.0), (0.0, 0.2, 0.8), (0.0, 1.0, 0.0),
         (0.0, 0.0, 1.0), (0.81, 0.1, 0.09)]


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("selection", ["token", "whole-word"])
def test_fractions_are_as_stated(mix, selection):
    result = masked(masking(mask=mix[0], random=mix[1], keep=mix[2], selection=selection))
    total = int(result.selected.sum())
    if selection == "token":
        assert within(total, ROWS.size, 0.15)
    else:
        assert total / ROWS.size == pytest.approx(0.15, abs=0.012)
    for corruption, fraction in zip((MASK, RANDOM, KEEP), mix, strict=True):
        assert within(int((result.corruption == corruption).sum()), total, fraction)
    assert (result.shown[result.corruption == MASK] == TOKENIZER.mask_id).all()
    untouched = (result.corruption == KEEP) | ~result.selected
    assert (result.shown[untouched] == ROWS[untouched]).all()


@pytest.mark.parametrize(("random_from", "smallest"), [("words", 5), ("vocabulary", 0)])
def test_random_tokens_come_from_the_words_or_from_all_ids(random_from, smallest):
    result = masked(masking(mask=0.0, random=1.0, keep=0.0, random_from=random_from), rows=np.tile(ROWS, (8, 1)),
                    starts=np.tile(STARTS, (8, 1)))
    counts = np.bincount(result.shown[result.corruption == RANDOM], minlength=TOKENIZER.vocabulary_size)
    assert counts[:smallest].sum() == 0
    assert stats.chisquare(counts[smallest:]).pvalue > 1e-6


def test_rates_nest_and_mixes_share_positions():
    low, high = masked(masking(mlm_probability=0.15)), masked(masking(mlm_probability=0.4))
    assert (low.selected <= high.selected).all()
    assert (masked(masking(mask=1.0, random=0.0, keep=0.0)).selected == low.selected).all()


def test_specials_are_never_selected_and_never_drawn():
    eligible = np.random.default_rng(2).random(ROWS.shape) < 0.7
    result = masked(masking(mlm_probability=0.5, mask=0.0, random=1.0, keep=0.0), eligible=eligible)
    assert not result.selected[~eligible].any()
    assert np.isin(result.shown[result.selected], TOKENIZER.ordinary).all()
    assert len(np.unique(result.shown[result.selected])) == len(TOKENIZER.ordinary)


@given(st.integers(0, 2**31), st.integers(0, 50), st.sampled_from(["token", "whole-word", "span"]), st.data())
def test_masks_do_not_depend_on_the_batch(seed, epoch, selection, data):
    settings = masking(selection=selection)
    whole = masked(settings, ROWS[:20], STARTS[:20], seed, epoch)
    order = np.array(data.draw(st.permutations(range(20)))[:7])
    part = masked(settings, ROWS[order], STARTS[order], seed, epoch, example=order)
    assert (part.shown == whole.shown[order]).all()
    assert (part.corruption == whole.corruption[order]).all()


def test_static_masks_repeat_and_dynamic_masks_do_not():
    static = masking(schedule="static", dupe_factor=3)
    first = masked(static, epoch=1)
    assert (masked(static, epoch=4).corruption == first.corruption).all()
    assert (masked(static, epoch=2).corruption != first.corruption).any()
    assert (masked(masking(), epoch=4).corruption != masked(masking(), epoch=1).corruption).any()
    assert (masked(masking(), epoch=1).corruption == first.corruption).all()


def test_whole_words_stay_whole():
    selected = masked(masking(selection="whole-word", mlm_probability=0.3)).selected
    inside = ~STARTS[:, 1:]
    assert (selected[:, 1:] == selected[:, :-1])[inside].all()


def runs_of(flags: np.ndarray) -> list[int]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return (edges[1::2] - edges[::2]).tolist()


def test_spans_are_whole_words_corrupted_alike_with_geometric_lengths():
    starts = np.ones(ROWS.shape, bool)
    result = masked(masking(selection="span", mlm_probability=0.15), starts=starts)
    assert result.selected.mean() == pytest.approx(0.15, abs=0.015)
    at_edges = result.selected[:, [0, -1]].mean()
    assert at_edges == pytest.approx(0.15, abs=0.06)
    lengths = [length for row in result.selected for length in runs_of(row)]
    begin = 0.15 / (0.15 + 3 * 0.85)
    assert np.mean(lengths) == pytest.approx(1 / ((1 - begin) / 3), rel=0.12)    # touching spans look like one
    words = masked(masking(selection="span", mlm_probability=0.3))
    inside = ~STARTS[:, 1:]
    assert (words.selected[:, 1:] == words.selected[:, :-1])[inside].all()
    assert (words.corruption[:, 1:] == words.corruption[:, :-1])[inside].all()


@pytest.mark.parametrize("rate", [0.05, 0.15, 0.4, 0.8])
def test_the_rate_is_as_stated_at_every_position(rate):
    assert within(int(masked(masking(mlm_probability=rate)).selected.sum()), ROWS.size, rate)
    everywhere = np.ones(ROWS.shape, bool)
    spans = masked(masking(mlm_probability=rate, selection="span"), starts=everywhere).selected
    for position in range(ROWS.shape[1]):
        assert within(int(spans[:, position].sum()), len(ROWS), rate)
    first = STARTS & np.roll(STARTS, -1, axis=1)            # words of one piece are drawn independently
    words = masked(masking(mlm_probability=rate, selection="whole-word")).selected
    assert within(int(words[first].sum()), int(first.sum()), rate)
    assert words.mean() == pytest.approx(rate, abs=0.02)


@pytest.mark.parametrize("mean", [1.0, 2.0, 3.0, 6.0])
def test_spans_are_as_long_as_stated(mean):
    shape = (60, 2000)
    ids, starts = np.full(shape, 7), np.ones(shape, bool)
    selected = masked(masking(selection="span", mlm_probability=0.15, span_mean=mean), rows=ids, starts=starts).selected
    begin = 0.15 / (0.15 + mean * 0.85)                     # a span that touches the next one looks like one span
    lengths = np.array([length for row in selected for length in runs_of(row)])
    assert lengths.mean() == pytest.approx(mean / (1 - begin), rel=0.05)
    assert selected.mean() == pytest.approx(0.15, abs=0.01)
    stay = 1 - (1 - begin) / mean
    for length in (1, 2, 3):
        assert within(int((lengths > length).sum()), len(lengths), stay**length)


@pytest.mark.parametrize("selection", ["token", "whole-word", "span"])
def test_tokens_that_are_not_ordinary_are_never_changed(selection):
    eligible = np.random.default_rng(5).random(ROWS.shape) < 0.7
    result = masked(masking(mlm_probability=0.6, selection=selection), eligible=eligible)
    assert (result.corruption[~eligible] == UNTOUCHED).all()
    assert (result.shown[~eligible] == ROWS[~eligible]).all()
    assert result.selected.any()
    drawn = result.shown[result.corruption == RANDOM]
    assert np.isin(drawn, TOKENIZER.ordinary).all()


@given(st.floats(0.01, 0.5), st.floats(0.01, 0.49), st.integers(0, 1000))
def test_any_two_rates_nest_for_whole_words_and_tokens(low, more, seed):
    for selection in ("token", "whole-word"):
        few, many = (masked(masking(mlm_probability=rate, selection=selection), ROWS[:10], STARTS[:10], seed).selected
                     for rate in (low, low + more))
        assert (few <= many).all()


def test_pieces_of_a_word_are_corrupted_independently_with_stated_fractions():
    result = masked(masking(selection="whole-word", mlm_probability=0.5, mask=0.5, random=0.3, keep=0.2))
    later = result.selected & ~STARTS
    for corruption, fraction in ((MASK, 0.5), (RANDOM, 0.3), (KEEP, 0.2)):
        assert within(int((result.corruption[later] == corruption).sum()), int(later.sum()), fraction)
    pairs = later[:, 1:] & later[:, :-1]
    alike = (result.corruption[:, 1:] == result.corruption[:, :-1])[pairs]
    assert within(int(alike.sum()), int(pairs.sum()), 0.5**2 + 0.3**2 + 0.2**2)


@pytest.mark.parametrize("dupe_factor", [1, 2, 5])
def test_a_static_schedule_has_dupe_factor_maskings(dupe_factor):
    def maskings(settings):
        return {masked(settings, ROWS[:20], STARTS[:20], epoch=epoch).corruption.tobytes() for epoch in range(10)}

    assert len(maskings(masking(schedule="static", dupe_factor=dupe_factor))) == dupe_factor
    assert len(maskings(masking())) == 10


def test_epochs_may_differ_within_a_batch():
    epoch = np.array([0, 3, 1, 3])
    result = masked(masking(), ROWS[:4], STARTS[:4], epoch=epoch)
    for row, number in enumerate(epoch):
        alone = masked(masking(), ROWS[row:row + 1], STARTS[row:row + 1], epoch=number, example=np.array([row]))
        assert (alone.corruption == result.corruption[row]).all()
