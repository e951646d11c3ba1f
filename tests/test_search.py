"""A whole observation searched: known lines in simulated scans come out where they were put, once each."""

from __future__ import annotations

import csv
import re
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from wavefold import api
from wavefold.cli import main
from wavefold.core.errors import DataError, UserError
from wavefold.core.records import Identity, RunInfo
from wavefold.domains.radio import track_sums
from wavefold.domains.radio.cadence import ON
from wavefold.domains.radio.candidate_files import draw_candidates
from wavefold.domains.radio.candidates import Candidate, write_candidates
from wavefold.domains.radio.filterbank import Header
from wavefold.domains.radio.found import candidates_of
from wavefold.domains.radio.line_search import apart, clock_of, find, noise_of, residuals
from wavefold.domains.radio.observation import open_observation, open_scan, write_observation, write_scan
from wavefold.domains.radio.picture import Track, draw_cadence
from wavefold.domains.radio.search import check_scans, scores_of, search_observation
from wavefold.domains.radio.track_sums import best_drifts, groups, plan_of
from wavefold.recipe import Recipe

HEADER = Header(fch1=8400.0, foff=-2.8e-6, tsamp=18.0, tstart=59000.0)
ROWS, CHANNELS, WIDTH = 16, 640, 64
LINES = ((100.0, 0.2), (301.0, -0.25), (420.0, 0.0))  # channel at the first row, channels a row
HZ_S = 2.8 / 18  # of one channel a row
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


def observe(folder, lines=LINES, *, suffix=".fil", spoil=None, rows=ROWS, apart=18, on=ON, names=()):
    """Six scans with lines in ON, and one carrier in all; the clock runs on between them."""
    rng = np.random.default_rng(0)
    panels = rng.normal(1e9, 1e8, (6, rows, CHANNELS)).astype(np.float32)
    panels[:, :, 550] += 3e9
    for panel in on:
        for row in range(rows):
            for channel, drift in lines:
                panels[panel, row, round(channel + drift * (apart * panel + row))] += 1.2e9
    if spoil is not None:
        spoil(panels)
    paths = write_observation(folder, panels, HEADER, suffix=suffix, gap=18.0 * (apart - rows))
    for path, name in zip(paths, names, strict=False):
        scan = open_scan(path)
        write_scan(path, scan.read(0, CHANNELS), replace(scan.header, source_name=name))
    return paths


def predict(windows):
    """The share of ON's brightest pixels: enough for lines this strong."""
    bright = (windows[:] > 6).sum(axis=(2, 3))
    return bright[:, ::2].sum(axis=1) / np.maximum(bright.sum(axis=1), 1)


@pytest.fixture(scope="module")
def observation(tmp_path_factory):
    return open_observation(observe(tmp_path_factory.mktemp("scans")), 200)


@pytest.fixture(scope="module")
def found(observation):
    return search_observation(observation, warn=lambda line: None)


def in_order(found, starts=STARTS):
    """Channel at the first row and drift in channels a row of each line, by channel."""
    lines = found.lines
    first = lines.channel + lines.drift * found.clock.starts[0]
    return sorted(zip(first.tolist(), lines.drift.tolist(), strict=True))


# the sums


@pytest.mark.parametrize("rows", [1, 5, 16, 23])
@pytest.mark.parametrize("way", ["numba", "torch"])
def test_every_sum_follows_its_line_to_the_nearest_channel(rows, way, monkeypatch):
    monkeypatch.setattr(track_sums, "has_numba", lambda: way == "numba")
    if way == "numba":
        pytest.importorskip("numba")
    rng = np.random.default_rng(rows)
    scans, channels, most, step = (-30.4, 1.3, 40.0), 1500, 40, 0.013
    plans = [plan_of(first, count, step, scans, rows) for first, count in groups(most)]
    pad = max(plan.reach for plan in plans) + 1
    values = rng.normal(size=(3, rows, channels + 2 * pad)).astype(np.float32)
    best, which = np.full(channels, -np.inf, np.float32), np.zeros(channels, np.int32)
    best_drifts(values, pad, plans, best, which)
    sums = np.zeros((2 * most + 1, channels))
    for number in range(-most, most + 1):
        for scan, start in enumerate(scans):
            for row in range(rows):
                at = pad + int(np.floor(number * step * (start + row) + 0.5))
                sums[number + most] += values[scan, row, at : at + channels]
    np.testing.assert_allclose(best, sums.max(axis=0), rtol=1e-5)
    np.testing.assert_allclose(sums[which + most, np.arange(channels)], best, rtol=1e-5)


def test_residuals_are_noise_of_one_and_keep_a_line_that_does_not_move():
    rng = np.random.default_rng(0)
    power = rng.gamma(51, 1 / 51, (16, 5000)).astype(np.float32)
    power *= (
        (1 + 0.5 * np.linspace(0, 1, 5000) ** 2) * rng.uniform(0.8, 1.2, (16, 1)) * 1e9
    )  # a bandpass, and gain that changes
    power[:, 1234] += 1e9 * np.float32(51**-0.5)
    power[:, 4000:4100] = 0
    made = residuals(power.copy())
    rest = np.delete(made, [1234, *range(3000, 5000)], axis=1)
    assert abs(rest.mean()) < 0.01
    assert rest.std() == pytest.approx(1, abs=0.02)
    assert made[:, 1234].mean() == pytest.approx(1, abs=0.8)
    power[3, 7] = np.nan
    assert np.isfinite(residuals(power)).all()
    assert not residuals(np.full((16, 700), 3.0, np.float32)).any()


@pytest.mark.parametrize("drift", [0.0, 0.31, -4.7, 20.0])
@pytest.mark.parametrize("smeared", [False, True])
def test_a_line_is_found_at_any_drift_with_nearly_all_of_its_power(drift, smeared):
    rng, clock = np.random.default_rng(5), clock_of([0, 19.3, 38.6, 57.9, 77.2, 96.5], 16, ON)
    values = rng.normal(size=(6, 16, 6000)).astype(np.float32)
    crossed = max(1, round(abs(drift))) if smeared else 1
    height = 2.5 * crossed**0.5
    for panel in ON:
        for row in range(16):
            at = 3000.2 + drift * (clock.starts[panel] + row + (0.5 if smeared else 0))
            low = round(at - (crossed - 1) / 2)
            values[panel, row, low : low + crossed] += height / crossed
    lines = apart(find(values, clock, 22.0, slice(1500, 4500)), clock, 6.0)
    assert len(lines) >= 1
    assert lines.snr[0] > 0.8 * height * 48**0.5 / crossed**0.5
    assert lines.drift[0] == pytest.approx(drift, abs=0.03 * crossed)
    assert lines.channel[0] == pytest.approx(3000.2 + (drift / 2 if smeared else 0), abs=2 + crossed / 2)
    assert crossed / 2 <= lines.width[0] <= 2 * crossed
    assert sum(lines.snr > 7) == 1


def test_the_needle_of_a_real_cadence_is_found(real):
    panels = np.load(real("seti") / "0028a35de92941d.npy", allow_pickle=False).astype(np.float32)
    clock = clock_of([273 * panel for panel in range(6)], 273, ON)
    values = np.stack([residuals(panel) for panel in panels])
    lines = apart(find(values, clock, 0.1, slice(0, 256)), clock, 8.0)
    lines = lines.take(~lines.in_off)
    assert lines.drift[0] == pytest.approx(0.0275, abs=0.0007)
    assert lines.channel[0] + lines.drift[0] * clock.starts[0] == pytest.approx(152, abs=1)


def test_the_rate_of_false_alarms_is_that_of_the_noise():
    rng = np.random.default_rng(0)
    snr = np.sqrt(25 + 2 * 1.3 * rng.exponential(size=400))
    noise = noise_of(snr, np.array([3.0, 12.0, 20.0]), share=0.25)
    assert noise.rate(np.array([5.5]))[0] == pytest.approx(1600 * np.exp(-(5.5**2 - 25) / 2.6) + 8, rel=0.3)
    assert noise.rate(np.array([15.0]))[0] == pytest.approx(4, rel=0.01)  # one of OFF in a quarter of the channels
    assert noise.threshold(0.1) < 8  # interference is counted, but hides no line
    quiet = noise_of(snr, np.zeros(0), share=0.25)
    assert quiet.rate(np.array([quiet.threshold(0.1)]))[0] == pytest.approx(0.1, rel=0.01)
    assert noise_of(np.zeros(0), np.zeros(0), share=1).threshold(0.1) == 0


# an observation


def test_each_line_is_found_once_and_where_it_is(found):
    for (channel, drift), line in zip(in_order(found), LINES, strict=True):
        assert channel == pytest.approx(line[0], abs=1)
        assert drift == pytest.approx(line[1], abs=0.01)
    assert (found.lines.snr > 20).all()
    assert (found.rates < 1e-6).all()
    assert not found.at_limit.any()


def test_candidates_are_in_the_units_of_the_sky(found, observation):
    rows = sorted(candidates_of(found, observation), key=lambda c: c.start_channel)
    for row, (channel, drift) in zip(rows, LINES, strict=True):
        assert row.frequency_mhz == pytest.approx(8400 - 2.8e-6 * channel, abs=3e-6)
        assert row.drift_hz_s == pytest.approx(-drift * HZ_S, abs=0.002)
        assert row.start_channel == pytest.approx(channel, abs=1)
        assert row.coarse_channel == channel // 200
        assert row.width_hz == pytest.approx(2.8)
        on, off = [row.snr_scan1, row.snr_scan3, row.snr_scan5], [row.snr_scan2, row.snr_scan4, row.snr_scan6]
        assert row.snr == pytest.approx(sum(on) / 3**0.5)
        assert max(off) < 5 < min(on)
        assert row.searched_hz_s == pytest.approx(4)
        assert np.isnan(row.score)


def test_the_same_search_gives_the_same_bytes_from_either_kind_of_file(found, observation, tmp_path):
    pytest.importorskip("h5py")
    again = open_observation(observe(tmp_path, suffix=".h5"), 200)
    rows = candidates_of(search_observation(again, warn=lambda line: None), again)
    rows = [replace(row, first_scan="scan0.fil") for row in rows]
    assert repr(rows) == repr(candidates_of(found, observation))


def test_stretches_give_what_the_whole_gives(found, observation, monkeypatch):
    monkeypatch.setattr("wavefold.domains.radio.stretch._STRETCH", 130)
    parts = search_observation(observation, drift=0.1, warn=lambda line: None)
    assert [pair[0] for pair in in_order(parts)] == pytest.approx([pair[0] for pair in in_order(found)], abs=0.5)


def test_values_that_are_not_finite_are_no_signal_and_told(tmp_path):
    def spoil(panels):
        panels[2, 5, 500] = np.nan

    said = []
    scans = open_observation(observe(tmp_path, spoil=spoil), 200)
    assert len(search_observation(scans, warn=said.append).lines) == 3
    assert "1 channel has values that are not finite, of 640; these values count as no signal" in said


def test_a_line_beyond_the_limit_is_one_row_where_it_is_and_is_marked(tmp_path):
    beyond = ((100.0, 0.56), (330.0, -0.62))  # steeper than half a channel a row
    scans, said = open_observation(observe(tmp_path, beyond), 0), []
    found = search_observation(scans, drift=0.5 * HZ_S, warn=said.append)
    for (channel, drift), line in zip(in_order(found), beyond, strict=True):
        assert channel == pytest.approx(line[0], abs=2)
        assert drift == pytest.approx(line[1], abs=0.02)
    assert [row.at_limit for row in candidates_of(found, scans)] == [1, 1]
    assert said[-1].startswith("2 lines are at or beyond the steepest drift searched (at_limit is 1)")
    wide = search_observation(scans, drift=0.7 * HZ_S, warn=said.append)
    assert not wide.at_limit.any()
    assert len(wide.lines) == 2


def test_a_line_over_gaps_longer_than_a_scan_has_its_own_drift(tmp_path):
    scans, said = open_observation(observe(tmp_path, ((100.0, 0.2), (301.0, -0.25)), apart=40), 0), []
    found = search_observation(scans, warn=said.append)
    assert [round(drift, 2) for _, drift in in_order(found)] == [0.2, -0.25]
    assert not any("tstart" in line for line in said)


@pytest.mark.parametrize(("share", "listed"), [(0.02, 2), (0.8, 1)])
def test_a_drifting_line_that_is_in_off_as_well_is_left_out_and_told(tmp_path, share, listed):
    """And no line across it is listed in its stead."""

    def spoil(panels):
        for panel in range(6):
            for row in range(ROWS):
                at = round(500 - 0.2 * (STARTS[panel] + row))
                panels[panel, row, at] += 1.2e9 * (1 if panel in ON else share)

    scans, said = open_observation(observe(tmp_path, LINES[:1], spoil=spoil), 0), []
    found = search_observation(scans, warn=said.append)
    assert len(found.lines) == listed
    told = "3 lines that are in OFF" if listed == 1 else "2 lines that are in OFF"
    assert any(line.startswith(told.split()[0]) or "in OFF scans as well" in line for line in said)


def test_a_bright_line_whose_middle_is_beside_its_stretch_is_found_once(tmp_path, monkeypatch):
    """Its channel moves over the edge when it is refined, or it is beyond the limit."""
    monkeypatch.setattr("wavefold.domains.radio.stretch._STRETCH", 128)
    for channel, drift in ((126.0, 0.03), (100.0, 0.8), (129.5, -0.02)):
        scans = open_observation(observe(tmp_path / str(channel), ((channel, drift),)), 0)
        found = search_observation(scans, drift=0.5 * HZ_S, warn=lambda line: None)
        assert [round(at) for at, _ in in_order(found)] == pytest.approx([channel], abs=2)


def test_the_commands_options_reach_the_search(tmp_path):
    paths = [*map(str, observe(tmp_path, on=(1, 3, 5), names=["a", "STAR", "b", "STAR", "c", "STAR"]))]
    words = ["search", *paths, "--out", "-", "--on", "star", "--drift", "0.5", "--false-alarms", "3"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert "searched drift rates of up to 0.5 Hz/s" in result.stderr
    assert "above which 3 lines of noise" in result.stderr
    assert len(result.stdout.splitlines()) >= 4
    result = CliRunner().invoke(main, [*words, "--drift", "1e9"])
    assert re.fullmatch(
        r"wavefold: --drift 1e\+09: at most \d+ Hz/s can be searched in these scans\n", result.stderr.splitlines(True)[-1]
    )


def test_wide_interference_leaves_no_piece_of_itself(tmp_path):
    def spoil(panels):
        for panel in range(6):
            for row in range(ROWS):
                at = round(400 + 0.1 * (STARTS[panel] + row))
                panels[panel, row, at : at + 11] += 8e8

    found = search_observation(open_observation(observe(tmp_path, LINES[:1], spoil=spoil), 0), warn=lambda line: None)
    assert [round(channel) for channel, _ in in_order(found)] == [100]
    assert len(found.interference) >= 2  # and the carrier


def test_on_scans_are_those_of_the_source_named(tmp_path):
    stars = ["other", "STAR", "away", "STAR", "else", "STAR"]
    paths = observe(tmp_path, on=(1, 3, 5), names=stars)
    with pytest.raises(UserError, match="seems to begin with OFF"):
        open_observation(paths)
    said = []
    scans = open_observation(paths, on="star")
    assert scans.on == (1, 3, 5)
    found = search_observation(scans, warn=said.append)
    assert [round(channel) for channel, _ in in_order(found)] == [100, 301, 420]
    assert said[0].startswith("taken as ON: scan1.fil, scan3.fil, scan5.fil (STAR); as OFF: scan0.fil")
    assert np.isnan(scores_of(predict, FACTS, found, scans, warn=said.append)).all()
    with pytest.raises(UserError, match="no scan is of that source; source names in the files: other, STAR, away, else"):
        open_observation(paths, on="nova")


def test_a_run_is_asked_for_windows_around_the_lines(found, observation):
    assert (scores_of(predict, FACTS, found, observation) > 0.9).all()


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
        rows = candidates_of(search_observation(scans, warn=lambda line: None), scans)
        lists.append(sorted((row.frequency_mhz, row.drift_hz_s) for row in rows))
    assert np.abs(np.array(lists[0]) - lists[1]).max(0).tolist() < [3e-6, 1e-3]


def night(folder):
    """Two cadences of two stars, a lone scan between them, in files whose names are not in their order; carriers differ."""
    for number, (star, lines) in enumerate((("ONE", LINES[:1]), ("TWO", LINES[1:2]))):
        names = [star if panel in ON else f"{star}_off{panel}" for panel in range(6)]
        for path in observe(folder / str(number), lines, names=names):
            scan = open_scan(path)
            header = replace(scan.header, tstart=scan.header.tstart + number * 0.1)
            write_scan(folder / f"{'ab'[1 - number]}_{path.name}", scan.read(0, CHANNELS), header)
    scan = open_scan(folder / "1" / "scan0.fil")
    write_scan(folder / "c.fil", scan.read(0, CHANNELS), replace(scan.header, tstart=59000.05, source_name="ALONE"))
    return str(folder / "*.fil")


def test_a_night_of_scans_is_one_list_of_its_cadences(tmp_path):
    result = CliRunner().invoke(main, ["search", night(tmp_path), "--out", str(tmp_path / "all.csv")])
    assert result.exit_code == 0, result.output
    assert "wavefold: 1 scan is in no cadence, and left out: c.fil\n" in result.output
    assert "wavefold: 2 cadences of 13 scans\n" in result.output
    rows = list(csv.DictReader((tmp_path / "all.csv").read_text().splitlines()))
    assert {(row["source"], row["first_scan"], row["start_channel"]) for row in rows} == {
        ("ONE", "b_scan0.fil", "100"),
        ("TWO", "a_scan0.fil", "301"),
    }
    assert [row["also_off"] for row in rows] == ["0", "0"]  # the carrier of both is 700 Hz and more away


def test_frequencies_of_a_mask_are_left_out(tmp_path):
    low, high = 8400 - 2.8e-6 * 320, 8400 - 2.8e-6 * 280
    (tmp_path / "mask.csv").write_text(f"low_mhz,high_mhz\n{low},{high}\n")
    paths = [*map(str, observe(tmp_path))]
    result = CliRunner().invoke(main, ["search", *paths, "--out", "-", "--mask", str(tmp_path / "mask.csv")])
    assert [row["start_channel"] for row in csv.DictReader(result.stdout.splitlines())] in (["100", "420"], ["420", "100"])
    assert "1 line in the ranges of" in result.stderr
    (tmp_path / "mask.csv").write_text("low_mhz,high_mhz\n2,1\n")
    result = CliRunner().invoke(main, ["search", *paths, "--out", "-", "--mask", str(tmp_path / "mask.csv")])
    assert result.stderr == "wavefold: mask.csv line 2: low_mhz 2 is above high_mhz 1\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing*.h5"], r"nothing\*\.h5: no file has such a name"),
        (["scan*.fil", "scan0.fil", "more.fil"], r"7 scans, but no six in a row are of one source"),
    ],
)
def test_a_night_without_a_cadence_is_one_line(tmp_path, monkeypatch, words, said):
    observe(tmp_path)
    scan = open_scan(tmp_path / "scan5.fil")
    write_scan(tmp_path / "more.fil", scan.read(0, CHANNELS), replace(scan.header, tstart=59001.0))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["search", *words, "--out", "found.csv"])
    assert result.exit_code == 2
    assert re.search(said, result.output)
    assert len(result.output.splitlines()) == 1


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


def candidate(frequency, channel):
    return Candidate(
        frequency,
        -0.25,
        31.5,
        1.5e-7,
        np.nan,
        18.0,
        0.1,
        19.0,
        0.2,
        17.5,
        0.3,
        2.8,
        3,
        channel,
        0,
        4.0,
        6.5,
        1,
        "STAR",
        "a.h5",
        f"a_{frequency}",
    )


def test_candidates_as_files(tmp_path, capsysbinary):
    rows = [replace(candidate(8421.1234567, 1234), score=0.99), candidate(8400.0, 0)]
    write_candidates(tmp_path / "a.csv", rows)
    text = (tmp_path / "a.csv").read_text()
    assert text.splitlines() == [
        "frequency_mhz,drift_hz_s,snr,false_alarms,score,snr_scan1,snr_scan2,snr_scan3,snr_scan4,snr_scan5,snr_scan6,"
        "width_hz,coarse_channel,start_channel,at_limit,searched_hz_s,least_snr,also_off,source,first_scan,id",
        "8421.1234567,-0.250000,31.50,1.50e-07,0.990000,18.00,0.10,19.00,0.20,17.50,0.30,2.80,3,1234,0,4,6.50,1,STAR,a.h5,a_8421.1234567",
        "8400.0000000,-0.250000,31.50,1.50e-07,,18.00,0.10,19.00,0.20,17.50,0.30,2.80,3,0,0,4,6.50,1,STAR,a.h5,a_8400.0",
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
    some = [candidate(8421.1234567, 2)] * rows
    write_candidates(tmp_path / "a.parquet", some)
    assert arrow.read_table(tmp_path / "a.parquet").column("frequency_mhz").to_pylist() == [8421.1234567] * rows
    write_candidates(tmp_path / "a.xlsx", some)
    sheet = openpyxl.load_workbook(tmp_path / "a.xlsx").active
    assert [c.value for c in next(sheet.iter_rows())][:2] == ["frequency_mhz", "drift_hz_s"]
    assert sheet.max_row == rows + 1


def test_each_candidate_has_a_picture_and_an_earlier_searchs_go(found, observation, tmp_path):
    pytest.importorskip("matplotlib")
    folder, rows = tmp_path / "pictures", candidates_of(found, observation)
    folder.mkdir()
    for name in ("07_8400.000000MHz.png", "holiday.png"):
        (folder / name).write_text("there before")
    assert draw_candidates(folder, found, rows, observation) == len(LINES)
    names = sorted(p.name for p in folder.iterdir())
    assert names[-1] == "holiday.png"
    assert [n[:3] for n in names[:-1]] == ["01_", "02_", "03_"]
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in folder.glob("0*.png"))
    first = (folder / names[0]).read_bytes()
    draw_candidates(folder, found, rows, observation)
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


def test_scans_are_searched_by_one_command_with_and_without_a_run(trained, tmp_path):
    pytest.importorskip("matplotlib")
    paths, out = [*map(str, observe(tmp_path))], tmp_path / "answer" / "found.csv"
    words = ["predict", str(trained.folder), *paths, "--pictures", "--out"]
    result = CliRunner().invoke(main, [*words, str(out)])
    assert result.exit_code == 0, result.output
    on, off = ("scan0.fil, scan2.fil, scan4.fil", "scan1.fil, scan3.fil, scan5.fil")
    assert f"wavefold: taken as ON: {on}; as OFF: {off}; no scan states a source_name\n" in result.output
    assert re.search(
        r"wavefold: searched drift rates of up to 4 Hz/s; listed from S/N \d+\.\d\d, above which 0\.1 lines", result.output
    )
    assert "tstart" not in result.output
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert f"{len(rows)} candidates" in result.output
    assert sorted(int(row["start_channel"]) for row in rows) == pytest.approx([100, 301, 420], abs=1)
    assert all(0 <= float(row["score"]) <= 1 for row in rows)
    assert len(list((tmp_path / "answer" / "found_pictures").glob("*.png"))) == len(rows)
    assert CliRunner().invoke(main, [*words, "-"]).stdout == out.read_text()
    cut = CliRunner().invoke(main, ["search", *paths, "--cutouts", "--out", str(out)])
    assert cut.exit_code == 0, cut.output
    for folder, row in zip(sorted((tmp_path / "answer" / "found_cutouts").iterdir()), rows, strict=True):
        part = open_observation([folder / f"scan{number}.fil" for number in range(6)])
        assert part.shape == (6, ROWS, 128)
        at = round((float(row["frequency_mhz"]) - part.header.fch1) / part.header.foff)
        whole = open_scan(paths[0])
        np.testing.assert_array_equal(
            part.scans[0].read(at, at + 1)[:, 0], whole.read(c := int(row["start_channel"]), c + 1)[:, 0]
        )
    high = max(float(row["score"]) for row in rows)
    some = CliRunner().invoke(main, [*words, "-", "--threshold", str(high)]).stdout
    assert 2 <= len(some.splitlines()) <= len(rows) + 1
    alone = CliRunner().invoke(main, ["search", *paths, "--out", "-"])
    assert alone.exit_code == 0, alone.output
    assert [{**row, "score": ""} for row in rows] == list(csv.DictReader(alone.stdout.splitlines()))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scan0.fil", "scan1.fil"], r"2 files given; a cadence has 6 scans"),
        (["scan0.fil"], r"1 file given; a cadence has 6 scans"),
        (["samples.csv", "--product", "1"], "--product: applies only to a search of six scans"),
        (["samples.csv", "--ignore-names"], "--ignore-names: applies only to a search of six scans"),
        (["samples.csv", "--threshold", "0.7"], "--threshold: applies only to a search of six scans"),
        (["samples.csv", "--false-alarms", "0.7"], "--false-alarms: applies only to a search of six scans"),
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


def test_scans_given_as_samples_are_told_the_command_that_searches_them(tmp_path):
    for path in observe(tmp_path):
        path.rename(tmp_path / f"{'fedcba'[int(path.stem[-1])]}.fil")  # by name the last comes first
    for data in (tmp_path, tmp_path / "a.fil"):
        result = CliRunner().invoke(main, ["check", "cadence", "--data", str(data)])
        assert result.exit_code == 2
        assert re.search(r"scans \(\.h5, \.fil, PSRFITS\) are searched, not trained on.*: wavefold search ", result.output)
    advice = CliRunner().invoke(main, ["check", "cadence", "--data", str(tmp_path)]).output.split("wavefold search ")[1]
    words = advice.strip().replace("candidates.csv", str(tmp_path / "candidates.csv"))
    assert CliRunner().invoke(main, ["search", *words.split()]).exit_code == 0
    assert (tmp_path / "candidates.csv").is_file()


def test_with_more_rows_than_channels_a_line_is_found_in_structure_that_off_scans_share(tmp_path, monkeypatch):
    """As in the contest's windows: a bandpass, a ripple, a carrier that fades, all of them stronger than the noise."""
    rng, rows, channels = np.random.default_rng(4), 64, 128
    x = np.arange(channels)
    shape = 6 * (x / channels) + 3 * np.sin(x / 4.5) + 8 * np.exp(-(((x - 90) / 4) ** 4))
    fading = 1 + 0.3 * rng.standard_normal((6, rows, 1)).cumsum(axis=1) / 4
    panels = 100 + rng.standard_normal((6, rows, channels)) + fading * shape
    for panel in ON:
        for row in range(rows):
            panels[panel, row, round(40 + 0.02 * (rows * panel + row))] += 8 / rows**0.5
    scans = open_observation(write_observation(tmp_path, panels.astype(np.float32), HEADER, suffix=".fil", gap=0.0), 0)
    found = search_observation(scans, drift=0.1 * HZ_S, warn=lambda line: None)
    assert [round(channel) for channel, _ in in_order(found, [rows * panel for panel in range(6)])] == [40]
    monkeypatch.setattr("wavefold.domains.radio.stretch._is_tall", lambda *told: False)
    plain = search_observation(scans, drift=0.1 * HZ_S, warn=lambda line: None)
    assert 40 not in [round(channel) for channel, _ in in_order(plain, [rows * panel for panel in range(6)])]
