"""The ladder of references, where people read it."""
import math
import re

import pytest

from study import StudyError
from study.analysis.ladder import LABELS, read_ladder
from study.analysis.results import StudyResults
from study.report.ladder import ladder_rows, study_ladder
from study.report.page import write_report
from study.tracking.views import experiment_tags
from tests.support.fake_results import LADDER, compare, fake_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    study = fake_study(tmp_path_factory.mktemp("study"))
    compare(study)
    return study


def test_the_best_count_model_is_that_of_the_validation_tokens(study):
    results = StudyResults(study)
    assert [rung.name for rung in results.ladder("test")] == list(LABELS)
    assert results.best_count_nll == LADDER["two-neighbours-product"]
    assert results.ladder("validation")[0].perplexity == pytest.approx(math.exp(LADDER["uniform"]))


def test_the_baseline_stands_between_the_references(study):
    rows = study_ladder(study)
    levels = [row["nll"] for row in rows]
    assert levels == sorted(levels, reverse=True)
    assert len(rows) == len(LADDER) + 1
    own = next(row for row in rows if row["is_baseline"])
    assert own["label"] == "baseline, dynamic"
    assert own["distance"] is None
    for row in rows:
        assert row["perplexity"] == pytest.approx(math.exp(row["nll"]))
        assert row["is_baseline"] or row["distance"] == pytest.approx(own["nll"] - row["nll"])


def test_floors_of_a_few_words_are_rungs_too():
    rung = {"name": "unigram", "nll": 4.0, "perplexity": math.exp(4.0)}
    rows = ladder_rows({"ladder": {"test": [rung]}, "contexts": {"1": math.exp(3.0), "2": math.exp(2.0)}},
                       {"arm": "dynamic", "nll_mean": 2.5})
    assert [(row["label"], round(row["nll"], 9)) for row in rows] == [
        ("unigram frequencies", 4.0), ("exact floor given 1 word on each side", 3.0), ("baseline, dynamic", 2.5),
        ("exact floor given 2 words on each side", 2.0)]


def test_results_of_an_older_version_are_named():
    with pytest.raises(StudyError, match="an older version wrote them; run `dvc repro`"):
        read_ladder({"neighbours": {"nll": 3.0}}, "test")


def test_the_report_begins_with_the_ladder_and_draws_it(study):
    write_report(study)
    text = (study.reports / "README.md").read_text()
    assert [heading for heading in re.findall(r"^## (.*)", text, re.M)][:4] == [
        "Findings", "Ladder of references", "All comparisons", "Outcomes"]
    figure = (study.reports / "figures" / "ladder.svg").read_text()
    for name, nll in LADDER.items():
        assert f"{LABELS[name]} {nll:.3f}" in text              # the description of the figure
        assert f">{math.exp(nll):,.1f}<" in figure
    own = next(row for row in study_ladder(study) if row["is_baseline"])
    assert f">{own['perplexity']:,.1f}<" in figure
    assert f"The baseline, dynamic, is {2.5 - own['nll']:.3f} nats below the best count model" in text
    curves = (study.reports / "figures" / "curves-mask-schedule.svg").read_text()
    for name, key in (("unigram", "unigram"), ("best count model", "two-neighbours-product"), ("floor", "floor")):
        assert f">{name} {math.exp(LADDER[key]):.1f}<" in curves


def test_the_note_in_mlflow_has_the_ladder(study):
    note = experiment_tags(study)["mlflow.note.content"]
    for name, nll in LADDER.items():
        assert f"| {LABELS[name]} | {math.exp(nll):.2f} | {nll:.3f} | {math.exp(nll):.2f} |" in note
