"""kill -9 at any point: a restarted command produces the same bytes as an uninterrupted one.

A worker process runs the stages of a tiny cell, or a search. It is killed after a random time, or kills itself just
before its n-th file operation (an audit hook counts them), so that every place can be hit. STUDY_KILLS is the number of
kills; `make soak` uses 200.
"""
import importlib
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from study import StudyError
from study.evaluation.evaluate import evaluate
from study.evaluation.probe import probe
from study.training.pretrain import pretrain
from study.training.search import search
from tests.support.studies import tiny_study

KILLS = int(os.environ.get("STUDY_KILLS", "8"))
TIMES = ("seconds", "tokens_per_second")    # keys of training.json that may differ
FORK = multiprocessing.get_context("fork")
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}


def smaller(text: str) -> str:
    """The settings of the tiny study with more checkpoints and a cheap probe."""
    changes = {"steps": "24", "warmup_steps": "4", "layers": "last", "controls": "false", "train_sizes": "[]",
               "regularization": "[1.0]", "folds": "2", "probe_documents": "{train: 60, test: 60}"}
    head, _, tail = text.partition("\ntraining:")
    for key, value in changes.items():
        tail = re.sub(rf"^  {key}: .*$", f"  {key}: {value}", tail, count=1, flags=re.M)
        head = re.sub(rf"^  {key}: .*$", f"  {key}: {value}", head, count=1, flags=re.M)
    return f"{head}\ntraining:{tail}"


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A study that is ready to train a cell."""
    for module in ("sklearn.decomposition", "sklearn.manifold", "torch._dynamo"):
        importlib.import_module(module)     # once, and not in every process that is forked
    from study.evaluation.baselines import write_baselines

    study = tiny_study(tmp_path_factory.mktemp("crash") / "study", smaller)
    write_baselines(study, study.runs / "examples")
    search(study)
    return study


def run_cell(study) -> None:
    """Trains, evaluates and probes one cell."""
    for stage in (pretrain, evaluate, probe):
        stage(study, "dynamic", 0)


def run(work, study, kill_at: int | None = None, seconds: float | None = None, count=None) -> int | None:
    """Exit code of a process that calls work(study), -9 if it was killed.

    It is killed before file operation number `kill_at`, or after `seconds`. `count` receives the number of operations.
    """
    def act() -> None:
        number = 0

        def hook(event: str, arguments: tuple) -> None:
            nonlocal number
            if event in EVENTS and str(arguments[0]).startswith(str(study.root)):
                number += 1
                if count is not None:
                    count.value = number
                if number == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        work(study)

    process = FORK.Process(target=act)
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
    process.join()
    return process.exitcode


def content(folder: Path) -> dict[str, object]:
    """Every file of a folder, without the times in training.json."""
    files: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            files[str(path.relative_to(folder))] = path.read_bytes()
    if "training.json" in files:
        training = json.loads(files["training.json"])
        files["training.json"] = {key: value for key, value in training.items() if key not in TIMES}
    return files


def remove_results(study) -> None:
    shutil.rmtree(study.cell("dynamic", 0), ignore_errors=True)
    shutil.rmtree(study.root / ".state", ignore_errors=True)


@pytest.fixture(scope="module")
def undisturbed(ready):
    """The results of an uninterrupted cell, its number of file operations and its seconds."""
    remove_results(ready)
    count, began = FORK.Value("i", 0), time.perf_counter()
    assert run(run_cell, ready, count=count) == 0
    return content(ready.cell("dynamic", 0)), count.value, time.perf_counter() - began


def points(operations: int, seconds: float) -> list[dict]:
    """When to kill: most times at a file operation, one in each of equal parts of the run; else after a random time."""
    generator, places = random.Random(20260101), min(operations, 3 * KILLS // 4)
    numbers = [1 + int(operations * (part + generator.random()) / places) for part in range(places)]
    return [{"kill_at": number} for number in numbers] + [{"seconds": generator.uniform(0, seconds)}
                                                          for _ in range(KILLS - places)]


def test_a_cell_that_was_killed_anywhere_ends_like_an_uninterrupted_one(ready, undisturbed):
    expected, operations, seconds = undisturbed
    assert operations > 40
    assert {"encoder.safetensors", "metrics.jsonl", "probe.json", "evaluation.npz"} <= expected.keys()
    for point in points(operations, seconds):
        remove_results(ready)
        ended = run(run_cell, ready, **point)
        assert ended == -signal.SIGKILL or "seconds" in point, point        # after a random time it may have ended
        assert run(run_cell, ready) == 0, point
        files = content(ready.cell("dynamic", 0))
        assert files.keys() == expected.keys(), point
        assert [name for name in expected if files[name] != expected[name]] == [], point
        assert not list((ready.root / ".state").glob("*/step-*")), point


def test_a_cell_that_is_killed_repeatedly_finishes(ready, undisturbed):
    """It is killed three times, each after a third of the file operations of a cell."""
    expected, operations, _ = undisturbed
    remove_results(ready)
    attempts = 0
    while run(run_cell, ready, kill_at=operations // 3) != 0:
        attempts += 1
        if attempts == 3:
            break
    assert run(run_cell, ready) == 0
    assert content(ready.cell("dynamic", 0)) == expected
    assert attempts > 0


def test_a_disk_that_fills_up_stops_the_cell_and_leaves_the_last_checkpoint(ready, undisturbed, tmp_path):
    """From step 8 on, the operating system refuses to write more, as with a full disk."""
    def act() -> None:
        def full(record, speed) -> None:
            if record["step"] >= 8:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

        try:
            pretrain(ready, "dynamic", 0, on_record=full)
        except StudyError as error:
            os.write(message, str(error).encode())
            os._exit(2)

    remove_results(ready)
    message = os.open(tmp_path / "message", os.O_WRONLY | os.O_CREAT)
    process = FORK.Process(target=act)
    process.start()
    process.join()
    os.close(message)
    text = (tmp_path / "message").read_text()
    assert process.exitcode == 2
    assert re.search(r"step-0{6}\d\d\.safetensors: could not be written \(.*\); free some space", text)
    assert "\n" not in text
    (state,) = (ready.root / ".state").glob("????????????????")
    assert [path.name for path in state.iterdir()] == ["step-00000004.safetensors"]
    steps = []
    pretrain(ready, "dynamic", 0, on_record=lambda record, speed: steps.append(record["step"]))
    assert min(steps) == 8
    expected = undisturbed[0]
    files = content(ready.cell("dynamic", 0))
    assert [name for name in files if files[name] != expected[name]] == []


def test_a_search_that_was_killed_ends_with_the_same_trials(tmp_path):
    study = tiny_study(tmp_path / "study", lambda text: smaller(text).replace("trials: 0", "trials: 4"))
    folder, count = study.runs / "search", FORK.Value("i", 0)
    began = time.perf_counter()
    assert run(search, study, count=count) == 0
    expected, seconds = content(folder), time.perf_counter() - began
    assert len(json.loads(expected["trials.json"])) == 4
    generator = random.Random(7)
    for number in range(max(2, KILLS // 6)):
        shutil.rmtree(folder)
        shutil.rmtree(study.root / ".state")
        point = ({"kill_at": generator.randint(1, count.value)} if number % 2
                 else {"seconds": generator.uniform(0, seconds)})
        ended = run(search, study, **point)
        assert ended == -signal.SIGKILL or "seconds" in point, point
        assert run(search, study) == 0, point
        assert content(folder) == expected, point
