"""An hour of kills, restarts, tracker failures and concurrent runs on the tiny study: `make soak`.

Each round trains the study from the start. Meanwhile the running commands (`study run`, `dvc repro` and `study track`,
at random) are killed with SIGKILL at random times and restarted, and MLflow's server is stopped and restarted. Then one
`study run` may finish. The round passes if every result has the bytes of an undisturbed run, DVC has nothing left to do
and MLflow has every cell once.

`dvc repro` runs with our atomic writer of dvc.lock, as `study run` starts it. DVC alone writes the file in place, and a
kill at that moment tears it; the remedy is `git checkout dvc.lock`.
"""
from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from tests.support.mlflow_server import Server
from tests.support.project import BIN, copy_of_project, small_files

RUN = (sys.executable, "-m", "study", "run", "--jobs", "2")
REPRO = (sys.executable, "-m", "study.orchestration.dvc_lock", "repro")
TRACK = (sys.executable, "-m", "study", "track")
TINY = "experiments/tiny"                   # all commands run in this folder
log = Console(stderr=True).log


def environment(root: Path, address: str | None) -> dict[str, str]:
    variables = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1",
                              "DVC_NO_ANALYTICS": "1"}
    variables.pop("MLFLOW_TRACKING_URI", None)
    return variables | ({"MLFLOW_TRACKING_URI": address} if address else {})


class Round:
    """One study from start to end, and what disturbs it."""

    def __init__(self, root: Path, generator: random.Random, server: Server):
        self.root, self.generator, self.server, self.processes = root, generator, server, []
        self.kills = self.stops = 0

    def start(self, command: tuple[str, ...]) -> None:
        output = (self.root / "soak.log").open("ab")
        self.processes.append(subprocess.Popen(
            command, cwd=self.root / TINY, env=environment(self.root, self.server.address), stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, start_new_session=True))

    def kill(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                if self.generator.random() < 0.7:
                    os.killpg(process.pid, signal.SIGKILL)
                else:                       # only this process: its children survive
                    process.kill()
                self.kills += 1
            process.wait()
        self.processes = []

    def disturb(self, seconds: float) -> None:
        """Starts and kills commands for about `seconds`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.start(RUN)
            for command in self.generator.sample((RUN, REPRO, TRACK), self.generator.randint(0, 2)):
                self.start(command)
            if self.generator.random() < 0.3:
                self.server.stop()
                self.stops += 1
            time.sleep(self.generator.uniform(0.5, 25))
            self.kill()
            self.serve()

    def serve(self) -> None:
        """Starts the server unless it runs."""
        if self.server.process is None or self.server.process.poll() is not None:
            self.server.start()

    def finish(self, expected: dict[str, bytes]) -> list[str]:
        """Lets one run finish. Returns what is wrong then."""
        self.serve()
        wrong = []
        for command in (RUN, ("dvc", "repro"), TRACK):
            process = subprocess.run(command, cwd=self.root / TINY, env=environment(self.root, self.server.address),
                                     text=True, capture_output=True, check=False)
            if process.returncode:
                output = (process.stdout + process.stderr)[-500:]
                wrong.append(f"{' '.join(command[-3:])}: status {process.returncode}: {output}")
            if command[0] == "dvc" and "up to date" not in process.stdout:
                wrong.append(f"DVC had something left to do: {process.stdout[-500:]}")
        if "0 runs written" not in process.stdout:
            wrong.append(f"MLflow did not have all results: {process.stdout.strip()}")
        results = small_files(self.root)
        wrong += [f"{name}: missing" for name in expected.keys() - results.keys()]
        wrong += [f"{name}: unexpected" for name in results.keys() - expected.keys()]
        return wrong + [f"{name}: different bytes" for name in expected.keys() & results.keys()
                        if results[name] != expected[name]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator, folder = random.Random(options.seed), Path(tempfile.mkdtemp(prefix="soak-"))
    undisturbed = copy_of_project(folder / "undisturbed", arms="[dynamic, mlm-nsp]", seeds="[0, 1]")
    log("the undisturbed run")
    subprocess.run(RUN, cwd=undisturbed / TINY, env=environment(undisturbed, None), check=True, capture_output=True)
    expected = small_files(undisturbed)
    (folder / "server").mkdir()
    server, rounds, kills, stops, wrong = Server(folder / "server"), 0, 0, 0, []
    server.start()
    end = time.monotonic() + 60 * options.minutes
    while time.monotonic() < end and not wrong:
        root = copy_of_project(folder / f"round-{rounds}", arms="[dynamic, mlm-nsp]", seeds="[0, 1]")
        this = Round(root, generator, server)
        this.disturb(min(150, max(30, end - time.monotonic())))
        wrong = this.finish(expected)
        rounds, kills, stops = rounds + 1, kills + this.kills, stops + this.stops
        log(f"round {rounds}: {this.kills} kills, the server stopped {this.stops} times, "
            f"{len(expected)} files: {wrong or 'equal'}")
        if not wrong:
            shutil.rmtree(root)
    server.stop()
    print(f"soak: {rounds} rounds, {kills} processes killed, tracker stopped {stops} times: "
          f"{'every result equals the undisturbed one' if not wrong else f'WRONG, see {root}: {wrong}'}")
    if not wrong:
        shutil.rmtree(folder)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
