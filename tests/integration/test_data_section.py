"""The report's section on the data: the summaries of the stages, in a fresh clone too, and none without them."""
import pytest

from study.config.load import load_study
from study.report.page import write_report
from tests.support.bad_input import edited
from tests.support.fake_results import compare, fake_study
from tests.support.summaries import SUMMARIES, write_summaries, write_task_summary


@pytest.fixture
def report(undrawn, tmp_path):
    """The text of the report, with summaries or without, and what is left of them before it is written."""
    def write(summaries: bool, kept: bool = True) -> str:
        study = fake_study(tmp_path / "study")
        if summaries:
            write_summaries(study)
        compare(study)
        for stage in SUMMARIES if not kept else ():
            (study.runs / stage / "summary.json").unlink()
        write_report(study)
        return (study.reports / "README.md").read_text()
    return write


@pytest.mark.parametrize("kept", [True, False])
def test_the_report_has_the_tables_and_each_warning_once(report, kept):
    text = report(True, kept)
    section = text[text.index("\n## Data\n"):text.index("\n## Arms\n")]
    assert "| test | 1,200 | 34,000 | 2 | 3 | 1 (0.08%) | 1 | 90 |" in section
    assert "| train | 40 | 400 | 0 | 0 |  | 0 | 2 | 20 |" in section
    assert "| one\\|two | 31 | 20 |" in section
    assert "| training text | 8,000 | 50,000 | 1.25 | 1,234 (2.06%) | 0 | 31 |" in section
    assert "| validation | 50,000 | 1,200 | 7 | 600 (1.20%) |" in section
    assert section.count("documents of the split &lt;test&gt; are in the training text too") == 1
    tables = [part for part in section.split("\n\n") if part.startswith("| ")]
    assert [len({row.replace("\\|", "").count("|") for row in table.splitlines()}) for table in tables] == [1] * 5


@pytest.mark.parametrize("arms", [["dynamic"], []])
def test_the_report_has_the_rows_of_a_fine_tuning_task_if_an_arm_is_fine_tuned(undrawn, tmp_path, arms):
    study = fake_study(tmp_path / "study")
    edited("finetune", arms=arms)(study.root)
    study = load_study(study.folder)
    write_summaries(study)
    write_task_summary(study)
    compare(study)
    write_report(study)
    text = (study.reports / "README.md").read_text()
    assert ("| fine-tuning task topic | rows |" in text) == bool(arms)
    assert ("| classes of fine-tuning task topic | train | test |" in text) == bool(arms)
    assert ("Few &lt;rows&gt;" in text) == bool(arms)


def test_a_study_of_an_older_version_has_no_such_section(report):
    assert "\n## Data\n" not in report(False)
