"""Reports without drawings."""
import pytest

from tests.support.drawings import without_drawings


@pytest.fixture
def undrawn():
    """Empty figures, for tests of text alone."""
    with without_drawings():
        yield
