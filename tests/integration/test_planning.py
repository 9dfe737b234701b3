"""What a plan says: what is stale, what it costs, and that equal kinds of cells are measured once."""
import sys
import threading

import pytest
import yaml

from study import StudyError
from study.cli.console import clock, show_plan
from study.config.load import resolve
from study.model.heads import flops_per_token
from study.orchestration import plan as planning
from study.orchestration import runner
from tests.support.studies import tiny_study


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_study(tmp_path_factory.mktemp("plan") / "tiny")


@pytest.fixture
def stale(monkeypatch):
    names = ["dynamic-0", "static-0", "short-first-half-0", "pre-ln-0"]
    monkeypatch.setattr(planning, "stale_cells", lambda study: names)
    return names


def test_a_plan_counts_tokens_operations_and_what_is_stale(tiny, stale, capsys):
    rows = {row.arm: row for row in planning.plan(tiny, measure=False)}
    assert list(rows) == tiny.settings.arms
    assert [name for name, row in rows.items() if row.stale] == sorted(
        (name.removesuffix("-0") for name in stale), key=tiny.settings.arms.index)
    config = resolve(tiny, "dynamic")
    tokens = config.training.steps * config.training.batch_size * config.examples.max_seq_length
    assert rows["dynamic"].tokens == rows["short-first-half"].tokens == tokens
    size = tiny.settings.tokenizer.vocabulary_size
    assert rows["dynamic"].flops == pytest.approx(tokens * flops_per_token(config, size, config.examples.max_seq_length))
    assert rows["short-first-half"].flops < rows["dynamic"].flops
    show_plan(list(rows.values()), jobs=2, stages="dvc.yaml")
    said = " ".join(capsys.readouterr().out.split())
    assert "4 of 60 cells are stale" in said
    assert "`dvc repro dvc.yaml:examples`" in said


def test_equal_kinds_of_cells_are_measured_once(tiny, stale, monkeypatch, capsys):
    measured = []
    monkeypatch.setattr(planning, "step_seconds", lambda config, data: measured.append(config) or 0.5)
    rows = planning.plan(tiny)
    assert [config.model.norm for config in measured] == ["post", "pre", "post"]      # dynamic and static cost the same
    assert [row.seconds for row in rows if row.stale] == [0.5 * measured[0].training.steps] * 4
    assert all(row.seconds is None for row in rows if not row.stale)
    show_plan(rows, jobs=1, stages="dvc.yaml")
    assert f"{clock(2 * measured[0].training.steps)} of training" in " ".join(capsys.readouterr().out.split())


def test_a_step_is_timed_on_the_studys_data(tiny):
    from study.training.pretrain import load_data

    assert 0 < planning.step_seconds(resolve(tiny, "dynamic"), load_data(tiny)) < 1
    assert planning.step_seconds(resolve(tiny, "untrained"), load_data(tiny)) == 0


def test_clock():
    assert [clock(5), clock(240), clock(9000)] == ["5 s", "4 min", "2.5 h"]


@pytest.mark.parametrize(("stages", "found"), [
    (["pretrain@dynamic-0", "report"], ["dynamic-0"]), (["tokenizer"], None), (["search"], ["static-0"])])
def test_what_follows_a_stale_stage_is_stale(tiny, monkeypatch, stages, found):
    monkeypatch.setattr(runner, "_dvc", lambda *arguments: None)
    monkeypatch.setattr(runner, "_stale", lambda study, target: stages)
    for arm, seed in tiny.cells:
        tiny.cell(arm, seed).mkdir(parents=True, exist_ok=True)
        settings = resolve(tiny, arm).model_dump(mode="json")
        settings["training"]["steps"] += (arm, seed) == ("static", 0)
        (tiny.cell(arm, seed) / "settings.yaml").write_text(yaml.safe_dump(settings))
    assert runner.stale_cells(tiny) == (found or [f"{arm}-{seed}" for arm, seed in tiny.cells])


def test_ctrl_c_begins_no_other_cell(tiny):
    begun, release = [], threading.Event()

    def work(study, state, jobs):
        begun.append(state.name)
        release.wait(10)

    def watch(states):
        if begun:
            threading.Timer(0.2, release.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner._side_by_side(tiny, runner._states(tiny, ["a-0", "b-0", "c-0"]), work, 1, watch)
    assert begun == ["a-0"]


def test_a_command_of_dvc_that_fails_without_a_word_is_named(tiny, monkeypatch):
    monkeypatch.setattr(runner, "DVC", (sys.executable, "-c", "raise SystemExit(7)"))
    with pytest.raises(StudyError, match=r"`dvc repro dvc\.yaml:code` failed\. .* run this one to see"):
        runner._dvc(tiny, "repro", "--quiet", "dvc.yaml:code")
    monkeypatch.setattr(runner, "DVC", (sys.executable, "-c", "pass"))
    runner._dvc(tiny, "repro", "dvc.yaml:code")
