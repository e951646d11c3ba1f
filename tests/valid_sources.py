"""A small valid source of each layout, written without the project's own writers: for the conformance suite and the fuzz.

A new reader joins `tests/test_layouts.py` and `benchmarks/fuzz.py` by an entry here: in SAMPLES for a layout of labelled
samples, in FRAMES for one of frames.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wavefold.data.series_options import Events, Reading

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
GRID = (4000.0, 4019.0, 1.0)  # angstrom: twenty bins of one pixel each
BEATS = range(125, 1126, 250)  # samples of a WFDB record that are R peaks


@dataclass(frozen=True)
class Samples:
    """What a source of samples holds."""

    ids: Sequence[str]
    labels: Sequence[str]
    values: NDArray[np.float64]  # (sample, ...), of three decimals


@dataclass(frozen=True)
class SampleSource:
    """How a source of one layout is written, and which of the promises can be tried on it."""

    write: Callable[[Path, Samples], Path]  # (new folder, samples) -> the path to read
    shape: tuple[int, ...]  # of a sample
    ids: Sequence[str] = ("s1", "s2", "s3", "s4")
    labels: Sequence[str] = ("quasar", "star", "quasar", "star")
    options: Mapping[str, Any] = field(default_factory=dict)  # of `read`
    near: float = 1e-6  # tolerance of a value read
    twice: Sequence[str] = ()  # places that an error for a second sample of the first id names; () if there can be none
    words: bool = True  # whether labels are words that the source can leave out
    hole: Sequence[str] = ()  # what an error for a NaN in the second sample names; () if the layout cannot store NaN
    broken: str = ""  # the file of the second sample, relative to the source's folder; "" if all are in one file
    many: int = 3000  # samples of a source for the test of identity, so that one file is longer than what the cache hashes
    read_values: Callable[[NDArray[np.float64]], NDArray[np.float64]] = lambda values: values  # what reading makes of them
    layout: str = ""  # "" is the entry's name
    sealed: bool = False  # whether checksums refuse a changed file

    def samples(self, seed: int = 0, *, count: int = 0) -> Samples:
        """Samples for a source; more than the usual four are numbered."""
        rng = np.random.default_rng(seed)
        ids = [str(number) for number in range(count)] or list(self.ids)
        labels = [self.labels[number % len(self.labels)] for number in range(len(ids))]
        values = rng.uniform(1, 9, (len(ids), *self.shape)).round(3)
        return Samples(ids, labels, values)


def text(value: float) -> str:
    """A value as a CSV holds it, of one width, so that other values make a file of the same size."""
    return "nan" if np.isnan(value) else f"{value:.3f}"


def rows_written(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    """Write a CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
    return path


def wide(folder: Path, samples: Samples) -> Path:
    """A wide CSV, with a CSV of further columns beside it."""
    head = ["id", *map(str, range(samples.values.shape[-1])), "label"]
    zipped = zip(samples.ids, samples.values[:, 0], samples.labels, strict=True)
    rows_written(folder / "train_meta.csv", meta_rows(samples))
    return rows_written(folder / "train.csv", [head, *([id_, *map(text, row), word] for id_, row, word in zipped)])


def meta_rows(samples: Samples) -> list[list[str]]:
    """Further columns by id, which depend on the values, for the test of identity."""
    ids = list(dict.fromkeys(samples.ids))
    return [["id", "observer"], *([id_, f"o{row.flat[0]:.0f}"] for id_, row in zip(ids, samples.values, strict=False))]


def contest(folder: Path, samples: Samples) -> Path:
    """The heartbeat contest's CSV: all values of a sample in one field."""
    zipped = zip(samples.ids, samples.values[:, 0], samples.labels, strict=True)
    rows = [[id_, ",".join(map(text, row)), word] for id_, row, word in zipped]
    return rows_written(folder / "train.csv", [["id", "heartbeat_signals", "label"], *rows])


def ts(folder: Path, samples: Samples) -> Path:
    """A .ts file; two channels."""
    lines = ["@problemName p", "@timeStamps false", "@univariate false", "@classLabel true quasar star", "@data"]
    for row, word in zip(samples.values, samples.labels, strict=True):
        lines.append(":".join([*(",".join(map(text, channel)) for channel in row), word]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a_TRAIN.ts").write_text("\n".join(lines) + "\n")
    return folder / "a_TRAIN.ts"


def arrays(folder: Path, samples: Samples) -> Path:
    """An .npz."""
    folder.mkdir(parents=True, exist_ok=True)
    words = {"labels": np.array(samples.labels), "ids": np.array(samples.ids)}
    np.savez(folder / "train.npz", signals=samples.values.astype(np.float32), **words)
    return folder / "train.npz"


def arrow(folder: Path, samples: Samples) -> Path:
    """A Parquet file by pyarrow: one column per position."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    folder.mkdir(parents=True, exist_ok=True)
    columns = {str(at): samples.values[:, 0, at].astype(np.float32) for at in range(samples.values.shape[-1])}
    table = pyarrow.table({"id": list(samples.ids), **columns, "label": list(samples.labels)})
    parquet.write_table(table, folder / "train.parquet", compression="none", use_dictionary=False)
    return folder / "train.parquet"


def feather(folder: Path, samples: Samples) -> Path:
    """A Feather file by pyarrow: a column of lists of lists, (channel, position)."""
    pyarrow, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.feather")
    folder.mkdir(parents=True, exist_ok=True)
    columns = {"id": list(samples.ids), "signals": samples.values.tolist(), "label": list(samples.labels)}
    writer.write_feather(pyarrow.table(columns), str(folder / "train.feather"), compression="uncompressed")
    return folder / "train.feather"


def zarr_arrays(folder: Path, samples: Samples) -> Path:
    """A Zarr 2 group with the arrays of an .npz, a chunk for each sample."""
    package = pytest.importorskip("zarr")
    folder.mkdir(parents=True, exist_ok=True)
    group = package.open_group(str(folder / "beats.zarr"), mode="w", zarr_format=2)
    shape = samples.values.shape
    stored = group.create_array("signals", shape=shape, chunks=(1, *shape[1:]), dtype="f4", compressors=None)
    stored[:] = samples.values
    for name, words in {"labels": samples.labels, "ids": samples.ids}.items():
        group.create_array(name, data=np.array(words))
    return folder / "beats.zarr"


def record(base: Path, values: NDArray[np.float64], leads: Sequence[str], rate: int, notes: Sequence[str] = ()) -> None:
    """A WFDB record in format 16 of values (lead, position) in mV; NaN is the format's code for an invalid sample."""
    base.parent.mkdir(parents=True, exist_ok=True)
    stored = np.where(np.isnan(values), -32768, np.nan_to_num(values) * 1000).round().astype("<i2").T.tobytes()
    base.with_name(f"{base.name}.dat").write_bytes(stored)
    lines = [f"{base.name} {len(leads)} {rate} {values.shape[1]}"]
    firsts = [int(row[0] * 1000) if np.isfinite(row[0]) else -32768 for row in values]
    lines += [f"{base.name}.dat 16 1000(0)/mV 16 0 {first} 0 0 {lead}" for first, lead in zip(firsts, leads, strict=True)]
    base.with_name(f"{base.name}.hea").write_text("\n".join([*lines, *notes]) + "\n")


def wfdb(folder: Path, samples: Samples) -> Path:
    """Two records of five beats each; the labels are codes of annotations."""
    codes = {"0": 1, "1": 8, "2": 5}  # N, A, V
    for number, name in enumerate(("r1", "r2")):
        own = samples.values[number, 0]
        record(folder / name, own[None], ["MLII"], 125)
        words, before = b"", 0
        for place, at in enumerate(BEATS):
            words += struct.pack("<H", codes[samples.labels[number * len(BEATS) + place]] << 10 | (at - before))
            before = at
        (folder / f"{name}.atr").write_bytes(words + b"\0\0")
    return folder


def beats(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is cut of the records of `wfdb`: 1.2 times 250 values from each peak, 205 of them, from 0 to 1."""
    cut = []
    for own in values[:2, 0]:
        for at in BEATS:
            if at + 300 <= len(own):
                row = own[at : at + 205]
                cut.append(((row - row.min()) / (row.max() - row.min())).round(4))
    return np.array(cut)[:, None]


def ptbxl(folder: Path, samples: Samples) -> Path:
    """PTB-XL's folder: its table, its statements and a record a row."""
    codes = {"NORM": "{'NORM': 100.0}", "MI": "{'IMI': 80.0}"}
    table = [["ecg_id", "patient_id", "scp_codes", "strat_fold", "filename_lr", "filename_hr"]]
    for id_, word, values in zip(samples.ids, samples.labels, samples.values, strict=True):
        name = f"records100/00000/{int(id_):05}_lr"
        table.append([id_, f"p{id_}", codes.get(word, word), "1", name, name.replace("lr", "hr")])
        record(folder / name, values, LEADS, 100)
    rows_written(folder / "ptbxl_database.csv", table)
    statements = [["", "description", "diagnostic", "form", "rhythm", "diagnostic_class"]]
    statements += [["NORM", "normal ECG", "1.0", "", "", "NORM"], ["IMI", "inferior", "1.0", "", "", "MI"]]
    rows_written(folder / "scp_statements.csv", statements)
    return folder


def cinc(folder: Path, samples: Samples) -> Path:
    """Records with diagnoses in their headers; a second one of a name lies in a further folder."""
    for number, (id_, word, values) in enumerate(zip(samples.ids, samples.labels, samples.values, strict=True)):
        place = folder / ("more" if id_ in samples.ids[:number] else "first")
        record(place / id_, values, LEADS, 100, notes=["#Age: 74", "#Sex: Male", f"#Dx: {word}"])
    return folder


def cadence(folder: Path, samples: Samples) -> Path:
    """The SETI contest's folder."""
    zipped = zip(samples.ids, samples.labels, samples.values, strict=True)
    rows_written(folder / "train_labels.csv", [["id", "target"], *([id_, word] for id_, word, _ in zipped)])
    for id_, values in zip(samples.ids, samples.values, strict=True):
        (folder / "train" / id_[0]).mkdir(parents=True, exist_ok=True)
        np.save(folder / "train" / id_[0] / f"{id_}.npy", values.astype(np.float32))
    return folder


def index_of(folder: Path, samples: Samples) -> None:
    """An index, and further columns by id beside it."""
    rows = [["id", "type"], *([id_, word] for id_, word in zip(samples.ids, samples.labels, strict=True))]
    rows_written(folder / "train_index.csv", rows)
    rows_written(folder / "train_meta.csv", meta_rows(samples))


def spectra(folder: Path, samples: Samples) -> Path:
    """The LAMOST contest's folder, with wavelengths that depend on the values, for the test of identity."""
    index_of(folder, samples)
    (folder / "train").mkdir(exist_ok=True)
    for id_, values in zip(samples.ids, samples.values, strict=True):
        (folder / "train" / f"{id_}.txt").write_text(",".join(map(text, values[0])))
    first = 4000 + int(samples.values[0, 0, 0] * 100)
    (folder / "wavelength.txt").write_text(",".join(str(first + number) for number in range(samples.values.shape[-1])))
    return folder


def zipped_spectra(folder: Path, samples: Samples) -> Path:
    """The LAMOST contest's index with a zip."""
    index_of(folder, samples)
    with zipfile.ZipFile(folder / "train_data.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for id_, values in dict(zip(samples.ids, samples.values, strict=True)).items():
            member = zipfile.ZipInfo(f"train_data/{id_}.txt")
            archive.writestr(member, ",".join(map(text, values[0])), zipfile.ZIP_DEFLATED)
    return folder / "train_index.csv"


def packed(folder: Path, samples: Samples) -> Path:
    """The heartbeat contest's CSV, packed."""
    plain = contest(folder, samples)
    with open(folder / "train.csv.gz", "wb") as stream, gzip.GzipFile("", "wb", 9, stream, mtime=0) as archive:
        archive.write(plain.read_bytes())
    plain.unlink()
    return folder / "train.csv.gz"


def fits(folder: Path, samples: Samples) -> Path:
    """LAMOST's tables of one row, with an index."""
    from astropy.io import fits as astropy_fits  # noqa: PLC0415  # slow

    index_of(folder, samples)
    count = samples.values.shape[-1]
    for id_, values in zip(samples.ids, samples.values, strict=True):
        columns = {"FLUX": values[0], "IVAR": np.full(count, 4.0), "WAVELENGTH": GRID[0] + np.arange(count)}
        columns |= {"ANDMASK": np.zeros(count), "ORMASK": np.zeros(count)}
        made = [astropy_fits.Column(name=name, format=f"{count}D", array=row[None]) for name, row in columns.items()]
        header = astropy_fits.Header({"CLASS": "STAR", "SUBCLASS": "A9", "Z": 0.001, "RA": 336.7, "DEC": 54.9})
        hdus = [astropy_fits.PrimaryHDU(header=header), astropy_fits.BinTableHDU.from_columns(made, name="COADD")]
        astropy_fits.HDUList(hdus).writeto(folder / f"{id_}.fits", overwrite=True)
    return folder


def folder_of_parts(folder: Path, samples: Samples) -> Path:
    """A packed folder, of one part."""

    def sums(path: Path) -> dict[str, object]:
        data = path.read_bytes()
        blocks = (data[at : at + (4 << 20)] for at in range(0, len(data), 4 << 20))
        return {"bytes": len(data), "sha256": [hashlib.sha256(block).hexdigest() for block in blocks]}

    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "00000.signals.npy", samples.values.astype(np.float32))
    rows = {"ids": np.array(samples.ids), "lines": np.arange(len(samples.ids)), "words": np.array(samples.labels)}
    np.savez(folder / "00000.rows.npz", **rows)
    part = {"rows": len(samples.ids), "signals": sums(folder / "00000.signals.npy"), "columns": sums(folder / "00000.rows.npz")}
    (folder / "00000.json").write_text(json.dumps(part))
    digest = hashlib.sha256((folder / "00000.json").read_bytes()).hexdigest()
    source = {"name": "a.npz", "layout": "arrays", "digest": digest, "options": {}, "rows": len(samples.ids), "parts": 1}
    stated = {
        "format": 1,
        "shared": {"shape": samples.values.shape[1:], "labels": "words"},
        "sources": [source],
        "parts": [{"rows": len(samples.ids), "sha256": digest}],
    }
    whole = hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()
    (folder / "pack.json").write_text(json.dumps({"sha256": whole, **stated}))
    return folder


LINES = ("line 3", "line 2")  # where a second sample of the first id is, and the first
SAMPLES: dict[str, SampleSource] = {
    "wide": SampleSource(wide, (1, 20), twice=LINES, hole=("line 3", "s2")),
    "contest": SampleSource(contest, (1, 20), twice=LINES, hole=("line 3", "s2")),
    "contest gz": SampleSource(packed, (1, 20), twice=LINES, hole=("line 3", "s2"), layout="contest"),
    "ts": SampleSource(ts, (2, 10), ids=("0", "1", "2", "3"), hole=("line 7",)),
    "packed": SampleSource(folder_of_parts, (2, 10), sealed=True),
    "arrays": SampleSource(arrays, (1, 20), twice=("1", "0"), hole=("sample 1",)),
    "arrow": SampleSource(arrow, (1, 20), twice=("row 1", "row 0"), hole=("row 1", "'0'")),
    "arrow feather": SampleSource(feather, (2, 10), twice=("row 1", "row 0"), hole=("row 1", "'signals'"), layout="arrow"),
    "zarr": SampleSource(zarr_arrays, (2, 10), twice=("1", "0"), hole=("sample 1",), many=0),
    "wfdb": SampleSource(
        wfdb,
        (1, 1500),
        ids=[f"{name}:{at}" for name in ("r1", "r2") for at in BEATS],
        labels=["0", "1", "2", "0", "0", "1", "0", "2", "0", "1"],
        words=False,
        broken="r2.dat",
        near=1e-3,
        many=0,
        read_values=beats,
    ),
    "ptbxl": SampleSource(
        ptbxl,
        (12, 1000),
        ids=("1", "2", "3", "4"),
        labels=("NORM", "MI", "NORM", "MI"),
        options={"label_column": "diagnostic_superclass"},
        twice=LINES,
        hole=("line 3", "00002_lr"),
        broken="records100/00000/00002_lr.dat",
        many=0,
    ),
    "cinc": SampleSource(
        cinc,
        (12, 1000),
        ids=("A1", "A2", "A3", "A4"),
        labels=("426783006", "164889003", "426783006", "164889003"),
        options={"label_column": "Dx"},
        twice=("first/A1", "more/A1"),
        hole=("A2",),
        broken="first/A2.dat",
        many=0,
    ),
    "cadence": SampleSource(
        cadence,
        (6, 8, 16),
        labels=("0", "1", "0", "1"),
        twice=LINES,
        hole=("s/s2.npy",),
        broken="train/s/s2.npy",
        many=0,
    ),
    "spectra": SampleSource(spectra, (1, 20), twice=LINES, hole=("s2.txt",), broken="train/s2.txt", many=0),
    "spectra zip": SampleSource(zipped_spectra, (1, 20), twice=LINES, hole=("s2.txt",), many=0, layout="spectra"),
    "fits": SampleSource(fits, (1, 20), options={"grid": GRID}, twice=LINES, broken="s2.fits", near=0.02, many=0),
}


@dataclass(frozen=True)
class FrameSource:
    """How a source of frames is written."""

    write: Callable[[Path, NDArray[np.float64]], Path]  # (new folder, frames (time, row, column)) -> the path to read
    reading: Reading = field(default_factory=Reading)
    broken: str = ""  # a file of several, relative to the source's folder
    infinite: bool = True  # whether the layout can store an infinite value
    holes: bool = True  # and NaN
    read_frames: Callable[[NDArray[np.float64]], NDArray[np.float64]] = lambda frames: frames
    layout: str = ""  # "" is the entry's name


def frames_of(seed: int = 0) -> NDArray[np.float64]:
    """Frames (time, row, column), whole numbers from 1 to 200."""
    return np.random.default_rng(seed).integers(1, 200, (8, 5, 6)).astype(np.float64)


def array(folder: Path, frames: NDArray[np.float64]) -> Path:
    """An .npy."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "frames.npy", frames.astype(np.float32))
    return folder / "frames.npy"


def npz(folder: Path, frames: NDArray[np.float64]) -> Path:
    """An .npz, compressed."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "frames.npz", frames=frames.astype(np.float32))
    return folder / "frames.npz"


def joined(folder: Path, frames: NDArray[np.float64]) -> Path:
    """A folder of two .npy."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(np.split(frames, 2)):
        np.save(folder / f"part{number + 1}.npy", part.astype(np.float32))
    return folder


def images(folder: Path, frames: NDArray[np.float64]) -> Path:
    """Numbered PNGs."""
    from PIL import Image  # noqa: PLC0415  # slow

    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame.astype(np.uint8)).save(folder / f"frame{number + 1}.png")
    return folder


def dataset(frames: NDArray[np.float64]) -> Any:
    """The frames as an xarray Dataset of hourly rain."""
    import xarray  # noqa: PLC0415  # slow

    times = np.datetime64("2020-06-01T00:00", "ns") + np.arange(len(frames)) * np.timedelta64(3600, "s")
    places = {"latitude": 60.0 - np.arange(frames.shape[1]), "longitude": 5.0 + np.arange(frames.shape[2])}
    values = (("time", "latitude", "longitude"), frames.astype(np.float32), {"units": "mm/h"})
    return xarray.Dataset({"rain": values}, coords={"time": times, **places})


def netcdf(folder: Path, frames: NDArray[np.float64]) -> Path:
    """A NetCDF 4 file."""
    folder.mkdir(parents=True, exist_ok=True)
    dataset(frames).to_netcdf(folder / "rain.nc", engine="h5netcdf")
    return folder / "rain.nc"


def zarr(folder: Path, frames: NDArray[np.float64]) -> Path:
    """A Zarr 2 folder."""
    dataset(frames).to_zarr(folder / "rain.zarr", zarr_format=2, consolidated=True)
    return folder / "rain.zarr"


def events(folder: Path, frames: NDArray[np.float64]) -> Path:
    """A table of events: one a day, at the place of each frame's first value."""
    rows = [["time", "x", "y"]]
    for day, frame in enumerate(frames):
        rows += [[f"2020-06-{day + 1:02}T06:00:00", f"{0.5 + int(frame[0, 0]) % 3}", f"{0.5 + int(frame[0, 1]) % 2}"]]
    return rows_written(folder / "events.csv", rows)


def counts(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is counted of `events`, (time, row, column); row 0 lies in the north."""
    made = np.zeros((len(frames), 2, 3))
    for day, frame in enumerate(frames):
        made[day, 1 - int(frame[0, 1]) % 2, int(frame[0, 0]) % 3] = 1
    return made


FRAMES: dict[str, FrameSource] = {
    "array": FrameSource(array),
    "array npz": FrameSource(npz, layout="array"),
    "array joined": FrameSource(joined, layout="array", broken="part2.npy"),
    "images": FrameSource(images, broken="frame3.png", infinite=False, holes=False),
    "grid": FrameSource(netcdf),
    "grid zarr": FrameSource(zarr, layout="grid"),
    "events": FrameSource(
        events,
        Reading(events=Events(box=(0, 3, 0, 2), cells=(2, 3))),
        infinite=False,
        holes=False,
        read_frames=counts,
    ),
}


def files_in(folder: Path) -> list[Path]:
    """All files of a source, by name."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


Choose = Callable[[int], int]  # n -> a number from 0 to n - 1
PIECES = (b"\0", b"\n", b",", b'"', b"nan", b"-1", b"1e999", b"\xff\xfe", b"9" * 400, b"\x89PNG\r\n\x1a\n", b"\x93NUMPY")
FIELDS = (0, 1, 0x7F, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000)  # of 32 bits, as headers have them


def mutated(data: bytes, choose: Choose) -> bytes:
    """Bytes of a file after one accident: cut off, bits flipped, bytes inserted, blocks swapped, or a field of its header."""
    made = bytearray(data or b"\0")
    way, in_header = choose(5), choose(3)
    at = choose(min(len(made), 400) if in_header else len(made))
    if way == 0:
        return bytes(made[:at])
    if way == 1:
        for _ in range(1 + choose(8)):
            made[at] ^= 1 << choose(8)
            at = choose(len(made))
    elif way == 2:
        made[at:at] = PIECES[choose(len(PIECES))]
    elif way == 3:
        size, other = 1 + choose(max(1, len(made) // 4)), choose(len(made))
        made[at : at + size], made[other : other + size] = made[other : other + size], made[at : at + size]
    else:
        made[at : at + 4] = struct.pack("<I", FIELDS[choose(len(FIELDS))])
    return bytes(made)
