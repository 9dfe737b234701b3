"""The paths in MLflow's database follow the project."""
import sqlite3
from contextlib import closing

import pytest

from study.tracking.relocation import relocate


def made_in(database, folder: str) -> None:
    """A database with one experiment of a project in `folder`, and an experiment of another project."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executescript("CREATE TABLE experiments (experiment_id INTEGER, artifact_location TEXT);"
                                 "CREATE TABLE runs (artifact_uri TEXT); CREATE TABLE model_versions (source TEXT);")
        connection.executemany("INSERT INTO experiments VALUES (?, ?)", [
            (0, f"{folder}/experiments/tiny/mlruns/0"), (1, f"file://{folder}/mlartifacts/tiny"), (2, "s3://bucket/x")])
        connection.executemany("INSERT INTO runs VALUES (?)", [
            (f"file://{folder}/mlartifacts/tiny/ab/artifacts",), ("s3://bucket/x/cd/artifacts",)])
        connection.execute("INSERT INTO model_versions VALUES ('runs:/ab/encoder')")


def content(database) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return [value for query in ("SELECT artifact_location FROM experiments", "SELECT artifact_uri FROM runs",
                                    "SELECT source FROM model_versions") for (value,) in connection.execute(query)]


@pytest.mark.parametrize("old", ["/elsewhere/project", "/elsewhere/pro%20ject", "{here}/inner", "{parent}"])
def test_paths_are_those_of_the_folder_of_the_database(tmp_path, old):
    root = tmp_path / "project"
    root.mkdir()
    made_in(root / "mlflow.db", old.format(here=root, parent=tmp_path).rstrip("/"))
    expected = [f"{root}/mlruns/0", f"file://{root}/mlartifacts/tiny", "s3://bucket/x",
                f"file://{root}/mlartifacts/tiny/ab/artifacts", "s3://bucket/x/cd/artifacts", "runs:/ab/encoder"]
    assert relocate(root / "mlflow.db") == 2
    assert content(root / "mlflow.db") == expected
    before = (root / "mlflow.db").read_bytes()
    assert relocate(root / "mlflow.db") == 0
    assert (root / "mlflow.db").read_bytes() == before


def test_a_database_in_its_place_and_other_files_are_left_alone(tmp_path):
    made_in(tmp_path / "mlflow.db", str(tmp_path))
    before = (tmp_path / "mlflow.db").read_bytes()
    assert relocate(tmp_path / "mlflow.db") == 0
    assert (tmp_path / "mlflow.db").read_bytes() == before
    assert relocate(tmp_path / "none.db") == 0
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "empty.db").touch()
    assert relocate(tmp_path / "empty.db") == 0
