"""The report in a browser: it sorts and filters, asks the network for nothing, has no error, and can be heard."""
import shutil

import pytest

from study.report.page import write_report
from tests.support.fake_results import compare, fake_study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; .ci/run installs it")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    study = fake_study(tmp_path_factory.mktemp("report") / "study", about="<script>alert('x')</script>")
    compare(study)
    return write_report(study)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, report):
    """The opened report, with everything that it asked for or complained of."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.asked, page.said = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("dialog", lambda dialog: page.said.append(dialog.message))
    page.goto(report.as_uri())
    yield page
    page.close()


def column(page, number: int) -> list[str]:
    """The visible texts of a column of the verdict table, from 1."""
    return page.eval_on_selector_all(f"#verdicts tbody tr:not([hidden]) > :nth-child({number})",
                                     "cells => cells.map(cell => cell.innerText.trim())")


def test_it_asks_for_nothing_and_complains_of_nothing(page, report):
    assert page.asked == [report.as_uri()]
    assert page.said == []


def test_it_sorts_by_any_column_and_says_so(page):
    page.select_option("#filter-verdict", "")
    before = column(page, 1)
    page.click("#verdicts thead th:nth-child(1) button")
    names = column(page, 1)
    assert sorted(names) == sorted(before)
    assert names.index("S0.2") < names.index("S0.10") < names.index("S4.1")
    assert page.get_attribute("#verdicts thead th:nth-child(1)", "aria-sort") == "ascending"
    page.click("#verdicts thead th:nth-child(1) button")
    assert column(page, 1) == names[::-1]
    assert page.get_attribute("#verdicts thead th:nth-child(1)", "aria-sort") == "descending"


def test_it_filters_by_verdict_and_by_words(page):
    assert not {"untested", "out of scope"} & {text.split("\n")[0] for text in column(page, 5)}
    page.select_option("#filter-verdict", "contradicted")
    assert {text.split("\n")[0] for text in column(page, 5)} == {"contradicted"}
    page.select_option("#filter-verdict", "")
    page.fill("#filter-words", "squad")
    assert all("SQuAD" in row for row in page.eval_on_selector_all(
        "#verdicts tbody tr:not([hidden])", "rows => rows.map(row => row.innerText)"))
    shown = page.inner_text("#shown")
    assert shown == f"{len(column(page, 1))} of {page.locator('#verdicts tbody tr').count()} claims"
    page.fill("#filter-words", "no such words")
    assert column(page, 1) == []


def test_it_can_be_used_by_keyboard(page):
    page.focus("#verdicts thead th:nth-child(5) button")
    page.keyboard.press("Enter")
    assert page.get_attribute("#verdicts thead th:nth-child(5)", "aria-sort") == "ascending"


def test_it_can_be_heard(page):
    assert page.get_by_role("heading", level=1).count() == 1
    assert page.get_by_role("heading", level=2).count() > 6
    figures = page.get_by_role("img")
    assert figures.count() >= 4
    assert all(figures.nth(number).get_attribute("aria-label") for number in range(figures.count()))
    assert page.get_by_role("table").count() == page.locator("table:visible").count()
    assert page.get_by_role("combobox", name="Verdict").count() == 1
    assert page.get_by_role("searchbox", name="Words").count() == 1


@pytest.mark.parametrize("width", [360, 768, 1400])
def test_only_tables_are_wider_than_the_window(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_and_print(page):
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.emulate_media(media="print", color_scheme="light")
    assert not page.locator("nav").is_visible()
    assert not page.locator("#filters").is_visible()
