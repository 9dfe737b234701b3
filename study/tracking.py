"""Results in MLflow: written live while a cell trains, rebuilt from the result files at any time.

The files under runs/ are the truth and MLflow is a view of them. An experiment is a study; a run without a parent is an
arm, with means and intervals; its child runs are cells. A cell is keyed by its fingerprint, so nothing stands twice.
"""
from __future__ import annotations

import hashlib
import json
import math
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd

from study import StudyError
from study.analysis.results import read_json, read_records
from study.config import Loaded, read_yaml

FILES = ("settings.yaml", "training.json", "metrics.jsonl", "evaluation.json", "predictions.json", "probe.json")
EVERY = 2.0                                 # seconds between batches of a live run
PATIENCE = 10.0                             # seconds that a finished cell waits for its tracker


def tracking_uri(study: Loaded) -> str:
    """MLFLOW_TRACKING_URI, or the SQLite file `mlflow.db` beside experiments/."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(study.root / 'mlflow.db').resolve()}"


def _client(study: Loaded):
    for name, value in (("MLFLOW_DISABLE_TELEMETRY", "true"), ("DO_NOT_TRACK", "true"),
                        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1"), ("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")):
        os.environ.setdefault(name, value)
    import logging

    from mlflow import MlflowClient

    for noisy in ("alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    return MlflowClient(tracking_uri(study))


def _experiment(client, study: Loaded) -> str:
    name = study.settings.study
    found = client.get_experiment_by_name(name)
    if found is not None:
        return found.experiment_id
    place = None if os.environ.get("MLFLOW_TRACKING_URI") else (study.root / "mlartifacts" / name).resolve().as_uri()
    try:
        return client.create_experiment(name, artifact_location=place)
    except Exception:                       # another cell was first
        return client.get_experiment_by_name(name).experiment_id


def _find(client, experiment: str, **tags: str) -> list:
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    return client.search_runs([experiment], query, max_results=50)


def _points(records: list[dict]) -> list:
    from mlflow.entities import Metric

    return [Metric(key, float(value), 0, record["step"]) for record in records for key, value in _curve(record).items()]


def _curve(record: dict) -> dict[str, float]:
    values = {key: value for key, value in record.items() if key not in ("step",) and isinstance(value, (int, float))}
    if "validation_nll" in values:
        values["validation_perplexity"] = math.exp(min(values["validation_nll"], 700))
    return values


class LiveRun:
    """One cell's run in MLflow while it trains. A background thread does all of it: the cell neither waits for a
    tracker nor fails with it; what a tracker missed `study track` fills in."""

    def __init__(self, study: Loaded):
        self.study, self.waiting = study, queue.SimpleQueue()
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> LiveRun:
        self.thread.start()
        return self

    def __exit__(self, kind, *_) -> None:
        self.waiting.put(("end", "FINISHED" if kind is None else "FAILED"))
        self.ending.set()
        self.thread.join(PATIENCE)

    def start(self, about: dict) -> None:
        """Names the cell: study, arm, seed, fingerprint, settings."""
        self.waiting.put(("start", about))

    def log(self, record: dict, speed: float) -> None:
        """A record as in metrics.jsonl, and tokens a second."""
        self.waiting.put(("record", dict(record) | ({"tokens_per_second": speed} if speed else {})))

    def finish(self, done: dict) -> None:
        """The outcome, as in training.json."""
        self.waiting.put(("status", done["status"]))

    def _work(self) -> None:
        try:
            self._follow()
        except Exception as error:  # whatever a tracker raises, the cell goes on
            print(f"tracking stopped ({type(error).__name__}: {str(error).splitlines()[0][:120]}); `study track` will "
                  f"fill it in", file=sys.stderr, flush=True)

    def _follow(self) -> None:
        client, run, seen, pending = _client(self.study), None, -1, []
        while True:
            kind, content = self.waiting.get()
            if kind == "start":
                run, seen = self._open(client, content)
            elif kind == "record" and content["step"] > seen:
                pending.append(content)
            elif kind == "status" and run:
                client.set_tag(run, "status", content)
            if run and pending and (kind == "end" or self.waiting.empty()):
                client.log_batch(run, metrics=_points(pending))
                pending = []
                self.ending.wait(EVERY)     # gathers what comes meanwhile into one batch
            if kind == "end":
                if run:
                    client.set_terminated(run, content)
                return

    def _open(self, client, about: dict) -> tuple[str, int]:
        """The run of this cell, new or gone on with, and the last step that it has."""
        experiment = _experiment(client, self.study)
        if found := _find(client, experiment, fingerprint=about["fingerprint"]):
            run = found[0].info.run_id
            steps = [m.step for m in client.get_metric_history(run, "tokens")]
            client.update_run(run, status="RUNNING")
            return run, max(steps, default=-1)
        return _new_cell(client, self.study, experiment, about), -1


def _new_cell(client, study: Loaded, experiment: str, about: dict) -> str:
    arm = about["arm"]
    tags = {"kind": "cell", "arm": arm, "seed": str(about["seed"]), "factor": study.arms[arm].factor,
            "fingerprint": about["fingerprint"], "mlflow.parentRunId": _parent(client, study, experiment, arm),
            "mlflow.note.content": study.arms[arm].about}
    if about.get("commit"):
        tags["mlflow.source.git.commit"] = about["commit"]
    run = client.create_run(experiment, tags=tags, run_name=f"{arm}-{about['seed']}").info.run_id
    from mlflow.entities import Param

    params = {"arm": arm, "seed": about["seed"]} | _flat(about["settings"])
    client.log_batch(run, params=[Param(key, str(value)) for key, value in params.items()])
    return run


def _flat(settings: dict, prefix: str = "") -> dict:
    result = {}
    for key, value in settings.items():
        result |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return result


def _parent(client, study: Loaded, experiment: str, arm: str) -> str:
    if found := _find(client, experiment, kind="arm", arm=arm):
        return found[0].info.run_id
    tags = {"kind": "arm", "arm": arm, "factor": study.arms[arm].factor, "mlflow.note.content": study.arms[arm].about}
    return client.create_run(experiment, tags=tags, run_name=arm).info.run_id


def track(study: Loaded) -> int:
    """Brings MLflow in line with the result files; returns how many runs were written. A second call writes none."""
    try:
        client = _client(study)
        experiment = _experiment(client, study)
        written = sum(_track_cell(client, study, experiment, arm, seed) for arm, seed in study.cells)
        return written + sum(_track_arm(client, study, experiment, arm) for arm in study.settings.arms)
    except StudyError:
        raise
    except Exception as error:
        raise StudyError(f"MLflow at {tracking_uri(study)}: {type(error).__name__}: "
                         f"{str(error).splitlines()[0][:160]}; nothing is lost, run `study track` again") from None


def _content(paths: list[Path]) -> str:
    return hashlib.sha256(b"".join(p.name.encode() + p.read_bytes() for p in paths if p.exists())).hexdigest()[:16]


def _track_cell(client, study: Loaded, experiment: str, arm: str, seed: int) -> int:
    folder = study.cell(arm, seed)
    training, content = read_json(folder / "training.json"), _content([folder / name for name in FILES])
    found = _find(client, experiment, kind="cell", arm=arm, seed=str(seed))
    if len(found) == 1 and found[0].data.tags.get("content") == content:
        return 0
    for old in found:
        client.delete_run(old.info.run_id)
    about = {key: training.get(key) for key in ("arm", "seed", "fingerprint", "commit")}
    run = _new_cell(client, study, experiment, about | {"settings": read_yaml(folder / "settings.yaml")})
    points = _points(read_records(folder / "metrics.jsonl"))
    for begin in range(0, len(points), 1000):
        client.log_batch(run, metrics=points[begin:begin + 1000])
    client.log_batch(run, metrics=_final(folder, training))
    _log_data(client, study, run, training)
    for name in FILES:
        client.log_artifact(run, str(folder / name))
    client.set_tag(run, "status", training["status"])
    client.set_tag(run, "content", content)
    client.set_terminated(run)
    return 1


def _final(folder: Path, training: dict) -> list:
    from mlflow.entities import Metric

    values = {key: training[key] for key in ("tokens_per_second", "seconds", "flops", "parameters")}
    evaluation = read_json(folder / "evaluation.json")
    for name, found in evaluation.items():
        if isinstance(found, dict):
            values |= {f"test_{name}_{key}": found[key] for key in ("nll", "perplexity", "excess_nll", "accuracy")
                       if found.get(key) is not None}
    if evaluation["mask_only"]:
        values["perplexity"] = evaluation["mask_only"]["perplexity"]
    for task, scores in read_json(folder / "probe.json").items():
        for pooling in ("cls", "mean"):
            if pooling in scores:
                values[f"probe_{task}_{pooling}"] = values["probe_accuracy"] = scores[pooling]["accuracy"]
                values[f"probe_{task}_{pooling}_untrained"] = scores[pooling]["untrained_accuracy"]
    return [Metric(key, float(value), 0, training["steps"]) for key, value in values.items() if value is not None]


def _log_data(client, study: Loaded, run: str, training: dict) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    corpus = study.settings.corpus
    name = "built-in language" if corpus.kind == "synthetic" else corpus.path
    source = json.dumps(corpus.model_dump(mode="json"))
    client.log_inputs(run, datasets=[DatasetInput(Dataset(name=name, digest=training["data"][:12], source_type="code",
                                                          source=source),
                                                  tags=[InputTag("mlflow.data.context", "training")])])


def _track_arm(client, study: Loaded, experiment: str, arm: str) -> int:
    """Means and intervals on the arm's run; the report is attached to the baseline's."""
    table, page = study.reports / "tables" / "arms.csv", study.reports / "index.html"
    files = [table] + ([page, page.with_name("README.md")] if arm == study.settings.baseline else [])
    content, run = _content(files), _parent(client, study, experiment, arm)
    if client.get_run(run).data.tags.get("content") == content:
        return 0
    rows = pd.read_csv(table).set_index("arm").loc[arm] if table.exists() else {}
    for key, value in rows.items():
        if isinstance(value, (int, float)) and math.isfinite(value):
            client.log_metric(run, key, float(value))
            if key.endswith("_mean"):
                client.log_metric(run, key.removesuffix("_mean"), float(value))
    for path in files[1:]:
        if path.exists():
            client.log_artifact(run, str(path), "report")
    client.set_tag(run, "content", content)
    client.set_terminated(run)
    return 1


def ui(study: Loaded, port: int) -> None:
    """Serves MLflow's pages on loopback until stopped."""
    uri = tracking_uri(study)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise StudyError(f"{uri.removeprefix('sqlite:///')}: nothing recorded yet; run `make study` first")
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    print(f"MLflow on http://127.0.0.1:{port} (Ctrl-C stops it)", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1",
               "--port", str(port)]
    raise SystemExit(subprocess.run(command, env=environment, check=False).returncode)
