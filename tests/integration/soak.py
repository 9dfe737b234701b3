"""An hour of kills, restarts, tracker failures and concurrent runs on the tiny study: `make soak`.

Each round trains the study anew. While it does, everything that runs (`study run`, `dvc repro`, `study track`, at
random) is killed with SIGKILL at random moments and started again, and MLflow's server comes and goes. Then one `study
run` is left alone to the end. The round holds when every result has the bytes of an undisturbed run, DVC has nothing
left to do and MLflow has every cell once.
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

FILE, STUDY = "experiments/tiny/dvc.yaml", "experiments/tiny"
RUN = (sys.executable, "-m", "study", "run", STUDY, "--jobs", "2")
BESIDE = (RUN, ("dvc", "repro", FILE), (sys.executable, "-m", "study", "track", STUDY))
say = Console(stderr=True).log


def environment(root: Path, address: str | None) -> dict[str, str]:
    found = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1",
                          "DVC_NO_ANALYTICS": "1"}
    found.pop("MLFLOW_TRACKING_URI", None)
    return found | ({"MLFLOW_TRACKING_URI": address} if address else {})


class Round:
    """One study from nothing to its end, with what is done to it on the way."""

    def __init__(self, root: Path, draw: random.Random, server: Server):
        self.root, self.draw, self.server, self.going = root, draw, server, []
        self.kills = self.stops = 0

    def start(self, command: tuple[str, ...]) -> None:
        log = (self.root / "soak.log").open("ab")
        self.going.append(subprocess.Popen(command, cwd=self.root, env=environment(self.root, self.server.address),
                                           stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True))

    def kill(self) -> None:
        for process in self.going:
            if process.poll() is None:
                if self.draw.random() < 0.7:
                    os.killpg(process.pid, signal.SIGKILL)
                else:                       # this process alone: what it started lives on
                    process.kill()
                self.kills += 1
            process.wait()
        self.going = []

    def disturb(self, seconds: float) -> None:
        """Kills and starts for about so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.start(RUN)
            for command in self.draw.sample(BESIDE, self.draw.randint(0, 2)):
                self.start(command)
            if self.draw.random() < 0.3:
                self.server.stop()
                self.stops += 1
            time.sleep(self.draw.uniform(0.5, 25))
            self.kill()
            self.serve()

    def serve(self) -> None:
        """Starts the server where it does not run."""
        if self.server.process is None or self.server.process.poll() is not None:
            self.server.start()

    def finish(self, expected: dict[str, bytes]) -> list[str]:
        """What is wrong at the end; nothing, it is hoped."""
        self.serve()
        wrong = []
        for command in (RUN, ("dvc", "repro", FILE), (sys.executable, "-m", "study", "track", STUDY)):
            done = subprocess.run(command, cwd=self.root, env=environment(self.root, self.server.address), text=True,
                                  capture_output=True, check=False)
            if done.returncode:
                said = (done.stdout + done.stderr)[-500:]
                wrong.append(f"{' '.join(command[-3:])}: status {done.returncode}: {said}")
            if command[0] == "dvc" and "up to date" not in done.stdout:
                wrong.append(f"DVC had something left to do: {done.stdout[-500:]}")
        if "0 runs written" not in done.stdout:
            wrong.append(f"MLflow was not in line with the files: {done.stdout.strip()}")
        found = small_files(self.root)
        wrong += [f"{name}: not there" for name in expected.keys() - found.keys()]
        wrong += [f"{name}: should not be there" for name in found.keys() - expected.keys()]
        return wrong + [f"{name}: other bytes" for name in expected.keys() & found.keys()
                        if found[name] != expected[name]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    draw, place = random.Random(chosen.seed), Path(tempfile.mkdtemp(prefix="soak-"))
    alone = copy_of_project(place / "alone", arms="[dynamic, mlm-nsp]", seeds="[0, 1]")
    say("the undisturbed run")
    subprocess.run(RUN, cwd=alone, env=environment(alone, None), check=True, capture_output=True)
    expected = small_files(alone)
    (place / "server").mkdir()
    server, rounds, kills, stops, wrong = Server(place / "server"), 0, 0, 0, []
    server.start()
    end = time.monotonic() + 60 * chosen.minutes
    while time.monotonic() < end and not wrong:
        root = copy_of_project(place / f"round-{rounds}", arms="[dynamic, mlm-nsp]", seeds="[0, 1]")
        one = Round(root, draw, server)
        one.disturb(min(150, max(30, end - time.monotonic())))
        wrong = one.finish(expected)
        rounds, kills, stops = rounds + 1, kills + one.kills, stops + one.stops
        say(f"round {rounds}: {one.kills} kills, the server stopped {one.stops} times, "
            f"{len(expected)} files: {wrong or 'as undisturbed'}")
        if not wrong:
            shutil.rmtree(root)
    server.stop()
    print(f"soak: {rounds} rounds, {kills} processes killed, tracker stopped {stops} times: "
          f"{'every result as undisturbed' if not wrong else f'WRONG, see {root}: {wrong}'}")
    if not wrong:
        shutil.rmtree(place)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
