"""The report in headless Chromium: it is clicked, and looked at."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

api = pytest.importorskip("playwright.sync_api", reason="wants the browser extra")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

METHODS = ("--method", "clip-zero-shot", "--method", "clip-ensemble", "--method", "apm")


@pytest.fixture
def page(ttt, run_json) -> Iterator:
    """The report of a real run, opened from its file with the network cut off."""
    run_json(*METHODS, "--limit", 64, "--set", "steps=3")
    assert ttt("report", "-o", "report.html")[0] == 0
    with api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"no Chromium: {str(error).splitlines()[0]}")
        context = browser.new_context(offline=True)
        opened = context.new_page()
        opened.problems = []
        opened.on("console", lambda m: m.type == "error" and opened.problems.append(m.text))
        opened.on("pageerror", lambda error: opened.problems.append(str(error)))
        opened.on("request", lambda r: _is_inside(r.url) or opened.problems.append(r.url))
        opened.goto(Path("report.html").resolve().as_uri())
        yield opened
        assert opened.problems == []
        browser.close()


def _is_inside(url: str) -> bool:
    return url.startswith(("file:", "data:"))


def column(page, place: int) -> list[str]:
    cells = page.locator("table.sortable").first.locator(f"tbody tr > :nth-child({place})")
    return cells.all_inner_texts()


def test_tables_sort_by_a_click_and_by_a_key(page):
    button = page.locator("table.sortable").first.locator("thead button").nth(6)
    before = [float(text) for text in column(page, 7)]
    button.click()
    assert [float(text) for text in column(page, 7)] == sorted(before, reverse=True)
    button.focus()
    page.keyboard.press("Enter")
    assert [float(text) for text in column(page, 7)] == sorted(before)
    assert page.locator('th[aria-sort="ascending"]').count() == 1


def test_disagreements_follow_the_choice(page):
    cards = page.locator(".cards li")
    names = page.locator(".right option").all_inner_texts()
    assert len(names) == 3
    seen = set()
    for right in names:
        for wrong in names:
            page.select_option(".right", right)
            page.select_option(".wrong", wrong)
            assert f"{cards.count()} shown" == page.locator(".count").inner_text()
            for text in cards.all_inner_texts():
                lines = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
                assert lines[right] == lines["label"]
                assert lines[wrong] != lines["label"]
                seen.add(text)
            assert right != wrong or cards.count() == 0
    assert seen
    broken = "[...document.images].filter(i => !(i.complete && i.naturalWidth)).length"
    assert page.evaluate(broken) == 0


def test_figures_are_seen(page):
    figures = page.locator("figure svg")
    assert figures.count() == 5
    for number in range(5):
        box = figures.nth(number).bounding_box()
        assert box["width"] > 200
        assert box["height"] > 80


def test_figures_stand_two_to_a_row_on_a_wide_window(page):
    page.set_viewport_size({"width": 1600, "height": 900})
    first, second = (page.locator("figure").nth(number).bounding_box() for number in (0, 1))
    assert first["y"] == second["y"]
    assert second["x"] > first["x"] + 600


def test_a_wide_window_cuts_no_table(page):
    page.set_viewport_size({"width": 1600, "height": 900})
    cut = "[...document.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth)"
    assert page.evaluate(f"{cut}.length") == 0


def test_the_method_stays_in_sight_while_a_table_scrolls(page):
    page.set_viewport_size({"width": 600, "height": 900})
    table = page.locator(".wide").first
    name = table.locator("tbody th").first
    before = name.bounding_box()["x"]
    table.evaluate("element => { element.scrollLeft = 200; }")
    assert table.evaluate("element => element.scrollLeft") > 100
    assert abs(name.bounding_box()["x"] - before) < 1


def test_the_filter_shows_the_rows_that_are_asked_for(page):
    rows = page.locator("table.sortable").first.locator("tbody tr:visible")
    assert rows.count() == 3
    page.get_by_role("searchbox", name="Show rows whose name holds").fill("APM")
    assert rows.locator("th").all_inner_texts() == ["apm"]
    assert "rows of all tables" in page.locator("#filtered").inner_text()
    page.locator("#filter").fill("")
    assert rows.count() == 3


def test_a_phone_scrolls_the_tables_and_not_the_page(page):
    page.set_viewport_size({"width": 375, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


def test_dark_mode_is_dark_and_readable(page):
    def brightness(what: str) -> float:
        colour = page.evaluate(f"getComputedStyle(document.body).{what}")
        return sum(int(part) for part in colour[4:-1].split(",")) / 3

    page.emulate_media(color_scheme="dark")
    assert brightness("backgroundColor") < 60
    assert brightness("color") > 200
    page.emulate_media(color_scheme="light")
    assert brightness("backgroundColor") > 200
    assert brightness("color") < 60
