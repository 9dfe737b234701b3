"""The report in a browser: it sorts and filters, requests nothing, has no errors, and works for a screen reader."""
import shutil

import pytest

from study.report.page import write_report
from tests.support.fake_results import compare, fake_study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    study = fake_study(tmp_path_factory.mktemp("report") / "study", description="<script>alert('x')</script>")
    compare(study)
    return write_report(study)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, report):
    """The opened report, with its requests and messages."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.requests, page.messages = [], []
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("console", lambda message: page.messages.append(message.text))
    page.on("pageerror", lambda error: page.messages.append(str(error)))
    page.on("dialog", lambda dialog: page.messages.append(dialog.message))
    page.goto(report.as_uri())
    yield page
    page.close()


def column(page, number: int) -> list[str]:
    """The visible texts of a column of the verdict table, from 1."""
    return page.eval_on_selector_all(f"#verdict-table tbody tr:not([hidden]) > :nth-child({number})",
                                     "cells => cells.map(cell => cell.innerText.trim())")


def test_it_requests_nothing_and_reports_no_error(page, report):
    assert page.requests == [report.as_uri()]
    assert page.messages == []


def test_it_sorts_by_any_column_and_marks_it(page):
    page.select_option("#filter-verdict", "")
    before = column(page, 1)
    page.click("#verdict-table thead th:nth-child(1) button")
    names = column(page, 1)
    assert sorted(names) == sorted(before)
    assert names.index("S0.9") < names.index("S0.10") < names.index("S1.2")
    assert page.get_attribute("#verdict-table thead th:nth-child(1)", "aria-sort") == "ascending"
    page.click("#verdict-table thead th:nth-child(1) button")
    assert column(page, 1) == names[::-1]
    assert page.get_attribute("#verdict-table thead th:nth-child(1)", "aria-sort") == "descending"


def test_it_filters_by_verdict_and_by_text(page):
    def verdicts():
        return {text.split(",")[0] for text in column(page, 6)}

    assert not {"untested", "out of scope"} & verdicts()
    page.select_option("#filter-verdict", "untested")
    assert verdicts() == {"untested"}
    page.select_option("#filter-verdict", "")
    page.fill("#filter-text", "squad")
    assert all("SQuAD" in row for row in page.eval_on_selector_all(
        "#verdict-table tbody tr:not([hidden])", "rows => rows.map(row => row.innerText)"))
    shown = page.inner_text("#shown")
    assert shown == f"{len(column(page, 1))} of {page.locator('#verdict-table tbody tr').count()} claims"
    page.fill("#filter-text", "no such text")
    assert column(page, 1) == []


def test_it_can_be_used_by_keyboard(page):
    page.focus("#verdict-table thead th:nth-child(6) button")
    page.keyboard.press("Enter")
    assert page.get_attribute("#verdict-table thead th:nth-child(6)", "aria-sort") == "ascending"


def test_it_works_for_a_screen_reader(page):
    assert page.get_by_role("heading", level=1).count() == 1
    assert page.get_by_role("heading", level=2).count() > 6
    figures = page.get_by_role("img")
    assert figures.count() >= 4
    assert all(figures.nth(number).get_attribute("aria-label") for number in range(figures.count()))
    assert page.get_by_role("table").count() == page.locator("table:visible").count()
    assert page.get_by_role("navigation", name="Contents").count() == 1
    assert page.get_by_role("combobox", name="Verdict").count() == 1
    assert page.get_by_role("searchbox", name="Text").count() == 1


@pytest.mark.parametrize("width", [360, 768, 1400])
def test_only_tables_and_figures_are_wider_than_the_window(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_can_be_read_without_javascript(browser, report):
    page = browser.new_page(java_script_enabled=False)
    page.goto(report.as_uri())
    rows = page.locator("#verdict-table tbody tr")
    assert page.locator("#verdict-table tbody tr:visible").count() == rows.count() > 20
    assert page.locator("#filters").count() == 0
    page.click("summary:has-text('Settings')")
    assert page.get_by_role("rowheader", name="training.learning_rate", exact=True).is_visible()
    page.close()


def test_dark_and_print(page):
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.emulate_media(media="print", color_scheme="light")
    assert not page.locator("nav").is_visible()
    assert not page.locator("#filters").is_visible()
