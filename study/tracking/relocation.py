"""MLflow's database after the project was copied or moved.

MLflow stores the folder of every run's files as an absolute path. In a copy of the project, it would go on writing to
the original. So the paths in the project's own database are brought in line with where it is now.
"""
from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from study.config.study import Study

ARTIFACTS = "mlartifacts"                   # the folder of the files of all runs, next to the database
# Columns of MLflow's tables with such paths. Older versions of MLflow do not have all of them.
COLUMNS = {"experiments": ("artifact_location",), "runs": ("artifact_uri",),
           "model_versions": ("source", "storage_location"), "logged_models": ("artifact_location",)}
LOCATION = re.compile(rf"(?P<folder>(?:file://)?/.*)/{ARTIFACTS}/[^/]+")
DEFAULT_EXPERIMENT = 0                      # MLflow's own; its folder is below wherever the database was made


def artifact_folder(study: Study) -> Path:
    """Returns the folder of the files of a study's runs."""
    return (study.root / ARTIFACTS).resolve() / study.settings.name


def relocate(database: Path) -> int:
    """Makes the paths in a project's `mlflow.db` those of the folder that it is in. Returns the number of changes.

    Other processes must not create experiments meanwhile. A database that does not exist, is not MLflow's or is in its
    place is left as it is.
    """
    if not database.exists():
        return 0
    root = database.resolve().parent
    with closing(sqlite3.connect(database)) as connection, connection:
        if not _columns(connection, "experiments"):
            return 0
        locations = [location for (location,) in connection.execute("SELECT artifact_location FROM experiments")]
        found = {match["folder"] for location in locations if (match := LOCATION.fullmatch(location or ""))}
        moved = sorted(found - {root.as_uri(), str(root)})
        changes = 0
        for folder in moved:
            new = root.as_uri() if folder.startswith("file:") else str(root)
            changes += _replace(connection, f"{folder}/{ARTIFACTS}/", f"{new}/{ARTIFACTS}/")
        if moved:
            connection.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
                               (str(root / "mlruns" / str(DEFAULT_EXPERIMENT)), DEFAULT_EXPERIMENT))
        return changes


def _replace(connection: sqlite3.Connection, old: str, new: str) -> int:
    """Replaces the start `old` of every path by `new`; returns the number of paths."""
    return sum(connection.execute(
        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
        (new, len(old) + 1, len(old), old)).rowcount
        for table, names in COLUMNS.items() for column in names if column in _columns(connection, table))


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
