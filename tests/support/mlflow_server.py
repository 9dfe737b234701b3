"""MLflow in tests: a server that can be killed, and what a study recorded."""
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

from study.tracking.runs import QUIET, _client, find_runs


class Server:
    """MLflow's own server over one database."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.process = folder, None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{self.folder}/server.db",
             "--artifacts-destination", str(self.folder / "artifacts"), "--host", "127.0.0.1", "--port",
             str(self.port), "--workers", "1"], cwd=self.folder, env=os.environ | QUIET, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{self.address}/health", timeout=1).close()
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError("the server did not start")

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, 9)
            self.process.wait()



def runs(study, **tags):
    client = _client(study)
    return client, find_runs(client, client.get_experiment_by_name(study.settings.name).experiment_id, **tags)


def records(study):
    return [json.loads(line) for line in (study.cell("dynamic", 0) / "metrics.jsonl").read_text().splitlines()]

