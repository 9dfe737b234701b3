"""The report: the same bytes from the same files, everything escaped, nothing fetched, one source for both pages."""
import csv
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from study import StudyError
from study.analysis.questions import QUESTIONS, REFERENCE
from study.analysis.registration import read_registrations
from study.report import figures
from study.report.overview import MOST_CURVES, of_question
from study.report.page import write_report
from tests.support.fake_arms import many_arms
from tests.support.fake_results import compare, fake_cell, fake_study, write_params
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


def test_the_same_files_give_the_same_bytes(files, tmp_path):
    again = pages(fake_study(tmp_path, description=MARKUP))
    assert again.keys() == files.keys()
    assert {"README.md", "index.html", "figures/ladder.svg", "tables/cells.csv", "metrics.json"} <= files.keys()
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
            if not target.startswith(("#", "tables/"))] == []


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
    assert {"findings", "ladder-of-references", "outcomes", "arms", "methods", "reproduction"} <= set(contents)


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


def test_runs_that_learnt_too_little_are_named_and_drawn_hollow(tmp_path, monkeypatch, undrawn):
    study, seen = fake_study(tmp_path), []
    monkeypatch.setattr(figures, "forest", lambda groups, *_: seen.append(groups) or "<svg ></svg>")
    records = study.cell("static", 1) / "metrics.jsonl"
    records.write_text(re.sub(r'"validation_nll": [0-9.]+', '"validation_nll": 3.99', records.read_text()))
    text = pages(study)["README.md"].decode()
    assert re.search(r"^\| static \| .* \| 1 never escaped \|", text, re.M)
    assert [row["gated"] for groups in seen for rows in groups.values() for row in rows] == [True, True]
    rows = list(csv.DictReader((study.reports / "tables/comparisons.csv").open()))
    assert {row["gated_runs"] for row in rows if row["treatment"] == "static"} == {"1"}


def test_a_diverged_run_is_counted_once(tmp_path, undrawn):
    """It also fails the learning gate."""
    study = fake_study(tmp_path)
    path = study.cell("static", 1) / "training.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "diverged"}))
    text = pages(study)["README.md"].decode()
    assert re.search(r"^\| static \| .* \| dynamic \| 1 diverged \|", text, re.M)
    assert list(csv.DictReader((study.reports / "tables/cells.csv").open()))[3]["gate"] == "run_diverged"


def test_the_rules_are_stated_where_they_apply(files):
    text = files["README.md"].decode()
    methods = text[text.index("## Methods"):text.index("## Reproduction")]
    assert ("Diverged runs fail. The gate applies to numbers of one arm, too, but not to claims about the course of "
            "training") in methods
    assert "a band on an accuracy counts the test rows as a sample, too" in methods
    assert "registered later" not in methods


def test_how_to_read_a_plot_of_effects_is_without_repeats(files):
    text = files["README.md"].decode()
    assert "](figures/effects-nll.svg)" in text
    assert "](figures/effects-probe-accuracy.svg)" in text
    assert text.count("Each arm minus the arm that it is compared with") == 1


def test_effects_along_training_are_shown(files):
    text = files["README.md"].decode()
    assert "](figures/along-training.svg)" in text
    assert "Of these differences: 1 none ([numbers](tables/along_training.csv))" in text
    lines = files["tables/along_training.csv"].decode().splitlines()
    assert lines[0] == "treatment,baseline,fraction,step,baseline_step,n,effect,low,high"
    assert len(lines) == 1 + 20


@pytest.mark.usefixtures("undrawn")
def test_one_seed_has_no_intervals_and_one_run_is_in_the_singular(tmp_path):
    fake_study(tmp_path)
    text = pages(write_params(tmp_path, "tiny", ["dynamic", "static"], [0]))["README.md"].decode()
    assert " tokens) with one seed. `dynamic` is the baseline." in text
    assert "](figures/along-training.svg)" in text
    assert "\nOne seed gives no intervals, so these differences are not sorted into kinds ([numbers](" in text
    assert "Of these differences" not in text
    text = pages(write_params(tmp_path, "tiny", ["dynamic"], [0]))["README.md"].decode()
    assert "This study trains 1 [arm](#arms) of" in text
    assert "**Cost.** 1 run (0 diverged" in text
    assert "![Final NLL against escape step of 1 run](figures/escapes.svg)" in text


def test_a_text_that_may_not_be_quoted_is_not(tmp_path, monkeypatch, undrawn):
    study = fake_study(tmp_path)
    shown = pages(study)
    assert all(b"bold" in shown[page] for page in ("README.md", "index.html"))      # a word of the sample row
    monkeypatch.setattr(type(study), "quotable", False)
    hidden = pages(study)
    assert not any(b"bold&" in hidden[page] for page in ("README.md", "index.html"))
    assert b"What the baseline predicts" not in hidden["README.md"]


def test_typed_sentences_are_shown_even_so(tmp_path, monkeypatch, undrawn):
    study = fake_study(tmp_path)
    path, top = study.cell("dynamic", 0) / "predictions.json", [["words", 0.123], ["w", 0.1], ["v", 0.05], ["u", 0.01]]
    typed = {"tokens": ["[CLS]", "plain", "[MASK]", "[SEP]"], "masked": [{"position": 2, "truth": None, "top": top}]}
    path.write_text(json.dumps([*json.loads(path.read_text()), typed]))
    monkeypatch.setattr(type(study), "quotable", False)
    text = pages(study)["README.md"].decode()
    assert "> \\[CLS\\] plain \\[MASK\\] \\[SEP\\]" in text
    assert "| – | words 12.3 % | w 10.0 % | v 5.0 % |" in text
    assert "bold" not in text


def test_deciles_are_differences_from_the_baseline(tmp_path, monkeypatch, undrawn):
    study, seen = fake_study(tmp_path), []
    monkeypatch.setattr(figures, "deciles", lambda table, baseline: seen.append(table) or "<svg ></svg>")
    pages(study)
    assert seen[0].index.tolist() == ["dynamic", "static"]
    np.testing.assert_allclose(seen[0], [[1.0, (40 * 2.05 - 10) / 30], [1.0, (40 * 2.25 - 10) / 30]], rtol=1e-5)


def test_comparisons_are_grouped_by_question_over_the_noise(tmp_path, monkeypatch, undrawn):
    study, seen = many_arms(tmp_path, ["dynamic", "dynamic-reseeded", "untrained", "rate-40", "all-mask", "span"]), []
    monkeypatch.setattr(figures, "forest", lambda groups, colors, label, digits, noise:
                        seen.append((groups, noise)) or "<svg ></svg>")
    pages(study)
    for (groups, noise), scale, metric in zip(seen, (1, 100), ("nll", "probe_accuracy"), strict=True):
        arms = {name: [row["treatment"] for row in rows] for name, rows in groups.items()}
        assert arms == {"corruption": ["all-mask"], "rate and selection": ["rate-40", "span"]}
        control = next(row for row in csv.DictReader((study.reports / "tables/comparisons.csv").open())
                       if row["treatment"] == "dynamic-reseeded" and row["metric"] == metric)
        assert noise == pytest.approx([scale * float(control[key]) for key in ("low", "high")])


def test_a_plot_has_eight_curves_at_most(study):
    """The tiny study has all arms."""
    for question in QUESTIONS:
        for arms in of_question(study, question, MOST_CURVES):
            assert arms[0] == "dynamic"
            assert 2 <= len(arms) == len(set(arms)) <= 8
    parts = [arm for question in QUESTIONS for arms in of_question(study, question, MOST_CURVES) for arm in arms]
    references = {arm for arm in study.settings.arms if study.arms[arm].factor == REFERENCE}
    assert set(parts) == set(study.settings.arms) - references | {"dynamic"}


def test_only_tested_claims_are_on_the_page(files):
    text = files["README.md"].decode()
    table = text[text.index("## Outcomes"):text.index("## Checks")]
    shown = {name for name in re.findall(r"^\| (\S+) \|", table, re.M) if name != "claim"}
    claims = json.loads(files["claims.json"])
    tested = {name for name, claim in claims.items() if claim["result"]["outcome"] != "not testable here"}
    checks = {name for name, claim in claims.items() if claim["claim_type"] == "exact"}
    assert shown == tested - checks
    assert f"Another {len(claims) - len(tested)} are not testable here; [tables/claims.csv](tables/claims.csv)" in text
    assert not any(name in text for name in ("L2b", "S0.13"))


def test_the_registration_is_shown_with_commit_and_hash(tmp_path, undrawn):
    study = many_arms(tmp_path, ["dynamic", "all-mask"])
    path = study.runs / "claims.json"
    (entry,) = json.loads(path.read_text())
    path.write_text(json.dumps([entry | {"commit": "0123456789abcdef"}]))
    (registration,) = read_registrations(study)
    text = pages(study)["README.md"].decode()
    assert (f"Registered on {entry['date']} at commit 0123456789: {len(entry['claims'])} claims, hash "
            f"{registration.hash}.\nExploratory (not registered, or rule, arms or seeds changed since): none. ") in text
    waiting = re.search(r"Registered, but not tested \(\[why\]\(tables/claims.csv\)\): (.*?)\. ", text)[1].split(", ")
    assert waiting
    assert set(waiting) < set(entry["claims"])
    assert not any(re.search(rf"^\| {re.escape(name)} \|", text, re.M) for name in waiting)
    path.write_text(json.dumps([entry | {"date": "2026-11-26 10:00 UTC", "amended": "2026-11-27 10:00 UTC"}]))
    text = pages(study)["README.md"].decode()
    assert ("The settings of the arms and the seeds joined this record on 2026-11-27 10:00 UTC, after the runs, as "
            "these have them.\nMade stricter after that, on 2026-11-27 17:17 UTC: a test has 5 % divided by") in text
    path.write_text(json.dumps([entry | {"date": "2026-11-28 10:00 UTC"}]))
    assert "Made stricter" not in pages(study)["README.md"].decode()
    path.write_text(json.dumps([entry, entry]))
    later = ("Claims that were registered later have an error rate of 5 % of their own, and their baseline's runs were "
             "known by then.")
    assert later in pages(study)["README.md"].decode()
    del entry["claims"]["L2"]
    path.write_text(json.dumps([entry]))
    text = pages(study)["README.md"].decode()
    assert "changed since): L2." in text
    assert re.search(r"^\| L2 \| .* \| [a-z ]+, exploratory \|", text, re.M)
    path.unlink()
    assert "No claim was registered before the first run." in pages(study)["README.md"].decode()
