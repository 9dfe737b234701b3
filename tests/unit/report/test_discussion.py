"""The discussion of a study: its numbers are looked up."""
import csv
import re

import pytest

from study import StudyError
from study.report.discussion import MOST_WORDS, count_words
from study.report.page import write_report
from tests.support.fake_results import compare, fake_study
from tests.support.studies import ROOT


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    study = fake_study(tmp_path_factory.mktemp("study"))
    compare(study)
    return study


def test_numbers_are_looked_up(study, undrawn):
    assert "Discussion" not in write_report(study).read_text()
    (study.folder / "discussion.md").write_text(
        '### What came first\n\n'
        'Dynamic is at {{ arm("dynamic").perplexity_mean | number }}, <b>static</b> differs by\n'
        '{{ effect("static", "nll") | signed(3, interval=false) }} nats.\n\n'
        'And {{ claim("S0.1").outcome }}.\n\n'
        'Of the nats {{ tenth("static", 2).part | number(3) }} and '
        '{{ tenth("static", 2).rest | number(3) }}, of '
        '{{ tenth("static", 2, "dynamic").difference | number(3) }} there, '
        '{{ tenth("static", 1).nll | number(1) }}; {{ layer("static", 0) | percent }} %.\n\n'
        'Counts reach {{ ladder("neighbours-product").nll | number }}.\n\n'
        '- The arm `static_5 <b>` is\n  shown as code.\n'
        '- A *star* is a star.\n')
    html, text = write_report(study).read_text(), (study.reports / "README.md").read_text()
    arms = {row["arm"]: row for row in csv.DictReader((study.reports / "tables/arms.csv").open())}
    effects = csv.DictReader((study.reports / "tables/comparisons.csv").open())
    effect = next(row["effect"] for row in effects if row["treatment"] == "static" and row["metric"] == "nll")
    start = f"Dynamic is at {float(arms['dynamic']['perplexity_mean']):.2f}, "
    assert f"<p>{start}&lt;b&gt;static&lt;/b&gt; differs by {float(effect):+.3f} nats.</p>" in html
    assert start in text
    assert "\n### What came first\n" in text
    assert "\n- The arm `static_5 <b>` is shown as code.\n- A \\*star\\* is a star.\n" in text
    assert "<li>The arm <code>static_5 &lt;b&gt;</code> is shown as code.</li>" in html
    assert "<li>A *star* is a star.</li>" in html
    assert "And holds." in text
    assert "Counts reach 2.75." in text
    assert "Of the nats 0.200 and 0.000, of 0.267 there, 1.0; 60.0 %." in text
    row = next(line for line in text.splitlines() if line.startswith("| S0.1 "))
    assert row.endswith("([discussed](#discussion)) |")
    assert text.count("[discussed](#discussion)") == html.count('<a href="#discussion">discussed</a>') == 1
    assert '<h2 id="discussion">' in html


@pytest.mark.parametrize(("text", "message"), [
    ('{{ arm("dynamik").n }}', "this report has no arm dynamik"),
    ('{{ claim("Z9").outcome }}', "this report has no claim Z9"),
    ('{{ ladder("neighbours").nll }}', "this report has no reference neighbours"),
    ('{{ tenth("static", 11).nll }}', "no tenth 11 of static and dynamic"),
    ('{{ tenth("statik", 1).nll }}', "no tenth 1 of statik"), ('{{ layer("static", 7) }}', "layer 7 of static"),
    ('{{ effect("static", "nlll").effect }}', "no comparison of static on nlll"), ("{{ arm( }}", "line 1"),
    ('{{ arm("dynamic").perplexty }}', "perplexty"), ("{{ ''.__class__.__mro__ }}", "unsafe")])
def test_what_cannot_be_cited_is_named(study, text, message):
    (study.folder / "discussion.md").write_text(text)
    with pytest.raises(StudyError, match=message) as error:
        write_report(study)
    assert "discussion.md" in str(error.value)


DISCUSSIONS = sorted([ROOT / "discussion.md", *(ROOT / "experiments").glob("*/discussion.md")])


@pytest.mark.parametrize("path", DISCUSSIONS, ids=lambda path: path.parent.name)
def test_no_number_is_typed_by_hand(path):
    assert re.findall(r"\d+", re.sub(r"\{\{.*?\}\}|`[^`]*`", "", path.read_text(), flags=re.S)) == []


@pytest.mark.parametrize("path", DISCUSSIONS, ids=lambda path: path.parent.name)
def test_a_discussion_is_short(path):
    assert count_words(path.read_text()) <= MOST_WORDS == 800


def test_a_long_discussion_is_refused(study, undrawn):
    path = study.folder / "discussion.md"
    number = '{{ arm("dynamic").perplexity_mean | number }}'
    path.write_text(f"{number} " + "word " * (MOST_WORDS - 1))
    assert "Discussion" in write_report(study).read_text()
    path.write_text(f"{number} " + "word " * MOST_WORDS)
    with pytest.raises(StudyError, match=f"discussion.md: {MOST_WORDS + 1} words; .* at most {MOST_WORDS}"):
        write_report(study)
