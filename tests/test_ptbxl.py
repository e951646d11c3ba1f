"""Whole records of 12 leads: PTB-XL and the CinC Challenges' folders, read and written, and what is wrong with records."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from wavefold.core.errors import DataError, MissingGroup, UserError
from wavefold.data import LAYOUTS, read
from wavefold.data.dataset import Dataset
from wavefold.data.sources import find
from wavefold.domains.heartbeat.format16 import read_format16
from wavefold.domains.heartbeat.ptbxl import OWN_SUPERCLASSES, superclasses
from wavefold.domains.heartbeat.simulate_ecg12 import CLASSES, simulate_ecg12
from wavefold.domains.heartbeat.twelve_leads import LEADS
from wavefold.domains.heartbeat.wfdb import read_record, wfdb
from wavefold.domains.heartbeat.write_ptbxl import write_ptbxl
from wavefold.recipe import Recipe
from wavefold.tasks.samples.reading import read_for

pytest.importorskip("wfdb", reason="records are read with wfdb: pip install 'wavefold[ecg]'")
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")  # of wfdb, when pandas 3.1 is there

ROWS = (("1", "15709.0", "{'NORM': 100.0, 'SR': 0.0}"), ("2", "13243.0", "{'IMI': 15.0, 'LVH': 0.0, 'CLBBB': 80.0}"))
STATEMENTS = ",description,diagnostic,form,rhythm,diagnostic_class\nNORM,normal ECG,1.0,,,NORM\nIMI,inferior,1.0,,,MI\n"
STATEMENTS += 'LVH,"left, ventricular",1.0,,,HYP\nCLBBB,left block,1.0,,,CD\nSR,sinus rhythm,,,1.0,\n'


def counts(seed: int, length: int) -> np.ndarray:
    """Stored values (lead, position), different in each lead."""
    return np.random.default_rng(seed).integers(-900, 900, (12, length)) + 1000 * np.arange(12)[:, None]


def record(
    base: Path,
    stored: np.ndarray,
    *,
    rate: float = 100,
    leads: Sequence[str] = LEADS,
    gain: str = "1000(0)/mV",
    notes: Sequence[str] = (),
    suffix: str = ".dat",
) -> None:
    """Write a record in format 16, as PhysioNet's are; .mat files have 24 bytes before the values, as the challenges' have."""
    base.parent.mkdir(parents=True, exist_ok=True)
    kind, head = ("16+24", b"\0" * 24) if suffix == ".mat" else ("16", b"")
    base.with_name(base.name + suffix).write_bytes(head + stored.T.astype("<i2").tobytes())
    lines = [f"{base.name} {len(leads)} {rate:g} {stored.shape[1]}"]
    lines += [f"{base.name}{suffix} {kind} {gain} 16 0 {row[0]} 0 0 {lead}" for row, lead in zip(stored, leads, strict=True)]
    base.with_name(base.name + ".hea").write_text("\n".join([*lines, *notes]) + "\n")


def ptbxl(
    folder: Path, *, rates: Sequence[int] = (100,), rows: Sequence[Sequence[str]] = ROWS, statements: bool = True
) -> Path:
    """A folder of PTB-XL with a record for each row and rate."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {100: "filename_lr", 500: "filename_hr"}
    table = [["ecg_id", "patient_id", "scp_codes", "strat_fold", *names.values()]]
    for id_, patient, codes in rows:
        paths = {rate: f"records{rate}/00000/{int(id_):05}_{name[-2:]}" for rate, name in names.items()}
        table.append([id_, patient, codes, id_, *paths.values()])
        for rate in rates:
            record(folder / paths[rate], counts(int(id_), 10 * rate), rate=rate)
    with open(folder / "ptbxl_database.csv", "w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(table)
    if statements:
        (folder / "scp_statements.csv").write_text(STATEMENTS)
    return folder


def refused(path: Path, **options: Any) -> str:
    """The one line with which a source is refused."""
    with pytest.raises(DataError) as error:
        read(path, labels=False, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def cinc(folder: Path, names: Sequence[str] = ("A0001", "A0002"), **options: Any) -> Path:
    """A folder of records with diagnoses in their headers."""
    for number, name in enumerate(names):
        notes = ["#Age: 74", "#Sex: Male", "#Dx: 426783006, 164889003", "#Rx: Unknown"]
        record(folder / name, counts(number, 1000), notes=notes, **options)
    return folder


def test_records_codes_and_superclasses_of_ptbxl(tmp_path: Path) -> None:
    data = read(ptbxl(tmp_path), labels=False)
    assert data.signals.shape == (2, 12, 1000)
    assert data.signals.dtype == np.float32
    for row, seed in zip(data.signals, (1, 2), strict=True):
        np.testing.assert_array_equal(row, (counts(seed, 1000) / 1000).astype(np.float32))
    assert data.ids.tolist() == ["1", "2"]
    assert data.unit == "1/100 s"
    assert data.axis is None
    assert data.labels is None
    assert data.columns["scp_codes"].tolist() == ["NORM;SR", "IMI;LVH;CLBBB"]
    assert data.columns["diagnostic_superclass"].tolist() == ["NORM", "CD;HYP;MI"]
    assert data.columns["strat_fold"].tolist() == ["1", "2"]
    assert data.grouping == "patient_id"
    assert data.groups is not None
    assert data.groups.tolist() == ["15709.0", "13243.0"]


def test_the_table_itself_is_read_and_any_column_may_be_the_label(tmp_path: Path) -> None:
    data = read(ptbxl(tmp_path) / "ptbxl_database.csv", label_column="diagnostic_superclass")
    assert data.classes == ("CD;HYP;MI", "NORM")
    assert data.known_labels().tolist() == [1, 0]
    with pytest.raises(DataError, match=r"no column 'diagnostic_superclas'.*did you mean 'diagnostic_superclass'"):
        read(tmp_path, label_column="diagnostic_superclas")


def test_the_cache_gives_the_same_and_sees_a_changed_record(tmp_path: Path) -> None:
    folder = ptbxl(tmp_path)
    first, again, without = (read(folder, labels=False, cache=cache) for cache in (True, True, False))
    for other in (again, without):
        np.testing.assert_array_equal(other.signals, first.signals)
        assert (other.digest, other.ids.tolist()) == (first.digest, first.ids.tolist())
    record(folder / "records100/00000/00001_lr", counts(7, 1100))
    assert read(folder, labels=False).digest != first.digest


def test_without_statements_the_superclasses_are_those_of_ptbxl_itself(tmp_path: Path) -> None:
    alone = read(ptbxl(tmp_path, statements=False), labels=False)
    assert alone.columns["diagnostic_superclass"].tolist() == ["NORM", "CD;HYP;MI"]
    assert Counter(OWN_SUPERCLASSES.values()) == {"NORM": 1, "MI": 14, "STTC": 13, "CD": 11, "HYP": 5}
    (tmp_path / "scp_statements.csv").write_text("code,diagnostic\nNORM,1.0\n")
    assert "scp_statements.csv line 1: no column 'diagnostic_class'" in refused(tmp_path)


def test_only_diagnostic_codes_have_a_superclass(tmp_path: Path) -> None:
    (tmp_path / "scp_statements.csv").write_text(STATEMENTS)
    assert superclasses(tmp_path / "scp_statements.csv") == {"NORM": "NORM", "IMI": "MI", "LVH": "HYP", "CLBBB": "CD"}


@pytest.mark.parametrize(("there", "wanted", "got"), [((100, 500), 0, 100), ((500,), 0, 500), ((100, 500), 500, 500)])
def test_the_rate_is_the_one_wanted_or_the_lower(tmp_path: Path, there: Sequence[int], wanted: int, got: int) -> None:
    data = read(ptbxl(tmp_path, rates=there), labels=False, rate=wanted)
    assert data.unit == f"1/{got} s"
    assert data.signals.shape == (2, 12, 10 * got)
    np.testing.assert_array_equal(data.signals[0], (counts(1, 10 * got) / 1000).astype(np.float32))


def test_a_recipe_names_the_rate(tmp_path: Path) -> None:
    recipe = Recipe.load("heartbeat").with_({"data.rate": 500, "data.label": "scp_codes"})
    assert read_for(recipe, str(ptbxl(tmp_path, rates=(100, 500)))).unit == "1/500 s"


def test_rates_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.rate: 250 values per second.* 100 .* 500"):
        read(ptbxl(tmp_path), labels=False, rate=250)
    assert "00001_hr.hea: file not found" in refused(tmp_path, rate=500)
    assert "found no record of filename_lr or filename_hr" in refused(ptbxl(tmp_path / "none", rates=()))


def test_leads_are_ordered_by_name_in_any_case(tmp_path: Path) -> None:
    base, stored = ptbxl(tmp_path) / "records100/00000/00001_lr", counts(1, 1000)
    record(base, stored[::-1], leads=[lead.upper() for lead in LEADS[::-1]])
    np.testing.assert_array_equal(read(tmp_path, labels=False).signals[0], (stored / 1000).astype(np.float32))
    record(base, stored, leads=[*LEADS[:-1], "V7"])
    assert "00001_lr: lead V6 is missing; the record has I, II, " in refused(tmp_path)


def test_gain_baseline_and_unit_give_millivolt(tmp_path: Path) -> None:
    base, stored = ptbxl(tmp_path) / "records100/00000/00001_lr", counts(1, 1000)
    record(base, stored, gain="200(30)/mV")
    np.testing.assert_allclose(read(tmp_path, labels=False).signals[0], (stored - 30) / 200, rtol=1e-6)
    record(base, stored, gain="2(0)/uV")
    np.testing.assert_allclose(read(tmp_path, labels=False).signals[0], stored / 2000, rtol=1e-6)
    record(base, stored, gain="2(0)/mmHg")
    assert "00001_lr: lead I is in 'mmHg', expected mV" in refused(tmp_path)


def test_an_invalid_value_is_named_or_left_out(tmp_path: Path) -> None:
    base, stored = ptbxl(tmp_path) / "records100/00000/00001_lr", counts(1, 1000)
    stored[7, 41] = -32768  # marks an invalid value in format 16
    record(base, stored)
    assert refused(tmp_path) == "00001_lr: lead V2 has no valid value at position 42 of 1000"
    data = read(tmp_path, labels=False, skip_bad=True)
    assert data.ids.tolist() == ["2"]
    assert data.columns["scp_codes"].tolist() == ["IMI;LVH;CLBBB"]
    assert [id_ for id_, _ in data.left_out] == ["1"]


@pytest.mark.parametrize("damage", ["", "00001_lr 12 100", "00001_lr 1 100 1000\n00001_lr.dat 99 1000 16 0 0 0 0 I\n"])
def test_a_damaged_record_is_named(tmp_path: Path, damage: str) -> None:
    (ptbxl(tmp_path) / "records100/00000/00001_lr.hea").write_text(damage)
    assert refused(tmp_path).startswith("00001_lr: cannot be read as a WFDB record (")


def test_a_short_record_and_one_of_another_rate_are_named(tmp_path: Path) -> None:
    base = ptbxl(tmp_path) / "records100/00000/00001_lr"
    record(base, counts(1, 999))
    assert refused(tmp_path) == "00001_lr: lasts 9.99 s, expected at least 10 s"
    record(base, counts(1, 1000), rate=200)
    assert "00001_lr: has 200 values per second, expected 100" in refused(tmp_path)
    base.with_suffix(".dat").write_bytes(b"\0" * 100)
    assert refused(tmp_path).startswith("00001_lr: cannot be read as a WFDB record (")


@pytest.mark.parametrize("codes", ["{'NORM': 100.0", "NORM", "['NORM']", "__import__('os')", "{1: 2}", "{'A;B': 1}", ""])
def test_bad_codes_name_the_row(tmp_path: Path, codes: str) -> None:
    folder = ptbxl(tmp_path, rows=(ROWS[0], ("2", "1.0", codes)))
    assert f"ptbxl_database.csv line 3: scp_codes {codes!r} is not a dict of codes" in refused(folder)


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "records100/../../x", "", "http://x/y"])
def test_a_path_outside_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    table = ptbxl(tmp_path) / "ptbxl_database.csv"
    table.write_text(table.read_text().replace("records100/00000/00002_lr", path))
    assert f"line 3: filename_lr {path!r} is not a path inside the folder" in refused(tmp_path)


def test_a_named_group_may_be_missing_only_if_it_is_not_needed(tmp_path: Path) -> None:
    folder = ptbxl(tmp_path)
    for options in ({"labels": True}, {"labels": False, "grouped": True}):
        with pytest.raises(MissingGroup, match="no group column 'nurse'"):
            read(folder, group="nurse", **options)
    for options in ({"labels": False}, {"labels": True, "grouped": False}):
        assert read(folder, group="nurse", **options).groups is None


def test_records_with_diagnoses_are_read_whole(tmp_path: Path) -> None:
    data = read(cinc(tmp_path), labels=False)
    assert data.signals.shape == (2, 12, 1000)
    np.testing.assert_array_equal(data.signals[1], (counts(1, 1000) / 1000).astype(np.float32))
    assert data.ids.tolist() == ["A0001", "A0002"]
    assert {name: words[0] for name, words in data.columns.items()} == {
        "Dx": "426783006;164889003",
        "Age": "74",
        "Sex": "Male",
        "record": "A0001",
    }
    assert data.unit == "1/100 s"
    one = read(tmp_path / "A0002", label_column="Dx")
    np.testing.assert_array_equal(one.signals[0], data.signals[1])
    assert one.classes == ("426783006;164889003",)


def test_records_of_subfolders_and_in_mat_files(tmp_path: Path) -> None:
    cinc(tmp_path / "cpsc_2018/g1", ["A0010", "A0009"], suffix=".mat")
    cinc(tmp_path / "georgia/g1", ["E00001"], rate=100)
    data = read(tmp_path, labels=False)
    assert data.ids.tolist() == ["A0009", "A0010", "E00001"]
    np.testing.assert_array_equal(data.signals[1], (counts(0, 1000) / 1000).astype(np.float32))
    cinc(tmp_path / "ptb/g1", ["E00001"])
    assert "contains the record E00001 twice" in refused(tmp_path)


def test_long_records_are_cut_and_short_and_other_ones_refused(tmp_path: Path) -> None:
    note = ["# Dx: 1"]
    for name in ("a", "b"):
        record(tmp_path / name, counts(0, 1500), notes=note)
    record(tmp_path / "c", counts(0, 900), notes=note)
    record(tmp_path / "d", counts(0, 5000), rate=500, notes=note)
    assert refused(tmp_path) == "c: lasts 9 s, expected at least 10 s"
    data = read(tmp_path, labels=False, skip_bad=True)
    assert data.ids.tolist() == ["a", "b"]
    np.testing.assert_array_equal(data.signals[0], (counts(0, 1500)[:, :1000] / 1000).astype(np.float32))
    assert [id_ for id_, _ in data.left_out] == ["c", "d"]


def test_beats_win_where_they_are_marked(tmp_path: Path) -> None:
    assert find(cinc(tmp_path), "auto").layout == "cinc"
    assert find(tmp_path / "A0001.hea", "auto").layout == "cinc"
    (tmp_path / "A0001.atr").write_bytes(b"")
    assert find(tmp_path, "auto").layout == "wfdb"
    assert find(tmp_path / "A0001.hea", "auto").layout == "wfdb"
    record(tmp_path / "plain/7", counts(0, 1000))
    assert find(tmp_path / "plain", "auto").layout == "wfdb"  # says that beats must be marked
    (tmp_path / "A0001.atr").unlink()
    (tmp_path / "train.csv").write_text("id,heartbeat_signals,label\n")
    assert "contains both .hea files and train.csv" in refused(tmp_path)


def test_few_headers_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        record(tmp_path / f"{number:03}", counts(0, 10))
    opened = []
    plain = open

    def counted(path: Any, *args: Any) -> Any:
        opened.append(path)
        return plain(path, *args)

    monkeypatch.setattr("wavefold.domains.heartbeat.cinc.open", counted, raising=False)
    assert LAYOUTS["cinc"].sniff(tmp_path) == 0
    assert len(opened) == 5


@pytest.mark.parametrize(
    "name", ["KeyError-wfdb_records.py-131", "TypeError-wfdb_records.py-131", "ValueError-wfdb_records.py-119"]
)
def test_damaged_records_that_were_found_are_refused_in_one_line(real: Callable[[str], Path], name: str) -> None:
    with pytest.raises(DataError) as error:
        read(real("../cases/damaged") / f"wfdb-{name}")
    assert "\n" not in str(error.value)


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    assert "contains no .hea files" in refused(tmp_path, layout="cinc")
    assert "contains no ptbxl_database.csv" in refused(tmp_path, layout="ptbxl")
    (tmp_path / "7.hea").write_text("7\n")
    assert "7.hea: states no rate" in refused(tmp_path, layout="cinc")


@pytest.mark.parametrize("gain", ["1000.0(0)/mV", "200(30)/uV", "200", "0"])
def test_the_plain_kind_is_read_as_the_package_reads_it(tmp_path: Path, gain: str) -> None:
    stored = counts(3, 50)
    stored[2, 7] = -32768
    record(tmp_path / "7", stored, gain=gain, notes=["#Age: 74", "# Dx: 1,2"], suffix=".mat")
    ours, theirs = read_format16(tmp_path / "7"), wfdb.rdrecord(str(tmp_path / "7"))
    assert ours is not None
    np.testing.assert_array_equal(np.stack(ours.signals, 1), theirs.p_signal)
    assert (list(ours.leads), list(ours.units), ours.rate) == (theirs.sig_name, theirs.units, theirs.fs)
    assert list(ours.comments) == theirs.comments


def test_other_kinds_are_left_to_the_package(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(-1, 1, (1000, 12))
    wfdb.wrsamp("7", 100, ["mV"] * 12, list(LEADS), p_signal=values, fmt=["212"] * 12, write_dir=str(tmp_path))
    assert read_format16(tmp_path / "7") is None
    np.testing.assert_allclose(np.stack(read_record(tmp_path / "7").signals, 1), values, atol=1e-3)
    np.testing.assert_allclose(read(tmp_path, layout="cinc", labels=False).signals[0], values.T, atol=1e-3)


def test_simulated_records_are_written_and_read_back(tmp_path: Path) -> None:
    data = simulate_ecg12(60, 3)
    assert write_ptbxl(data, tmp_path) == tmp_path / "ptbxl_database.csv"
    back = read(tmp_path, labels=False)
    np.testing.assert_allclose(back.signals, data.signals, atol=0.000501)  # half a 16-bit step of 0.001 mV
    assert (back.ids.tolist(), back.unit) == (data.ids.tolist(), data.unit)
    assert data.targets is not None
    assert data.groups is not None
    assert back.groups is not None
    assert back.groups.tolist() == data.groups.tolist()
    there = [{name for name, has in zip(CLASSES, row, strict=True) if has} for row in data.targets]
    assert [set(word.split(";")) for word in back.columns["diagnostic_superclass"].tolist()] == there
    folds = dict(zip(data.groups.tolist(), back.columns["strat_fold"].tolist(), strict=True))
    assert [folds[group] for group in data.groups.tolist()] == back.columns["strat_fold"].tolist()
    assert set(folds.values()) == {str(fold) for fold in range(1, 11)}
    theirs = wfdb.rdrecord(str(tmp_path / "records100/00000/00001_lr"), physical=False)
    assert theirs.checksum == theirs.calc_checksum()
    assert theirs.init_value == theirs.d_signal[0].tolist()
    assert not list(tmp_path.rglob(".unfinished"))


def test_class_labels_and_none_are_written_too(tmp_path: Path) -> None:
    signals = np.zeros((2, 12, 5000), np.float32)
    data = Dataset(signals, np.array(["8", "9"]), labels=np.array([1, 0]), classes=("a", 'b "c"'), unit="1/500 s")
    back = read(write_ptbxl(data, tmp_path / "labels"), label_column="diagnostic_superclass")
    assert (back.classes, back.known_labels().tolist(), back.unit) == (data.classes, [1, 0], "1/500 s")
    bare = read(write_ptbxl(replace(data, labels=None), tmp_path / "bare"))
    assert bare.labels is None
    assert bare.columns["scp_codes"].tolist() == ["SR", "SR"]


def test_what_the_layout_cannot_hold_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    data = Dataset(np.zeros((2, 12, 1000), np.float32), np.array(["8", "9"]))
    big = data.signals.copy()
    big[1, 3, 5] = 40
    with pytest.raises(DataError, match=r"id '9' has the value 40; 16-bit records need values up to 32\.767 mV"):
        write_ptbxl(replace(data, signals=big), tmp_path)
    assert list(tmp_path.iterdir()) == []
    for wrong, words in (({"signals": big[:, :8]}, "samples have shape 8 x 1000"), ({"unit": "1/250 s"}, "are 1/250 s apart")):
        with pytest.raises(DataError, match=words):
            write_ptbxl(replace(data, **wrong), tmp_path)  # type: ignore[arg-type]  # one of two fields
    with pytest.raises(DataError, match="contains a line break"):
        write_ptbxl(replace(data, columns={"report": np.array(["a\nb", "c"])}), tmp_path)
    write_ptbxl(data, tmp_path)
    with pytest.raises(UserError, match=r"ptbxl_database\.csv: already exists"):
        write_ptbxl(data, tmp_path)
    (tmp_path / "ptbxl_database.csv").unlink()
    with pytest.raises(UserError, match="records100: already exists"):
        write_ptbxl(data, tmp_path)
    (tmp_path / "records100/.unfinished").touch()  # a process killed before the CSV
    assert len(read(write_ptbxl(data, tmp_path))) == 2


def test_simulated_labels_and_patients() -> None:
    data = simulate_ecg12(2000, 0, shape=(12, 100))
    assert data.targets is not None
    assert data.groups is not None
    np.testing.assert_allclose(data.targets.mean(axis=0), [0.44, 0.25, 0.24, 0.22, 0.12], atol=0.05)  # PTB-XL's shares
    assert ((data.targets[:, 0] == 1) == (data.targets[:, 1:].sum(axis=1) == 0)).all()
    assert 0.15 < (data.targets.sum(axis=1) > 1).mean() < 0.4
    assert max(Counter(data.groups.tolist()).values()) > 2
    some = simulate_ecg12(50, 0, shape=(12, 100), classes=("CD", "NORM"))
    assert some.target_names == ("CD", "NORM")
    assert some.targets is not None
    assert (some.targets.sum(axis=1) == 1).all()


def test_limb_leads_follow_from_two() -> None:
    one, two, three, right, left, foot = simulate_ecg12(5, 1).signals[:, :6].swapaxes(0, 1)
    for lead, sum_ in ((three, two - one), (right, -(one + two) / 2), (left, one - two / 2), (foot, two - one / 2)):
        np.testing.assert_allclose(lead, sum_, atol=1e-5)


def test_labels_can_be_learned_but_not_perfectly() -> None:
    data = simulate_ecg12(1200, 2, shape=(12, 300))
    assert data.targets is not None
    spread = np.concatenate(
        [data.signals.std(axis=2), *(np.percentile(data.signals, q, axis=2) for q in (1, 20, 50, 80, 99))], 1
    )
    for label in range(5):
        model = LogisticRegression(max_iter=2000, C=0.1).fit(
            StandardScaler().fit_transform(spread)[:800], data.targets[:800, label]
        )
        scores = model.predict_proba(StandardScaler().fit_transform(spread)[800:])[:, 1]
        assert 0.65 < roc_auc_score(data.targets[800:, label], scores) < 0.97


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": (1, 1000)}, r"simulator 'ecg12' needs \[12, length\], got \[1, 1000\]"),
        ({"shape": (12, 9)}, "3 records of 9 values requested"),
        ({"classes": ("NORM", "STT")}, "class 'STT' is not one of NORM, .* did you mean 'STTC'"),
        ({"classes": ()}, "classes none; expected different ones"),
    ],
)
def test_simulator_refuses_what_it_cannot_make(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        simulate_ecg12(3, 0, **change)
