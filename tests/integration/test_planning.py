"""`study plan`, and which cells of a study are stale."""
import sys
import threading

import pytest

from study import StudyError
from study.cli.console import duration, show_plan
from study.config.arms import resolve
from study.config.fingerprint import settings_yaml
from study.config.schema import From
from study.data.token_store import TokenStore
from study.objectives import objective_of
from study.orchestration import dvc_commands, runner
from study.orchestration import plan as planning
from tests.support.studies import tiny_study


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_study(tmp_path_factory.mktemp("plan") / "tiny")


STALE = ["dynamic-0", "static-0", "short-first-half-0", "pre-ln-0"]


def test_a_plan_counts_tokens_operations_and_stale_cells(tiny, capsys):
    rows = {row.arm: row for row in planning.plan(tiny, STALE, measure=False)}
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
    monkeypatch.setattr(planning, "step_seconds", lambda config, data: measured.append(config) or 0.5)
    rows = planning.plan(tiny, STALE)
    assert [config.model.norm for config in measured] == ["post", "pre", "post"]    # dynamic and static are of one kind
    assert [row.seconds for row in rows if row.stale] == [0.5 * measured[0].training.steps] * 4
    assert all(row.seconds is None for row in rows if not row.stale)
    show_plan(rows, jobs=1, has_examples=True)
    assert f"{duration(2 * measured[0].training.steps)} of training" in " ".join(capsys.readouterr().out.split())


def test_a_branched_cell_costs_what_both_of_its_parts_cost(tiny, monkeypatch):
    changes = {"masking": {"mlm_probability": 0.4}, "training": {"steps": 20}}
    late = tiny.arms["dynamic"].model_copy(update={"baseline": "dynamic", "changes": changes,
                                                   "branch": From(arm="dynamic", step=5)})
    settings = tiny.settings.model_copy(update={"arms": ["dynamic", "late"]})
    study = tiny.model_copy(update={"arms": tiny.arms | {"late": late}, "settings": settings})
    stale = ["dynamic-0", "late-0"]
    seconds = {0.15: 2.0, 0.4: 3.0}
    measured = []
    monkeypatch.setattr(planning, "step_seconds", lambda config, data: measured.append(config) or seconds[
        config.masking.mlm_probability])
    dynamic, late = planning.plan(study, stale)
    assert (dynamic.seconds, late.seconds) == (12 * 2.0, 5 * 2.0 + 15 * 3.0)
    assert [config.branch for config in measured] == [None, None]           # each kind once, from its first step
    dynamic, late = planning.plan(study, stale, measure=False)
    assert late.tokens == pytest.approx(dynamic.tokens * 20 / 12)
    size, length = tiny.settings.tokenizer.vocabulary_size, tiny.settings.examples.max_seq_length
    per_step = {rate: dynamic.tokens / 12 * objective_of(resolve(study, arm)).token.flops_per_token(size, length)
                for rate, arm in ((0.15, "dynamic"), (0.4, "late"))}
    assert late.flops == pytest.approx(5 * per_step[0.15] + 15 * per_step[0.4])


def test_a_step_is_timed_on_the_data_of_the_study(tiny, monkeypatch):
    """Each step of a simulated clock takes 3 s, and measuring stops once SECONDS have passed after the warm-up."""
    from study.training.pretrain import load_data

    ticks = iter(range(0, 3000, 3))
    monkeypatch.setattr(planning.time, "perf_counter", lambda: next(ticks))
    data = load_data(tiny)
    assert planning.step_seconds(resolve(tiny, "dynamic"), data) == 3
    assert next(ticks) == 3 * (planning.WARMUP_STEPS + 2)           # warm-up, one timed step, and nothing more
    assert planning.step_seconds(resolve(tiny, "untrained"), data) == 0


@pytest.mark.parametrize(("chosen", "slower", "expected"), [
    ("float32", "bfloat16", ""), ("bfloat16", "bfloat16", "bfloat16 takes 2.0 times as long per step as float32"),
    ("float32", "float32", "float32 takes 2.0 times as long per step as bfloat16")])
def test_a_plan_says_which_precision_is_faster(tmp_path, monkeypatch, chosen, slower, expected):
    study = tiny_study(tmp_path / "study", lambda text: text.replace("precision: float32", f"precision: {chosen}"))
    monkeypatch.setattr(planning, "step_seconds", lambda config, data: 2 if config.training.precision == slower else 1)
    advice = planning.precision_advice(study)
    assert expected in advice
    assert bool(advice) == bool(expected)


def test_durations():
    assert [duration(5), duration(240), duration(9000)] == ["5 s", "4 min", "2.5 h"]


CHANGED = [{"changed deps": {"params.yaml": {"model": "modified"}}}]
LOST = {"changed outs": {"runs/tiny/examples": "not in cache"}}
MISSING = [{"changed deps": {"runs/tiny/tokenizer": "deleted"}}, LOST]
NEVER_RUN = ["changed command", LOST]


@pytest.mark.parametrize(("stages", "expected", "missing"), [
    ({"pretrain@dynamic-0": CHANGED, "report": CHANGED}, ["dynamic-0"], []),
    ({"tokenizer": CHANGED}, None, []),
    ({"search": CHANGED}, ["static-0"], []),
    ({"pretrain@dynamic-0": MISSING, "evaluate@static-0": MISSING}, ["dynamic-0", "static-0"],
     ["dynamic-0", "static-0"]),
    ({"pretrain@dynamic-0": MISSING, "evaluate@dynamic-0": CHANGED, "evaluate@static-0": MISSING},
     ["dynamic-0", "static-0"], ["static-0"]),
    ({"pretrain@dynamic-0": NEVER_RUN, "evaluate@static-0": MISSING}, ["dynamic-0", "static-0"], ["static-0"]),
    ({"pretrain@dynamic-0": [{"changed outs": {"metrics.jsonl": "deleted"}}]}, ["dynamic-0"], []),
    ({"tokenizer": CHANGED, "examples": MISSING, "pretrain@dynamic-0": MISSING}, None, [])])
def test_cells_that_follow_a_stale_stage_are_stale(tiny, monkeypatch, stages, expected, missing):
    monkeypatch.setattr(dvc_commands, "run_dvc", lambda *arguments: None)
    monkeypatch.setattr(dvc_commands, "stale_stages", lambda study: stages)
    for arm, seed in tiny.cells:
        config = resolve(tiny, arm)
        if (arm, seed) == ("static", 0):
            config = config.model_copy(update={"training": config.training.model_copy(update={"steps": 13})})
        tiny.cell(arm, seed).mkdir(parents=True, exist_ok=True)
        (tiny.cell(arm, seed) / "settings.yaml").write_bytes(settings_yaml(config))
    stale = dvc_commands.stale_cells(tiny)
    assert stale.names == (expected or [f"{arm}-{seed}" for arm, seed in tiny.cells])
    assert stale.missing == missing
    assert stale.to_run(allow_missing=False) == stale.names
    assert stale.to_run(allow_missing=True) == [name for name in stale.names if name not in missing]
    assert f"{len(missing)} of the {len(stale.names)} stale cells" in dvc_commands.missing_hint(stale)


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
