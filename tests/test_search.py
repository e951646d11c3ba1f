"""A whole observation searched: known lines in simulated scans come out where they were put, once each."""

from __future__ import annotations

import csv
import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from wavefold import api
from wavefold.cli import main
from wavefold.core.errors import DataError, UserError
from wavefold.core.records import Identity, RunInfo
from wavefold.domains.radio.cadence import ON
from wavefold.domains.radio.candidates import Candidate, write_candidates
from wavefold.domains.radio.filterbank import Header
from wavefold.domains.radio.observation import open_observation, open_scan, write_observation, write_scan
from wavefold.domains.radio.one_clock import on_off_lines
from wavefold.domains.radio.picture import Track, draw_cadence
from wavefold.domains.radio.search import (
    Found,
    candidates_of,
    check_scans,
    draw_candidates,
    find_lines,
    merge,
    search_observation,
    steepest_of,
)
from wavefold.recipe import Recipe

HEADER = Header(fch1=8400.0, foff=-2.8e-6, tsamp=18.0, tstart=59000.0)
ROWS, CHANNELS, WIDTH = 16, 640, 64
LINES = ((100.0, 0.2), (301.0, -0.25), (420.0, 0.0))  # channel at the first row, channels a row
FACTS = RunInfo(
    recipe="r",
    identity=Identity(recipe="a", data="b"),
    source="s",
    simulated=True,
    samples=1,
    shape=(6, ROWS, WIDTH),
    classes=("0", "1"),
)


STARTS = [18 * panel for panel in range(6)]  # 36 s, two rows, from one scan to the next


def observe(folder, lines=LINES, *, suffix=".fil", spoil=None, rows=ROWS, apart=18):
    """Six scans with lines in ON, and one carrier in all; the clock runs on between them."""
    rng = np.random.default_rng(0)
    panels = rng.normal(1e9, 1e8, (6, rows, CHANNELS)).astype(np.float32)
    panels[:, :, 550] += 3e9
    for panel in ON:
        for row in range(rows):
            for channel, drift in lines:
                panels[panel, row, round(channel + drift * (apart * panel + row))] += 1.2e9
    if spoil is not None:
        spoil(panels)
    return write_observation(folder, panels, HEADER, suffix=suffix, gap=18.0 * (apart - rows))


def predict(windows):
    """A needle where the brightest pixels of ON are elsewhere than those of OFF: enough for lines this strong."""
    bright = (windows[:] > 6).sum(axis=(2, 3))
    return (bright[:, ::2].sum(axis=1) > bright[:, 1::2].sum(axis=1) + 8).astype(np.float64)


@pytest.fixture(scope="module")
def observation(tmp_path_factory):
    return open_observation(observe(tmp_path_factory.mktemp("scans")), 200)


@pytest.fixture(scope="module")
def found(observation):
    return merge(find_lines(observation, WIDTH, predict), STARTS, ROWS)


def test_each_line_is_found_once_and_where_it_is(found, observation):
    assert len(found) == len(LINES)
    for one, (channel, drift) in zip(sorted(found, key=lambda f: f.channel), LINES, strict=True):
        assert one.channel == pytest.approx(channel, abs=2)
        assert one.drift == pytest.approx(drift, abs=0.02)
        assert one.snr > 20
        assert one.windows >= 1
        assert one.coarse == channel // 200
    assert max(f.windows for f in found) > 1  # windows overlap by half


def test_candidates_are_in_the_units_of_the_sky(found, observation):
    rows = sorted(candidates_of(found, observation), key=lambda c: c.start_channel)
    for row, (channel, drift) in zip(rows, LINES, strict=True):
        assert row.frequency_mhz == pytest.approx(8400 - 2.8e-6 * channel, abs=6e-6)
        assert row.drift_hz_s == pytest.approx(-drift * 2.8 / 18, abs=0.004)
        assert row.start_channel == pytest.approx(channel, abs=2)


def test_the_same_search_gives_the_same_bytes_from_either_kind_of_file(found, observation, tmp_path):
    pytest.importorskip("h5py")
    again = open_observation(observe(tmp_path, suffix=".h5"), 200)
    assert merge(find_lines(again, WIDTH, predict), STARTS, ROWS) == found
    assert merge(list(find_lines(again, WIDTH, predict))[::-1], STARTS, ROWS) == found


def test_a_line_that_enters_later_has_a_channel_of_the_file(observation):
    below, above = candidates_of([Found(0.9, 9.0, -5.0, 0.4, 0), Found(0.9, 9.0, 650.0, -0.4, 3)], observation)
    assert (below.start_channel, above.start_channel) == (0, CHANNELS - 1)
    assert below.frequency_mhz == pytest.approx(8400 + 5 * 2.8e-6, abs=1e-9)  # the line's own, by its drift


def test_a_higher_threshold_lists_fewer(observation):
    def odds(windows):
        return 0.4 + 0.2 * predict(windows)

    assert len(merge(find_lines(observation, WIDTH, odds, threshold=0.6), STARTS, ROWS)) == len(LINES)
    assert not list(find_lines(observation, WIDTH, odds, threshold=0.7))


def test_windows_that_are_not_finite_are_passed_over_and_told(tmp_path):
    def spoil(panels):
        panels[2, 5, 110] = np.nan

    said = []
    scans = open_observation(observe(tmp_path, spoil=spoil), 200)
    lines = merge(find_lines(scans, WIDTH, predict, warn=said.append), STARTS, ROWS)
    assert said == ["2 of 19 windows were skipped because of values that are not finite"]
    assert {round(f.channel, -1) for f in lines} >= {300, 420}


def test_the_line_of_a_cadence_is_that_in_on_only_whatever_stands_in_all():
    rng = torch.Generator().manual_seed(0)
    cadences = torch.randn(2, 6, 16, 64, generator=rng)
    cadences[:, :, :, 40] += 9.0  # a carrier in all six
    cadences[1] *= 1e9  # any scale
    rows = torch.tensor(STARTS)[:, None] + torch.arange(16)
    place = torch.tensor([30, -5])[:, None, None] + torch.tensor([-0.24, 0.46])[:, None, None] * rows
    for sample, panel in itertools.product(range(2), ON):
        for row, column in enumerate(place[sample, panel].round().long().tolist()):
            if 0 <= column < 64:
                cadences[sample, panel, row, column] += [8.0, 8e9][sample]
    lines = on_off_lines(cadences, STARTS)
    assert lines.column.tolist() == pytest.approx([30, -5], abs=1)  # the second enters the window later
    assert lines.drift.tolist() == pytest.approx([-0.24, 0.46], abs=0.01)
    assert lines.snr.tolist() == pytest.approx([8 * 48**0.5, 8 * 37**0.5], rel=0.2)
    assert on_off_lines(cadences[:0]).snr.shape == (0,)


def test_the_needle_of_a_real_cadence_is_found(real):
    panels = torch.from_numpy(np.load(real("seti") / "0028a35de92941d.npy", allow_pickle=False).astype(np.float32))
    line = on_off_lines(panels[None], steepest=0.1)
    assert line.drift.item() == pytest.approx(0.0275, abs=0.0007)
    assert line.column.item() == pytest.approx(152, abs=1)


def test_merging_keeps_the_best_of_each_line_in_a_fixed_order():
    first = Found(0.9, 30.0, 100.0, 0.1, 0)
    second = Found(0.8, 25.0, 102.0, 0.09, 0)
    part = Found(0.7, 15.0, 105.2, 0.02, 0)  # the same line as seen in the second ON panel only
    other = Found(0.9, 12.0, 500.0, 0.0, 1)
    crossing = Found(0.6, 12.0, 100.0, -0.4, 0)
    everything = [part, other, crossing, second, first]
    merged = merge(everything, STARTS, ROWS)
    assert merged == [replace(first, windows=3), other, crossing]
    assert merge(everything[::-1], STARTS, ROWS) == merged
    assert merge([], STARTS, ROWS) == []


@pytest.mark.parametrize(
    ("metadata", "kind", "said"),
    [
        (
            {"shape": (6, 273, 64)},
            UserError,
            r"scan0\.fil has 16 rows, but the run was trained on 273; .*data\.shape=\[6,16,64\]",
        ),
        ({"shape": (1, 205)}, UserError, r"cadences with two classes; this run was trained on 1 x 205 values in 2 classes"),
        ({"classes": ("a", "b", "c")}, UserError, r"6 x 16 x 64 values in 3 classes"),
        ({"shape": (6, 16, 1024)}, DataError, r"has 640 channels; the run needs windows of 1024 channels"),
    ],
)
def test_scans_that_a_run_cannot_search_are_one_line(observation, metadata, kind, said):
    with pytest.raises(kind, match=said):
        check_scans(FACTS.model_copy(update=metadata), observation)
    assert check_scans(FACTS, observation) == (6, ROWS, WIDTH)


def test_candidates_as_files(tmp_path, capsysbinary):
    rows = [Candidate(8421.1234567, -0.25, 31.5, 0.99, 3, 1234, 2), Candidate(8400.0, 0.0, 12.0, 0.5, 0, 0, 1)]
    write_candidates(tmp_path / "a.csv", rows)
    text = (tmp_path / "a.csv").read_text()
    assert text.splitlines() == [
        "frequency_mhz,drift_hz_s,snr,score,coarse_channel,start_channel,windows,at_limit",
        "8421.1234567,-0.250000,31.50,0.990000,3,1234,2,0",
        "8400.0000000,0.000000,12.00,0.500000,0,0,1,0",
    ]
    write_candidates("-", rows)
    assert capsysbinary.readouterr().out.decode() == text
    write_candidates(tmp_path / "none.csv", [])
    assert (tmp_path / "none.csv").read_text() == text.splitlines()[0] + "\n"
    write_candidates(tmp_path / "a.npz", rows)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as kept:
        assert kept["start_channel"].tolist() == [1234, 0]
        assert kept["frequency_mhz"].tolist() == [8421.1234567, 8400.0]
    with pytest.raises(UserError, match=r"'\.txt' is not one of \.csv"):
        write_candidates(tmp_path / "a.txt", rows)


@pytest.mark.parametrize("rows", [0, 2])
def test_candidates_as_tables(tmp_path, rows):
    arrow, openpyxl = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("openpyxl")
    some = [Candidate(8421.1234567, -0.25, 31.5, 0.99, 3, 1234, 2)] * rows
    write_candidates(tmp_path / "a.parquet", some)
    assert arrow.read_table(tmp_path / "a.parquet").column("frequency_mhz").to_pylist() == [8421.1234567] * rows
    write_candidates(tmp_path / "a.xlsx", some)
    sheet = openpyxl.load_workbook(tmp_path / "a.xlsx").active
    assert [c.value for c in next(sheet.iter_rows())][:2] == ["frequency_mhz", "drift_hz_s"]
    assert sheet.max_row == rows + 1


def test_each_candidate_has_a_picture_and_an_earlier_searchs_go(found, observation, tmp_path):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("07_8400.000000MHz.png", "holiday.png"):
        (folder / name).write_text("there before")
    assert draw_candidates(folder, found, observation, WIDTH) == len(LINES)
    names = sorted(p.name for p in folder.iterdir())
    assert names[-1] == "holiday.png"
    assert [n[:3] for n in names[:-1]] == ["01_", "02_", "03_"]
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in folder.glob("0*.png"))
    first = (folder / names[0]).read_bytes()
    draw_candidates(folder, found, observation, WIDTH)
    assert (folder / names[0]).read_bytes() == first


def test_a_contest_cadence_is_pictured_in_bins_and_rows(tmp_path):
    pytest.importorskip("matplotlib")
    panels = np.random.default_rng(0).standard_normal((6, 8, 32)).astype(np.float32)
    panels[1] = np.nan  # a panel without a value is drawn empty
    draw_cadence(tmp_path / "a.png", panels, "a", track=Track(31.0, 0.5))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny run of cadences of 16 rows and 64 columns."""
    settings = {"data.shape": [6, ROWS, WIDTH], "data.count": 60, "split": {"way": "holdout"}, "stage.*.epochs": 1}
    alone = {"member": [{"model": "dedoppler"}], "output.baseline": "", "combine.by": "mean"}
    recipe = Recipe.load("cadence").quickly().with_({**settings, **alone})
    return api.train(recipe, out=tmp_path_factory.mktemp("trained") / "run", log=lambda line: None)


def test_a_run_searches_six_scans_by_one_command(trained, tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "answer" / "found.csv"
    words = ["predict", str(trained.folder), *map(str, observe(tmp_path)), "--threshold", "0.0", "--out"]
    result = CliRunner().invoke(main, [*words, str(out)])
    assert result.exit_code == 0, result.output
    on, off = ("scan0.fil, scan2.fil, scan4.fil", "scan1.fil, scan3.fil, scan5.fil")
    assert f"wavefold: taken as ON: {on}; as OFF: {off}; no scan states a source_name\n" in result.output
    assert (
        "wavefold: searching drift rates of up to 0.0778 Hz/s (half a fine channel per row); "
        "a run trained with member dedoppler and drift=8 searches wider\n" in result.output
    )
    assert "tstart" not in result.output
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert f"{len(rows)} candidates" in result.output
    odds = [float(row["score"]) for row in rows]
    assert odds == sorted(odds, reverse=True)
    for channel, _ in LINES:  # at a threshold of 0 every window is shown, and so every line
        assert any(abs(int(row["start_channel"]) - channel) <= 2 for row in rows)
    assert len(list((tmp_path / "answer" / "found_pictures").glob("*.png"))) == min(len(rows), 50)
    assert CliRunner().invoke(main, [*words, "-"]).stdout == out.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scan0.fil", "scan1.fil"], r"2 files given; a cadence has 6 scans"),
        (["scan0.fil"], r"1 file given; a cadence has 6 scans"),
        (["samples.csv", "--product", "1"], "--product: applies only to a search of six scans"),
        (["samples.csv", "--ignore-names"], "--ignore-names: applies only to a search of six scans"),
        (["samples.csv", "--threshold", "0.7"], "--threshold: applies only to a search of six scans"),
        ([f"scan{n}.fil" for n in (0, 1, 2, 3, 5, 4)], "the order is scan0.fil, scan1.fil"),
        ([*(f"scan{n}.fil" for n in range(5)), "scan4.fil"], "scan4.fil and scan4.fil start at the same time"),
        ([f"scan{n}.csv" for n in range(6)], "'.csv' is not a filterbank suffix"),
    ],
)
def test_a_search_that_cannot_be_is_one_line(trained, tmp_path, monkeypatch, words, said):
    observe(tmp_path)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["predict", str(trained.folder), *words, "--out", "found.csv"])
    assert result.exit_code == 2
    assert re.search(said, result.output)
    assert len(result.output.splitlines()) == 1
    assert not (tmp_path / "found.csv").exists()


BEYOND = ((100.0, 0.56), (330.0, -0.62))  # steeper than the half channel a row that is searched


def test_a_line_beyond_the_limit_is_one_row_where_it_is_and_is_marked(tmp_path):
    scans, said = open_observation(observe(tmp_path, BEYOND), 0), []
    found = search_observation(predict, FACTS, scans, warn=said.append)
    assert len(found) == 2
    for one, (channel, drift) in zip(sorted(found, key=lambda f: f.channel), BEYOND, strict=True):
        assert one.channel == pytest.approx(channel, abs=2)
        assert one.drift == pytest.approx(drift, abs=0.02)
        assert one.at_limit
    assert [row.at_limit for row in candidates_of(found, scans)] == [1, 1]
    assert said[-1].startswith("2 lines are at or beyond the steepest drift searched (at_limit is 1)")
    assert 'train with a member {model="dedoppler", drift=2} to search wider' in said[-1]


def test_a_line_over_gaps_longer_than_a_scan_has_its_own_drift(tmp_path):
    scans, said = open_observation(observe(tmp_path, ((100.0, 0.2), (301.0, -0.25)), apart=40), 0), []
    found = search_observation(predict, FACTS, scans, warn=said.append)
    assert sorted(round(one.drift, 2) for one in found) == [-0.25, 0.2]
    assert not any("tstart" in line for line in said)


def test_lines_within_the_limit_are_not_marked(found):
    assert not any(one.at_limit or one.everywhere for one in found)


@pytest.mark.parametrize(("share", "listed"), [(0.2, 2), (0.8, 1)])
def test_a_drifting_line_that_is_in_off_as_well_is_left_out_and_told(tmp_path, share, listed):
    """Even if the run gives its windows a high score; a fifth of it in OFF leaves it listed."""

    def spoil(panels):
        for panel in range(6):
            for row in range(ROWS):
                at = round(500 - 0.2 * (STARTS[panel] + row))
                panels[panel, row, at] += 1.2e9 * (1 if panel in ON else share)

    scans, said = open_observation(observe(tmp_path, LINES[:1], spoil=spoil), 0), []
    found = search_observation(lambda windows: np.ones(len(windows)), FACTS, scans, warn=said.append, threshold=0.5)
    strong = [one for one in found if one.snr > 20]
    assert sum(abs(one.channel - 100) < 3 for one in strong) == 1
    assert len(strong) == listed
    assert any("in OFF scans as well was left out" in line for line in said) == (listed == 1)


def test_a_run_trained_wider_searches_wider(tmp_path):
    members = [{"model": "dedoppler", "drift": 2, "weight": 1.0}, {"model": "on_off"}]
    assert steepest_of(members) == 2.0  # the advice of the line above
    assert steepest_of([{"model": "on_off"}]) == 0.5
    scans, said = open_observation(observe(tmp_path, BEYOND), 0), []
    found = search_observation(predict, FACTS, scans, warn=said.append, steepest=steepest_of(members))
    assert sorted(round(one.drift, 1) for one in found) == [-0.6, 0.6]
    assert not any(one.at_limit for one in found)
    assert said[1:] == ["searching drift rates of up to 0.311 Hz/s (2 fine channels per row)"]


def test_ascending_frequencies_have_drifts_of_the_other_sign(tmp_path):
    paths = observe(tmp_path)
    rising = [tmp_path / f"up{number}.fil" for number in range(6)]
    for path, new in zip(paths, rising, strict=True):
        scan = open_scan(path)
        last = scan.frequency(CHANNELS - 1)
        write_scan(new, scan.read(0, CHANNELS)[:, ::-1], replace(scan.header, fch1=last, foff=-scan.header.foff))
    there, back = (open_observation(files, 0) for files in (paths, rising))
    assert back.header.foff > 0
    lists = []
    for scans in (there, back):
        rows = candidates_of(merge(find_lines(scans, WIDTH, predict), STARTS, ROWS), scans)
        lists.append(sorted((row.frequency_mhz, row.drift_hz_s) for row in rows))
    assert np.abs(np.array(lists[0]) - lists[1]).max(0).tolist() < [3e-6, 1e-3]


def test_scans_given_as_samples_are_told_the_command_that_searches_them(trained, tmp_path):
    for path in observe(tmp_path):
        path.rename(tmp_path / f"{'fedcba'[int(path.stem[-1])]}.fil")  # by name the last comes first
    for data in (tmp_path, tmp_path / "a.fil"):
        result = CliRunner().invoke(main, ["check", "cadence", "--data", str(data)])
        assert result.exit_code == 2
        assert re.search(r"scans \(\.h5, \.fil\) are searched with a run.*: wavefold predict RUN ", result.output)
    advice = CliRunner().invoke(main, ["check", "cadence", "--data", str(tmp_path)]).output.split("wavefold predict ")[1]
    words = advice.strip().replace("RUN", str(trained.folder)).replace("candidates.csv", str(tmp_path / "candidates.csv"))
    assert CliRunner().invoke(main, ["predict", *words.split()]).exit_code == 0
    assert (tmp_path / "candidates.csv").is_file()
