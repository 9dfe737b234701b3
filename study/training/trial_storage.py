"""The database of a study's Optuna trials."""
from __future__ import annotations

import os
import re

from study import StudyError
from study.config.study import STORAGE, Study


def open_storage(study: Study):
    """Returns the study's Optuna storage. Creates its tables if needed; two processes must not do so at once.

    Raises StudyError if the storage cannot be used.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    if study.storage.startswith("sqlite:///") and not study.storage.startswith("sqlite:////"):
        raise StudyError(f"search: {STORAGE} has a relative path to an SQLite file, which would be another file in "
                         f"every folder; write sqlite:////absolute/path.db")
    study.state.mkdir(exist_ok=True)
    try:
        return optuna.storages.get_storage(study.storage)
    except (ImportError, RuntimeError, SQLAlchemyError, ValueError) as error:
        # the address may contain a password, so it is not shown
        storage = f"the address in {STORAGE}" if os.environ.get(STORAGE) else "the SQLite file in .state"
        reason = re.sub(r"://[^@/\s]*@", "://", str(error).splitlines()[0])
        raise StudyError(f"search: {storage} cannot be used as Optuna's storage: {reason}") from None
