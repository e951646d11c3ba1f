"""What WFDB records state is obeyed: a signal's name, unit and own rate, the annotations' clock, all files of a record."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import wavefold
from wavefold.core.errors import DataError, UserError
from wavefold.data import read
from wavefold.data.sources import find
from wavefold.domains.heartbeat import wfdb
from wavefold.domains.heartbeat.signal_choice import choose_signal
from wavefold.domains.heartbeat.twelve_leads import LEADS
from wavefold.domains.heartbeat.wfdb import read_record
from wavefold.domains.heartbeat.write_ptbxl import write_ptbxl
from wavefold.tasks.samples.serve import keep_record, served_run

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")  # of wfdb, when pandas 3.1 is there
Real = Callable[[str], Path]


def ecg(rate: float, seconds: float, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """A signal in mV (position,), the times of its R peaks in seconds, and which are wide; every fifth one is."""
    rng, time = np.random.default_rng(seed), np.arange(int(rate * seconds)) / rate
    peaks = np.arange(0.7, seconds - 0.2) + rng.uniform(-0.03, 0.03, len(np.arange(0.7, seconds - 0.2)))
    wide = np.arange(len(peaks)) % 5 == 4
    signal = np.zeros_like(time)
    for at, broad in zip(peaks, wide, strict=True):
        signal += np.exp(-(((time - at) / (0.045 if broad else 0.012)) ** 2)) + 0.25 * np.exp(
            -(((time - at - 0.28) / 0.05) ** 2)
        )
    return signal, peaks, wide


def write(
    folder: Path,
    name: str = "r0",
    *,
    rate: float = 250,
    clock: float = 250,
    leads: Sequence[str] = ("MLII",),
    units: Sequence[str] = ("mV",),
    place: int = 0,
    factor: float = 1.0,
    seconds: float = 60,
    seed: int = 0,
) -> Path:
    """A record whose signal at `place` is an ECG, times a factor; the others breathe. clock: of the annotations."""
    folder.mkdir(exist_ok=True)
    signal, peaks, wide = ecg(rate, seconds, seed)
    others = 0.5 + 0.4 * np.sin(np.arange(len(signal)) * (2 * np.pi * 0.25 / rate))
    values = np.stack([signal * factor if at == place else others for at in range(len(leads))], 1)
    gains = [5000.0 / factor if at == place else 5000.0 for at in range(len(leads))]
    wfdb.wfdb.wrsamp(
        name,
        fs=rate,
        units=list(units),
        sig_name=list(leads),
        p_signal=values,
        fmt=["16"] * len(leads),
        adc_gain=gains,
        baseline=[0] * len(leads),
        write_dir=str(folder),
    )
    times = np.round(peaks * rate) / rate
    mark(folder, name, np.round(times * clock).astype(int), np.where(wide, "V", "N").tolist(), clock if clock != rate else None)
    return folder


def mark(folder: Path, name: str, samples: NDArray[np.int64], symbols: list[str], clock: float | None = None) -> None:
    given = {} if clock is None else {"fs": clock}
    wfdb.wfdb.wrann(name, "atr", np.asarray(samples), symbols, write_dir=str(folder), **given)


def said(folder: Path, **options: object) -> str:
    with pytest.raises(UserError) as error:
        read(folder, cache=False, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("clock", [1000, 360, 125, 62.5])
def test_annotations_count_on_their_own_clock(tmp_path: Path, clock: float) -> None:
    plain, other = read(write(tmp_path / "plain"), cache=False), read(write(tmp_path / "other", clock=clock), cache=False)
    places = [np.array([int(word.split(":")[1]) for word in data.ids.tolist()]) for data in (plain, other)]
    assert np.abs(places[0] - places[1]).max() <= np.ceil(125 / clock)
    assert (
        f"annotations on another clock than the signal's are converted: r0 ({clock:g} per second, the signal 250)"
        in other.notes
    )
    if clock == 1000:
        assert plain.ids.tolist() == other.ids.tolist()
        np.testing.assert_array_equal(plain.signals, other.signals)


@pytest.mark.parametrize(
    ("names", "units", "wanted", "chosen"),
    [
        (["RESP", "ABP", "II", "V"], ["pm", "mmHg", "mV", "mV"], "", "II"),
        (["II", "MLII"], ["mV", "mV"], "", "MLII"),
        (["V5", "mlii"], ["mV", "mV"], "", "mlii"),
        (["Resp", "ECG lead II", "ECG lead I"], ["mV", "mV", "mV"], "", "ECG lead II"),
        (["RESP", "PLETH", "MCL1"], ["mV", "mV", "mV"], "", "MCL1"),
        (["ABP", "ECG1", "ECG2"], ["mmHg", "mV", "mV"], "", "ECG1"),
        (["SpO2", "RESP", "chest"], ["%", "mV", "uV"], "", "chest"),
        (["II", "V5"], ["mV", "mV"], "v5", "V5"),
        (["II", "V5"], ["mV", "mV"], "V1, V5", "V5"),
        (["V5", "II"], ["mV", "mV"], "MLII", "II"),
        (["II", "V5"], ["mV", "mV"], "2", "V5"),
    ],
)
def test_the_signal_is_chosen_by_name(names: list[str], units: list[str], wanted: str, chosen: str) -> None:
    assert choose_signal("r", names, units, wanted).name == chosen


@pytest.mark.parametrize(
    ("names", "units", "wanted", "words"),
    [
        (
            ["RESP", "ABP"],
            ["pm", "mmHg"],
            "",
            "none of its signals is an ECG by name or unit: RESP (pm), ABP (mmHg); set data.signal",
        ),
        (["II", "V5"], ["mV", "mV"], "V1", r"has no signal V1; it has II (mV), V5 (mV)"),
        (
            ["ECG", "ECG"],
            ["mV", "mV"],
            "ecg",
            "has 2 signals named ECG; set its number, data.signal='\"1\"' or data.signal='\"2\"'",
        ),
    ],
)
def test_a_signal_that_cannot_be_told_is_refused(names: list[str], units: list[str], wanted: str, words: str) -> None:
    with pytest.raises(DataError) as error:
        choose_signal("r", names, units, wanted)
    assert words in str(error.value)


def test_beats_are_cut_from_the_ecg_wherever_it_is(tmp_path: Path) -> None:
    alone = read(write(tmp_path / "alone", leads=["II"]), cache=False)
    names = {"leads": ["RESP", "ABP", "II", "V"], "units": ["pm", "mmHg", "mV", "mV"], "place": 2}
    among = read(write(tmp_path / "among", **names), cache=False)
    np.testing.assert_array_equal(alone.signals, among.signals)
    assert dict(among.attrs) == {"signal": "II", "signal unit": "mV", "scale": "each beat from 0 to 1", "rate": "125 Hz"}
    assert not any("guess" in note for note in among.notes)
    breath = read(tmp_path / "among", cache=False, signal="resp")
    assert dict(breath.attrs)["signal"] == "resp"
    assert "the signal is not in volts: r0 (RESP in pm); as each beat is scaled, only its shape counts" in breath.notes
    assert not np.array_equal(breath.signals, among.signals)


def test_each_advice_about_the_signal_works(tmp_path: Path) -> None:
    write(tmp_path, "a", leads=["PLETH", "Z"], units=["NU", "adu"], place=1)
    assert "set data.signal to the name of one" in said(tmp_path)
    assert len(read(tmp_path, cache=False, signal="Z")) > 50
    header = write(tmp_path / "b", "a", leads=["ECG", "ECG2"], units=["mV", "mV"], place=1) / "a.hea"
    header.write_text(header.read_text().replace("ECG2", "ECG"))
    assert "a (ECG of ECG, ECG)" in " ".join(read(tmp_path / "b", cache=False).notes)
    assert said(tmp_path / "b", signal="ECG").endswith("""set its number, data.signal='"1"' or data.signal='"2"'""")
    right = read(tmp_path / "b", cache=False, signal="2")
    np.testing.assert_array_equal(right.signals, read(tmp_path, cache=False, signal="Z").signals)


@pytest.mark.parametrize("name", ["ECG", "chest, left"])
def test_what_a_source_says_of_its_signal_reads_it_again(tmp_path: Path, name: str) -> None:
    """A run hands this to the reader for predictions, also where two signals share a name or a name has a comma."""
    header = write(tmp_path, leads=["ECG", "ECG2"], units=["mV", "mV"]) / "r0.hea"
    header.write_text(header.read_text().replace("ECG2", name))
    first = read(tmp_path, cache=False)
    for wanted in (dict(first.attrs)["signal"], "2"):
        again = read(tmp_path, cache=False, signal=wanted)
        assert dict(read(tmp_path, cache=False, signal=dict(again.attrs)["signal"]).attrs) == dict(again.attrs)
    np.testing.assert_array_equal(read(tmp_path, cache=False, signal=dict(first.attrs)["signal"]).signals, first.signals)


def test_records_with_different_signals_are_said_and_can_be_settled(tmp_path: Path) -> None:
    for name, leads in {"a": ["MLII", "V1"], "b": ["MLII", "V1"], "c": ["V5", "V1"]}.items():
        write(tmp_path, name, leads=leads, units=["mV", "mV"])
    data = read(tmp_path, cache=False)
    assert dict(data.attrs)["signal"] == "MLII, V5"
    notes = " ".join(data.notes)
    assert "the signal is not the same in all records: MLII in 2 records, V5 in 1 record; data.signal=MLII and" in notes
    assert "the signal is a guess, for want of MLII or II; data.signal names another: c (V5 of V5, V1)" in notes
    assert said(tmp_path, signal="MLII").startswith("c: has no signal MLII; it has V5 (mV), V1 (mV)")
    some = read(tmp_path, cache=False, signal="MLII", skip_bad=True)
    assert [name for name, _ in some.left_out] == ["c"]
    assert dict(some.attrs)["signal"] == "MLII"
    assert dict(read(tmp_path, cache=False, signal="V1").attrs)["signal"] == "V1"


@pytest.mark.parametrize(("unit", "factor"), [("uV", 1e3), ("V", 1e-3), ("µV", 1e3), ("mv", 1.0), ("nV", 1e6)])
def test_volts_of_any_size_give_the_same_beats(tmp_path: Path, unit: str, factor: float) -> None:
    usual = read(write(tmp_path / "mV"), cache=False)
    other = read(write(tmp_path / "other", units=[unit], factor=factor), cache=False)
    np.testing.assert_allclose(usual.signals, other.signals, atol=1.01e-4)  # rounded to four decimals
    assert other.attrs == usual.attrs


def frames_of(folder: Path, frames: int, clock: float | None = None) -> Path:
    """A record of 50 frames a second: an ECG of `frames` samples in each, and a breath of one."""
    folder.mkdir()
    signal, peaks, wide = ecg(50 * frames, 60)
    breath = np.sin(np.arange(3000) / 30)
    wfdb.wfdb.wrsamp(
        "r0",
        fs=50,
        units=["mV", "mV"],
        sig_name=["RESP", "II"],
        e_p_signal=[breath, signal],
        samps_per_frame=[1, frames],
        fmt=["16", "16"],
        adc_gain=[5000.0, 5000.0],
        baseline=[0, 0],
        write_dir=str(folder),
    )
    mark(folder, "r0", np.round(peaks * (clock or 50)).astype(int), np.where(wide, "V", "N").tolist(), clock)
    return folder


@pytest.mark.parametrize("frames", [5, 10])
def test_an_ecg_of_several_samples_a_frame_keeps_its_own_rate(tmp_path: Path, frames: int) -> None:
    rate = 50 * frames
    plain = read(write(tmp_path / "plain", rate=rate, clock=rate), cache=False)
    same = read(frames_of(tmp_path / "same", frames, rate), cache=False)
    assert same.ids.tolist() == plain.ids.tolist()
    np.testing.assert_array_equal(same.signals, plain.signals)
    frame = read(frames_of(tmp_path / "frame", frames), cache=False)  # annotations count frames
    assert len(frame) == len(plain)
    assert "annotations on another clock" in frame.notes[0]
    record = read_record(tmp_path / "same" / "r0")
    assert (record.rates, record.rate) == ((50, rate), 50)
    assert [len(values) for values in record.signals] == [3000, 60 * rate]


def test_the_counter_frequency_changes_nothing(tmp_path: Path) -> None:
    plain = read(write(tmp_path), cache=False)
    header = tmp_path / "r0.hea"
    header.write_text(header.read_text().replace("r0 1 250 ", "r0 1 250/24(3) ", 1))
    other = read(tmp_path, cache=False)
    assert other.ids.tolist() == plain.ids.tolist()
    np.testing.assert_array_equal(other.signals, plain.signals)


@pytest.mark.parametrize("gain", ["5000(0)/mV", "5000/mV", "5000", "0", "200(0)", ""])
def test_a_gain_a_baseline_and_a_unit_may_be_missing(tmp_path: Path, gain: str) -> None:
    """header(5): 200 values per unit, the ADC's zero, and mV."""
    write(tmp_path)
    line = f"r0.dat 16 {gain} 16 7 0 0 0 MLII" if gain else "r0.dat 16"
    (tmp_path / "r0.hea").write_text(f"r0 1 250 15000\n{line}\n")
    record, stored = read_record(tmp_path / "r0"), np.fromfile(tmp_path / "r0.dat", "<i2")
    zero = 7 if gain and "(" not in gain else 0
    np.testing.assert_allclose(record.signals[0], (stored - zero) / (5000 if gain.startswith("5") else 200))
    assert record.units == ("mV",)
    assert len(read(tmp_path, cache=False)) > 50


def test_annotations_at_one_sample_and_at_the_edges_are_told(tmp_path: Path) -> None:
    write(tmp_path)
    _, peaks, _ = ecg(250, 60)
    usual = np.round(peaks * 250).astype(int)
    plain = read(tmp_path, cache=False)
    samples = np.sort(np.concatenate([usual, [usual[3], usual[9], 0, 15_000, 16_000]]))
    symbols = ["N"] * len(samples)
    symbols[int(np.flatnonzero(samples == usual[3])[1])] = "V"
    mark(tmp_path, "r0", samples, symbols)
    data = read(tmp_path, cache=False)
    assert len(set(data.ids.tolist())) == len(data)
    assert set(data.ids.tolist()) == {*plain.ids.tolist(), "r0:0"}
    assert (
        f"several beats are annotated at one sample; the first of each is taken: r0:{usual[3]} (N, V), r0:{usual[9]} (N, N)"
        in data.notes
    )
    assert "2 annotated beats outside the signal left out: r0 (2)" in data.notes


def test_records_without_beats_are_named(tmp_path: Path) -> None:
    write(tmp_path, "00")
    wfdb.wfdb.wrann("00", "atr", np.array([5, 900]), ["+", "+"], aux_note=["(AFIB", "(N"], write_dir=str(tmp_path))
    assert said(tmp_path) == f"{tmp_path.name}: no annotated beats in 1 record: 00 (2 annotations, none marks a beat)"
    write(tmp_path, "01", leads=["II"])
    data = read(tmp_path, cache=False)
    assert "no annotated beats in 1 record: 00 (2 annotations, none marks a beat)" in data.notes
    assert dict(data.attrs)["signal"] == "II"
    assert data.groups is not None
    assert set(data.groups.tolist()) == {"01"}


def test_one_broken_record_names_itself_or_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, "a")
    write(tmp_path, "b")
    (tmp_path / "b.dat").write_bytes(b"12")
    assert said(tmp_path).startswith("b: cannot be read as a WFDB record")
    for _ in range(2):  # read, then from the cache
        data = read(tmp_path, skip_bad=True)
        assert data.groups is not None
        assert set(data.groups.tolist()) == {"a"}
        ((name, why),) = data.left_out
        assert (name, why.partition(":")[0]) == ("b", "b")


def segmented(folder: Path) -> Path:
    """A record of two segments with a gap between them."""
    folder.mkdir()
    signal, peaks, wide = ecg(250, 60)
    for name, values in {"s1": signal[:6000], "s2": signal[7000:]}.items():
        wfdb.wfdb.wrsamp(
            name,
            fs=250,
            units=["mV"],
            sig_name=["II"],
            p_signal=values[:, None],
            fmt=["16"],
            adc_gain=[5000.0],
            baseline=[0],
            write_dir=str(folder),
        )
    (folder / "r0.hea").write_text("r0/3 1 250 15000\ns1 6000\n~ 1000\ns2 8000\n")
    mark(folder, "r0", np.round(peaks * 250).astype(int), np.where(wide, "V", "N").tolist())
    return folder


def test_segments_are_read_as_one_record_and_count_for_its_identity(tmp_path: Path) -> None:
    folder = segmented(tmp_path / "segments")
    whole, record = read(write(tmp_path / "whole", leads=["II"])), read(folder)
    kept = np.isin(whole.ids, record.ids)
    assert set(record.ids.tolist()) <= set(whole.ids.tolist())
    np.testing.assert_allclose(whole.signals[:][kept], record.signals[:], atol=2.1e-4)
    assert any("beats with invalid samples left out" in note for note in record.notes)  # those in the gap
    for source in (folder, folder / "r0.hea"):
        names = {file.name for file in find(source, "wfdb").files}
        assert names == {"r0.hea", "r0.atr", "s1.hea", "s1.dat", "s2.hea", "s2.dat"}
        before = read(source)
        stored = np.fromfile(folder / "s2.dat", "<i2")
        (-stored).tofile(folder / "s2.dat")  # another signal of the same size
        after = read(source)
        assert after.digest != before.digest
        assert not np.array_equal(after.signals, before.signals)


def test_every_file_that_a_header_names_counts(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "r0.dat").rename(tmp_path / "r0.ecg")
    header = tmp_path / "r0.hea"
    header.write_text(header.read_text().replace("r0.dat", "r0.ecg"))
    before = read(tmp_path)
    assert tmp_path / "r0.ecg" in find(tmp_path, "wfdb").files
    (-np.fromfile(tmp_path / "r0.ecg", "<i2")).tofile(tmp_path / "r0.ecg")
    assert read(tmp_path).digest != before.digest


@pytest.mark.parametrize("frames", [1, 5])
def test_whole_records_keep_their_leads_own_rate_and_unit(tmp_path: Path, frames: int) -> None:
    """Twelve leads of 500 values per second in frames of several, beside a breath of one a frame."""
    values = np.random.default_rng(0).uniform(-1, 1, (12, 5000))
    wfdb.wfdb.wrsamp(
        "A1",
        fs=500 // frames,
        units=["uV", *["mV"] * 11, "pm"],
        sig_name=[*LEADS, "RESP"],
        e_p_signal=[values[0] * 1000, *values[1:], np.zeros(5000 // frames)],
        samps_per_frame=[*[frames] * 12, 1],
        fmt=["16"] * 13,
        write_dir=str(tmp_path),
        comments=["Dx: 1"],
    )
    data = read(tmp_path, cache=False, labels=False)
    assert (data.unit, dict(data.attrs)) == ("1/500 s", {"unit": "mV"})
    np.testing.assert_allclose(data.signals[0], values, atol=1e-4)
    with pytest.raises(DataError, match="values are in V; PTB-XL's layout needs mV"):
        write_ptbxl(replace(data, attrs={"unit": "V"}), tmp_path / "out")


def test_a_source_that_is_the_working_folder_has_its_name_in_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    mark(tmp_path, "r0", np.array([5]), ["+"])
    monkeypatch.chdir(tmp_path)
    for source in (".", "r0.hea", "r0"):
        assert said(Path(source)).split(":")[0] in (tmp_path.name, "r0.hea")


def test_real_records_keep_their_own_rates(real: Real) -> None:
    record = read_record(real("formats/ecg/03700181") / "03700181")
    assert record.leads == ("MCL1", "ABP", "RESP")
    assert (record.rates, len(record.signals[0])) == ((500, 125, 125), 300_000)
    assert record.signals[0][[0, 150_000, -1]] == pytest.approx([0.0226063426, -0.0587090091, 0.141036585])
    parts = read_record(real("formats/ecg/041s") / "041s")
    assert (parts.rates[0], len(parts.signals[0])) == (500, 8000)
    assert parts.signals[0][[0, 4000, -1]] == pytest.approx([0.084, -0.0515, -0.018])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> wavefold.Run:
    """A run on lead V5, which data.signal named."""
    folder = tmp_path_factory.mktemp("leads")
    for name in ("a", "b"):
        write(folder / "data", name, leads=["II", "V5"], units=["mV", "mV"], place=1, seed=ord(name))
    changes = {"data.signal": "V5", "member": [{"model": "kernels"}], "split.validation": 0.2, "output.baseline": ""}
    lines: list[str] = []
    return wavefold.train("heartbeat", folder / "data", out=folder / "run", quick=True, overrides=changes, log=lines.append)


def test_a_run_takes_the_signal_that_it_learned(run: wavefold.Run, tmp_path: Path) -> None:
    assert run.metadata.attrs["signal"] == "V5"
    both = write(tmp_path / "both", leads=["II", "V5"], units=["mV", "uV"], place=1, factor=1e3, seed=9)
    alone = write(tmp_path / "alone", leads=["V5"], seed=9)
    assert run.score(alone, warn=lambda _: None).as_json()["others"]["accuracy"] > 0.95
    np.testing.assert_allclose(run.predict(both).probabilities, run.predict(alone).probabilities, atol=0.02)
    other = write(tmp_path / "other", leads=["II", "ABP"], units=["mV", "mmHg"])
    for ask in (run.predict, run.score):
        with pytest.raises(DataError, match=r"r0: has no signal V5; it has II \(mV\), ABP \(mmHg\)"):
            ask(other)


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    return path


def test_the_server_takes_the_signal_of_the_run(run: wavefold.Run, tmp_path: Path) -> None:
    served = served_run(run, log=lambda _: None)
    assert served.metadata["attrs"] == dict(run.metadata.attrs)
    source = write(tmp_path / "both", leads=["II", "V5"], units=["mV", "mV"], place=1, seed=9)
    sent = served.read(zipped(source, tmp_path / "both.zip"))
    np.testing.assert_array_equal(sent.signals, read(source, cache=False, signal="V5").signals)
    other = write(tmp_path / "other", leads=["II", "ABP"], units=["mV", "mmHg"])
    (tmp_path / "second").mkdir()
    with pytest.raises(DataError, match="has no signal V5; it has II"):
        served.read(zipped(other, tmp_path / "second" / "other.zip"))


def test_a_zip_for_the_server_keeps_frames_and_clocks(tmp_path: Path) -> None:
    source = frames_of(tmp_path / "frames", 5, 250)
    (tmp_path / "kept").mkdir()
    with zipfile.ZipFile(zipped(source, tmp_path / "frames.zip")) as archive:
        keep_record(archive, tmp_path / "kept")
    np.testing.assert_array_equal(read(tmp_path / "kept", cache=False).signals, read(source, cache=False).signals)
