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
    assert figures.count() == 4
    for number in range(4):
        box = figures.nth(number).bounding_box()
        assert box["width"] > 200
        assert box["height"] > 80


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
