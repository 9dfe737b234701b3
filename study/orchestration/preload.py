"""Commands without the seconds that each spends on its imports: one process has them loaded and forks for each command.

`study run` keeps such a process beside it and names its socket in STUDY_WARM. A `study` command which DVC starts then
hands over its arguments, folder, environment and open files, and waits for the exit status. When nobody answers, or
the code on the disk is no longer what was loaded, the command runs as always. On Linux alone: elsewhere a fork with
torch loaded is not safe.
"""
from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

NAME = "STUDY_WARM"
LOADED = ("study.training.pretrain", "study.evaluation.evaluate", "study.evaluation.probe", "sklearn.linear_model",
          "sklearn.model_selection", "sklearn.pipeline", "sklearn.manifold", "sklearn.metrics", "pandas")
TAKEN = b"+"                                # what the process that waits answers before it does the work


@contextmanager
def kept_warm(threads: int) -> Iterator[None]:
    """A process that waits for commands as long as this lasts, and STUDY_WARM set to where it does. Commands have so
    many processor threads unless their settings name a number."""
    if sys.platform != "linux":
        yield
        return
    with tempfile.TemporaryDirectory(prefix="study-") as folder:        # none but this user may enter
        place = str(Path(folder, "socket"))
        process = subprocess.Popen([sys.executable, "-m", "study.orchestration.preload", place, str(os.getpid())],
                                   stdin=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": str(threads)})
        os.environ[NAME] = place
        try:
            yield
        finally:
            del os.environ[NAME]
            process.terminate()
            process.wait()


def ask(place: str) -> int | None:
    """Has this process's command run by the one that waits at `place`. Returns its exit status, None when nobody takes
    it."""
    about = {"arguments": sys.argv, "folder": os.getcwd(), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(place)
            socket.send_fds(line, [b"."], [0, 1, 2])
            line.sendall(json.dumps(about).encode() + b"\n")
            if line.recv(1) != TAKEN:
                return None
        except OSError:
            return None
        try:
            status = line.recv(1)
        except OSError:
            status = b""
    return status[0] if status else 1       # killed: it closed the line without a word


def loaded_code() -> str:
    """Hash of the package's modules as they are on the disk."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class Command(socketserver.BaseRequestHandler):
    """One command, in a process of its own that dies with the process which asked for it."""

    def handle(self) -> None:
        self.server.socket.close()          # else others could knock here when the one that waits is gone
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _, files, *_ = socket.recv_fds(self.request, 1, 3)
        with self.request.makefile("rb") as stream:
            about = json.loads(stream.readline())
        if loaded_code() != self.server.code:
            return
        self.request.sendall(TAKEN)
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(about["folder"])
        os.environ.clear()
        os.environ.update(about["environment"])
        sys.argv = about["arguments"]
        threading.Thread(target=self._follow, daemon=True).start()
        status = run_command()
        sys.stdout.flush()
        sys.stderr.flush()
        self.request.sendall(bytes([status]))

    def _follow(self) -> None:
        if not self.request.recv(1):
            os._exit(1)


def run_command() -> int:
    """Runs the command line; its exit status."""
    from study.cli.app import main

    os.environ.pop(NAME, None)
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


class Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    """Forks for every command; ends when the process that started it does."""
    max_children = 1024

    def __init__(self, place: str, parent: int):
        super().__init__(place, Command)
        self.parent, self.code = parent, ""

    def service_actions(self) -> None:
        super().service_actions()
        if os.getppid() != self.parent:
            os._exit(0)


def serve(place: str, parent: int) -> None:
    """Loads what commands import and waits for them at `place`, as long as the process `parent` is there."""
    code = loaded_code()
    import study.cli.app  # noqa: F401          (says first that nothing reports home)

    for name in LOADED:
        import_module(name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)        # Ctrl-C is for the commands
    server = Server(place, parent)
    server.code = code
    server.serve_forever()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
