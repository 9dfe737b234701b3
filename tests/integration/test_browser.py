"""The report in a browser: claims lead to their details, it sends no request, and it works for a screen reader."""
import pytest

from study.report.page import write_report
from tests.support.browser import chromium, needs_chromium
from tests.support.fake_results import compare, fake_study

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    study = fake_study(tmp_path_factory.mktemp("report") / "study", description="<script>alert('x')</script>")
    compare(study)
    return write_report(study)


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


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


def test_it_requests_nothing_and_reports_no_error(page, report):
    assert page.requests == [report.as_uri()]
    assert page.messages == []


def test_a_claim_leads_to_its_details_by_mouse_and_by_keyboard(page):
    links = page.locator("table.outcomes a")
    assert links.count() > 3
    for number in (0, 1):
        page.evaluate("document.querySelectorAll('details').forEach(part => part.open = false)")
        link = links.nth(number)
        link.focus()
        page.keyboard.press("Enter")
        target = page.locator(f'[id="{link.get_attribute("href")[1:]}"]')
        target.wait_for(state="visible")
        assert target.inner_text() == link.inner_text()


def test_a_link_from_outside_opens_what_it_leads_to(browser, report):
    page = browser.new_page()
    page.goto(f"{report.as_uri()}#claim-s011")
    assert page.locator('[id="claim-s011"]').is_visible()
    page.close()


def test_it_works_for_a_screen_reader(page):
    assert page.get_by_role("heading", level=1).count() == 1
    assert page.get_by_role("heading", level=2).count() > 6
    figures = page.get_by_role("img")
    assert figures.count() >= 4
    assert all(figures.nth(number).get_attribute("aria-label") for number in range(figures.count()))
    assert page.get_by_role("table").count() == page.locator("table:visible").count()
    assert page.get_by_role("navigation", name="Contents").count() == 1


@pytest.mark.parametrize("width", [360, 768, 1400])
def test_only_tables_and_figures_are_wider_than_the_window(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_can_be_read_without_javascript(browser, report):
    page = browser.new_page(java_script_enabled=False)
    page.goto(report.as_uri())
    rows = page.locator("table.outcomes tbody tr")
    assert page.locator("table.outcomes tbody tr:visible").count() == rows.count() > 15
    page.click("summary:has-text('Hashes of the data')")
    assert page.get_by_role("rowheader", name="evaluation set", exact=True).is_visible()
    page.close()


def test_dark_and_print(page):
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.emulate_media(media="print", color_scheme="light")
    assert not page.locator("nav").is_visible()
    assert page.locator("details:visible").count() == 0
