"""Where Optuna keeps the trials of a search."""
from __future__ import annotations

import os
import re

from study import StudyError
from study.config.load import STORAGE, Study


def open_storage(study: Study):
    """The study's storage, its tables made where they are not there. Several processes must not make them at once.

    Raises StudyError when it cannot be used.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    if study.storage.startswith("sqlite:///") and not study.storage.startswith("sqlite:////"):
        raise StudyError(f"search: {STORAGE} names SQLite by a relative path, which is another file in every folder; "
                         f"write sqlite:////and/the/whole/path.db")
    (study.root / ".state").mkdir(exist_ok=True)
    try:
        return optuna.storages.get_storage(study.storage)
    except (ImportError, RuntimeError, SQLAlchemyError, ValueError) as error:
        # the address, which may hold a password, is not shown
        kind = f"what {STORAGE} names" if os.environ.get(STORAGE) else "SQLite under .state"
        reason = re.sub(r"://[^@/\s]*@", "://", str(error).splitlines()[0])
        raise StudyError(f"search: {kind} cannot be used as Optuna's storage: {reason}") from None
