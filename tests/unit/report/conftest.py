"""Reports without drawings, and a report of many arms."""
import pytest

from study.report import figures, panels, plateau_figures, search
from study.report.page import write_report
from tests.support.fake_arms import many_arms
from tests.support.fake_results import compare


@pytest.fixture
def undrawn(monkeypatch):
    """Empty figures, for tests of text alone: drawing takes most of the time of a report."""
    for module in (figures, panels, plateau_figures, search):
        monkeypatch.setattr(module, "draw", lambda width, height, paint: "<svg ></svg>")


@pytest.fixture(scope="package")
def many(tmp_path_factory):
    """A study with the arms of wikitext2, five seeds, as many tenths of tokens as a real one, a discussion of the
    largest length, and its report."""
    study = many_arms(tmp_path_factory.mktemp("many"), tenths=10)
    (study.folder / "discussion.md").write_text("\n\n".join(["words " * 79 + "end."] * 10))
    compare(study)
    write_report(study)
    return study
