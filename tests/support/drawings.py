"""Reports without drawings, for tests of text alone: drawing takes most of the time of a report."""
import importlib
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from study import report
from study.report import canvas


@contextmanager
def without_drawings(*drawn: str) -> Iterator[None]:
    """Empty figures, except those of the modules of study.report with these names."""
    names = {module.name for module in pkgutil.iter_modules(report.__path__)}
    assert names >= set(drawn)
    with pytest.MonkeyPatch.context() as patch:
        for name in names - {canvas.__name__.rpartition(".")[2], *drawn}:
            module = importlib.import_module(f"{report.__name__}.{name}")
            if getattr(module, "draw", None) is canvas.draw:
                patch.setattr(module, "draw", lambda *_: "<svg ></svg>")
        yield
