"""Which scores `study verify` compares, and how far they may be off."""
import pytest

from study.orchestration.tolerance import PART_FACTOR, SMALLEST_PART, TOLERANCES, Pair, are_near, largest_gaps
from study.orchestration.verify import _pairs

MANY, FEW = SMALLEST_PART, SMALLEST_PART - 1
SCORE = {"accuracy": 0.5}
EVALUATION = {
    "mask_only": {"nll": 2.0, "tokens": 9000, "by_kind": {"keep": {"nll": 2.0, "tokens": MANY},
                                                          "random": {"nll": 2.0, "tokens": FEW}},
                  "by_decile": [{"nll": 2.0, "tokens": MANY}]},
    "minimal_pairs": {"blimp": {"accuracy": 0.5, "pairs": 60, "by_phenomenon": {
        "large": {"accuracy": 0.5, "pairs": MANY}, "small": {"accuracy": 0.5, "pairs": FEW}}}},
    "token_identity": {"tokens": 90, "layers": {"trained": [0.5], "untrained": [0.5]}}}
PROBE = {"topic": {"rows": {"train": 90, "test": MANY}, "mean": {"accuracy": 0.5, "untrained_accuracy": 0.5,
                                                                 "cv_accuracy": 0.5},
                   "more": {"trained": {"layers": [SCORE], "sizes": {"20": SCORE}, "shuffled": SCORE,
                                        "tutorial": {"accuracy": 0.5, "rows": [90, FEW]}}}}}
FINETUNE = {"topic": {"rows": {"test": MANY}, "trained": {
    size: {"accuracy": 0.5, "runs": [{"accuracy": 0.5}], "rows": {"test": MANY}} for size in ("100", "1000")}}}
CURVE = [{"loss": 2.0, "validation_nll": 2.0, "remasked_nll": 2.0, "largest_loss": 2.0}] * 2


def all_pairs() -> list[Pair]:
    return [pair for name, content in (("curve", CURVE), ("evaluation", EVALUATION), ("probe", PROBE),
                                       ("finetune", FINETUNE)) for pair in _pairs(content, content, name)]


def compared(key: str, by: float) -> tuple[dict, bool]:
    """The largest gaps if one score is off by so much, and whether they are within tolerance."""
    pairs = all_pairs()
    assert key in {pair.key for pair in pairs}
    pairs = [pair._replace(new=pair.old + by) if pair.key == key else pair for pair in pairs]
    largest = largest_gaps(pairs, "curve.1.")
    return largest, are_near(pairs, largest)


WHOLE = {"nll": ["curve.1.loss", "curve.1.validation_nll", "curve.1.remasked_nll", "evaluation.mask_only.nll"],
         "accuracy": ["evaluation.minimal_pairs.blimp.accuracy", "evaluation.token_identity.layers.trained.0",
                      "evaluation.token_identity.layers.untrained.0", "probe.topic.mean.accuracy",
                      "probe.topic.mean.untrained_accuracy", "probe.topic.more.trained.layers.0.accuracy",
                      "probe.topic.more.trained.shuffled.accuracy", "finetune.topic.trained.1000.accuracy",
                      "finetune.topic.trained.100.accuracy"]}
PARTS = {"nll": ["evaluation.mask_only.by_kind.keep.nll", "evaluation.mask_only.by_decile.0.nll"],
         "accuracy": ["evaluation.minimal_pairs.blimp.by_phenomenon.large.accuracy",
                      "probe.topic.more.trained.sizes.20.accuracy"]}
IGNORED = [*(f"curve.0.{key}" for key in CURVE[0]), "curve.1.largest_loss", "probe.topic.mean.cv_accuracy",
           "evaluation.mask_only.by_kind.random.nll", "evaluation.minimal_pairs.blimp.by_phenomenon.small.accuracy",
           "probe.topic.more.trained.tutorial.accuracy", "finetune.topic.trained.100.runs.0.accuracy",
           "finetune.topic.trained.1000.runs.0.accuracy"]


def test_every_score_is_one_of_a_whole_set_or_of_a_part_or_does_not_count():
    listed = [*WHOLE["nll"], *WHOLE["accuracy"], *PARTS["nll"], *PARTS["accuracy"], *IGNORED]
    assert sorted(listed) == sorted(pair.key for pair in all_pairs() if isinstance(pair.old, float))


@pytest.mark.parametrize(("kind", "key"), [(kind, key) for kind, keys in WHOLE.items() for key in keys])
def test_a_score_of_a_whole_test_set_has_the_tolerance_of_its_kind(kind, key):
    for share, near in ((0.9, True), (1.1, False)):
        largest, is_near = compared(key, share * TOLERANCES[kind])
        assert largest[kind] == pytest.approx(share * TOLERANCES[kind])
        assert is_near == near


@pytest.mark.parametrize(("kind", "key"), [(kind, key) for kind, keys in PARTS.items() for key in keys])
def test_a_score_of_a_part_may_be_off_by_more(kind, key):
    for share, near in ((0.9, True), (1.1, False)):
        by = share * PART_FACTOR * TOLERANCES[kind]
        largest, is_near = compared(key, by)
        assert (largest[kind], largest[f"{kind} of a part"]) == (0, pytest.approx(by))
        assert is_near == near


@pytest.mark.parametrize("key", IGNORED)
def test_small_parts_single_runs_and_earlier_records_do_not_count(key):
    largest, is_near = compared(key, 0.5)
    assert set(largest.values()) == {0}
    assert is_near


@pytest.mark.parametrize("new", [None, float("nan")])
def test_a_score_without_a_number_is_not_near(new):
    pairs = [Pair("evaluation.mask_only.nll", 2.0, new)]
    largest = largest_gaps(pairs, "curve.1.")
    assert largest["nll"] is None
    assert not are_near(pairs, largest)


def test_a_section_that_only_one_result_has_is_not_near():
    pairs = [*_pairs(PROBE, {"topic": PROBE["topic"] | {"more": None}}, "probe")]
    assert not are_near(pairs, largest_gaps(pairs, "curve.1."))
    pairs = [*_pairs([{"top": 1}], [{"top": 1}, {"top": 2}], "predictions.content")]
    assert are_near(pairs, largest_gaps(pairs, "curve.1."))
