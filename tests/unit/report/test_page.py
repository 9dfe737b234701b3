"""The report: the same bytes from the same files, everything escaped, nothing fetched, no unequal sets compared."""
import csv
import json
import math
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from study import StudyError
from study.analysis.results import escape_step
from study.report import figures, overview
from study.report.claims import claim_rows, counted
from study.report.page import extremes, gather, markdown, number, readme_block, signed, span, write_report
from tests.support.fake_results import compare, fake_cell, fake_study
from tests.support.studies import ROOT


def pages(study) -> dict[str, bytes]:
    compare(study)
    write_report(study)
    return {str(path.relative_to(study.reports)): path.read_bytes() for path in sorted(study.reports.rglob("*"))
            if path.is_file()}


def test_same_files_same_bytes(tmp_path):
    first = pages(fake_study(tmp_path / "a"))
    second = pages(fake_study(tmp_path / "b"))
    assert first.keys() == second.keys()
    assert {"README.md", "index.html", "figures/curves.svg", "tables/cells.csv", "metrics.json"} <= first.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_what_comes_from_data_is_shown_as_text(tmp_path):
    study = fake_study(tmp_path, about="<script>alert(1)</script> & *x* | y")
    files = pages(study)
    html, text = files["index.html"].decode(), files["README.md"].decode()
    assert html.count("<script") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<b>bold" not in html
    assert "<b>" not in text
    assert "x\\|y" in text


def test_page_fetches_nothing_and_can_be_heard(tmp_path):
    html = pages(fake_study(tmp_path))["index.html"].decode()
    sources = re.findall(r"""(?:src|href|xlink:href)\s*=\s*["']([^"']+)""", html) + re.findall(r"url\(([^)]+)\)", html)
    assert [s for s in sources if not s.startswith(("#", "tables/", "../../runs/", "mlflow.html#"))] == []
    assert html.count("<h1") == 1
    assert all('aria-label="' in figure for figure in re.findall(r"<figure.*?>\s*<div[^>]*>", html))
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("page", sorted((ROOT / "reports").glob("*/index.html")), ids=lambda page: page.parent.name)
def test_what_a_published_page_refers_to_is_there_once(page):
    html = page.read_text()
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', html) + re.findall(r"url\(#([^)]+)\)", html)) <= set(ids)
    for figure in re.findall(r"<svg.*?</svg>", html, flags=re.S):
        ElementTree.fromstring(figure)


def test_tables_hold_the_numbers_of_the_files(tmp_path):
    study = fake_study(tmp_path)
    pages(study)
    rows = list(csv.DictReader((study.reports / "tables/cells.csv").open()))
    assert [(r["arm"], r["seed"], float(r["nll"])) for r in rows] == [
        ("dynamic", "0", 2.0), ("dynamic", "1", 2.1), ("static", "0", 2.2), ("static", "1", 2.3)]
    found = {r["metric"]: r for r in csv.DictReader((study.reports / "tables/comparisons.csv").open())}
    assert float(found["nll"]["effect"]) == pytest.approx(0.2, abs=0.05)
    assert float(found["nll"]["low"]) < float(found["nll"]["effect"]) < float(found["nll"]["high"])


def test_unequal_evaluation_sets_are_refused(tmp_path):
    study = fake_study(tmp_path)
    fake_cell(study, "static", 1, 2.0, evaluation_hash="other")
    with pytest.raises(StudyError, match="dynamic-0 and static-1"):
        compare(study)


def test_a_missing_stage_is_named(tmp_path):
    study = fake_study(tmp_path)
    with pytest.raises(StudyError, match="run"):
        write_report(study)
    (study.cell("static", 0) / "probe.json").unlink()
    with pytest.raises(StudyError, match=r"probe\.json"):
        compare(study)


def test_what_ended_on_the_plateau_says_nothing(tmp_path):
    study = fake_study(tmp_path)
    records = study.cell("static", 1) / "metrics.jsonl"
    records.write_text(re.sub(r'"validation_nll": [0-9.]+', '"validation_nll": 3.99', records.read_text()))
    text = pages(study)["README.md"].decode()
    assert text.count("nothing can be said yet, for 1 of 2 runs of static ended on the unigram plateau.") >= 2
    rows = list(csv.DictReader((study.reports / "tables/comparisons.csv").open()))
    assert {row["stuck"] for row in rows if row["treatment"] == "static"} == {"1 of 2 runs of static"}


def test_a_text_that_may_not_be_quoted_is_not(tmp_path, monkeypatch):
    study = fake_study(tmp_path)
    assert all(b"In the example lines" in pages(study)[page] for page in ("README.md", "index.html"))
    monkeypatch.setattr(type(study), "quotable", False)
    for arm, seed in study.cells:
        (study.cell(arm, seed) / "predictions.json").write_text("[]")
        fed = json.loads((study.cell(arm, seed) / "inputs.json").read_text())
        (study.cell(arm, seed) / "inputs.json").write_text(json.dumps(fed | {"line": {"passes": [], "more": False}}))
    files = pages(study)
    for page in ("README.md", "index.html"):
        assert "The settings keep lines of this text out of the results" in files[page].decode()
        assert "pass 1" not in files[page].decode()
        assert "example lines" not in files[page].decode()


def test_small_things():
    assert number(None) == number(float("nan")) == "–"
    assert number(1234.567, 1) == "1,234.6"
    assert span(0.1, 0.2, 1, 100) == "[10.0, 20.0]"
    assert signed({"effect": 0.05, "low": -0.0004, "high": 0.1}, 1, 100) == "+5.0 [+0.0, +10.0]"
    assert signed({"effect": -0.05, "low": math.nan, "high": math.nan}, 2) == "-0.05"
    assert number(-0.001) == "0.00"
    assert markdown("a|b<c>_d") == "a\\|b&lt;c&gt;\\_d"
    assert escape_step([{"step": 0, "validation_nll": 4.0}, {"step": 5, "validation_nll": 3.8}], 4.0) == 5
    assert escape_step([{"step": 0}], 4.0) is None


def test_a_claim_that_says_the_same_is_shown_with_what_it_repeats(tmp_path):
    study = fake_study(tmp_path)
    compare(study)
    said = {row["id"]: row["statement"] for row in claim_rows(study)}
    assert said["S0.8b"] == f"{said['S0.8']} The same with a probe that is tuned."
    assert not [text for text in said.values() if text.startswith("The same")]


def test_a_number_that_failed_runs_share_in_says_so():
    claim = {"metric": "nll", "treatment": "static", "baseline": "dynamic", "outcome": {"effect": 1.0}}
    said = counted(claim, {"static": 2, "dynamic": 0})
    assert said == "failed runs, counted as knowing word frequencies alone: 2 of static"
    assert counted(claim, {"static": 0, "dynamic": 0}) == ""
    assert counted({**claim, "metric": "probe_accuracy"}, {"static": 2}) == ""


def test_arms_of_one_factor_share_a_colour_and_differ_in_their_lines():
    colors = figures.palette({"dynamic": "baseline", "again": "baseline", "static": "masks", "static-10": "masks",
                              "span": "selection"}, "dynamic")
    assert colors["dynamic"] == "#000000"
    assert colors["static"] == colors["static-10"] != colors["span"]
    assert len({colors["dynamic"], colors["again"], colors["static"], colors["span"]}) == 4
    lines = figures.strokes(colors)
    assert lines["static"] != lines["static-10"]
    assert lines["static"] == lines["span"]


def test_the_changes_that_helped_and_cost_most_are_named(study):
    def row(arm, effect, **more):
        return {"treatment": arm, "baseline": "dynamic", "metric": "nll", "effect": effect, "low": effect - 0.1,
                "high": effect + 0.1, "stuck": math.nan} | more

    rows = [row("static", -0.2), row("span", 0.3), row("all-mask", 2.0, stuck="5 of 5 runs of all-mask"),
            row("untrained", 5.0), row("rate-40", 0.05), row("pre-ln", -0.4, baseline="static")]
    assert extremes({"comparisons": rows}, study) == (
        "Of 4 changes to it, compared seed by seed (1 with runs that stay on the unigram plateau left out), static "
        "helped most on [MASK], -0.200 [-0.300, -0.100] nats and span cost most on [MASK], +0.300 [+0.200, +0.400] "
        "nats.")
    assert extremes({"comparisons": rows[4:5]}, study) == (
        "Of 1 change to it, compared seed by seed, none made a difference on [MASK] that its interval tells from none.")


def test_tenths_of_the_tokens_stand_beside_the_baselines(tmp_path, monkeypatch):
    study, seen = fake_study(tmp_path), []
    monkeypatch.setattr(figures, "deciles", lambda table, baseline: seen.append(table) or "<svg></svg>")
    pages(study)
    assert seen[0].index.tolist() == ["dynamic", "static"]
    np.testing.assert_allclose(seen[0], [[1.0, (40 * 2.05 - 10) / 30], [1.0, (40 * 2.25 - 10) / 30]], rtol=1e-5)


def test_seeds_with_the_same_difference_stand_on_each_other():
    assert figures._stacked([1.0, 2.0, 1.0, 1.0], 0.5, 0.25) == [0.5, 0.5, 0.75, 1.0]


def test_many_arms_are_told_in_one_sentence_and_by_their_effects(tmp_path, monkeypatch):
    study = fake_study(tmp_path)
    pages(study)
    few, said = readme_block(study), gather(study)["findings"]
    monkeypatch.setattr("study.report.page.FEW", 1)
    many, sentence = readme_block(study), extremes(gather(study), study)
    assert "figures/curves.svg" in few
    assert "figures/effects-nll.svg" not in few
    assert "figures/effects-nll.svg" in many
    assert "figures/curves.svg" not in many
    assert gather(study)["findings"] == [*said[:2], sentence]
    assert sentence not in said


def test_a_table_of_effects_goes_from_the_best_to_the_worst(tmp_path, monkeypatch):
    study, seen = fake_study(tmp_path), {}
    pages(study)
    rows = pd.read_csv(study.reports / "tables/comparisons.csv")
    rows = rows[rows.treatment == "static"]
    frame = pd.concat([rows.assign(effect=effect) for effect in (0.2, -0.1, 0.3)])
    monkeypatch.setattr(overview, "effects", lambda part, colors, metric: seen.update({metric: part.effect.tolist()}))
    facts = gather(study)
    overview.draw_figures(study, facts | {"frames": facts["frames"] | {"comparisons": frame}},
                          {arm: [[]] for arm in study.settings.arms})
    assert seen == {"nll": [-0.1, 0.2, 0.3], "probe_accuracy": [0.3, 0.2, -0.1]}


def test_names_at_the_ends_of_lines_do_not_touch():
    lines = {f"arm-{number}": [(0, 0.5), (1, 0.5 + number / 1000)] for number in range(20)}
    drawn = figures.probe_lines(lines, dict.fromkeys(lines, "#000000"), "layer", log=False)
    assert drawn == figures.probe_lines(lines, dict.fromkeys(lines, "#000000"), "layer", log=False)
    height = float(re.search(r'height="([\d.]+)pt"', drawn)[1])
    assert height >= 72 * 20 * figures.LINE


def test_a_run_that_ends_early_does_not_cut_the_curve_of_the_others():
    long = [{"step": step, "tokens": 100 * step, "validation_nll": 7.0 - step} for step in range(4)]
    drawn = figures.curves({"dynamic": [long, long[:2]]}, {"dynamic": "#000000"}, math.exp(7.0), None)
    assert drawn == figures.curves({"dynamic": [long, long[:2], long]}, {"dynamic": "#000000"}, math.exp(7.0), None)
    assert drawn != figures.curves({"dynamic": [long[:3], long[:2]]}, {"dynamic": "#000000"}, math.exp(7.0), None)


def test_a_discussion_has_its_numbers_looked_up(tmp_path):
    study = fake_study(tmp_path)
    compare(study)
    assert "Discussion" not in write_report(study).read_text()
    path = study.folder / "discussion.md"
    path.write_text('Dynamic is at {{ arm("dynamic").perplexity_mean | number }}, <b>static</b> differs by\n'
                    '{{ effect("static", "nll") | signed(3, interval=false) }} nats.\n\n'
                    'And {{ claim("S0.1").verdict }}.\n\n'
                    'Of the nats {{ tenth("static", 2).part | number(3) }} and '
                    '{{ tenth("static", 2).rest | number(3) }}, of '
                    '{{ tenth("static", 2, "dynamic").difference | number(3) }} there, '
                    '{{ tenth("static", 1).nll | number(1) }}; {{ layer("static", 0) | percent }} %.\n')
    html, text = write_report(study).read_text(), (study.reports / "README.md").read_text()
    table = {row["arm"]: row for row in csv.DictReader((study.reports / "tables/arms.csv").open())}
    said = f"Dynamic is at {float(table['dynamic']['perplexity_mean']):.2f}, "
    effects = csv.DictReader((study.reports / "tables/comparisons.csv").open())
    effect = next(row["effect"] for row in effects if row["treatment"] == "static" and row["metric"] == "nll")
    assert f"<p>{said}&lt;b&gt;static&lt;/b&gt; differs by {float(effect):+.3f} nats.</p>" in html
    assert said in text
    assert "And supported." in text
    assert "Of the nats 0.200 and 0.000, of 0.267 there, 1.0; 60.0 %." in text
    row = next(line for line in text.splitlines() if line.startswith("| S0.1 "))
    assert row.endswith("([discussed](#discussion)) |")
    assert text.count("[discussed](#discussion)") == 1
    assert html.count('<a href="#discussion">discussed</a>') == 2     # in the table and in the claim's own section
    assert 'id="discussion"' in html


@pytest.mark.parametrize(("text", "said"), [
    ('{{ arm("dynamik").n }}', "there is no arm dynamik"), ('{{ claim("Z9").verdict }}', "there is no claim Z9"),
    ('{{ tenth("static", 11).nll }}', "no tenth 11 of static and dynamic"),
    ('{{ tenth("statik", 1).nll }}', "no tenth 1 of statik"), ('{{ layer("static", 7) }}', "layer 7 of static"),
    ('{{ effect("static", "nlll").effect }}', "no comparison of static on nlll"), ("{{ arm( }}", "line 1"),
    ('{{ arm("dynamic").perplexty }}', "perplexty"), ("{{ ''.__class__.__mro__ }}", "unsafe")])
def test_what_a_discussion_cannot_cite_is_named(tmp_path, text, said):
    study = fake_study(tmp_path)
    compare(study)
    (study.folder / "discussion.md").write_text(text)
    with pytest.raises(StudyError, match=said) as error:
        write_report(study)
    assert "discussion.md" in str(error.value)


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*/discussion.md")), ids=str)
def test_no_number_of_a_discussion_is_typed_by_hand(path):
    assert re.findall(r"\d+", re.sub(r"\{\{.*?\}\}|`[^`]*`", "", path.read_text(), flags=re.S)) == []
