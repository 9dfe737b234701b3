"""`study plan`, and which cells of a study are stale."""
import contextlib
import sys
import threading

import pytest

from study import StudyError
from study.cli.plan_table import duration, show_plan
from study.config.arms import resolve
from study.config.fingerprint import settings_yaml
from study.config.schema import From
from study.data.token_store import TokenStore
from study.objectives import objective_of
from study.orchestration import dvc_commands, runner
from study.orchestration import plan as planning
from study.orchestration.dvc_commands import StaleCells
from tests.support.studies import tiny_study


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_study(tmp_path_factory.mktemp("plan") / "tiny")


STALE = ["dynamic-0", "static-0", "short-first-half-0", "pre-ln-0"]


def test_a_plan_counts_tokens_operations_and_stale_cells(tiny, capsys):
    rows = {row.arm: row for row in planning.plan(tiny, STALE, STALE, measure=False)}
    assert list(rows) == tiny.settings.arms
    assert [name for name, row in rows.items() if row.stale] == sorted(
        (name.removesuffix("-0") for name in STALE), key=tiny.settings.arms.index)
    config = resolve(tiny, "dynamic")
    tokens = config.training.steps * config.training.batch_size * config.examples.max_seq_length
    assert rows["dynamic"].tokens == rows["short-first-half"].tokens == tokens
    size = tiny.settings.tokenizer.vocabulary_size
    assert rows["dynamic"].flops == pytest.approx(
        tokens * objective_of(config).token.flops_per_token(size, config.examples.max_seq_length))
    assert rows["short-first-half"].flops < rows["dynamic"].flops
    text = len(TokenStore.open(tiny.runs / "examples" / "train").ids)
    assert rows["dynamic"].epochs == pytest.approx(tokens / text)
    assert rows["dynamic-few"].epochs == pytest.approx(tokens / (0.1 * text))
    show_plan(list(rows.values()), jobs=2, has_examples=False)
    output = " ".join(capsys.readouterr().out.split())
    assert f"4 of {len(tiny.cells)} cells are stale" in output
    assert "`dvc repro examples`" in output


def test_cells_whose_steps_cost_the_same_are_measured_once(tiny, monkeypatch, capsys):
    measured = []
    monkeypatch.setattr(planning, "step_seconds", lambda part, data: measured.append(part) or 0.5)
    rows = planning.plan(tiny, STALE, STALE)
    full = tiny.settings.examples.max_seq_length
    assert [(part.config.model.norm, part.length) for part in measured] == [    # dynamic and static are of one kind,
        ("post", full), ("pre", full), ("post", full // 2)]                     # and so are full rows after short ones
    steps = tiny.settings.training.steps
    assert [row.seconds for row in rows if row.stale] == [0.5 * steps] * 4
    assert all(row.seconds is None for row in rows if not row.stale)
    show_plan(rows, jobs=1, has_examples=True)
    assert f"{duration(2 * steps)} of training" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("setting", "value"), [
    ("optimizer", "muon"), ("skip_padding", True), ("compile", True), ("local_attention_from", 0),
    ("precision", "bfloat16"), ("gradient_accumulation_steps", 2), ("threads", 7), ("batch_size", 4)])
def test_a_setting_that_changes_the_cost_of_a_step_makes_another_kind(tiny, setting, value):
    config = resolve(tiny, "dynamic")
    other = config.model_copy(update={"training": config.training.model_copy(update={setting: value})})
    kinds = [[planning._kind(part) for part in planning._parts(one)] for one in (config, other)]
    assert list(map(len, kinds)) == [1, 1]
    assert kinds[0] != kinds[1]


def test_short_and_full_rows_are_timed_apart(tiny, monkeypatch):
    full = tiny.settings.examples.max_seq_length
    monkeypatch.setattr(planning, "step_seconds", lambda part, data: 5.0 if part.length == full else 3.0)
    short, = (row for row in planning.plan(tiny, STALE, STALE) if row.arm == "short-first-half")
    steps = tiny.settings.training.steps
    switch = round(resolve(tiny, "short-first-half").training.curriculum.step_fraction * steps)
    assert 0 < switch < steps
    assert short.seconds == 3.0 * switch + 5.0 * (steps - switch)


def test_steps_before_and_after_attention_becomes_local_are_timed_apart(tiny):
    config = resolve(tiny, "short-first-half")
    steps, switch = config.training.steps, round(config.training.curriculum.step_fraction * config.training.steps)
    late = config.model_copy(update={"training": config.training.model_copy(update={
        "local_attention_from": switch + 1, "count_embeddings_at": 3})})
    assert [(part.begin, part.end, part.config.training.local_attention_from) for part in planning._parts(late)] == [
        (0, switch, None), (switch, switch + 1, None), (switch + 1, steps, 0)]
    assert all(part.config.training.count_embeddings_at is None for part in planning._parts(late))     # one slow step


def test_only_cells_that_are_trained_cost_training(tiny, monkeypatch, capsys):
    measured = []
    monkeypatch.setattr(planning, "step_seconds", lambda part, data: measured.append(part) or 0.5)
    rows = planning.plan(tiny, STALE, ["static-0", "mlm-pairs-0"])
    assert [row.arm for row in rows if row.trained] == ["static"]               # mlm-pairs-0 is not stale
    assert [row.seconds for row in rows if row.arm in ("dynamic", "pre-ln")] == [None, None]
    assert len(measured) == 1
    static, = (row for row in rows if row.trained)
    show_plan(rows, jobs=4, has_examples=True)
    output = " ".join(capsys.readouterr().out.split())
    assert (f"4 of {len(tiny.cells)} cells are stale, of which 1 is trained: {static.tokens:,.0f} tokens, "
            f"{static.flops:.1e} FLOPs {duration(static.seconds)} of training on this machine; search") in output
    show_plan(planning.plan(tiny, STALE, []), jobs=4, has_examples=True)
    output = " ".join(capsys.readouterr().out.split())
    assert f"4 of {len(tiny.cells)} cells are stale; none of them is trained, only evaluated, probed or" in output
    assert "of training" not in output
    show_plan(planning.plan(tiny, [], []), jobs=4, has_examples=True)
    output = " ".join(capsys.readouterr().out.split())
    assert f"0 of {len(tiny.cells)} cells are stale: 0 tokens, 0.0e+00 FLOPs" in output


def test_the_time_of_a_plan_is_that_of_its_last_cell(capsys):
    one, two = (planning.Plan(f"arm-{stale}", 2, stale, stale, 1e6, None, 1e9, 3000) for stale in (1, 2))
    assert planning.elapsed_seconds([one], jobs=2) == 3000
    assert planning.elapsed_seconds([one, two], jobs=2) == 6000
    assert planning.elapsed_seconds([one, two], jobs=1) == 9000
    show_plan([one], jobs=2, has_examples=True)
    assert "50 min of training on this machine; search" in " ".join(capsys.readouterr().out.split())
    show_plan([one, two], jobs=2, has_examples=True)
    assert "1.7 h of training on this machine with 2 cells in parallel" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("threads", "jobs", "expected"), [(1, None, 4), (1, 3, 3), (1, 9, 4), (2, None, 2), (3, 4, 1),
                                                           (8, None, 1), (None, None, 1), (None, 4, 1)])
def test_cells_train_at_once_as_their_threads_allow(tiny, monkeypatch, threads, jobs, expected):
    monkeypatch.setattr(planning, "processors", lambda: 4)
    training = tiny.settings.training.model_copy(update={"threads": threads})
    study = tiny.model_copy(update={"settings": tiny.settings.model_copy(update={"training": training})})
    assert planning.cells_at_once(study, jobs) == expected


def test_a_branched_cell_costs_what_both_of_its_parts_cost(tiny, monkeypatch):
    changes = {"masking": {"mlm_probability": 0.4}, "training": {"steps": 20}}
    late = tiny.arms["dynamic"].model_copy(update={"baseline": "dynamic", "changes": changes,
                                                   "branch": From(arm="dynamic", step=5)})
    settings = tiny.settings.model_copy(update={"arms": ["dynamic", "late"]})
    study = tiny.model_copy(update={"arms": tiny.arms | {"late": late}, "settings": settings})
    stale = ["dynamic-0", "late-0"]
    seconds = {0.15: 2.0, 0.4: 3.0}
    measured = []
    monkeypatch.setattr(planning, "step_seconds", lambda part, data: measured.append(part.config) or seconds[
        part.config.masking.mlm_probability])
    dynamic, late = planning.plan(study, stale, stale)
    assert (dynamic.seconds, late.seconds) == (12 * 2.0, 5 * 2.0 + 15 * 3.0)
    assert [config.branch for config in measured] == [None, None]           # each kind once, from its first step
    dynamic, late = planning.plan(study, stale, stale, measure=False)
    assert late.tokens == pytest.approx(dynamic.tokens * 20 / 12)
    size, length = tiny.settings.tokenizer.vocabulary_size, tiny.settings.examples.max_seq_length
    per_step = {rate: dynamic.tokens / 12 * objective_of(resolve(study, arm)).token.flops_per_token(size, length)
                for rate, arm in ((0.15, "dynamic"), (0.4, "late"))}
    assert late.flops == pytest.approx(5 * per_step[0.15] + 15 * per_step[0.4])


def test_a_step_is_timed_on_the_data_of_the_study(tiny, monkeypatch):
    """Each step of a simulated clock takes 3 s, and measuring stops once SECONDS have passed after the warm-up."""
    from study.training.pretrain import load_data
    from study.training.trainer import Trainer

    ticks, lengths, train_step = iter(range(0, 3000, 3)), [], Trainer.train_step
    monkeypatch.setattr(planning.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(Trainer, "train_step", lambda self, batch: lengths.append(batch.input_ids.shape[1])
                        or train_step(self, batch))
    data, full = load_data(tiny), tiny.settings.examples.max_seq_length
    part, = planning._parts(resolve(tiny, "dynamic"))
    assert planning.step_seconds(part, data) == 3
    assert next(ticks) == 3 * (planning.WARMUP_STEPS + 2)           # warm-up, one timed step, and nothing more
    for part in planning._parts(resolve(tiny, "short-first-half")):
        assert planning.step_seconds(part, data) == 3
    count = planning.WARMUP_STEPS + 1
    assert lengths == [*[full] * count, *[full // 2] * count, *[full] * count]
    assert planning._parts(resolve(tiny, "untrained")) == []


@pytest.mark.parametrize(("chosen", "slower", "ratio", "expected"), [
    ("float32", "bfloat16", 2, ""), ("float32", "float32", 1.09, ""), ("bfloat16", "bfloat16", 1.0, ""),
    ("bfloat16", "bfloat16", 2, "bfloat16 takes 2.0 times as long per step as float32"),
    ("float32", "float32", 1.1, "float32 takes 1.1 times as long per step as bfloat16")])
def test_a_plan_says_which_precision_is_faster(tmp_path, monkeypatch, chosen, slower, ratio, expected):
    study = tiny_study(tmp_path / "study", lambda text: text.replace("precision: float32", f"precision: {chosen}"))
    monkeypatch.setattr(planning, "step_seconds",
                        lambda part, data: ratio if part.config.training.precision == slower else 1)
    advice = planning.precision_advice(study)
    assert expected in advice
    assert bool(advice) == bool(expected)


def test_a_plan_without_training_advises_no_precision(tiny):
    training = tiny.settings.training.model_copy(update={"steps": 0, "warmup_steps": 0})
    study = tiny.model_copy(update={"settings": tiny.settings.model_copy(update={"training": training})})
    assert planning.precision_advice(study) == ""


def test_durations():
    assert [duration(5), duration(240), duration(9000)] == ["5 s", "4 min", "2.5 h"]


CHANGED = [{"changed deps": {"params.yaml": {"model": "modified"}}}]
LOST = {"changed outs": {"runs/tiny/examples": "not in cache"}}
MISSING = [{"changed deps": {"runs/tiny/tokenizer": "deleted"}}, LOST]
NEVER_RUN = ["changed command", LOST]


@pytest.mark.parametrize(("stages", "expected", "missing", "trained"), [
    ({"pretrain@dynamic-0": CHANGED, "report": CHANGED}, ["dynamic-0"], [], ["dynamic-0"]),
    ({"tokenizer": CHANGED}, None, [], None),
    ({"search": CHANGED, "evaluate@dynamic-0": CHANGED}, ["dynamic-0", "static-0"], [], ["static-0"]),
    ({"pretrain@dynamic-0": MISSING, "evaluate@static-0": MISSING}, ["dynamic-0", "static-0"],
     ["dynamic-0", "static-0"], ["dynamic-0"]),
    ({"pretrain@dynamic-0": MISSING, "evaluate@dynamic-0": CHANGED, "evaluate@static-0": MISSING},
     ["dynamic-0", "static-0"], ["static-0"], ["dynamic-0"]),
    ({"pretrain@dynamic-0": NEVER_RUN, "evaluate@static-0": MISSING}, ["dynamic-0", "static-0"], ["static-0"],
     ["dynamic-0"]),
    ({"pretrain@dynamic-0": [{"changed outs": {"metrics.jsonl": "deleted"}}]}, ["dynamic-0"], [], ["dynamic-0"]),
    ({"evaluate@dynamic-0": CHANGED, "finetune@static-0": CHANGED}, ["dynamic-0", "static-0"], [], []),
    ({"tasks@topic": CHANGED}, ["dynamic-0"], [], []),
    ({"tokenizer": CHANGED, "examples": MISSING, "pretrain@dynamic-0": MISSING}, None, [], None)])
def test_cells_that_follow_a_stale_stage_are_stale(tiny, monkeypatch, stages, expected, missing, trained):
    monkeypatch.setattr(dvc_commands, "stale_stages", lambda study: stages)
    for arm, seed in tiny.cells:
        config = resolve(tiny, arm)
        if (arm, seed) == ("static", 0):
            config = config.model_copy(update={"training": config.training.model_copy(update={"steps": 13})})
        tiny.cell(arm, seed).mkdir(parents=True, exist_ok=True)
        (tiny.cell(arm, seed) / "settings.yaml").write_bytes(settings_yaml(config))
    stale = dvc_commands.stale_cells(tiny)
    every = [f"{arm}-{seed}" for arm, seed in tiny.cells]
    assert stale.names == (every if expected is None else expected)
    assert stale.trained == (every if trained is None else trained)
    assert stale.missing == missing
    assert stale.to_run(allow_missing=False) == stale.names
    assert stale.to_run(allow_missing=True) == [name for name in stale.names if name not in missing]
    assert f"{len(missing)} of the {len(stale.names)} stale cells" in dvc_commands.missing_hint(stale)


def test_study_run_tunes_before_it_makes_the_inputs_and_asks_which_cells_are_stale(tiny, monkeypatch):
    calls = []
    monkeypatch.setattr(runner, "preloaded", lambda threads: contextlib.nullcontext())
    for name in ("run_searches", "make_inputs", "run_dvc"):
        monkeypatch.setattr(runner, name, lambda *arguments, name=name: calls.append(name))
    monkeypatch.setattr(runner, "stale_cells", lambda study: calls.append("stale_cells") or StaleCells([], [], []))
    assert runner.run_study(tiny, runner.LocalWorkers(tiny, 2), 2) == []
    assert calls == ["run_searches", "make_inputs", "stale_cells", "run_dvc"]


def test_ctrl_c_starts_no_further_cell(tiny):
    started, release = [], threading.Event()

    def work(cell):
        started.append(cell.name)
        release.wait(10)

    def watch(cells):
        if started:
            threading.Timer(0.2, release.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner._in_parallel(runner._progress(tiny, ["a-0", "b-0", "c-0"]), work, 1, watch)
    assert started == ["a-0"]


def test_a_dvc_command_that_fails_without_output_is_named(tiny, monkeypatch):
    monkeypatch.setattr(dvc_commands, "check_repository", lambda study: None)
    monkeypatch.setattr(dvc_commands, "DVC", (sys.executable, "-c", "raise SystemExit(7)"))
    with pytest.raises(StudyError, match=r"`dvc repro dvc\.yaml:code` failed; .* run `dvc` yourself"):
        dvc_commands.run_dvc(tiny, "repro", "--quiet", "dvc.yaml:code")
    monkeypatch.setattr(dvc_commands, "DVC", (sys.executable, "-c", "pass"))
    dvc_commands.run_dvc(tiny, "repro", "dvc.yaml:code")
