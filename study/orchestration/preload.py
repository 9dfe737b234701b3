"""Saves commands the time of their imports: a server process loads them once and forks for each command.

`study run` starts the server, unless one is running, and puts the address of its socket into STUDY_PRELOAD. The
`study` commands that DVC starts send their arguments, folder, environment and open files to that address and wait for
the exit status. A command runs by itself if the server has ended, or if the code on disk has changed since it was
loaded. Linux only: on other systems a fork with torch loaded is not safe.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

ADDRESS = "STUDY_PRELOAD"                   # environment variable with the path of the socket
PRELOADED = ("study.training.pretrain", "study.evaluation.evaluate", "study.evaluation.probe",
             "study.finetuning.finetune", "sklearn.linear_model",
             "sklearn.model_selection", "sklearn.pipeline", "sklearn.decomposition", "sklearn.metrics", "pandas",
             "torch._dynamo")               # torch.optim imports it when the first optimiser is created
ACCEPTED = b"+"                             # the server's answer before it runs a command


@contextmanager
def preloaded(threads: int) -> Iterator[None]:
    """Runs a server while the context lasts, unless one is already running. Its commands use `threads` threads unless
    their settings say otherwise."""
    if sys.platform != "linux" or is_served(os.environ.get(ADDRESS)):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="study-") as folder:        # only this user can enter it
        address = str(Path(folder, "socket"))
        server = subprocess.Popen([sys.executable, "-m", "study", "serve", address, str(os.getpid())],
                                  stdin=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": str(threads)})
        os.environ[ADDRESS] = address
        try:
            yield
        finally:
            del os.environ[ADDRESS]
            server.terminate()
            server.wait()


def is_served(address: str | None) -> bool:
    """Whether a server listens at this address."""
    if not address:
        return False
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(address) == 0


def run_preloaded(address: str) -> None:
    """Runs this process's command in the server at `address` and exits with its status.

    Returns if there is no server or it does not accept the command.
    """
    request = {"arguments": sys.argv, "folder": os.getcwd(), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(address)
            socket.send_fds(connection, [b"."], [0, 1, 2])
            connection.sendall(json.dumps(request).encode() + b"\n")
            if connection.recv(1) != ACCEPTED:
                return
        except OSError:
            return
        try:
            status = connection.recv(1)
        except OSError:
            status = b""
    sys.exit(status[0] if status else 1)    # no status: the process that ran the command was killed


def source_hash() -> str:
    """Hash of the package's source files on disk."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class Command(socketserver.BaseRequestHandler):
    """Runs one command in a forked process, which ends if the process that sent the command ends."""

    def handle(self) -> None:
        self.server.socket.close()          # or clients could still connect here after the server has ended
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _, files, *_ = socket.recv_fds(self.request, 1, 3)
        with self.request.makefile("rb") as stream:
            line = stream.readline()
        if not line:                        # is_served
            return
        request = json.loads(line)
        if source_hash() != self.server.source:
            return
        self.request.sendall(ACCEPTED)
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv = request["arguments"]
        threading.Thread(target=self._end_with_client, daemon=True).start()
        status = exit_status(self.server.main)
        sys.stdout.flush()
        sys.stderr.flush()
        self.request.sendall(bytes([status]))

    def _end_with_client(self) -> None:
        with suppress(ConnectionResetError):    # the client was killed before it had read all that was sent
            if self.request.recv(1):
                return
        os._exit(1)


def exit_status(main: Callable[[], None]) -> int:
    """Calls `main` and returns the exit status that a process with this main function would have."""
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


class Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    """Forks for every command and ends with the process that started it."""
    max_children = 1024

    def __init__(self, address: str, parent: int, main: Callable[[], None], source: str):
        super().__init__(address, Command)
        self.parent, self.main, self.source = parent, main, source

    def service_actions(self) -> None:
        super().service_actions()
        if os.getppid() != self.parent:
            os._exit(0)


def serve(address: str, parent: int, main: Callable[[], None]) -> None:
    """Imports what commands need, then runs `main` for each command sent to `address` until process `parent` ends."""
    source = source_hash()                  # before the imports: a change while they load must be noticed
    from study.orchestration.code_identity import stage_hashes

    for name in PRELOADED:
        import_module(name)
    for stage in ("pretrain", "evaluate", "finetune"):      # kept in memory, so that no command parses the code again
        stage_hashes(stage, "text")
    signal.signal(signal.SIGINT, signal.SIG_IGN)        # Ctrl-C is for the commands
    Server(address, parent, main, source).serve_forever()
