"""The page of pilots is what the recorded runs give."""
from tests.benchmarks.pilots_page import page_text, runs_by_pilot
from tests.support.studies import ROOT


def test_the_page_is_made_from_the_recorded_runs():
    assert (ROOT / "reports/pilots.md").read_text() == page_text(runs_by_pilot())
