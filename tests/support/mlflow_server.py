"""MLflow in tests: a server that can be killed, and what a study recorded."""
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

from study.tracking.client import ENVIRONMENT, find_runs, mlflow_client


class Server:
    """MLflow's own server over one database."""

    def __init__(self, folder):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            self.port = unused.getsockname()[1]
        self.folder, self.process = folder, None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts the server, unless it is already running."""
        if self.process is not None and self.process.poll() is None:
            return
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{self.folder}/server.db",
             "--artifacts-destination", str(self.folder / "artifacts"), "--host", "127.0.0.1", "--port",
             str(self.port), "--workers", "1"], cwd=self.folder, env=os.environ | ENVIRONMENT, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{self.address}/health", timeout=1).close()
                return
            except OSError:
                time.sleep(0.1)
        self.stop()
        raise AssertionError("the server did not start")

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, 9)
            self.process.wait()
            self.process = None


def runs(study, **tags):
    """A client, and the runs of the study that have these tags."""
    client = mlflow_client(study)
    experiment = client.get_experiment_by_name(study.settings.name)
    return client, find_runs(client, experiment.experiment_id, **tags)


def records(study):
    """The records in metrics.jsonl of dynamic-0."""
    return [json.loads(line) for line in (study.cell("dynamic", 0) / "metrics.jsonl").read_text().splitlines()]
