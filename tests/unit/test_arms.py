"""Every arm of arms.yaml: what it does to text, two steps of training, evaluation, probe; all of them in a report."""
import json
import math
import re
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from study import StudyError
from study.analysis.results import read_records
from study.config.load import load_study, resolve
from study.data.batches import BatchSource, gather
from study.data.masking import KEEP, MASK, RANDOM, UNTOUCHED
from study.data.preview import describe_inputs, mask_text
from study.data.tokenizer import load
from study.data.tokenizer_info import TokenizerInfo
from study.evaluation.baselines import write_baselines
from study.evaluation.evaluate import evaluate
from study.evaluation.probe import probe
from study.report.page import write_report
from study.training.pretrain import cell_settings, load_data, pretrain
from study.training.search import search
from tests.support.fake_results import compare
from tests.support.studies import ROOT, tiny_study

ARMS = load_study(ROOT / "experiments" / "tiny").arms
MASKED = [name for name in ARMS if name != "left-to-right"]
STEPS = 2


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The tiny study in a folder of its own: every arm, one seed, two steps; nothing is trained yet."""
    study = tiny_study(tmp_path_factory.mktemp("tiny") / "study",
                       lambda params: params.replace("\n  steps: 12\n", f"\n  steps: {STEPS}\n"))
    write_baselines(study, study.runs / "examples")
    search(study)
    return study


@pytest.fixture(scope="module")
def source(tiny):
    """A cell's batches, by arm."""
    data = load_data(tiny)

    def of(arm, seed=0):
        config = cell_settings(tiny, arm)
        return BatchSource(data.train, data.tokenizer, config, seed, config.examples.max_seq_length, config.training.batch_size)

    return of


def rows(source, epoch, example):
    return source.rows_of(np.asarray(epoch), np.asarray(example))


def within(count, total, share):
    """Whether a count lies inside the 1 - 1e-6 interval of its binomial law."""
    low, high = stats.binom.interval(1 - 1e-6, total, share)
    return low <= count <= high


def true_ids(source, epoch, example):
    """The rows (N, T) before masking."""
    if source.config.masking.schedule == "static":
        epoch = epoch % source.config.masking.dupe_factor
    return gather(source.store.ids, source.layout.spans(epoch, example, source.seed), source.length,
                  source.tokenizer, source.layout.padded).ids


@pytest.mark.parametrize("name", MASKED)
def test_shares_are_those_of_the_recipe(source, name):
    made, tokenizer = source(name), source(name).tokenizer
    masking, predicted = made.config.masking, made.config.objective.target_fraction
    epoch, example = np.arange(4000) // made.rows, np.arange(4000) % made.rows
    batch, true = rows(made, epoch, example), true_ids(made, epoch, example)
    kind, ordinary = batch.corruption, tokenizer.is_ordinary[true]
    assert not kind[~ordinary].any()                                        # specials and padding are never selected
    assert (batch.input_ids[kind == UNTOUCHED] == true[kind == UNTOUCHED]).all()
    assert (batch.targets == true.reshape(-1)[batch.positions]).all()
    count = np.bincount(kind[ordinary], minlength=4)
    selected = int(count[1:].sum())
    if masking.selection == "token" and masking.schedule == "dynamic":      # elsewhere draws are not independent
        assert within(selected, int(ordinary.sum()), masking.mlm_probability)
        for which, share in ((MASK, masking.mask), (RANDOM, masking.random), (KEEP, masking.keep)):
            assert within(count[which], selected, share)
        assert within(len(batch.targets), selected, predicted)
    else:
        assert selected / ordinary.sum() == pytest.approx(masking.mlm_probability, rel=0.15)
        assert count[1:] / selected == pytest.approx([masking.mask, masking.random, masking.keep], abs=0.06)
    assert (batch.input_ids[kind == MASK] == tokenizer.mask_id).all()
    assert tokenizer.is_ordinary[batch.input_ids[(kind == RANDOM) | (kind == KEEP)]].all()
    assert (batch.input_ids[kind == KEEP] == true[kind == KEEP]).all()
    assert (kind.reshape(-1)[batch.positions] != UNTOUCHED).all()


@pytest.mark.parametrize("name", ["whole-word", "span", "mix-81-10-9", "d2l"])
def test_arms_on_words_of_several_pieces(tiny, store, tokenizer, name):
    """The built-in language has words of one piece; here they have up to four."""
    config = resolve(tiny, name)
    made = BatchSource(store, tokenizer, config, 0, config.examples.max_seq_length, 8)
    epoch, example = np.arange(3000) // made.rows, np.arange(3000) % made.rows
    batch, true = rows(made, epoch, example), true_ids(made, epoch, example)
    selected, ordinary = batch.corruption > 0, tokenizer.is_ordinary[true]
    assert not selected[~ordinary].any()
    assert (tokenizer.is_continuation[true] & ordinary).mean() > 0.2
    inside = tokenizer.is_continuation[true][:, 2:] & ordinary[:, 1:-1] & ordinary[:, 2:]       # goes on with the word before
    together = (selected[:, 2:] == selected[:, 1:-1])[inside]
    assert together.all() == (config.masking.selection != "token")
    assert selected[ordinary].mean() == pytest.approx(0.15, rel=0.2)


def test_a_span_ends_at_a_special(tiny, store, tokenizer):
    """Selected on both sides of a [SEP] as often as two words are that know nothing of each other."""
    config = resolve(tiny, "span")
    made = BatchSource(store, tokenizer, config, 0, config.examples.max_seq_length, 8)
    batch = rows(made, np.arange(30_000) // made.rows, np.arange(30_000) % made.rows)
    separator = (batch.input_ids == tokenizer.sep_id)[:, 2:-1]
    both = ((batch.corruption > 0)[:, 1:-2] & (batch.corruption > 0)[:, 3:])[separator].sum()
    assert within(int(both), int(separator.sum()), 0.15**2)


@pytest.mark.parametrize("name", ARMS)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_a_row_depends_on_seed_epoch_and_example_alone(source, name, data):
    seed, count = data.draw(st.integers(0, 3)), data.draw(st.integers(2, 9))
    made = source(name, seed)
    epoch = np.array(data.draw(st.lists(st.integers(0, 12), min_size=count, max_size=count)))
    example = np.array(data.draw(st.lists(st.integers(0, made.rows - 1), min_size=count, max_size=count)))
    order = np.array(data.draw(st.permutations(range(count))))
    whole, turned = rows(made, epoch, example), rows(made, epoch[order], example[order])
    np.testing.assert_array_equal(whole.input_ids[order], turned.input_ids)
    alone = rows(made, epoch[:1], example[:1])
    for field in ("input_ids", "token_type_ids", "corruption", "attention_mask", "next_sentence_label"):
        both = getattr(whole, field), getattr(alone, field)
        assert (both[0] is None) == (both[1] is None)
        if both[0] is not None:
            np.testing.assert_array_equal(both[0][:1], both[1])
    length = made.length
    here = whole.positions < length
    np.testing.assert_array_equal(whole.positions[here], alone.positions)
    np.testing.assert_array_equal(whole.targets[here], alone.targets)


@pytest.mark.parametrize("name", MASKED)
def test_static_rows_come_back_and_dynamic_ones_do_not(source, name):
    made, example = source(name), np.arange(12)
    masking = made.config.masking
    first, again = (rows(made, np.full(12, epoch), example) for epoch in (0, masking.dupe_factor))
    other = rows(made, np.ones(12, int), example)
    if masking.schedule == "static":        # pairs, labels and masks alike
        for field in ("input_ids", "corruption", "targets", "next_sentence_label"):
            np.testing.assert_array_equal(getattr(first, field), getattr(again, field))
        assert np.array_equal(first.corruption, other.corruption) == (masking.dupe_factor == 1)
    else:
        assert not np.array_equal(first.corruption, again.corruption)


@pytest.mark.parametrize("name", ["mlm-pairs", "mlm-nsp", "nsp-light", "sentence-pairs-nsp", "mlm-sop", "d2l"])
def test_pair_labels_agree_with_the_documents(source, name):
    made = source(name)
    example, epoch = np.arange(600) % len(made.layout), np.arange(600) // len(made.layout)
    if made.config.masking.schedule == "static":
        epoch = np.zeros(600, int)
    spans, store = made.layout.spans(epoch, example, 0), made.store
    same = store.document_of(spans.first) == store.document_of(spans.second)
    follows = spans.second == spans.first + spans.first_length
    if made.config.objective.sentence_objective == "sop":
        assert same.all()
        assert ((spans.first < spans.second) == (spans.label == 0)).all()
    else:
        assert (same == (spans.label == 0)).all()
        assert follows[spans.label == 0].all()
    if epoch.any():                         # drawn anew
        assert within(int(spans.label.sum()), 600, 0.5)
    labels = rows(made, epoch, example).next_sentence_label
    assert labels is None if made.config.objective.sentence_objective == "none" else (labels == spans.label).all()


@pytest.mark.parametrize("name", ARMS)
def test_packing_loses_no_token_and_pads_nothing_where_that_is_promised(source, name):
    made = source(name)
    if made.config.inputs.format != "full-sentences":
        batch = made.batch(0)
        if made.config.inputs.batch == "tokens":          # padded rows, as many tokens as full ones
            tokens = np.mean([made.batch(step).tokens for step in range(40)])
            full = made.config.training.batch_size * made.length
            assert tokens == pytest.approx(full, rel=0.12)
        assert batch.attention_mask is not None
        return
    layout = made.layout
    covered = np.zeros(len(made.store.ids), bool)
    for start, length in zip(layout.starts, layout.lengths, strict=True):
        covered[start:start + length] = True
    assert covered.all()
    assert made.batch(0).attention_mask is None


@pytest.mark.parametrize("name", ARMS)
def test_two_steps_evaluate_and_probe(tiny, name):
    config = cell_settings(tiny, name)
    done = pretrain(tiny, name, 0)
    records = read_records(tiny.cell(name, 0) / "metrics.jsonl")
    validated = [r["validation_nll"] for r in records if "validation_nll" in r]
    uniform = math.log(json.loads((tiny.runs / "examples/references.json").read_text())["vocabulary"] + 5)
    if config.objective.token_objective == "mlm" and done["steps"]:
        assert (done["status"] == "finished") == (validated[-1] < uniform)
    assert done["steps"] == config.training.steps
    folder = tiny.cell(name, 0)
    found = evaluate(tiny, name, 0)
    if config.objective.token_objective == "causal":
        assert found["mask_only"] is None
    else:
        assert found["mask_only"]["nll"] > found["mask_only"]["floor_nll"]
    assert (found["nsp"] is None) == (config.objective.sentence_objective == "none")
    scores = probe(tiny, name, 0)["topic"]
    if not config.training.steps:
        assert scores["mean"]["accuracy"] == scores["mean"]["untrained_accuracy"]
    fed = json.loads((folder / "inputs.json").read_text())
    if done["steps"]:
        assert fed["shares"]["padding"] == pytest.approx(done["padding_share"], abs=0.2)
    if config.training.curriculum is None:
        assert fed["views_per_example"] == pytest.approx(done["rows_seen"] / fed["examples"])
    assert len(fed["line"]["passes"]) == 2


def test_a_diverged_cell_goes_through_every_stage(tiny):
    """Weights that are no numbers: evaluated, probed, compared and reported."""
    wild = tiny.model_copy(update={"settings": tiny.settings.model_copy(update={
        "study": "wild", "arms": ["dynamic", "no-warmup"], "seeds": [0, 1]})})
    shutil.copytree(tiny.runs, wild.runs, ignore=shutil.ignore_patterns("*-0"))
    path = wild.runs / "search" / "no-warmup.yaml"
    path.write_text(re.sub(r"learning_rate: .*", "learning_rate: 1.0e+9", path.read_text()))
    (wild.runs / "search" / "best.yaml").write_text("dynamic: {}\nno-warmup: {training.learning_rate: 1.0e+9}\n")
    for arm, seed in wild.cells:
        done = pretrain(wild, arm, seed)
        assert done["status"] == ("diverged" if arm == "no-warmup" else "finished")
        evaluate(wild, arm, seed)
        probe(wild, arm, seed)
        for file in wild.cell(arm, seed).glob("*.json*"):
            assert "NaN" not in file.read_text()
            assert "Infinity" not in file.read_text()
    compare(wild)
    assert "2 diverged" in write_report(wild).read_text()


def test_all_arms_in_one_report(tiny):
    for name in tiny.settings.arms:
        if not (tiny.cell(name, 0) / "probe.json").exists():
            test_two_steps_evaluate_and_probe(tiny, name)
    compare(tiny)
    page = write_report(tiny).read_text()
    for name, arm in tiny.arms.items():
        assert name in page
        assert arm.factor in page
    assert "[MASK]" in page
    assert (tiny.reports / "figures/probe-layers.svg").exists()
    assert (tiny.reports / "figures/probe-sizes.svg").exists()
    assert 'id="confusion"' in page


@pytest.mark.parametrize(("schedule", "alike"), [("static", True), ("dynamic", False)])
def test_a_text_under_masks(tiny, schedule, alike):
    backend = load(tiny.runs / "tokenizer")
    words = backend.decode(list(range(5, 30)))
    config = resolve(tiny, schedule)
    seen, shares = mask_text(words, config, backend, TokenizerInfo.of(backend), 0, 3)
    shown = [[token.shown for token in line] for line in seen]
    assert (shown[0] == shown[1] == shown[2]) is alike
    for line in seen:
        assert [token.original for token in line][:1] == ["[CLS]"]
        for token in line:
            assert (token.label is not None) == (token.corruption != "untouched")
            assert token.label in (None, token.original)
    assert shares["selected"] == pytest.approx(0.15, abs=0.02)
    assert shares["mask"] == pytest.approx(0.8, abs=0.03)


def test_left_to_right_shows_the_next_token(tiny):
    backend = load(tiny.runs / "tokenizer")
    words = backend.decode(list(range(5, 12)))
    (line,), shares = mask_text(words, resolve(tiny, "left-to-right"), backend, TokenizerInfo.of(backend), 0, 1)
    assert [token.label for token in line[:-2]] == [token.original for token in line[1:-1]]
    assert shares["selected"] is None


def test_an_untrained_arm_cannot_be_tuned(tiny, tmp_path):
    (tmp_path / "experiments").mkdir()
    shutil.copy(tiny.folder / "experiments/arms.yaml", tmp_path / "experiments")
    text = (tiny.folder / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("search:\n  arms: [dynamic]", "search:\n  arms: [untrained]"))
    with pytest.raises(StudyError, match=r"params\.yaml: search\.arms: untrained is not trained; take it out"):
        load_study(tmp_path)


def test_views_are_counted(source, tiny):
    backend = load(tiny.runs / "tokenizer")
    for name, expected in (("static-few", lambda views: views), ("static-2-few", lambda views: views / 2),
                           ("dynamic-few", lambda views: 1.0)):
        made = source(name)
        fed = describe_inputs([(made, 30 * made.rows // made.batch_size)], backend)
        assert fed["views_per_example"] == pytest.approx(30, rel=0.2)
        assert fed["views_per_mask"] == pytest.approx(expected(fed["views_per_example"]))
    assert describe_inputs([(source("untrained"), 0)], backend)["views_per_mask"] == 0
    unquoted = describe_inputs([(source("dynamic"), 0)], backend, quotable=False)["line"]
    assert unquoted == {"passes": [], "more": False}
