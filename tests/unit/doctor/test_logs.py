"""Three kinds of logs with the same content, numbers that are not finite, and one-line errors."""
import json

import pytest

from study import StudyError
from study.doctor.logs import read_log
from tests.support.studies import ROOT

LOSSES, EVALUATIONS, RATES = [(10, 8.5), (20, 7.5)], [(15, 8.0), (20, 7.4)], [(10, 1e-4), (20, 5e-5)]


def trainer_state(path, **more):
    history = [{"step": 10, "loss": 8.5, "learning_rate": 1e-4, "grad_norm": 1.0, "epoch": 0.1},
               {"step": 15, "eval_loss": 8.0, "eval_runtime": 1.0},
               {"step": 20, "loss": 7.5, "learning_rate": 5e-5}, {"step": 20, "eval_loss": 7.4},
               {"step": 20, "train_loss": 8.0, "train_runtime": 3.0}]
    path.write_text(json.dumps({"log_history": history, "train_batch_size": 32, "max_steps": 40} | more))


def test_the_log_of_the_trainer(tmp_path):
    trainer_state(tmp_path / "trainer_state.json")
    log = read_log(tmp_path / "trainer_state.json")
    assert (log.losses, log.evaluations, log.learning_rates) == (LOSSES, EVALUATIONS, RATES)
    assert (log.batch_size, log.steps, log.planned, log.diverged) == (32, 20, 40, None)
    assert not log.evaluated_on_mask


def test_records_of_this_project_are_evaluated_on_mask(tmp_path):
    records = [{"step": 0, "validation_nll": 9.0}, {"step": 10, "loss": 8.5, "learning_rate": 1e-4},
               {"step": 20, "loss": None, "gradient_norm": None, "validation_nll": 7.4}]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    log = read_log(path)
    assert (log.losses, log.evaluations) == ([(10, 8.5)], [(0, 9.0), (20, 7.4)])
    assert log.evaluated_on_mask
    assert log.diverged == 20


def test_metrics_of_a_committed_cell_are_read():
    finished = [path for path in (ROOT / "runs/quick").glob("*/metrics.jsonl")
                if (path.parent / "training.json").exists()]
    log = read_log(finished[0])
    assert log.evaluated_on_mask
    assert len(log.losses) > 10
    assert log.diverged is None


@pytest.mark.parametrize("name", ["eval_loss", "validation_loss", "val_loss"])
@pytest.mark.parametrize(("suffix", "comma"), [("csv", ","), ("tsv", "\t")])
def test_a_table_with_empty_cells(name, suffix, comma, tmp_path):
    rows = [["step", "loss", name, "lr"], ["10", "8.5", "", "1e-4"], ["15", "", "8.0", ""],
            ["20", "7.5", "7.4", "5e-5"]]
    path = tmp_path / f"losses.{suffix}"
    path.write_text("\n".join(comma.join(row) for row in rows) + "\n\n")
    log = read_log(path)
    assert (log.losses, log.evaluations, log.learning_rates) == (LOSSES, EVALUATIONS, RATES)


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_not_finite_mark_the_step_of_divergence(bad, tmp_path):
    history = f'[{{"step": 1, "loss": 8.0}}, {{"step": 2, "loss": {bad}}}, {{"step": 3, "loss": {bad}}}]'
    (tmp_path / "trainer_state.json").write_text(f'{{"log_history": {history}}}')
    log = read_log(tmp_path / "trainer_state.json")
    assert (log.losses, log.diverged) == ([(1, 8.0)], 2)
    (tmp_path / "losses.csv").write_text(f"step,loss\n1,8.0\n2,{bad.replace('Infinity', 'inf')}\n")
    assert read_log(tmp_path / "losses.csv").diverged == 2


def test_a_gradient_norm_that_is_not_finite_is_divergence_although_the_loss_is_a_number(tmp_path):
    (tmp_path / "a.json").write_text('{"log_history": [{"step": 5, "loss": 0.0, "grad_norm": NaN}]}')
    assert read_log(tmp_path / "a.json").diverged == 5


def test_numbers_that_are_not_finite_and_do_not_last_are_counted(tmp_path):
    steps = [(1, 8.0, "inf"), (2, 7.0, 1.0), (3, "nan", "nan"), (4, 6.0, 1.0)]
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss,grad_norm\n" + "".join(f"{step},{loss},{norm}\n" for step, loss, norm in steps))
    log = read_log(path)
    assert (log.diverged, log.not_finite, log.losses) == (None, 2, [(1, 8.0), (2, 7.0), (4, 6.0)])
    path.write_text(path.read_text() + "5,6.0,inf\n")      # one at the end may be a step that float16 skips
    assert (read_log(path).diverged, read_log(path).not_finite) == (None, 3)
    path.write_text(path.read_text() + "6,5.0,nan\n")
    assert (read_log(path).diverged, read_log(path).not_finite) == (5, 4)


def test_separators_at_the_ends_of_lines_change_nothing(tmp_path):
    (tmp_path / "a.csv").write_text("step,loss\n10,8,\n20,7,\n")
    assert read_log(tmp_path / "a.csv").losses == [(10, 8.0), (20, 7.0)]


def test_entries_are_sorted_by_step_and_a_repeated_step_keeps_its_last_value(tmp_path):
    (tmp_path / "a.csv").write_text("step,loss\n20,7\n10,8\n20,6\n")
    assert read_log(tmp_path / "a.csv").losses == [(10, 8.0), (20, 6.0)]


@pytest.mark.parametrize(("name", "content", "message"), [
    ("missing.json", None, "missing.json: no such file; --log takes a trainer_state.json"),
    ("log.txt", "loss 7", "log.txt: not a known kind of log; --log takes a trainer_state.json, a metrics.jsonl or"),
    ("a.json", "{", r"a.json: not JSON \(.*\); name JSON lines .jsonl"),
    ("config.json", '{"lr": 1}', "config.json: no log_history; trainer_state.json is in each checkpoint folder"),
    ("a.json", '{"log_history": [{"loss": 7}]}', "a.json, log_history entry 1: no step; each entry of a log needs"),
    ("a.json", '{"log_history": []}', "a.json: no entry has a loss"),
    ("a.json", '{"log_history": [{"step": 1, "loss": "low"}]}', "entry 1: loss is 'low'; it must be a number"),
    ("a.jsonl", '{"step": 1, "loss": 8}\n{"step"', r"a.jsonl, line 2: not JSON .*; write one record per line"),
    ("a.jsonl", '{"step": 1, "loss": 8}\n{"step" 2}', r"a.jsonl, line 2: not JSON \(.*, column 9\); write one record"),
    ("a.jsonl", '{"step": 1.5, "loss": 8}', "a.jsonl, line 1: step is 1.5; it must be a whole number"),
    ("a.jsonl", "[1]", "a.jsonl, line 1: no step"),
    ("a.csv", "epoch,loss\n1,2\n", "a.csv, line 1: the columns are epoch, loss; a CSV log needs the columns step and"),
    ("a.csv", "", "a.csv, line 1: the columns are missing"),
    ("a.csv", "step,loss\n1,8\n2,x\n", "a.csv, line 3: loss is 'x'; it must be a number"),
    ("a.csv", "step,loss\n1,7,5\n", "a.csv, line 2: more fields than the header has; quote fields that contain"),
    ("a.csv", "step,loss\n,8\n", "a.csv, line 2: no step"),
    ("a.csv", b"\xff\xfe", "a.csv: not a text file"),
])
def test_an_unusable_log_is_one_line_with_file_place_and_remedy(name, content, message, tmp_path):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(StudyError, match=message) as error:
        read_log(path)
    assert len(str(error.value).splitlines()) == 1
