"""The report: the same bytes from the same files, everything escaped, nothing fetched, one source for both pages."""
import csv
import json
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from study import StudyError
from study.analysis.results import StudyResults
from study.report import figures, overview, search
from study.report.facts import gather
from study.report.page import write_report
from tests.support.fake_results import compare, fake_cell, fake_study
from tests.support.studies import ROOT


def pages(study) -> dict[str, bytes]:
    compare(study)
    write_report(study)
    return {str(path.relative_to(study.reports)): path.read_bytes() for path in sorted(study.reports.rglob("*"))
            if path.is_file()}


MARKUP = "<script>alert(1)</script> & *x* | y"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The report of a study whose texts contain markup."""
    return pages(fake_study(tmp_path_factory.mktemp("report"), description=MARKUP))


@pytest.fixture
def undrawn(monkeypatch):
    """Empty figures, for tests of text alone: drawing takes most of the time of a report."""
    for module in (figures, search):
        monkeypatch.setattr(module, "draw", lambda width, height, paint: "<svg ></svg>")


def test_the_same_files_give_the_same_bytes(files, tmp_path):
    again = pages(fake_study(tmp_path, description=MARKUP))
    assert again.keys() == files.keys()
    assert {"README.md", "index.html", "figures/curves.svg", "tables/cells.csv", "metrics.json"} <= files.keys()
    assert [name for name in files if again[name] != files[name]] == []


def test_text_from_data_is_shown_as_text(files):
    html, text = files["index.html"].decode(), files["README.md"].decode()
    assert html.count("<script") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; *x* | y" in html
    assert "<b>" not in html
    assert "<b>" not in text
    assert "x\\|y" in text
    assert "x|y" in html


def test_the_page_fetches_nothing(files):
    html = files["index.html"].decode()
    targets = re.findall(r"""(?:src|href|xlink:href)\s*=\s*["']([^"']+)""", html) + re.findall(r"url\(([^)]+)\)", html)
    assert [target for target in targets
            if not target.startswith(("#", "tables/", "../../runs/", "mlflow.html#"))] == []


def test_the_page_says_what_the_markdown_says(files):
    """Headings, links and table cells of README.md are those of index.html, in the same order."""
    html, text = files["index.html"].decode(), files["README.md"].decode()
    assert len(re.findall(r"^#+ ", text, re.M)) == len(re.findall(r"<h[1-6]\b", html))
    assert len(re.findall(r"^!\[", text, re.M)) == html.count("<figure>") == html.count("<svg ")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == html.count("<tr>")
    assert text.count("<details>") == html.count("<details>") == html.count("</details>") == html.count("<summary>")


def test_the_page_can_be_read_aloud(files):
    html = files["index.html"].decode()
    assert html.count("<h1") == 1
    figures_shown = re.findall(r"<svg [^>]*>", html)
    assert figures_shown
    assert all(re.search(r'role="img" aria-label="[^"]{10,}"', svg) for svg in figures_shown)
    assert html.count("<table") == html.count('<div class="scroll" tabindex="0" role="region" aria-label="')
    assert 'aria-label=""' not in html
    assert len(re.findall(r"<th ", html)) == len(re.findall(r'<th [^>]*scope="(?:col|row)"', html))
    levels = [int(level) for level in re.findall(r"<h([1-6])\b", html)]
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_the_contents_lead_to_every_section(files):
    html = files["index.html"].decode()
    contents = re.findall(r'<li class="level-2"><a href="#([^"]+)">', html)
    assert contents == re.findall(r'<h2 id="([^"]+)"', html)
    assert {"findings", "claims-tested", "arms", "methods", "reproduction"} <= set(contents)


def test_every_link_of_the_markdown_leads_somewhere(files):
    """Anchors follow GitHub's rule, which the page follows too."""
    html, text = files["index.html"].decode(), files["README.md"].decode()
    anchors = re.findall(r"\]\(#([^)]+)\)", text)
    assert len(anchors) >= 5
    assert set(anchors) <= set(re.findall(r'<h[1-6] id="([^"]+)"', html))
    assert {path for path in re.findall(r"\]\((figures/[^)]+|tables/[^)]+)\)", text)} <= files.keys()


@pytest.mark.parametrize("page", sorted((ROOT / "reports").glob("*/index.html")), ids=lambda page: page.parent.name)
def test_a_published_page_has_each_id_and_each_target_once(page):
    html = page.read_text()
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', html) + re.findall(r"url\(#([^)]+)\)", html)) <= set(ids)
    for figure in re.findall(r"<svg.*?</svg>", html, flags=re.S):
        ElementTree.fromstring(figure)


def test_tables_hold_the_numbers_of_the_files(tmp_path):
    study = fake_study(tmp_path)
    compare(study)
    rows = list(csv.DictReader((study.reports / "tables/cells.csv").open()))
    assert [(r["arm"], r["seed"], float(r["nll"])) for r in rows] == [
        ("dynamic", "0", 2.0), ("dynamic", "1", 2.1), ("static", "0", 2.2), ("static", "1", 2.3)]
    effects = {r["metric"]: r for r in csv.DictReader((study.reports / "tables/comparisons.csv").open())}
    assert float(effects["nll"]["effect"]) == pytest.approx(0.2, abs=0.05)
    assert float(effects["nll"]["low"]) < float(effects["nll"]["effect"]) < float(effects["nll"]["high"])


def test_different_evaluation_sets_are_refused(tmp_path):
    study = fake_study(tmp_path)
    fake_cell(study, "static", 1, 2.0, evaluation_hash="other")
    with pytest.raises(StudyError, match="dynamic-0 and static-1"):
        compare(study)


def test_a_missing_stage_is_named(tmp_path):
    study = fake_study(tmp_path)
    with pytest.raises(StudyError, match="run `study compare`"):
        write_report(study)
    (study.cell("static", 0) / "probe.json").unlink()
    with pytest.raises(StudyError, match=r"probe\.json"):
        compare(study)


def test_runs_that_learnt_too_little_are_not_interpreted(tmp_path, undrawn):
    study = fake_study(tmp_path)
    records = study.cell("static", 1) / "metrics.jsonl"
    records.write_text(re.sub(r'"validation_nll": [0-9.]+', '"validation_nll": 3.99', records.read_text()))
    text = pages(study)["README.md"].decode()
    assert text.count("not interpreted (see the learning gate).") >= 2
    assert text.count("Learning gate: 1 of 2 runs of static never left the unigram plateau.") == 1
    assert "| never escaped |" in text
    rows = list(csv.DictReader((study.reports / "tables/comparisons.csv").open()))
    assert {row["gated_runs"] for row in rows if row["treatment"] == "static"} == {"1"}


def test_effects_along_training_are_shown(files):
    text = files["README.md"].decode()
    assert "for static minus dynamic](figures/along-training.svg)" in text
    assert "| static − dynamic | +0.000 \\[+0.000, +0.000\\] | +0.000 \\[+0.000, +0.000\\] | " in text
    assert "Along training, validation NLL, static − dynamic: " in text
    lines = files["tables/along_training.csv"].decode().splitlines()
    assert lines[0] == "treatment,baseline,fraction,step,baseline_step,n,effect,low,high"
    assert len(lines) == 1 + 20


def test_a_text_that_may_not_be_quoted_is_not(tmp_path, monkeypatch, undrawn):
    study = fake_study(tmp_path)
    shown = pages(study)
    assert all(b"In the example lines" in shown[page] for page in ("README.md", "index.html"))
    monkeypatch.setattr(type(study), "quotable", False)
    for arm, seed in study.cells:
        (study.cell(arm, seed) / "predictions.json").write_text("[]")
        inputs = json.loads((study.cell(arm, seed) / "inputs.json").read_text())
        (study.cell(arm, seed) / "inputs.json").write_text(json.dumps(inputs | {"line": {"passes": [], "more": False}}))
    hidden = pages(study)
    for page in ("README.md", "index.html"):
        assert "settings exclude lines of the text from the results" in hidden[page].decode()
        assert "Pass 1" in shown[page].decode()
        assert "Pass 1" not in hidden[page].decode()
        assert "example lines" not in hidden[page].decode()


def test_deciles_are_differences_from_the_baseline(tmp_path, monkeypatch, undrawn):
    study, seen = fake_study(tmp_path), []
    monkeypatch.setattr(figures, "deciles", lambda table, baseline: seen.append(table) or "<svg ></svg>")
    pages(study)
    assert seen[0].index.tolist() == ["dynamic", "static"]
    np.testing.assert_allclose(seen[0], [[1.0, (40 * 2.05 - 10) / 30], [1.0, (40 * 2.25 - 10) / 30]], rtol=1e-5)


def test_effects_are_sorted_from_the_best_to_the_worst(tmp_path, monkeypatch, undrawn):
    study, seen = fake_study(tmp_path), {}
    compare(study)
    rows = pd.read_csv(study.reports / "tables/comparisons.csv")
    rows = rows[rows.treatment == "static"]
    table = pd.concat([rows.assign(effect=effect) for effect in (0.2, -0.1, 0.3)])
    monkeypatch.setattr(overview, "effects_figure",
                        lambda study, rows, part, colors, metric: seen.update({metric: part.effect.tolist()}))
    results = StudyResults(study)
    facts = gather(results)
    overview.overview_figures(results, facts | {"frames": facts["frames"] | {"comparisons": table}})
    assert seen == {"nll": [-0.1, 0.2, 0.3], "probe_accuracy": [0.3, 0.2, -0.1]}
