"""Texts without the passwords of addresses."""
from __future__ import annotations

import re


def redacted(text: str) -> str:
    """The text without the user and the password of every address in it, as in `https://user:password@host`.

    Redact a text before it is cut: without its `@`, a password is not recognised.
    """
    return re.sub(r"://\S*@", "://", text)      # SQLAlchemy allows / and @ in a password
