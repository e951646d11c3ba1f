"""Pages in a real browser: they open from disk without errors or requests, draw when seen, zoom, turn dark, fit a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wavefold.plots import charts
from wavefold.reports.page import Chapter, Facts, Page, Table, Words, write_page

BAD = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'
SEEN = "document.querySelectorAll('[data-drawn]').length"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with a grid, hostile names, a wide table, and a forecast that plays, far below each other."""
    rng = np.random.default_rng(0)
    axis = np.linspace(3700, 8898, 2600)
    frames = rng.normal(size=(5, 8, 12)).astype(np.float32)
    rows = [[BAD, *rng.random(30)]]
    chapters = [
        Chapter(
            "Signals", [charts.sample_grid(axis, "wavelength (Å)", rng.normal(size=(4, 1, 2600)).cumsum(-1), list("abcd"))]
        ),
        Chapter("Names", [charts.class_bars([BAD, "b"], {BAD: [3, 4], "b": [1, 2]}), Table([BAD, *map(str, range(30))], rows)]),
        Chapter(
            "Words",
            [Words("A long text. " * 900), Words("x" * 400, "code"), Facts([("path", "y" * 300)]), Words(BAD, "warning")],
        ),
        Chapter(
            "Forecast", [charts.forecast_player(frames[:3], frames[:3] + 1, frames[3:], ["-1", "0", "+1", "+2", "+3"], "mm")]
        ),
    ]
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(path, Page("A page " + BAD, "What it shows.", chapters, "The end.", [("samples", "1,234")]))
    return path


class Opened:
    """The page in a tab of its own, what it asked for and what it complained of."""

    def __init__(self, chromium: Any, file: Path, **options: Any) -> None:
        self.file, self.asked, self.said = file, [], []
        self.context = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        self.page = self.context.new_page()
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("#figure-0[data-drawn]")

    def check(self) -> None:
        assert self.asked == [self.file.as_uri()]
        assert self.said == []


@pytest.fixture(scope="module")
def handler(chromium: Any, file: Path) -> Opened:
    """The page on a wide screen, opened once; each test leaves it as it was."""
    return Opened(chromium, file)


@pytest.fixture
def page(handler: Opened) -> Iterator[Any]:
    """The wide page, which by the end of the test has asked for nothing but its own file, and complained of nothing."""
    yield handler.page
    handler.check()


def until(page: Any, expression: str) -> None:
    """Wait until an expression holds in the page, whose policy forbids the browser's own way of waiting for one."""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(25)
    raise AssertionError(f"never true: {expression}")


def bring(page: Any, number: int) -> Any:
    """Scroll to a figure, wait until it is drawn."""
    page.evaluate(f"document.getElementById('figure-{number}').scrollIntoView({{behavior: 'instant', block: 'center'}})")
    page.wait_for_selector(f"#figure-{number}[data-drawn]")
    return page.locator(f"#figure-{number}")


def test_figures_are_drawn_when_they_come_near(page):
    assert page.evaluate(SEEN) < 3
    bring(page, 2)
    assert page.evaluate("document.querySelector('.contents [aria-current]').textContent") == "Forecast"
    assert page.evaluate("document.querySelectorAll('#figure-2 .heatmaplayer image').length") == 3


def test_a_drag_zooms_all_panels_and_a_double_click_goes_back(page):
    ranges = "[1, 2, 4].map((k) => document.getElementById('figure-0').layout['xaxis' + (k > 1 ? k : '')].range.map(Number))"
    bring(page, 0)
    before = page.evaluate(ranges)
    box = page.locator("#figure-0 .nsewdrag").first.bounding_box()
    left, middle = box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2
    page.mouse.move(left, middle)
    page.mouse.down()
    page.mouse.move(left + box["width"] / 2, middle, steps=4)
    page.mouse.up()
    until(page, f"{ranges}[0][0] > 4500")
    after = page.evaluate(ranges)
    assert after[0] == after[1] == after[2]
    assert after[0] == pytest.approx([5000, 7600], abs=60)
    page.mouse.dblclick(left, middle)
    until(page, f"{ranges}[0][0] < 3800")
    assert page.evaluate(ranges)[0] == pytest.approx(before[0])


def test_charts_follow_the_dark_scheme_and_come_back(page):
    colours = """() => ['.xtick text', '.scatterlayer .js-line'].map((name) => {
        const style = getComputedStyle(document.querySelector('#figure-0 ' + name));
        return name.endsWith('text') ? style.fill : style.stroke; })"""
    light = page.evaluate(colours)
    page.emulate_media(color_scheme="dark")
    until(page, f"({colours})()[1] !== {light[1]!r}")
    dark = page.evaluate(colours)
    assert dark[0] != light[0]
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"
    page.emulate_media(color_scheme="light")
    until(page, f"({colours})()[1] === {light[1]!r}")
    assert page.evaluate(colours) == light


def test_a_phone_shows_all_without_going_sideways(chromium, file):
    opened = Opened(chromium, file, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    page = opened.page
    for width in (390, 360):
        page.set_viewport_size({"width": width, "height": 844})
        bring(page, 1)
        bring(page, 2)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("document.querySelector('.scroll').scrollWidth > document.querySelector('.scroll').clientWidth")
    places = [page.locator("#figure-0 .nsewdrag").nth(k).bounding_box() for k in range(4)]
    assert len({round(box["x"]) for box in places}) == 1  # four charts below each other
    assert len({round(box["y"]) for box in places}) == 4
    opened.check()


def test_hostile_names_are_shown_and_do_nothing(page):
    bars = bring(page, 1)
    assert "<img src=x onerror=" in bars.locator(".xtick text").first.text_content()
    box = bars.locator(".barlayer .point path").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#figure-1 .hoverlayer .hovertext")
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert page.evaluate("window.hit") is None
    assert page.locator("tbody th").text_content() == BAD


def test_a_forecast_plays_and_obeys_the_arrow_keys(page):
    player = bring(page, 2)
    at = "document.getElementById('figure-2').layout.sliders[0].active"
    assert page.evaluate(at) == 2
    player.focus()
    page.keyboard.press("ArrowRight")
    until(page, f"{at} === 3")
    page.keyboard.press("ArrowLeft")
    until(page, f"{at} === 2")
    first = page.evaluate("document.querySelector('#figure-2 .heatmaplayer image').outerHTML")
    page.locator("#figure-2 .updatemenu-button").first.click()
    until(page, f"{at} === 4")
    assert page.evaluate("document.querySelector('#figure-2 .heatmaplayer image').outerHTML") != first


def test_printing_draws_all_in_light_colours(chromium, file):
    opened = Opened(chromium, file, color_scheme="dark")
    assert opened.page.evaluate(SEEN) < 3
    ink = "getComputedStyle(document.querySelector('#figure-0 .xtick text')).fill"
    opened.page.evaluate(f"addEventListener('beforeprint', () => {{ window.printed = {ink}; }})")
    assert len(opened.page.pdf()) > 20_000
    until(opened.page, f"{SEEN} === 3")
    assert opened.page.evaluate("window.printed") == "rgb(88, 98, 108)"
    until(opened.page, f"{ink} === 'rgb(163, 173, 183)'")
    opened.check()
