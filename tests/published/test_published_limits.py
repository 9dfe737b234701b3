"""The limits of a report, held by those that are committed."""
import pytest

from tests.support.limits import PAGE_BYTES, README_BYTES
from tests.support.published import published_studies
from tests.support.studies import ROOT


@pytest.mark.parametrize("name", published_studies())
def test_a_published_report_is_small(name):
    folder = ROOT / "reports" / name
    assert (folder / "README.md").stat().st_size < README_BYTES
    assert (folder / "index.html").stat().st_size < PAGE_BYTES
