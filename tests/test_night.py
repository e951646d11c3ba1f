"""A night's work: searches that go on after a crash or on a cluster, PSRFITS, and the page whose verdicts train a run."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from test_search import CHANNELS, LINES, ROWS, observe
from wavefold.cli import main
from wavefold.core.errors import DataError, UserError
from wavefold.core.interrupt import Interrupted
from wavefold.data import read
from wavefold.domains.radio import stretch
from wavefold.domains.radio.candidate_files import show_candidates
from wavefold.domains.radio.found import candidates_of
from wavefold.domains.radio.observation import is_scan, open_observation, open_scan
from wavefold.domains.radio.search import search_observation, search_scans
from wavefold.reports.candidates_page import write_candidates_page

SILENT = {"warn": lambda line: None}


@pytest.fixture
def narrow(monkeypatch):
    """Five stretches in the 640 channels, on which noise is measured once."""
    monkeypatch.setattr(stretch, "_STRETCH", 128)
    monkeypatch.setattr(stretch, "_REPEATS", 1)


def searched(paths, out, **how):
    search_scans(None, None, [*map(str, paths)], out=str(out), **SILENT, **how)
    return out.read_bytes()


class Crash(RuntimeError):
    pass


@pytest.mark.parametrize("last", [0, 1, 3])
@pytest.mark.usefixtures("narrow")
def test_a_search_goes_on_where_it_was_killed(tmp_path, monkeypatch, last):
    """Nothing is searched twice that was kept, and the list is the same to the byte."""
    paths = observe(tmp_path)
    whole = searched(paths, tmp_path / "whole.csv")
    monkeypatch.setattr("wavefold.domains.radio.search_state._EVERY", -1.0)
    out, numbers = tmp_path / "a.csv", []

    def some(function, todo):
        for number in todo:
            if number > last:
                raise Crash
            yield function(number)

    with pytest.raises(Crash):
        searched(paths, out, each=some)
    assert [path.name for path in (tmp_path / "a.csv.parts").iterdir()] == ["0.search.npz"]

    def rest(function, todo):
        numbers.extend(todo)
        return map(function, numbers)

    assert searched(paths, out, each=rest) == whole
    assert numbers == list(range(last + 1, 5))
    assert not (tmp_path / "a.csv.parts").exists()


@pytest.mark.usefixtures("narrow")
def test_what_was_kept_of_another_search_or_is_damaged_does_not_count(tmp_path, monkeypatch):
    paths, out, numbers = observe(tmp_path), tmp_path / "a.csv", []
    whole, steep = (searched(paths, tmp_path / "whole.csv", drift=drift) for drift in (4.0, 0.1))
    assert whole != steep

    def all_but_the_last(function, todo):
        for number in todo:
            if number == 4:
                raise Interrupted(2, saved=True)
            yield function(number)

    def noted(function, todo):
        numbers.append(len(todo))
        return map(function, todo)

    monkeypatch.setattr("wavefold.domains.radio.search_state._EVERY", -1.0)
    for spoil, drift, left in (
        (None, 0.1, 5),
        (lambda file: file.write_bytes(file.read_bytes()[:-40]), 4.0, 5),
        (None, 4.0, 1),
    ):
        with pytest.raises(Interrupted):
            searched(paths, out, each=all_but_the_last)
        if spoil:
            spoil(tmp_path / "a.csv.parts" / "0.search.npz")
        assert searched(paths, out, each=noted, drift=drift) == (whole if drift == 4.0 else steep)
        assert numbers.pop() == left
    (tmp_path / "a.csv.parts").mkdir()
    (tmp_path / "a.csv.parts" / "diary.txt").touch()
    with pytest.raises(UserError, match=r"a\.csv\.parts: contains 'diary\.txt', but the search keeps its state there"):
        searched(paths, out)


@pytest.mark.usefixtures("narrow")
def test_a_cluster_lists_the_same_bytes(tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="distributed is not installed: pip install 'wavefold[cluster]'")
    observe(tmp_path)
    monkeypatch.chdir(tmp_path)
    paths = [f"scan{number}.fil" for number in range(6)]
    for words in ([], ["--cluster", "local:1"]):
        result = CliRunner().invoke(main, ["search", *paths, "--out", f"{len(words)}.csv", *words])
        assert result.exit_code == 0, result.output
    assert Path("0.csv").read_bytes() == Path("2.csv").read_bytes()
    Path("scan3.fil").write_bytes(Path("scan3.fil").read_bytes()[:-4])
    result = CliRunner().invoke(main, ["search", *paths, "--out", "-", "--cluster", "local:1"])
    assert result.exit_code == 2
    assert "scan3.fil: " in result.stderr.splitlines()[-1]


# PSRFITS


def as_psrfits(path, *, bits=8, products=1, scaled=True, weights=True, **changed):
    """The scan of a .fil as PSRFITS, by astropy, in blocks of 4 rows; whole numbers of `bits` with scales and offsets."""
    fits = pytest.importorskip("astropy.io.fits")
    scan = open_scan(path)
    power, header = scan.read(0, CHANNELS), scan.header
    low, high = power.min(), power.max()
    scale = np.where(np.arange(CHANNELS) % 2, 1.0, 0.5) * (high - low) / ((1 << bits) - 1) * 2.001
    stored = np.rint((power - low) / scale).astype(np.uint8)
    stored = np.repeat(stored.reshape(ROWS // 4, 4, 1, CHANNELS), products, axis=2)
    if bits < 8:
        many = 8 // bits
        parts = stored.reshape(*stored.shape[:3], CHANNELS // many, many)
        stored = sum(parts[..., place] << np.uint8(8 - bits * (place + 1)) for place in range(many)).astype(np.uint8)
    rows, width = ROWS // 4, products * CHANNELS
    wide = int(stored[0].size)
    columns = [
        fits.Column("DAT_FREQ", f"{CHANNELS}D", array=np.tile(header.fch1 + header.foff * np.arange(CHANNELS), (rows, 1))),
        fits.Column("DAT_WTS", f"{CHANNELS}E", array=np.tile((np.arange(CHANNELS) != 7) | (not weights), (rows, 1))),
        fits.Column("DAT_OFFS", f"{width}E", array=np.full((rows, width), low)),
        fits.Column("DAT_SCL", f"{width}E", array=np.tile(np.tile(scale, products), (rows, 1))),
        fits.Column("DATA", f"{wide}B", array=stored.reshape(rows, wide)),
    ]
    table = fits.BinTableHDU.from_columns(columns if scaled else [columns[0], columns[-1]], name="SUBINT")
    facts = {"NBITS": bits, "NCHAN": CHANNELS, "NPOL": products, "NSBLK": 4, "TBIN": header.tsamp, "NSUBOFFS": 0}
    day = int(header.tstart)
    first = {
        "FITSTYPE": "PSRFITS",
        "OBS_MODE": "SEARCH",
        "TELESCOP": "GBT",
        "SRC_NAME": header.source_name or "*",
        "STT_IMJD": day,
    }
    first |= {"STT_SMJD": int((header.tstart - day) * 86400), "STT_OFFS": (header.tstart - day) * 86400 % 1}
    main_part = fits.PrimaryHDU()
    for part, words in ((main_part.header, first), (table.header, facts)):
        part.update({word: value for word, value in {**words, **changed}.items() if word in words and value is not None})
    for word in (word for word, value in changed.items() if value is None):
        main_part.header.pop(word, None)
        table.header.pop(word, None)
    made = path.with_suffix(".sf")
    fits.HDUList([main_part, table]).writeto(made, overwrite=True)
    return made


@pytest.mark.parametrize("bits", [8, 4])
def test_psrfits_gives_the_lines_of_the_same_scans(tmp_path, bits):
    paths = observe(tmp_path)
    there, here = (open_observation(files, 0) for files in (paths, [as_psrfits(path, bits=bits) for path in paths]))
    assert here.begins == pytest.approx(there.begins, abs=1e-3)
    lists = []
    for scans in (there, here):
        rows = candidates_of(search_observation(scans, **SILENT), scans)
        lists.append(sorted((row.frequency_mhz, row.drift_hz_s) for row in rows))
    assert len(lists[0]) == len(LINES)
    assert np.abs(np.array(lists[0]) - lists[1]).max(0).tolist() < [1e-5, 1e-2]
    power, wanted = here.scans[0].read(0, CHANNELS), there.scans[0].read(0, CHANNELS)
    assert np.isnan(power[:, 7]).all()  # its weight is 0
    step = np.ptp(wanted) * 2.002 / ((1 << bits) - 1) / 2
    assert np.nanmax(np.abs(power - wanted)) < step
    assert here.scans[0].read(5, 9)[:, [0, 1, 3]].tolist() == power[:, [5, 6, 8]].tolist()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"OBS_MODE": "PSR"}, r"scan0\.sf: OBS_MODE is PSR, expected SEARCH"),
        ({"NBITS": None}, r"scan0\.sf: its table SUBINT has no NBITS"),
        ({"NSBLK": 5}, r"scan0\.sf: DATA has 2,560 values a row, expected 5 x 1 x 640"),
        ({"NBITS": 3}, r"scan0\.sf: 3 bits per value \(NBITS\), expected one of 1, 2, 4, 8, 16, 32"),
        ({"STT_IMJD": None}, r"scan0\.sf: its header has no STT_IMJD"),
        ({"TBIN": 0.0}, r"scan0\.sf: tsamp is 0, expected a number above 0"),
    ],
)
def test_psrfits_that_is_no_scan_is_one_line(tmp_path, changed, said):
    made = as_psrfits(observe(tmp_path)[0], **changed)
    with pytest.raises(DataError, match=said):
        open_scan(made)


def test_psrfits_with_products_wants_a_choice_and_a_damaged_file_is_one_line(tmp_path):
    made = as_psrfits(observe(tmp_path)[0], products=2, weights=False)
    with pytest.raises(DataError, match=r"has 2 polarisation products \(nifs\).* choose with --product"):
        open_scan(made)
    one, both = (open_scan(made, product=product).read(0, CHANNELS) for product in ("1", "sum"))
    assert both == pytest.approx(2 * one)
    made.write_bytes(made.read_bytes()[:7000])
    with pytest.raises(DataError, match=r"scan0\.sf: "):
        open_scan(made, product="1").read(0, CHANNELS)
    spectrum = tmp_path / "star.fits"
    spectrum.write_bytes(b"SIMPLE  =                    T" + b" " * 2850)
    assert not is_scan(spectrum)
    with pytest.raises(DataError, match=r"star\.fits: is no PSRFITS file"):
        open_scan(spectrum)
    spectrum.write_bytes(b"SIMPLE  =                    T" + b" " * 50 + b"FITSTYPE= 'PSRFITS '")
    assert is_scan(spectrum)


# the page


@pytest.fixture(scope="module")
def paged(tmp_path_factory):
    """A page of the three lines of a search, and the folder it lies in."""
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("paged")
    paths = [*map(str, observe(folder))]
    result = CliRunner().invoke(main, ["search", *paths, "--out", str(folder / "a.csv"), "--page", str(folder / "a.html")])
    assert result.exit_code == 0, result.output
    return folder


def test_a_page_holds_the_list_and_windows_lie_beside_it(paged):
    rows = list(csv.DictReader((paged / "a.csv").read_text().splitlines()))
    data = json.loads(re.search(r'id="data">(.*?)</script>', (paged / "a.html").read_text(), re.S)[1])
    ids = [row["id"] for row in rows]
    assert list(data["pictures"]) == ids
    names = [column["name"] for column in data["columns"]]
    assert [values[names.index("id")] for values in data["rows"]] == ids
    assert [values[names.index("frequency_mhz")] for values in data["rows"]] == pytest.approx(
        [float(row["frequency_mhz"]) for row in rows], abs=1e-7
    )
    assert sorted(path.stem for path in (paged / "a_windows" / "train" / "s").iterdir()) == sorted(ids)
    window = np.load(paged / "a_windows" / "train" / "s" / f"{ids[0]}.npy", allow_pickle=False)
    assert (window.shape, window.dtype) == ((6, ROWS, 256), np.float16)
    on, off = window[::2, :, 110:146].max(axis=(1, 2)), window[1::2, :, 110:146].max(axis=(1, 2))
    assert on.min() > off.max()  # the line is near its middle


def test_a_person_judges_and_the_verdicts_train(chromium, paged):
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((paged / "a.html").as_uri())
    assert page.locator("#one img").evaluate("image => image.naturalWidth") > 300
    for key in "sjnjs":
        page.keyboard.press(key)
    assert page.locator("#count").inner_text() == "3 of 3 listed, 3 with a verdict"
    page.fill("[name=snr]", "1e9")
    assert page.locator("#count").inner_text().startswith("0 of 3 listed")
    page.fill("[name=snr]", "")
    page.select_option("[name=verdict]", "0")
    assert page.locator("#list tbody tr").count() == 1
    page.select_option("[name=verdict]", "")
    page.click("#list thead button >> nth=0")
    page.click("#list thead button >> nth=0")
    shown = [float(text) for text in page.locator("#list tbody td:first-child").all_inner_texts()]
    assert shown == sorted(shown)
    page.reload()
    assert page.locator("#count").inner_text() == "3 of 3 listed, 3 with a verdict"
    with page.expect_download() as download:
        page.click("#save")
    target = paged / "a_windows" / download.value.suggested_filename
    download.value.save_as(target)
    page.keyboard.press("u")
    page.set_input_files("#load", target)
    for _ in range(100):
        if "3 with" in page.locator("#count").inner_text():
            break
        page.wait_for_timeout(20)
    assert page.locator("#count").inner_text() == "3 of 3 listed, 3 with a verdict"
    assert said == []
    context.close()
    rows = list(csv.DictReader(target.read_text().splitlines()))
    assert [row["target"] for row in rows] == ["1", "0", "1"]
    data = read(paged / "a_windows")
    judged = {row["id"]: int(row["target"]) for row in rows}
    assert dict(zip(data.ids.tolist(), data.known_labels().tolist(), strict=True)) == judged
    assert data.signals.shape == (3, 6, ROWS, 256)
    assert data.grouping == "background"


def test_a_list_without_candidates_has_a_page_too_and_a_page_wants_a_file(tmp_path):
    write_candidates_page(tmp_path / "none.html", [], {}, out="none.csv", labels=Path("x"))
    assert "No line stands out" in (tmp_path / "none.html").read_text()
    result = CliRunner().invoke(main, ["search", "a.fil", "--out", "-", "--page", str(tmp_path / "a.html")])
    assert (
        result.stderr == f"wavefold: {tmp_path / 'a.html'}: a page needs files beside the candidates; give --out a file name\n"
    )
    result = CliRunner().invoke(main, ["search", "a.fil", "--out", "a.csv", "--page", "a.txt"])
    assert result.stderr.startswith("wavefold: a.txt: a page is an .html file")


def test_hostile_names_stay_text(tmp_path):
    scans = open_observation(observe(tmp_path), 0)
    found = search_observation(scans, **SILENT)
    rows = [replace(row, source="</script><script>window.hit=1</script>") for row in candidates_of(found, scans)]
    pictures = {}
    pytest.importorskip("matplotlib")
    show_candidates(tmp_path / "windows", found, rows, scans, show=pictures.__setitem__, **SILENT)
    write_candidates_page(tmp_path / "a.html", rows, pictures, out="a.csv", labels=Path("x"))
    assert "<script>window" not in (tmp_path / "a.html").read_text()
