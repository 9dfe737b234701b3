"""What `study mask` and the report show of an arm's inputs."""
import pytest

from study.config.arms import resolve
from study.data.preview import describe_inputs, mask_text
from study.data.tokenizer import TokenizerInfo, load
from study.objectives import objective_of


@pytest.fixture(scope="module")
def tiny_backend(tiny):
    return load(tiny.runs / "tokenizer")


@pytest.mark.parametrize(("arm", "equal"), [("static", True), ("dynamic", False)])
def test_a_text_under_the_masks_of_an_arm(tiny, tiny_backend, arm, equal):
    text = tiny_backend.decode(list(range(5, 30)))
    objective = objective_of(resolve(tiny, arm))
    epochs, shares = mask_text(text, objective, tiny_backend, TokenizerInfo.of(tiny_backend), 0, 3)
    shown = [[token.shown for token in epoch] for epoch in epochs]
    assert (shown[0] == shown[1] == shown[2]) is equal
    for epoch in epochs:
        assert epoch[0].original == "[CLS]"
        for token in epoch:
            assert (token.label is not None) == (token.corruption != "untouched")
            assert token.label in (None, token.original)
    assert shares["selected"] == pytest.approx(0.15, abs=0.02)
    assert shares["mask"] == pytest.approx(0.8, abs=0.03)


def test_left_to_right_predicts_the_next_token(tiny, tiny_backend):
    text = tiny_backend.decode(list(range(5, 12)))
    config = resolve(tiny, "left-to-right")
    (epoch,), shares = mask_text(text, objective_of(config), tiny_backend, TokenizerInfo.of(tiny_backend), 0, 1)
    assert [token.label for token in epoch[:-2]] == [token.original for token in epoch[1:-1]]
    assert shares["selected"] is None


@pytest.mark.parametrize(("arm", "views_per_mask"), [
    ("static-few", lambda views: views), ("static-2-few", lambda views: views / 2), ("dynamic-few", lambda views: 1.0)])
def test_views_are_counted_per_example_and_per_mask(source_of, tiny_backend, arm, views_per_mask):
    source = source_of(arm)
    description = describe_inputs([(source, 30 * source.rows // source.batch_size)], tiny_backend)
    assert description["views_per_example"] == pytest.approx(30, rel=0.2)
    assert description["views_per_mask"] == pytest.approx(views_per_mask(description["views_per_example"]))


def test_a_branched_cell_is_described_by_what_it_is_trained_on_after_the_branch(source_of, tiny_backend):
    before, own = source_of("dynamic"), source_of("static")
    epoch = own.rows / own.batch_size
    description = describe_inputs([(before, 2 * epoch), (own, 4 * epoch)], tiny_backend)
    assert description["views_per_example"] == pytest.approx(6)
    assert description["views_per_mask"] == pytest.approx(4)
    masked = describe_inputs([(before, 9), (source_of("all-mask"), 9)], tiny_backend)
    assert (masked["shares"]["mask"], masked["shares"]["keep"]) == (1, 0)
    assert {kind for line in masked["line"]["passes"] for kind in line["kinds"]} <= {"untouched", "mask"}
    assert describe_inputs([(before, 9)], tiny_backend)["shares"]["mask"] < 0.9


def test_an_untrained_arm_has_seen_no_mask(source_of, tiny_backend):
    assert describe_inputs([(source_of("untrained"), 0)], tiny_backend)["views_per_mask"] == 0


def test_text_that_may_not_be_quoted_is_not(source_of, tiny_backend):
    line = describe_inputs([(source_of("dynamic"), 0)], tiny_backend, quotable=False)["line"]
    assert line == {"passes": [], "more": False}
