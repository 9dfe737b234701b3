"""Where Optuna keeps the trials of a search."""
from __future__ import annotations

import os

from study import StudyError
from study.config import STORAGE, Loaded


def open_storage(study: Loaded):
    """The study's storage, its tables made where they are not there. Several processes must not make them at once.

    Raises StudyError when it cannot be used.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    (study.root / ".state").mkdir(exist_ok=True)
    try:
        return optuna.storages.get_storage(study.storage)
    except (ImportError, SQLAlchemyError) as error:         # the address may hold a password: it is not shown
        kind = f"what {STORAGE} names" if os.environ.get(STORAGE) else "SQLite under .state"
        raise StudyError(f"search: {kind} cannot be used as Optuna's storage: {str(error).splitlines()[0]}") from None
