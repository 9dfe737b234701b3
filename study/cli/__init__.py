"""The command line. Importing this package loads nothing else."""
import os


def main() -> None:
    """Runs the command in sys.argv and exits with its status."""
    if address := os.environ.get("STUDY_PRELOAD"):
        from study.orchestration.preload import run_preloaded

        run_preloaded(address)              # returns only if nobody serves this address
    from study.cli.app import main as run_command

    run_command()
