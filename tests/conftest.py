"""The number of workers, the order of the tests, a folder that all workers share, and no network. The fixtures are in
tests/support."""
import os
import shutil
import socket
import tempfile

import pytest
from hypothesis import settings

import study.cli.app  # noqa: F401  (sets variables for libraries, which must not be loaded before)
from study.orchestration.processes import processors
from tests.support.shared import VARIABLE

# In this order; the first one does without the finished project, which is made meanwhile for the second.
SLOWEST_FILES = ("test_docs.py", "test_pipeline.py", "test_cluster.py", "test_concurrency.py", "test_dvc_lines.py",
                 "test_tracker_failures.py", "test_crash.py", "test_every_arm.py")

settings.register_profile("study", deadline=None)       # no test depends on the speed of the machine
settings.load_profile("study")


def pytest_configure(config):
    """Makes the shared folder before any worker starts; workers inherit the environment.

    The fixtures import torch, which takes seconds, so a process that only starts workers goes without them.
    """
    if not hasattr(config, "workerinput"):
        os.environ[VARIABLE] = tempfile.mkdtemp(prefix="study-tests-")
    starts_workers = config.getoption("numprocesses") and not hasattr(config, "workerinput")
    if not starts_workers or config.getoption("collectonly") or config.getoption("showfixtures"):
        config.pluginmanager.import_plugin("tests.support.fixtures")


def pytest_xdist_auto_num_workers(config):
    """`-n auto`: one worker more than there are processors, since workers wait for DVC, Ray and trackers. xdist decides
    about `-n logical`."""
    decided = "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ or config.option.numprocesses != "auto"
    return None if decided else 1 + processors()


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Looking up another machine fails at once, as it does without a network, and without its wait."""
    look_up = socket.getaddrinfo

    def local_only(host, *arguments, **options):
        if host in (None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0", socket.gethostname()):
            return look_up(host, *arguments, **options)
        raise socket.gaierror(socket.EAI_NONAME, f"a test looked up {host}")

    monkeypatch.setattr(socket, "getaddrinfo", local_only)


def pytest_collection_modifyitems(items):
    """Puts the slowest files first, so that no worker has one left when the others are done."""
    names = [*SLOWEST_FILES, *sorted({item.path.name for item in items if "unit" not in item.path.parts})]
    items.sort(key=lambda item: names.index(item.path.name) if item.path.name in names else len(names))


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(VARIABLE), ignore_errors=True)
