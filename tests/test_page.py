"""Pages: one file that needs nothing else, in which no text of the data is markup and long arrays lie once and small."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from wavefold.core.errors import UserError
from wavefold.plots import charts
from wavefold.plots.plot import plotly_script
from wavefold.reports.page import Chapter, Facts, Figure, Page, Table, Words, page_html, write_page

BAD = "</script><img src=x onerror=alert(1)>"


class Seen(HTMLParser):
    """The elements of a page, and the text of its scripts by id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[dict[str, str | None]] = []
        self.scripts: list[tuple[str | None, str]] = []
        self._script: str | None = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append(dict(attrs))
        if tag == "script":
            self.scripts.append((dict(attrs).get("id"), ""))

    def handle_data(self, data):
        if self.tags and self.tags[-1] == "script" and self.scripts:
            name, text = self.scripts[-1]
            self.scripts[-1] = (name, text + data)

    def handle_endtag(self, tag):
        if tag == "script":
            self.tags.append("/script")


def page_of(*blocks, **more) -> Page:
    return Page("A title", "A lead.", [Chapter("First", list(blocks)), Chapter("Second", [])], **more)


def grid(count=2, length=600, name="a") -> Figure:
    signals = np.random.default_rng(0).normal(size=(count, 1, length)).cumsum(-1)
    return charts.sample_grid(np.linspace(3700.5, 9000, length), "wavelength (Å)", signals, [name] * count)


@pytest.fixture(scope="module")
def plain() -> str:
    """A page of every kind of block but figures, every text of it hostile."""
    blocks = [
        Table([BAD, "n"], [[BAD, 1]], BAD),
        Facts([(BAD, BAD)]),
        *[Words(BAD, k) for k in ("plain", "warning", "good", "code")],
    ]
    return page_html(Page(BAD, BAD, [Chapter(BAD, blocks, BAD), Chapter("b", [])], BAD, [(BAD, BAD)]))


def test_no_text_is_markup(plain):
    seen = Seen(plain)
    assert "img" not in seen.tags
    assert not any(name.startswith("on") for attributes in seen.attributes for name in attributes)
    assert plain.count("&lt;img") >= 14


def test_headings_go_in_order_and_landmarks_are_there(plain):
    seen = Seen(plain)
    headings = [tag for tag in seen.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == "h1"
    assert set(headings[1:]) == {"h2"}
    assert {"header", "nav", "main", "footer"} <= set(seen.tags)
    links = {a["href"][1:] for a in seen.attributes if (a.get("href") or "").startswith("#chapter")}
    assert links == {a["id"] for a in seen.attributes if (a.get("id") or "").startswith("chapter")}


def test_without_figures_there_is_no_plotly(plain):
    assert len(plain) < 60_000


def test_figures_with_hostile_names_stay_in_their_scripts():
    text = page_html(page_of(Figure({"data": [{"name": BAD}], "layout": {"title": {"text": "<!-- <script>"}}}, BAD, BAD)))
    seen = Seen(text)
    assert "img" not in seen.tags
    assert [name for name, _ in seen.scripts] == ["spec-0", None, None]
    assert json.loads(seen.scripts[0][1])["data"][0]["name"] == BAD
    assert any(a.get("aria-label") == BAD and a.get("role") == "img" for a in seen.attributes)


def test_the_policy_names_each_script_and_nothing_outside():
    seen = Seen(page_html(page_of(grid())))
    policy = next(a["content"] for a in seen.attributes if a.get("http-equiv"))
    run = [text for name, text in seen.scripts if name is None]
    assert run[0] == plotly_script()
    for text in run:
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy
    assert "default-src 'none'" in policy
    assert not [a for a in seen.attributes if a.get("src") or (a.get("href") or "#")[0] != "#"]


def scripts(*figures: Figure) -> dict[str, str]:
    return {name: text for name, text in Seen(page_html(page_of(*figures))).scripts if name}


def test_equal_arrays_lie_once_and_values_keep_their_digits():
    held = scripts(grid(), grid())
    spec = json.loads(held["spec-0"])
    first, second = spec["data"][0], spec["data"][1]
    assert first["x"]["array"] == second["x"]["array"]
    assert len([name for name in held if name.startswith("array")]) == 3  # an axis and two signals
    reference = first["y"]
    steps = np.frombuffer(base64.b64decode(held[f"array-{reference['array']}"]), "<i2")
    signal = np.random.default_rng(0).normal(size=(2, 1, 600)).cumsum(-1)[0, 0]
    assert reference["dtype"] == "i2"
    assert steps * reference["step"] + reference["middle"] == pytest.approx(signal, abs=np.ptp(signal) * 2e-5)


@pytest.mark.parametrize("odd", [1e6, np.nan])
def test_far_outliers_keep_floats_and_missing_values_stay_missing(odd):
    values = np.sin(np.arange(900.0)).astype(np.float32)
    values[5] = odd
    held = scripts(charts.sample_grid(np.arange(900), "t", values[None, None], ["a"]))
    reference = json.loads(held["spec-0"])["data"][0]["y"]
    stored = np.frombuffer(base64.b64decode(held[f"array-{reference['array']}"]), "<" + reference["dtype"])
    if np.isnan(odd):
        assert reference["dtype"] == "i2"
        assert (stored == -32768).nonzero()[0].tolist() == [5]
    else:
        assert np.array_equal(stored, values)


def test_numbers_stand_right_and_read_well():
    table = Table(["class", "share", "n", "id"], [["a", 0.123456, 12345, "x1"], ["b", float("nan"), None, "2"]])
    text = page_html(page_of(table))
    assert '<th scope="row">a</th>' in text
    assert '<td class="number">0.1235</td><td class="number">12,345</td><td>x1</td>' in text
    assert '<td class="number">–</td><td class="number"></td>' in text


def test_undefined_numbers_of_a_figure_are_null():
    assert '"y":[null,1.0]' in page_html(page_of(Figure({"data": [{"y": [float("nan"), np.float64(1)]}], "layout": {}}, "a")))


def test_forty_figures_of_twenty_long_signals_stay_small():
    rng = np.random.default_rng(0)
    axis = np.linspace(3700, 8898, 2600)
    figures = [charts.sample_grid(axis, "Å", rng.normal(size=(20, 1, 2600)).cumsum(-1), ["a"] * 20) for _ in range(3)]
    sizes = [len(page_html(page_of(*figures[:count]))) for count in (1, 3)]
    assert sizes[0] + 39 * (sizes[1] - sizes[0]) / 2 < 12e6


def test_a_page_is_written_whole_to_html_only(tmp_path):
    write_page(tmp_path / "new" / "a.html", page_of(Words("Hello")))
    assert "Hello" in (tmp_path / "new" / "a.html").read_text()
    with pytest.raises(UserError, match=r"a\.pdf: expected a file name that ends in \.html"):
        write_page(tmp_path / "a.pdf", page_of())
