"""Results in MLflow: written live while a cell trains, rebuilt from the result files at any time.

The files under runs/ are the truth and MLflow is a view of them. An experiment is a study; a run without a parent is an
arm, with means and intervals; its child runs are cells. A cell is keyed by its fingerprint, so nothing stands twice.
The report is attached to the baseline's run. Runs that were replaced are marked deleted: `mlflow gc` frees their space.
"""
from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import math
import os
import queue
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from study import StudyError
from study.config.load import Study, flat, read_yaml
from study.tracking.views import experiment_tags, write_links

FILES = ("settings.yaml", "training.json", "metrics.jsonl", "evaluation.json", "predictions.json", "probe.json")
GRACE = 40.0                                # seconds that a cell trains before it is shown
EVERY = 2.0                                 # seconds between batches of a live run
PATIENCE = 10.0                             # seconds that a finished cell waits for its tracker
BATCH = 1000                                # metric values that MLflow takes at once
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
         "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}    # a dead server fails at once


def tracking_uri(study: Study) -> str:
    """MLFLOW_TRACKING_URI, or the SQLite file `mlflow.db` beside experiments/."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(study.root / 'mlflow.db').resolve()}"


def _client(study: Study):
    from mlflow import MlflowClient

    for noisy in ("alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    return MlflowClient(tracking_uri(study))


@contextmanager
def opened(study: Study) -> Iterator[tuple]:
    """A client and the study's experiment, for one process at a time: cells that start at once must not make two
    databases, experiments or arms."""
    os.environ.update(QUIET | os.environ)
    import mlflow  # noqa: F401             (slow, so before the lock)

    with (study.root / "mlflow.db.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        client = _client(study)
        yield client, _experiment(client, study)


@contextmanager
def reported(study: Study, command: str) -> Iterator[None]:
    """Turns what MLflow raises into a StudyError that says to run the command again."""
    try:
        yield
    except StudyError:
        raise
    except Exception as error:
        said = f"MLflow at {tracking_uri(study)}: {error!r:.160}; run `study {command}` again"
        raise StudyError(re.sub(r"://[^@/\s]*@", "://", said)) from None     # an address may hold a password


def _experiment(client, study: Study) -> str:
    name = study.settings.name
    if found := client.get_experiment_by_name(name):
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        for key, text in experiment_tags(study).items():
            if found.tags.get(key) != text:
                client.set_experiment_tag(found.experiment_id, key, text)
        return found.experiment_id
    place = (study.root / "mlartifacts" / name).resolve().as_uri()     # a server has its own
    return client.create_experiment(name, None if tracking_uri(study).startswith("http") else place,
                                    experiment_tags(study))


def find_runs(client, experiment: str, **tags: str) -> list:
    return client.search_runs([experiment], " and ".join(f"tags.`{key}` = '{tags[key]}'" for key in tags))


def _log_curves(client, run: str, records: list[dict]) -> None:
    """Every number of the records as a point of its curve; `at` is when it was measured (ms)."""
    from mlflow.entities import Metric

    points = [Metric(key, float(value), record["at"], record["step"])
              for record in records for key, value in _curve(record).items()]
    for begin in range(0, len(points), BATCH):
        client.log_batch(run, metrics=points[begin:begin + BATCH])


def _curve(record: dict) -> dict[str, float]:
    values = {key: record[key] for key in record.keys() - {"step", "at"} if isinstance(record[key], (int, float))}
    nll = values.get("validation_nll")
    return values if nll is None else values | {"validation_perplexity": math.exp(min(nll, 700))}


def _warn(reason: str) -> None:
    print(f"tracking stopped ({reason}); `study track` will fill it in", file=sys.stderr, flush=True)


class LiveRun:
    """One cell's run in MLflow while it trains. A background thread does all of it: the cell neither waits for a
    tracker nor fails with it; what a tracker missed `study track` fills in.

    The run begins after `grace` seconds: to load MLflow would cost a short cell a tenth of its time, for a view that
    nobody has opened yet.
    """

    def __init__(self, study: Study, grace: float = GRACE):
        self.study, self.grace = study, grace
        self.waiting, self.ending = queue.SimpleQueue(), threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> LiveRun:
        self.thread.start()
        return self

    def __exit__(self, kind, *_) -> None:
        self._put("end", {None: "FINISHED", KeyboardInterrupt: "KILLED"}.get(kind, "FAILED"))
        self.ending.set()
        self.thread.join(PATIENCE)
        if self.thread.is_alive():
            _warn(f"not done after {PATIENCE:.0f} s")

    def start(self, about: dict) -> None:
        """Names the cell: study, arm, seed, fingerprint, settings."""
        self._put("start", about)

    def log(self, record: dict, speed: float) -> None:
        """A record as in metrics.jsonl, and tokens a second."""
        self._put("record", record | {"at": int(1000 * time.time())} | ({"tokens_per_second": speed} if speed else {}))

    def finish(self, done: dict) -> None:
        """The outcome, as in training.json."""
        self._put("status", done["status"])

    def _put(self, kind: str, content) -> None:
        if self.thread.is_alive():          # after an error nobody reads
            self.waiting.put((kind, content))

    def _work(self) -> None:
        try:
            self._follow()
        except Exception as error:          # whatever a tracker raises, the cell goes on
            _warn(f"{error!r:.160}")

    def _follow(self) -> None:
        run, seen, pending = None, -1, []
        while True:
            kind, content = self.waiting.get()
            if kind == "start":
                if self.grace and self.ending.wait(self.grace):
                    return None
                client, run, seen = self._open(content)
            elif kind == "record" and content["step"] > seen:
                pending.append(content)
            elif kind == "status" and run:
                client.set_tag(run, "status", content)
            if run and pending and (kind == "end" or self.waiting.empty()):
                _log_curves(client, run, pending)
                pending = []
                self.ending.wait(EVERY)     # gathers what comes meanwhile into one batch
            if kind == "end":
                return run and client.set_terminated(run, content)

    def _open(self, about: dict) -> tuple:
        """A client, the run of this cell, new or gone on with, and the last step that it has."""
        with opened(self.study) as (client, experiment):
            found = find_runs(client, experiment, fingerprint=about["fingerprint"])
            if not found:
                return client, _new_cell(client, self.study, experiment, about, int(1000 * time.time())), -1
        run = found[0].info.run_id
        client.set_tag(run, "content", "live")
        client.update_run(run, status="RUNNING")
        return client, run, max((point.step for point in client.get_metric_history(run, "tokens")), default=-1)


def _new_cell(client, study: Study, experiment: str, about: dict, began: int) -> str:
    from mlflow.entities import Param

    arm = about["arm"]
    tags = {"kind": "cell", "arm": arm, "seed": str(about["seed"]), "factor": study.arms[arm].factor,
            "fingerprint": about["fingerprint"], "mlflow.parentRunId": _parent(client, study, experiment, arm),
            "mlflow.note.content": study.arms[arm].description, "status": about.get("status", "running")}
    tags |= {"mlflow.source.git.commit": about["commit"]} if about.get("commit") else {}
    run = client.create_run(experiment, began, tags, f"{arm}-{about['seed']}").info.run_id
    params = {"arm": arm, "seed": about["seed"]} | dict(flat(about["settings"]))
    client.log_batch(run, params=[Param(key, str(value)) for key, value in params.items()])
    return run


def _parent(client, study: Study, experiment: str, arm: str) -> str:
    if found := find_runs(client, experiment, kind="arm", arm=arm):
        return found[0].info.run_id
    tags = {"kind": "arm", "arm": arm, "factor": study.arms[arm].factor, "mlflow.note.content": study.arms[arm].description}
    return client.create_run(experiment, tags=tags, run_name=arm).info.run_id


def track(study: Study) -> int:
    """Brings MLflow in line with the result files; returns how many runs were written. A second call writes none.

    Cells that have yet to be trained are left out. Raises StudyError when there is none, or MLflow cannot be written.
    """
    trained = [cell for cell in study.cells if (study.cell(*cell) / "training.json").exists()]
    if not trained:
        raise StudyError(f"{study.runs}: no trained cell yet; run `dvc repro` in the study's folder")
    with reported(study, "track"), opened(study) as (client, experiment):
        written = sum(_track_cell(client, study, experiment, arm, seed) for arm, seed in trained)
        written += sum(_track_arm(client, study, experiment, arm) for arm in dict(trained))
        write_links(study, tracking_uri(study), experiment, find_runs(client, experiment, kind="cell"))
        return written


def _content(paths: list[Path], text: str = "") -> str:
    parts = [text.encode(), *(p.name.encode() + p.read_bytes() for p in paths)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _track_cell(client, study: Study, experiment: str, arm: str, seed: int) -> int:
    """Replaces a cell's run unless it was written from these very files."""
    from study.analysis.results import read_json, read_records

    folder = study.cell(arm, seed)
    files = [path for name in FILES if (path := folder / name).exists()]
    results, content = {path.name: read_json(path) for path in files if path.suffix == ".json"}, _content(files)
    found = find_runs(client, experiment, kind="cell", arm=arm, seed=str(seed))
    if len(found) == 1 and found[0].data.tags.get("content") == content:
        return 0
    for old in found:
        client.delete_run(old.info.run_id)
    training, ended = results["training.json"], int(1000 * (folder / "training.json").stat().st_mtime)
    about = training | {"settings": read_yaml(folder / "settings.yaml")}
    spent = 1000 * (training["seconds"] or 0)
    began, pace = ended - int(spent), spent / max(1, training["tokens"])
    run = _new_cell(client, study, experiment, about, began)
    records = [record | {"at": began + int(pace * record["tokens"])}
               for record in read_records(folder / "metrics.jsonl")]
    _log_curves(client, run, [*records, _final(study, results) | {"step": training["steps"], "at": ended}])
    _log_data(client, study, run, results)
    for path in files:
        client.log_artifact(run, str(path))
    client.set_terminated(run, end_time=ended)
    client.set_tag(run, "content", content)         # last: a run without it is written again
    return 1


def _final(study: Study, results: dict[str, dict]) -> dict[str, float | None]:
    """What a finished cell is judged by: work and speed, scores on the test sets, probes."""
    from study.analysis.results import primary

    evaluation = results.get("evaluation.json", {})
    values = {key: results["training.json"].get(key) for key in ("tokens_per_second", "seconds", "flops", "parameters")}
    values |= {f"test_{name}_{key}": found.get(key) for name, found in evaluation.items() if isinstance(found, dict)
               for key in ("nll", "perplexity", "excess_nll", "accuracy")}
    values |= {key: (evaluation.get("mask_only") or {}).get(key) for key in ("nll", "perplexity")}
    for task, scores in results.get("probe.json", {}).items():
        for pooling in scores.keys() & study.settings.probe.poolings:
            values[f"probe_{task}_{pooling}"] = scores[pooling]["accuracy"]
            values[f"probe_{task}_{pooling}_untrained"] = scores[pooling].get("untrained_accuracy")
    return values | {"probe_accuracy": values.get(f"probe_{primary(study)}")}


def _log_data(client, study: Study, run: str, results: dict[str, dict]) -> None:
    """What the cell was trained on and scored on, by name and hash."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    corpus = study.settings.corpus
    name, kind = ("built-in language", "code") if corpus.kind == "synthetic" else (corpus.path, "hugging_face")
    for context, file, key in (("training", "training.json", "data"), ("evaluation", "evaluation.json", "hash")):
        if file in results:
            data = Dataset(f"{name}: {context}", results[file][key][:12], kind, corpus.model_dump_json())
            client.log_inputs(run, datasets=[DatasetInput(data, [InputTag("mlflow.data.context", context)])])


def _track_arm(client, study: Study, experiment: str, arm: str) -> int:
    """Means and intervals on the arm's run; the report on the baseline's."""
    import pandas as pd

    table, page = study.reports / "tables" / "arms.csv", study.reports / "index.html"
    frame = pd.read_csv(table, index_col="arm").select_dtypes("number") if table.exists() else pd.DataFrame()
    row = frame.loc[arm].dropna().to_dict() if arm in frame.index else {}
    row |= {key.removesuffix("_mean"): value for key, value in row.items()}     # in one column with the cells
    pages = [p for p in (page, page.with_name("README.md")) if arm == study.settings.baseline and p.exists()]
    content, run = _content(pages, json.dumps(row)), _parent(client, study, experiment, arm)
    if client.get_run(run).data.tags.get("content") == content:
        return 0
    _log_curves(client, run, [row | {"step": 0, "at": int(1000 * time.time())}])
    for path in pages:
        client.log_artifact(run, str(path), "report")
    client.set_tag(run, "content", content)
    client.set_terminated(run)
    return 1


def ui(study: Study, port: int) -> None:
    """Becomes MLflow's server on loopback. Raises StudyError when there is nothing to show."""
    uri = tracking_uri(study)
    if uri.startswith(("http://", "https://")):
        raise StudyError(f"MLFLOW_TRACKING_URI names a server; open {uri} in a browser")
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise StudyError(f"{uri.removeprefix('sqlite:///')}: nothing recorded yet; `study track "
                         "experiments/wikitext2` puts published results in, `make study` runs the quick study")
    print(f"MLflow on http://127.0.0.1:{port} (Ctrl-C stops it)", flush=True)
    os.execve(sys.executable, [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1",
                               "--port", str(port), "--workers", "1"], QUIET | os.environ)
