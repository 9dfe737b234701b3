"""The description of an experiment shows the summaries of the data, as far as MLflow has room."""
import pytest

from study.tracking.views import LONGEST_NOTE, experiment_tags
from tests.support.fake_results import fake_study, write_content
from tests.support.summaries import SUMMARIES, WARNING, write_summaries, write_task_summary


@pytest.fixture
def study(tmp_path):
    return fake_study(tmp_path / "study")


def note(study) -> str:
    return experiment_tags(study)["mlflow.note.content"]


def test_the_description_has_the_summaries(study):
    before = note(study)
    write_summaries(study)
    added = note(study).removeprefix(before)
    assert added.startswith("\nThe data:\n")
    assert added.count(WARNING) == 1
    assert "| test | 1,200 | 34,000 | 2 | 3 | 1 (0.08%) | 1 | 90 |" in added
    assert "| onetwo | 31 | 20 |" in added


def test_the_description_has_the_rows_of_fine_tuning_tasks(study):
    write_task_summary(study)
    assert "| fine-tuning task topic | rows |" in note(study)
    assert "Few <rows>" in note(study)


def test_a_description_that_would_be_too_long_leaves_out_what_does_not_fit(study):
    labels = [[f"class-{number}", number] for number in range(400)]
    topic = {split: facts | {"labels": labels} for split, facts in SUMMARIES["corpus"]["tasks"]["topic"].items()}
    write_content(study.runs / "corpus/summary.json", SUMMARIES["corpus"] | {"tasks": {"topic": topic}})
    text = note(study)
    assert len(text) < LONGEST_NOTE
    assert "class-1 " not in text
    assert "| test | 1,200 |" in text
