"""A report of many arms: its bytes, the width of a phone, printed pages, and that its links lead somewhere."""
import re

import pytest

from study.report.page import write_report
from tests.support.browser import chromium, needs_chromium
from tests.support.fake_arms import many_arms
from tests.support.fake_results import compare
from tests.support.limits import PAGE_BYTES, PRINTED_PAGES, README_BYTES

PHONE = 390                                 # pixels


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A study of many arms, five seeds, as many tenths of tokens as a real one, a discussion of the largest length, and
    its report."""
    study = many_arms(tmp_path_factory.mktemp("many"), tenths=10)
    (study.folder / "discussion.md").write_text("\n\n".join(["words " * 79 + "end."] * 10))
    compare(study)
    write_report(study)
    return study


@pytest.fixture(scope="module")
def page(many):
    """The report in a browser."""
    with chromium() as browser:
        page = browser.new_page()
        page.goto((many.reports / "index.html").as_uri())
        yield page


def test_the_report_is_small(many):
    assert len(many.settings.arms) >= 28
    assert len(list((many.reports / "figures").glob("claim-*.svg"))) > 30
    assert (many.reports / "README.md").stat().st_size < README_BYTES
    assert (many.reports / "index.html").stat().st_size < PAGE_BYTES


def test_every_link_of_the_markdown_leads_somewhere(many):
    """Anchors follow GitHub's rule, which the page follows too."""
    html, text = (many.reports / "index.html").read_text(), (many.reports / "README.md").read_text()
    anchors = re.findall(r"\]\(#([^)]+)\)", text)
    assert len(anchors) > 5
    assert set(anchors) <= set(re.findall(r'<h[1-6] id="([^"]+)"', html))
    paths = re.findall(r"\]\(((?:figures|tables)/[^)]+)\)", text)
    assert len(paths) > 50
    assert [path for path in paths if not (many.reports / path).exists()] == []
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', html) + re.findall(r"url\(#([^)]+)\)", html)) <= set(ids)


@needs_chromium
def test_only_tables_and_figures_scroll_on_a_phone(page):
    page.set_viewport_size({"width": PHONE, "height": 800})
    for opened in (False, True):
        page.evaluate(f"document.querySelectorAll('details').forEach(part => part.open = {str(opened).lower()})")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE
    wide = page.evaluate("""[...document.querySelectorAll('main *')].filter(element =>
        element.getBoundingClientRect().right > innerWidth + 1 && !element.closest('.scroll, .drawing')
        ).map(element => element.outerHTML.slice(0, 80))""")
    assert wide == []


@needs_chromium
def test_a_line_of_the_outcomes_fits_a_phone(page):
    page.set_viewport_size({"width": PHONE, "height": 800})
    assert page.evaluate("""[...document.querySelectorAll('table.outcomes')].filter(table =>
        table.getBoundingClientRect().width > innerWidth).length""") == 0


@needs_chromium
def test_it_prints_on_a_few_pages(page):
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = false)")
    printed = page.pdf(format="A4")
    assert 5 < len(re.findall(rb"/Type\s*/Page\b(?!s)", printed)) <= PRINTED_PAGES


@needs_chromium
def test_a_claim_opens_where_its_name_leads(page):
    page.set_viewport_size({"width": 1280, "height": 900})
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = false)")
    link = page.locator("table.outcomes a").first
    link.click()
    target = page.locator(f"p{link.get_attribute('href').replace('.', chr(92) + '.')}")
    assert target.is_visible()
    assert target.inner_text() == link.inner_text()
