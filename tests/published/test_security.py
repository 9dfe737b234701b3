"""What a study must not do: use the network, execute what it reads, or serve other machines."""
import ast
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.support.project import copy_of_finished_project, finished_project
from tests.support.studies import ROOT

SOURCES = sorted((ROOT / "study").rglob("*.py"))
UNSAFE_MODULES = {"pickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}
UNSAFE_CALLS = {"eval", "exec", "torch.load", "yaml.unsafe_load", "os.system"}


def test_a_synthetic_study_does_not_use_the_network():
    """No process of `study run`, DVC and MLflow included, opened a connection or looked up a name."""
    project = finished_project()
    assert (project / "reports/tiny/index.html").exists()
    assert (project / "mlflow.db").exists()
    assert (project.parent / "network.log").read_text() == ""


def calls(tree: ast.AST):
    """Every call as (dotted name, node)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_data_is_never_executed(path: Path):
    tree = ast.parse(path.read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    modules = {alias.name for node in imports for alias in node.names}
    modules |= {node.module for node in imports if isinstance(node, ast.ImportFrom)}
    assert not modules & UNSAFE_MODULES
    for name, node in calls(tree):
        arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert name not in UNSAFE_CALLS, name
        assert arguments.get("trust_remote_code", "False") == "False"
        assert arguments.get("allow_pickle", "False") == "False"
        assert arguments.get("shell", "False") == "False"
        assert name not in ("np.load", "numpy.load") or "allow_pickle" in arguments
        assert name != "yaml.load" or arguments.get("Loader") == "_UniqueKeyLoader"


def test_the_user_interface_listens_on_this_machine_only(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    command = [sys.executable, "-m", "study", "ui", "--study", "experiments/tiny", "--port", str(port)]
    root = copy_of_finished_project(tmp_path / "project", linked=True)
    server = psutil.Popen(command, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL)
    try:
        assert {"127.0.0.1"} == wait_for_addresses(server, port)
    finally:
        for process in [*server.children(recursive=True), server]:
            process.kill()
        server.wait()


def wait_for_addresses(server: psutil.Process, port: int, seconds: float = 120) -> set[str]:
    """The addresses on which a server and its children listen, once one of them listens on the port."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.is_running():
        listening = [connection.laddr for process in [server, *server.children(recursive=True)]
                     for connection in process.net_connections(kind="inet") if connection.status == "LISTEN"]
        if port in {address.port for address in listening}:
            return {address.ip for address in listening}
        time.sleep(0.2)
    raise AssertionError(f"nothing listens on port {port}")
