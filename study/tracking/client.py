"""The MLflow client of a study: its experiment, runs and curves, and the server of the UI."""
from __future__ import annotations

import fcntl
import logging
import math
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from study import StudyError
from study.config.fingerprint import flat
from study.config.study import Study
from study.tracking.redaction import redacted
from study.tracking.relocation import artifact_folder, relocate
from study.tracking.views import experiment_tags

MISTAKES = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, TypeError)
BATCH = 1000                                # metric values that MLflow accepts in one call
# No telemetry, no background jobs, no printed addresses (they have the password), and an error at once if a server is
# down.
ENVIRONMENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true",
               "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
               "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}


def tracking_uri(study: Study) -> str:
    """MLFLOW_TRACKING_URI if it is set, else the SQLite file `mlflow.db` in the root of the project."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database(study)}"


def database(study: Study) -> Path:
    """The SQLite file `mlflow.db` in the root of the project."""
    return (study.root / "mlflow.db").resolve()


def mlflow_client(study: Study):
    """An MlflowClient for the study's tracking URI, without MLflow's log messages and with the settings of
    ENVIRONMENT, unless the user has others."""
    os.environ.update(ENVIRONMENT | os.environ)
    from mlflow import MlflowClient

    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return MlflowClient(tracking_uri(study))


@contextmanager
def locked_experiment(study: Study) -> Iterator[tuple]:
    """Yields a client and the id of the study's experiment, which it creates if needed.

    One process at a time: cells that start together must not create two databases, experiments or arms.
    """
    os.environ.update(ENVIRONMENT | os.environ)
    import mlflow  # noqa: F401             (takes seconds, so before the lock)

    with locked_database(study):
        client = mlflow_client(study)
        yield client, _experiment(client, study)


@contextmanager
def locked_database(study: Study) -> Iterator[None]:
    """Holds the lock of the project's database, whose paths are those of the folder that it is in now."""
    with (study.root / "mlflow.db.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        relocate(database(study))
        yield


@contextmanager
def wrap_mlflow_errors(study: Study, command: str) -> Iterator[None]:
    """Turns errors of MLflow, its database and the network into a StudyError that says to run `study <command>` again.

    A mistake in this code stays what it is.
    """
    try:
        yield
    except (StudyError, *MISTAKES):
        raise
    except Exception as error:              # of many libraries: MLflow, SQLAlchemy, sqlite3, requests, cloud storages
        raise StudyError(f"MLflow at {redacted(tracking_uri(study))}: {redacted(repr(error)):.160}; run `study "
                         f"{command}` again") from None


def _experiment(client, study: Study) -> str:
    name = study.settings.name
    if experiment := client.get_experiment_by_name(name):
        if experiment.lifecycle_stage == "deleted":
            client.restore_experiment(experiment.experiment_id)
        for key, text in experiment_tags(study).items():
            if experiment.tags.get(key) != text:
                client.set_experiment_tag(experiment.experiment_id, key, text)
        return experiment.experiment_id
    artifacts = artifact_folder(study).as_uri()
    if tracking_uri(study).startswith("http"):
        artifacts = None                    # a server has its own storage
    return client.create_experiment(name, artifacts, experiment_tags(study))


def find_runs(client, experiment: str, **tags: str) -> list:
    """The runs of an experiment that have these tags. MLflow returns them in pages."""
    condition = " and ".join(f"tags.`{key}` = '{tags[key]}'" for key in tags)
    page = client.search_runs([experiment], condition)
    runs = list(page)
    while page.token:
        page = client.search_runs([experiment], condition, page_token=page.token)
        runs += page
    return runs


def create_cell_run(client, study: Study, experiment: str, cell: dict, start_time: int) -> str:
    """Creates the run of a cell under the run of its arm and returns its id.

    cell: the content of training.json as far as it is known, and `settings`. start_time: ms since 1970.
    """
    from mlflow.entities import Param

    arm = cell["arm"]
    tags = arm_tags(study, arm) | {"kind": "cell", "seed": str(cell["seed"]), "fingerprint": cell["fingerprint"],
                                   "mlflow.parentRunId": arm_run(client, study, experiment, arm),
                                   "status": cell.get("status", "running")}
    if cell.get("commit"):
        tags["mlflow.source.git.commit"] = cell["commit"]
    run = client.create_run(experiment, start_time, tags, f"{arm}-{cell['seed']}").info.run_id
    params = {"arm": arm, "seed": cell["seed"]} | dict(flat(cell["settings"]))
    client.log_batch(run, params=[Param(key, str(value)) for key, value in params.items()])
    return run


def arm_run(client, study: Study, experiment: str, arm: str) -> str:
    """The id of an arm's run, which is created if needed."""
    if runs := find_runs(client, experiment, kind="arm", arm=arm):
        return runs[0].info.run_id
    return client.create_run(experiment, tags=arm_tags(study, arm) | {"kind": "arm"}, run_name=arm).info.run_id


def arm_tags(study: Study, arm: str) -> dict[str, str]:
    """What the runs of an arm and of its cells say about the arm."""
    return {"arm": arm, "factor": study.arms[arm].factor, "mlflow.note.content": study.arms[arm].description}


def log_curves(client, run: str, records: list[dict]) -> None:
    """Logs every number of the records as a metric, at the record's `step` and `time` (ms since 1970)."""
    from mlflow.entities import Metric

    points = [Metric(key, float(value), record["time"], record["step"])
              for record in records for key, value in _metrics(record).items()]
    for begin in range(0, len(points), BATCH):
        client.log_batch(run, metrics=points[begin:begin + BATCH])


def _metrics(record: dict) -> dict[str, float]:
    values = {key: record[key] for key in record.keys() - {"step", "time"} if isinstance(record[key], (int, float))}
    nll = values.get("validation_nll")
    return values if nll is None else values | {"validation_perplexity": math.exp(min(nll, 700))}


def now() -> int:
    """Milliseconds since 1970."""
    return int(1000 * time.time())


def serve_ui(study: Study, port: int) -> None:
    """Replaces this process by MLflow's server on 127.0.0.1.

    Raises StudyError if nothing is recorded, or if the port cannot be used.
    """
    uri = tracking_uri(study)
    if uri.startswith(("http://", "https://")):
        raise StudyError(f"MLFLOW_TRACKING_URI names a server; open {redacted(uri)} in a browser")
    file = uri.removeprefix("sqlite:///")
    if file != uri and not Path(file).exists():
        raise StudyError(f"{file}: no runs recorded yet; `study track experiments/wikitext2` adds published "
                         f"results, `make study` runs the quick study")
    _check_port(port)
    with locked_database(study):
        pass                                # the paths in it are those of this folder now
    print(f"MLflow on http://127.0.0.1:{port} (Ctrl-C stops it)", flush=True)
    # The address is in the environment, because other users can see the command line, and it may have a password.
    os.execve(sys.executable, [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port),
                               "--workers", "1"], ENVIRONMENT | os.environ | {"MLFLOW_BACKEND_STORE_URI": uri})


def _check_port(port: int) -> None:
    """Raises StudyError if a server cannot listen on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)     # a port that was just released is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            other = port + 1 if port < 65535 else 5001
            raise StudyError(f"port {port} cannot be used ({error.strerror}); choose another one, for example `study "
                             f"ui --port {other}`") from None
