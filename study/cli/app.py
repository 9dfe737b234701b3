"""The `study` command: its subcommands, and how errors are shown."""
from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import typer

from study import StudyError
from study.cli import doctor, explore, result_stages, results, runs, stages

# No library that a study uses may send telemetry.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")     # datasets counts loads, of local files too
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("DVC_NO_ANALYTICS", "true")

# OpenBLAS, the library of NumPy and SciPy, chooses its kernels by processor. With one choice for all processors that
# have AVX2, the probes of equal encoders are equal.
CPU_INFO = Path("/proc/cpuinfo")
if CPU_INFO.exists() and "avx2" in CPU_INFO.read_text().split():
    os.environ.setdefault("OPENBLAS_CORETYPE", "Haswell")

# Errors of the file system that the user can fix: a full disk, a read-only folder, a file where a folder belongs.
USER_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR,
               errno.EISDIR, errno.EEXIST)
HELP = ("A reproducibility study of BERT pre-training.\n\n"
        "`dvc repro` runs the stages below in order. Each stage can also be run by hand.\n\n"
        "Every command but `doctor` takes the folder of its study as `--study FOLDER` (`-s FOLDER`) or as its first "
        "argument. The default is the current folder. Example: `study report experiments/tiny`.")

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich",
                  help=HELP)
for group in (stages, result_stages, runs, results, explore, doctor):
    app.add_typer(group.commands)


@app.command(hidden=True)
def serve(socket: str, parent: int) -> None:
    """Run commands in processes that have their imports loaded. `study run` starts this."""
    from study.orchestration.preload import serve as serve_commands

    serve_commands(socket, parent, main)


def main() -> None:
    """Runs the command line. A StudyError is printed as one line and gives exit status 2."""
    try:
        app()
    except StudyError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno not in USER_ERRORS:
            raise
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error))


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
