"""Commands that run in parallel: how far each is, and how many processor threads it gets."""
from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class CellProgress:
    """One cell, or one search, of a run in progress.

    status: waiting, running, done or failed. line: its newest line of output. began, ended: time.monotonic() (s).
    log: the file with its output.
    """
    name: str
    status: str = "waiting"
    line: str = ""
    began: float = 0.0
    ended: float | None = None
    log: Path = field(default_factory=Path)

    def start(self) -> None:
        self.status, self.began = "running", time.monotonic()

    def finish(self, succeeded: bool) -> None:
        self.ended, self.status = time.monotonic(), "done" if succeeded else "failed"


def run_logged(progress: CellProgress, command: tuple[str, ...], folder: Path, environment: dict[str, str]) -> None:
    """Runs a command in `folder`. Its output goes to the log of `progress`, the newest line to `progress.line`."""
    progress.start()
    progress.log.parent.mkdir(parents=True, exist_ok=True)
    # Files stay open, so that the lock of `study run` is held until its last command has ended.
    with progress.log.open("w", encoding="utf-8") as log, subprocess.Popen(
            command, cwd=folder, env=environment, encoding="utf-8", errors="replace", stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, close_fds=False) as process:
        for line in process.stdout:
            log.write(line)
            log.flush()
            progress.line = line.strip() or progress.line
    progress.finish(process.returncode == 0)


def processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def threads_per_job(jobs: int) -> int:
    """Number of processor threads for each of `jobs` commands."""
    return max(1, processors() // jobs)
