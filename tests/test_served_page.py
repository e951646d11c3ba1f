"""The server's page in a real browser: takes files, says what they are and why, names what is wrong, fits dark and phones."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import create_model

from test_serve import FAKE, FRAMES, Gate, by_class
from wavefold.serving.app import Limits, new_app
from wavefold.serving.responses import Answer
from wavefold.serving.schemas import prediction_model

uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed")

BAD = '<img src=x onerror="window.hit=1">'
LONG = "a class whose name is rather longer than a phone is wide, and_goes_on_without_a_space_in_it"
CURVES = replace(
    FAKE,
    title="a fake " + BAD,
    metadata={
        "classes": [BAD, LONG],
        "shape": [1, 3],
        "unit": "nm",
        "score": {"metric": "auc", "value": 0.9, "interval": [0.8, 0.95], "n": 1234, "per": 0},
        "baselines": [{"name": "majority", "value": 0.5, "interval": [0.4, 0.6]}],
        "engine": "ONNX Runtime",
    },
    row=prediction_model((BAD, LONG)),
    answer=by_class((BAD, LONG)),
    axis=np.array([400.0, 500.0, 600.0]),
    axis_title="wavelength (nm)",
)
PANELS = replace(
    CURVES, shape=(6, 4, 5), example=np.arange(120, dtype=np.float32).reshape(6, 4, 5), axis=None, read=None, suffixes=()
)
FILMS = replace(FRAMES, metadata={"engine": "ONNX Runtime"}, shape=(1, 2, 6, 8), example=np.ones((1, 2, 6, 8), np.float32))
NUMBERS = replace(
    CURVES,
    kind="values",
    explain=None,
    name="values",
    row=create_model("Row", id=(str, ...), values=(dict[str, float], ...)),
    predict=lambda signals: signals[:, 0, 0],
    answer=lambda batch, values: Answer(
        lambda: [{"id": i, "values": {"<b>": float(v)}} for i, v in zip(batch.ids, values, strict=True)]
    ),
    offers=("application/json",),
)
ROWS = b"id,a,b,c\nfirst,-1,0,0\nsecond,0.5,0.25,-0.5\n"


class Site:
    """An app on a free port of this machine, served by a thread of its own."""

    def __init__(self, served: Any, **limits: Any) -> None:
        self._door = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(new_app(served, Limits(**limits)), log_level="error", ws="none", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._door]}, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where it is, with the slash."""
        return f"http://127.0.0.1:{self._door.getsockname()[1]}/"

    def close(self) -> None:
        """End the server, and wait for it."""
        self._server.should_exit = True
        self._thread.join(10)
        self._door.close()


@pytest.fixture(scope="module")
def sites() -> Iterator[dict[str, Site]]:
    """Servers of each kind."""
    made = {"curves": Site(CURVES, body=1000), "panels": Site(PANELS), "films": Site(FILMS), "numbers": Site(NUMBERS)}
    yield made
    for site in made.values():
        site.close()


class Opened:
    """The page of a site in a tab of its own, what it asked for and what it complained of."""

    def __init__(self, chromium: Any, site: Site, **options: Any) -> None:
        self.site, self.asked, self.said = site, [], []
        self.page = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options}).new_page()
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(site.address)
        self.page.wait_for_selector("#model dt", state="attached")

    def give(self, name: str, content: bytes) -> None:
        """Choose a file, as by the button."""
        self.page.set_input_files("#file", {"name": name, "mimeType": "", "buffer": content})

    def drop(self, name: str, text: str) -> None:
        """Let a file fall on the page."""
        self.page.evaluate(
            """([name, text]) => { const held = new DataTransfer(); held.items.add(new File([text], name));
            document.dispatchEvent(new DragEvent('drop', {dataTransfer: held, bubbles: true, cancelable: true})); }""",
            [name, text],
        )

    def wait_for(self, place: str, words: str) -> None:
        """Until the words stand in a place."""
        self.page.locator(place, has_text=words).first.wait_for(timeout=10_000)

    def check(self, *but: str) -> None:
        """It asked nobody else and complained of nothing, but for lines that hold a word of `but`."""
        assert [url for url in self.asked if not url.startswith((self.site.address, "data:", "blob:"))] == []
        assert [line for line in self.said if not any(word in line for word in but)] == []
        assert self.page.evaluate("window.hit") is None
        self.page.context.close()


def sideways(page: Any) -> int:
    """By how many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def test_a_dropped_file_is_classified_drawn_and_explained(chromium, sites):
    opened = Opened(chromium, sites["curves"])
    page = opened.page
    assert page.title() == f"{CURVES.title} – Wavefold"
    fields = page.locator("#model").inner_text()
    assert "0.9 [0.8, 0.95], n = 1,234" in fields
    assert "0.5 [0.4, 0.6]" in fields
    assert "ONNX Runtime" in fields
    opened.drop("beats.CSV", ROWS.decode())
    opened.wait_for("#said", f"{BAD}: 100.00 %")
    assert page.locator("#which option").all_text_contents() == ["first", "second"]
    page.select_option("#which", "1")
    opened.wait_for("#said", f"{LONG}: 75.0 %")
    assert "sample second" in page.locator("#decided").text_content()
    assert page.locator("#odds .number").all_text_contents() == ["25.0 %", "75.0 %"]
    drawn = "JSON.stringify(document.getElementById('chart').data.map((trace) => [trace.type, Array.from(trace.x)]))"
    assert page.evaluate(drawn) == '[["scatter",[400,500,600]],["heatmap",[400,500,600]]]'
    assert page.locator("#chart .scatterlayer .js-line").count() == 1
    assert page.locator("#chart .heatmaplayer image").count() == 1
    assert page.locator("#chart .xtitle").text_content() == "wavelength (nm)"
    assert "red parts support" in page.locator("#reading").text_content()
    opened.check()


def test_a_chosen_file_that_is_bad_is_told_in_one_line_and_the_next_one_comes(chromium, sites):
    opened = Opened(chromium, sites["curves"])
    opened.give("beats.csv", b"nothing of the kind")
    opened.wait_for("#wrong", "sample.csv: is no such file")
    assert not opened.page.locator("#answer").is_visible()
    opened.give("beats.exe", b"MZ")
    opened.wait_for("#wrong", "expected a plain file name that ends in one of .npy, .csv, .zip")
    opened.give("long.csv", bytes(1001))
    opened.wait_for("#wrong", "long.csv has 1,001 bytes; the limit is 1,000")
    opened.give("beats.csv", ROWS)
    opened.wait_for("#said", "100.00 %")
    assert opened.page.locator("#wrong").text_content() == ""
    opened.check("422")  # the browser's own line of an answer that is an error


def test_the_example_of_panels_is_drawn_with_its_map(chromium, sites):
    opened = Opened(chromium, sites["panels"])
    opened.page.click("#example")
    opened.wait_for("#said", "%")
    opened.page.wait_for_selector("#chart .heatmaplayer image", state="attached")
    titles = opened.page.locator("#chart text[class$=title]").all_text_contents()
    assert [word for word in titles if word in ("ON", "OFF")] == ["ON", "OFF"] * 3
    opened.check()


def test_a_forecast_is_shown_frame_by_frame(chromium, sites):
    opened = Opened(chromium, sites["films"])
    stream = io.BytesIO()
    np.save(stream, np.arange(96, dtype=np.float32).reshape(1, 2, 6, 8))
    opened.give("film.npy", stream.getvalue())
    opened.wait_for("#said", "2 frames ahead")
    first = "document.getElementById('chart').data[0].z[0][1]"
    assert opened.page.evaluate(first) == 49
    opened.page.locator("#lead").press("ArrowRight")
    opened.wait_for("#leadword", "2 frames ahead")
    assert opened.page.evaluate(first) == 98
    opened.give("film.npy", stream.getvalue()[:-1])
    opened.wait_for("#wrong", "is truncated, 511 of 512 bytes")
    opened.check("422")


def test_an_answer_of_another_kind_is_shown_as_a_table(chromium, sites):
    opened = Opened(chromium, sites["numbers"])
    opened.give("beats.csv", ROWS)
    opened.wait_for("#said", "2 samples")
    cells = opened.page.locator("#rows td").all_text_contents()
    assert opened.page.locator("#rows th").all_text_contents() == ["id", "values"]
    assert cells == ["first", '{"<b>":-1}', "second", '{"<b>":0.5}']
    assert not opened.page.locator("#chart").is_visible()
    opened.check()


@pytest.mark.parametrize("kind", ["curves", "panels", "films"])
def test_a_dark_phone_shows_all_without_going_sideways(chromium, sites, kind):
    opened = Opened(chromium, sites[kind], viewport={"width": 360, "height": 740}, color_scheme="dark", is_mobile=True)
    page = opened.page
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"
    page.click("#example")
    page.wait_for_selector("#chart .main-svg", state="attached")
    assert sideways(page) == 0
    ink = "getComputedStyle(document.querySelector('#chart .xtitle')).fill"
    assert page.evaluate(ink) == "rgb(228, 231, 234)"
    page.emulate_media(color_scheme="light")
    for _ in range(200):  # the page's policy forbids the browser's own way of waiting for an expression
        if page.evaluate(ink) == "rgb(28, 33, 38)":
            break
        page.wait_for_timeout(25)
    else:
        raise AssertionError("the chart stays dark")
    opened.check()


def test_a_server_that_is_busy_is_told_of_and_asked_again(chromium):
    gate = Gate()
    site = Site(replace(CURVES, predict=gate, explain=None), queue=1)
    try:
        one, two = Opened(chromium, site), Opened(chromium, site)
        one.page.click("#example")
        assert gate.entered.wait(10)
        two.page.click("#example")
        two.wait_for("#wrong", "limit of 1 request")
        gate.open.set()
        one.wait_for("#said", "75.0 %")
        two.page.click("#example")
        two.wait_for("#said", "75.0 %")
        one.check()
        two.check("503")
    finally:
        gate.open.set()
        site.close()
