"""A project that was copied or moved works on in its new place, and its old place stays as it is."""
import shutil
from pathlib import Path

import pytest

from study.config.load import load_study
from study.tracking.client import serve_ui
from study.tracking.runs import track
from tests.support.fake_results import compare, fake_cell, fake_study
from tests.support.mlflow_server import runs
from tests.support.project import STUDY, copy_of_finished_project, copy_of_project, finished_project, run


def files(root: Path) -> dict[str, tuple[int, int]]:
    """Size and time (ns) of every file below a folder."""
    return {str(path.relative_to(root)): (path.lstat().st_size, path.lstat().st_mtime_ns)
            for path in root.rglob("*") if not path.is_dir()}


@pytest.fixture(scope="module")
def tracked(tmp_path_factory) -> Path:
    """The folder of a study whose results are in MLflow; tests copy it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        study = fake_study(tmp_path_factory.mktemp("tracked") / "old place")
        compare(study)
        assert track(study) == 6
    return study.folder


def artifacts(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in (root / "mlartifacts").rglob("*") if path.is_file())


def test_a_copy_logs_to_itself_and_not_to_the_original(tracked, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = files(tracked)
    copy = load_study(Path(shutil.copytree(tracked, tmp_path / "copy")))
    assert track(copy) == 0                 # the results are the same
    fake_cell(copy, "static", 1, 3.0)
    assert track(copy) == 1
    client, cells = runs(copy, kind="cell")
    assert len(cells) == 4
    assert all(cell.info.artifact_uri.startswith((copy.folder / "mlartifacts").as_uri()) for cell in cells)
    changed = next(cell for cell in cells if cell.info.run_name == "static-1")
    assert client.list_artifacts(changed.info.run_id)
    assert len(artifacts(copy.folder)) > len(artifacts(tracked))
    assert files(tracked) == before


def test_the_ui_of_a_moved_project_shows_its_files(tracked, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("os.execve", lambda *arguments: None)
    monkeypatch.setattr("study.tracking.client._check_port", lambda port: None)
    first = shutil.copytree(tracked, tmp_path / "first")
    moved = load_study(Path(shutil.move(first, tmp_path / "second")))
    serve_ui(moved, 5000)
    client, cells = runs(moved, kind="cell")
    assert all(client.list_artifacts(cell.info.run_id) for cell in cells)


def test_the_code_of_another_copy_is_refused(tmp_path):
    root = copy_of_project(tmp_path / "copy")
    done = run(*STUDY, "code", cwd=root / "experiments/tiny", check=False, PYTHONPATH=str(Path.cwd()))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"{root / 'study'}: this command would run other code than that" in done.stderr
    assert f"run `make install` in {root}" in done.stderr
    assert not (root / "experiments/tiny/.state").exists()


def test_a_finished_project_goes_on_in_its_copy(tmp_path):
    """With its MLflow database, DVC's locks and caches, and trials: one more seed is trained, the others are kept."""
    original = finished_project()
    before = files(original)
    root = copy_of_finished_project(tmp_path / "moved", linked=True)
    params = root / "experiments/tiny/params.yaml"
    params.write_text(params.read_text().replace("seeds: [0, 1]", "seeds: [0, 1, 2]"))
    assert "run: 2 cells were stale" in run(*STUDY, "run", "experiments/tiny", "--jobs", "2", cwd=root).stdout
    assert (root / "runs/tiny/dynamic-2/evaluation.json").exists()
    _, cells = runs(load_study(root / "experiments/tiny"), kind="cell")
    assert len(cells) == 6
    assert all(cell.info.artifact_uri.startswith((root / "mlartifacts").as_uri()) for cell in cells)
    assert files(original) == before
