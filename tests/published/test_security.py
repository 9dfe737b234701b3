"""What a study must not do: reach for the network, run what it reads, or show what it reads as code."""
import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.project import BIN, copy_of_project
from tests.support.studies import ROOT

SOURCES = sorted((ROOT / "study").rglob("*.py"))
# Python says whatever opens a socket or looks a name up; every Python process of the run writes it down.
WITNESS = """
import os, sys
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.gethostbyname"):
        where = arguments[1] if event == "socket.connect" else arguments
        if isinstance(where, (str, bytes)):         # a socket in the file system
            return
        with open(os.environ["WITNESS"], "a") as file:
            file.write(f"{' '.join(sys.argv[:4])}: {event} {where!r}\\n")
sys.addaudithook(hook)
"""


def test_a_study_reaches_for_no_network(tmp_path):
    """Every stage of a study with the built-in language, MLflow and DVC included: nothing is connected to."""
    (tmp_path / "witness").mkdir()
    (tmp_path / "witness/sitecustomize.py").write_text(WITNESS)
    heard = tmp_path / "heard"
    root = copy_of_project(tmp_path / "project", arms="[dynamic]", seeds="[0]")
    environment = {key: value for key, value in os.environ.items()
                   if key not in ("DVC_NO_ANALYTICS", "MLFLOW_TRACKING_URI", "HF_HUB_DISABLE_TELEMETRY")}
    environment |= {"PYTHONPATH": f"{tmp_path / 'witness'}:{root}", "WITNESS": str(heard), "OMP_NUM_THREADS": "1",
                    "PATH": f"{BIN}:{os.environ['PATH']}"}
    check = subprocess.run([sys.executable, "-c", "import socket; socket.socket().connect_ex(('127.0.0.1', 9))"],
                           env=environment, check=True)
    assert "socket.connect" in heard.read_text()        # the witness is awake
    heard.unlink()
    done = subprocess.run([sys.executable, "-m", "study", "run", "experiments/tiny", "--jobs", "1"], cwd=root,
                          env=environment, capture_output=True, text=True, check=False)
    assert (check.returncode, done.returncode) == (0, 0), done.stderr
    assert not heard.exists(), heard.read_text()


def calls(tree: ast.AST):
    """Every call as (dotted name, node)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_read_is_run(path: Path):
    tree = ast.parse(path.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))
             for alias in node.names} | {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not names & {"pickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}
    for name, node in calls(tree):
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert name not in ("eval", "exec", "torch.load", "yaml.unsafe_load", "os.system"), name
        assert given.get("trust_remote_code", "False") == "False"
        assert given.get("allow_pickle", "False") == "False"
        assert given.get("shell", "False") == "False"
        assert name not in ("np.load", "numpy.load") or "allow_pickle" in given
        assert name != "yaml.load" or given.get("Loader") == "_UniqueKeys"


def test_servers_listen_on_loopback_alone():
    for path in SOURCES:
        text = path.read_text()
        assert "0.0.0.0" not in text, path
    assert '"--host", "127.0.0.1"' in (ROOT / "study/tracking.py").read_text()
