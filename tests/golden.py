"""The golden record: what runs on simulated data, and readers of small files, gave when `golden.json` was written.

`python tests/golden.py --write` writes the record anew. A changed number must be argued for, in the commit that changes it.

Runs are made by the command line alone, on one thread: the SHA-256 of each array or text that a run keeps, of what it
predicts and of what its ONNX file answers. Only contents count, never a container's bytes. The bits of training depend on
the processor and the libraries, so the record names the platform that it is of. Layouts are files written here, without
the project's own writers; what a reader makes of them is the same everywhere.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import struct
import sys
import tempfile
import tomllib
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from click.testing import CliRunner
from threadpoolctl import threadpool_limits

# all that this file knows of the source tree; the fields of what readers hand over are named in `parts_of_*` below
from wavefold.cli import main
from wavefold.data import LAYOUTS as LAYOUTS_OF_SAMPLES
from wavefold.data import SERIES_LAYOUTS, read, read_series
from wavefold.data.series_options import Events, Reading
from wavefold.domains.radio.observation import open_observation

RECORD = Path(__file__).with_suffix(".json")
Facts = dict[str, Any]

# Digests


def digest(value: Any) -> str:
    """SHA-256 of an array, of text, of bytes, or of what JSON holds."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "USO":
        return digest([list(value.shape), value.astype(str).ravel().tolist()])
    if isinstance(value, np.ndarray):
        plain = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
        return digest(f"{plain.dtype.str} {value.shape} ".encode() + plain.tobytes())
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    return digest(value.encode() if isinstance(value, str) else json.dumps(value, sort_keys=True).encode())


def digest_of_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of arrays and their names."""
    return digest({name: digest(arrays[name]) for name in arrays})


def digest_of_file(path: Path) -> str:
    """SHA-256 of what a file holds."""
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return digest_of_arrays(arrays)
    if path.suffix == ".npy":
        return digest(np.load(path))
    if path.suffix == ".safetensors":
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        head = json.loads(content[8 : 8 + length])
        body = content[8 + length :]
        return digest(
            {n: [h["dtype"], h["shape"], digest(body[slice(*h["data_offsets"])])] for n, h in head.items() if "dtype" in h}
        )
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return digest({name: digest(archive.read(name)) for name in archive.namelist()})
    if path.suffix == ".json":
        return digest(numbers_of(json.loads(path.read_text())))
    return digest(path.read_bytes())


_WORDS = ("seconds", "judged", "notes", "format", "task", "standing", "units")


def numbers_of(scores: Any) -> Any:
    """What a JSON file says, less times, identities, paths and words for people.

    Left out too is what was added for scores of samples since the record was written: differences from baselines.
    """
    if isinstance(scores, Mapping):
        added = () if {"by-lead", "by_lead", "leads"} & set(scores) else ("differences", "higher_is_better")
        return {name: numbers_of(value) for name, value in scores.items() if name not in (*_WORDS, *added)}
    return [numbers_of(value) for value in scores] if isinstance(scores, list) else scores


# Platform

_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "onnxruntime", "lightgbm")


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch, and for the libraries of NumPy and SciPy: sums depend on how they are shared out."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def this_platform() -> Facts:
    """What the bits of training depend on: versions, the processor's instructions, and what a few operations give here."""
    return {
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "probe": probe(),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def probe() -> str:
    """SHA-256 of what torch and NumPy make of fixed numbers: their last bits tell processors apart."""
    with one_thread(), torch.random.fork_rng([]):
        torch.manual_seed(0)
        made: dict[str, torch.Tensor] = {}
        for name, net, shape in (
            ("line", torch.nn.Conv1d(16, 32, 7, padding=3), (8, 16, 205)),
            ("plane", torch.nn.Conv2d(6, 16, 3, stride=2), (4, 6, 33, 64)),
            ("frames", torch.nn.Conv2d(8, 8, 3, groups=8, padding=1), (4, 8, 16, 16)),
            ("dense", torch.nn.Linear(3000, 128), (64, 3000)),
            ("batch", torch.nn.BatchNorm1d(16), (8, 16, 205)),
        ):
            inputs = _fixed(*shape).requires_grad_()
            made[name] = net(inputs)
            made[name].square().mean().backward()
            made |= {f"{name}-{n}": p.grad for n, p in net.named_parameters() if p.grad is not None}
            made[f"{name}-inputs"] = inputs.grad if inputs.grad is not None else inputs
        made["lstm"] = torch.nn.LSTM(12, 16, bidirectional=True)(_fixed(9, 4, 12))[0]
        wide = _fixed(70, 4100)
        made |= {"matmul": wide @ wide.T, "exp": wide.exp(), "softmax": wide.softmax(1), "sum": wide.sum(1), "erf": wide.erf()}
        made |= {"sin": wide.sin(), "log": (wide.square() + 1).log(), "tanh": wide.tanh(), "std": wide.std(1)}
        made["fft"] = torch.view_as_real(torch.fft.rfft(wide))
        real = wide.double().numpy()
        plain = {"gram": real @ real.T, "np-exp": np.exp(real), "np-sin": np.sin(wide.numpy()), "np-sum": wide.numpy().sum(1)}
        plain["solved"] = np.linalg.solve(real @ real.T + np.eye(70), real[:, 0])
        return digest_of_arrays({**{name: value.detach().numpy() for name, value in made.items()}, **plain})


def _fixed(*shape: int) -> torch.Tensor:
    """Numbers between -1 and 1 that are the same everywhere."""
    return torch.from_numpy(fixed(*shape))


def fixed(*shape: int) -> np.ndarray:
    """Float32 numbers between -1 and 1 that are the same everywhere."""
    return (np.random.default_rng(0).integers(-1000, 1001, shape) / 1000).astype(np.float32)


# Runs

_SMALL = "data.count=120", "data.shape=[1,96]", "split.validation=0.2", "stage.*.epochs=1", "output.baseline=logistic"
_NO_PICTURES = "output.pictures=false"
_NETS = ("net2", "net3", "net4", "net5", "net6", "repvgg", "lstm")
_TREES = ("random_forest", "extra_trees")
_CLASSIFIERS = ("kernels", "lightgbm", "random_forest", "extra_trees", "logistic", "knn", "svm", "hist_boosting", "mlp")


def _members(names: Sequence[str], **options: str) -> str:
    return "member=[" + ",".join(f'{{model="{name}"{options.get(name, "")}}}' for name in names) + "]"


# name -> the recipe, what is changed of it, and how its ONNX file is asked for, None where it is not: it takes longer than
# the run, and of all members and folds of a cadence's a minute
RUNS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...] | None]] = {
    "heartbeat": ("heartbeat", (), ()),
    "spectra": ("spectra", (), ()),
    "cadence": ("cadence", (), None),
    "cadence_one_fold": (
        "cadence",
        ("data.count=100", "data.shape=[6,8,32]", "split.way=holdout", "split.validation=0.2", 'member.0.flips=["time"]'),
        ("--member", "0"),
    ),
    "frames": ("frames", (_NO_PICTURES,), ()),
    "frames_next": ("frames_next", (_NO_PICTURES,), ()),
    "nets": ("heartbeat", (*_SMALL, _members(_NETS, lstm=",width=8", repvgg=",width=8"), "combine.by=stack_net"), None),
    "classifiers": (
        "heartbeat",
        (
            *_SMALL,
            _members(
                _CLASSIFIERS, kernels=",features=840", **dict.fromkeys(_TREES, ",trees=20"), lightgbm=",trees=20,threads=1"
            ),
            "combine.by=stack_logistic",
        ),
        None,
    ),
    "steps": (
        "heartbeat",
        (
            *_SMALL,
            "data.count=240",
            'member=[{model="net3"}]',
            'prepare=[{step="scale",by="range"},{step="standardise"},{step="crop_tail",share=0.1,multiple=4},{step="repeat",'
            'ratio=0.5},{step="gan",epochs=2,ratio=0.6},{step="noise"},{step="shift"},{step="gain"},{step="stretch"},'
            '{step="wander"},{step="mixup",label="mix"}]',
            'stage.0.loss="soft_f1"',
            "split.way=kfold",
            "split.folds=2",
            "split.group=record",
            "batches.fractions=sqrt",
            "combine.decide=thresholds",
        ),
        None,
    ),
    "forecasters": (
        "frames",
        (
            'member=[{model="blend",blurs=[1.0]},{model="conv_lstm",hidden=4,depth=1},{model="refine",width=4,depth=1},'
            '{model="roll_out",hidden=4,depth=1},{model="simvp",width=4,hidden=8,depth=1,kernel=9}]',
            'prepare=[{step="log1p"},{step="min_max"}]',
            'output.baselines=["persistence","mean","advection","spectral"]',
            "stage.*.epochs=1",
            _NO_PICTURES,
        ),
        None,
    ),
}
_LEFT_OUT = ("run.json", ".lock", "seconds.json", "prior.npz")  # times, versions and paths; added since
_LEFT_OUT_ENDS = (".png", ".gif", ".skops")  # drawn by other libraries; scores.npz holds what such a member answers
_SETS = "--set"


def record_run(name: str, folder: Path) -> Facts:
    """What a run of RUNS gives: the digest of each file and answer, and its scores as numbers."""
    recipe, changes, export = RUNS[name]
    run, new = folder / "run", folder / "new"
    options = [word for change in changes for word in (_SETS, change)]
    with one_thread():
        say("train", recipe, "--quick", "--out", str(run), *options)
        shape = tomllib.loads((run / "recipe.toml").read_text())["data"]["shape"]
        say("simulate", recipe, str(new), "--count", "20", "--seed", "7", _SETS, f"data.shape={shape}")
        scored = numbers_of(json.loads(say("score", str(run), str(new), "--json")))
        if isinstance(scored.get("baselines"), list):  # of samples, added since the record was written
            del scored["baselines"]
        answers = {"score.json": digest(scored)}
        for end in ("npz", "csv"):
            say("predict", str(run), str(new), "--out", str(folder / f"new.{end}"))
            answers[f"predictions.{end}"] = digest_of_file(folder / f"new.{end}")
        if name == "cadence":
            scans = write_scans(folder / "scans", ".fil", rows=32, channels=320)
            say("predict", str(run), *map(str, scans), "--out", str(folder / "candidates.csv"), "--threshold", "0.3")
            answers["candidates.csv"] = digest_of_file(folder / "candidates.csv")
        if export is not None:
            say("export", str(run), "--out", str(folder / "model.onnx"), *export)
            answers["model.onnx"] = digest_of_arrays(answers_of(folder / "model.onnx"))
    scores = json.loads((run / "scores.json").read_text())
    return {"answers": answers, "files": dict(_files_of(run)), "scores": dict(_intervals_of(scores))}


def say(*words: str) -> str:
    """What a command prints, which must end well."""
    done = CliRunner().invoke(main, ["--debug", *words])
    if done.exception is not None:
        raise RuntimeError(f"wavefold {' '.join(words)}: {done.exception!r}") from done.exception
    return done.stdout


def answers_of(path: Path) -> dict[str, np.ndarray]:
    """What ONNX Runtime answers to three samples of fixed numbers, output by output."""
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs = {one.name: fixed(3, *one.shape[1:]) for one in session.get_inputs()}
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def _files_of(run: Path) -> Iterator[tuple[str, str]]:
    """Each file that counts, by its path in the run's folder; those of simulated samples in one."""
    made = {}
    for path in sorted(p for p in run.rglob("*") if p.is_file()):
        name = path.relative_to(run).as_posix()
        if path.name in _LEFT_OUT or path.suffix in _LEFT_OUT_ENDS or path.match("baseline-*.npz"):
            continue
        if name.startswith("simulated/"):
            made[name] = digest_of_file(path)
        else:
            yield name, digest_of_file(path)
    yield "simulated", digest(made)


def _intervals_of(scores: Facts) -> Iterator[tuple[str, list[float]]]:
    """Each metric scored with its interval: value, low and high, by what was scored; rounded, for people and other platforms.

    The value stands for both ends where too few samples give no interval.
    """
    for row in ({"name": "ensemble", **scores["score"]}, *scores["members"], *scores["baselines"]):
        for metric, value in row.items():
            if isinstance(value, list) and len(value) == 3 and isinstance(value[0], float):
                yield f"{row['name']} {metric}", [float(f"{value[0] if v is None else v:.5g}") for v in value]


# Layouts: a small file of each, and what its reader makes of it


def record_layout(name: str, folder: Path) -> Facts:
    """What a layout's reader makes of a small file of it, part by part."""
    folder = folder / "small"  # some readers name what they read by it
    folder.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The inplace keyword")  # of wfdb, where pandas 3.1 is there
        return {part: told(value) for part, value in LAYOUTS[name](folder).items()}


def told(value: Any) -> Any:
    """Small words and numbers as they are, else the type, the shape and the digest."""
    if isinstance(value, np.ndarray):
        if value.size <= 8 and value.dtype.kind in "Uif":
            return value.tolist()
        kind = value.dtype.name if value.dtype.kind in "biufM" else "words"
        return f"{kind} {'x'.join(map(str, value.shape))} {digest(value)}"
    return list(value) if isinstance(value, tuple) else value


def parts_of_samples(made: Any, digits: int = 0, source: bool = True) -> Facts:
    """What a reader of labelled samples hands over. digits: round to so many of the largest value's; source: its digest too."""
    signals = np.asarray(made.signals[:])
    return {
        "signals": rounded(signals, digits) if digits else signals,
        "ids": made.ids,
        "labels": made.labels,
        "classes": made.classes,
        "groups": made.groups,
        "grouping": made.grouping,
        "unit": made.unit,
        "axis": made.axis if made.axis is None or not digits else rounded(made.axis, digits),
        "left out": [list(row) for row in made.left_out],
        "columns": {name: words.tolist() for name, words in made.columns.items()},
        **({"digest": made.digest} if source else {}),
    }


def parts_of_frames(made: Any, digits: int = 0, source: bool = True) -> Facts:
    """What a reader of frames hands over."""
    values = np.asarray(made.frames[:])
    return {
        "frames": rounded(values, digits) if digits else values,
        "starts": made.starts,
        "names": made.names,
        "times": made.times,
        "step": made.step,
        "channels": made.channels,
        "unit": made.unit,
        "rows": made.rows,
        "columns": made.columns,
        "across": made.across,
        "up": made.up,
        "notes": made.notes,
        **({"digest": made.digest} if source else {}),
    }


def parts_of_scans(made: Any) -> Facts:
    """What the reader of six scans hands over."""
    first = made.scans[0]
    names = ("fch1", "foff", "tsamp", "tstart", "source_name", "bits")
    return {
        "power": made.read(0, made.shape[2]),
        "some": first.read(3, 7),
        "shape": made.shape,
        "headers": [[getattr(scan.header, name) for name in names] for scan in made.scans],
        "starts": made.starts,
        "one clock": made.on_one_clock,
        "seconds": float(f"{made.seconds:.9g}"),
        "coarse channels": [[channels.start, channels.stop] for channels in made.coarse_channels],
        "frequency": float(f"{made.frequency(5):.12g}"),
        "drift": float(f"{made.drift(0.5):.9g}"),
    }


def rounded(values: np.ndarray, digits: int) -> np.ndarray:
    """Values in units of the largest one's last digit that counts, so that last bits do not."""
    largest = float(np.nanmax(np.abs(values)))
    unit = 10.0 ** (np.floor(np.log10(largest)) + 1 - digits)
    return np.round(values.astype(np.float64) / unit) + 0.0


def counted(*shape: int) -> np.ndarray:
    """0, 1, 2, ... as float32, so that a wrong order of axes is seen."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def samples(source: Path, layout: str, *, digits: int = 0, digested: bool = True, **options: Any) -> Facts:
    """What `read` makes of a source whose layout is named, which it must also tell by itself."""
    named, guessed = (read(source, layout=word, cache=False, **options) for word in (layout, "auto"))
    if digest(np.asarray(named.signals[:])) != digest(np.asarray(guessed.signals[:])):
        raise AssertionError(f"{source.name}: read as {layout} it is another one than read as auto")
    return parts_of_samples(named, digits, digested)


def series(source: Path, *, digits: int = 0, digested: bool = True, **reading: Any) -> Facts:
    """What `read_series` makes of a source of frames."""
    return parts_of_frames(read_series(source, Reading(**reading)), digits, digested)


def _contest(folder: Path) -> Facts:
    rows = [f'{i},"{",".join(f"{v:.6g}" for v in row)}",{i % 3}.0' for i, row in enumerate(fixed(6, 24))]
    (folder / "train.csv").write_text("\n".join(["id,heartbeat_signals,label", *rows]) + "\n")
    (folder / "train_meta.csv").write_text("id,record,sex\n" + "".join(f"{5 - i},r{i // 2},{'fm'[i % 2]}\n" for i in range(6)))
    return samples(folder / "train.csv", "contest")


def _wide(folder: Path) -> Facts:
    rows = [f"s{i},p{i // 2}," + ",".join(f"{v:.4g}" for v in row) + f",{'ab'[i % 2]}" for i, row in enumerate(fixed(5, 12))]
    head = ",".join(["id", "patient", *map(str, range(12)), "label"])
    (folder / "train.csv.gz").write_bytes(gzip.compress("\n".join([head, *rows, ""]).encode(), mtime=0))
    return samples(folder, "wide")


def _arrays(folder: Path) -> Facts:
    signals, labels = fixed(5, 2, 12), np.array([*"ababa"])
    np.savez(folder / "x.npz", signals=signals, labels=labels, groups=np.array([0, 0, 1, 1, 2]))
    return samples(folder / "x.npz", "arrays")


def _ts(folder: Path) -> Facts:
    lines = [
        ":".join(",".join(f"{v:.5g}" for v in row) for row in one) + f":{'ab'[i % 2]}" for i, one in enumerate(fixed(4, 2, 9))
    ]
    head = "# remark\n@problemName x\n@univariate false\n@classLabel true a b\n@data\n"
    (folder / "two_TRAIN.ts").write_text(head + "\n".join(lines) + "\n")
    return samples(folder / "two_TRAIN.ts", "ts")


def _wfdb(folder: Path) -> Facts:
    """Two records of 30 seconds at 360 Hz: a peak in each second or so, and a code of each class."""
    for number, record in enumerate(("100", "101")):
        gaps = [300 + 7 * (i + number) % 100 for i in range(27)]
        values = np.random.default_rng(number).integers(-30, 31, 10800)
        for at in np.cumsum(gaps):
            values[at : at + 40] += 25 * (40 - np.arange(40))
        (folder / f"{record}.hea").write_text(f"{record} 1 360 10800\n{record}.dat 16 200 16 0 0 0 0 MLII\n")
        (folder / f"{record}.dat").write_bytes(values.astype("<i2").tobytes())
        codes = [(1, 5, 8, 1, 13)[i % 5] for i in range(27)]  # N, V, A, N, Q
        marks = [(code << 10) + gap for code, gap in zip(codes, gaps, strict=True)]
        (folder / f"{record}.atr").write_bytes(np.array([*marks, 0], "<u2").tobytes())
    return samples(folder, "wfdb", digits=4)


def _write_leads(base: Path, number: int, notes: str = "") -> None:
    """A record of 12 leads at 100 Hz, 10 seconds and a little more, in 16-bit values; written without the project's writers."""
    names = ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")
    values = np.random.default_rng(number).integers(-900, 900, (1010, 12))
    lines = [f"{base.name} 12 100 1010", *(f"{base.name}.dat 16 1000(3)/mV 16 0 0 0 0 {name}" for name in names), notes]
    base.with_name(f"{base.name}.hea").write_text("\n".join(lines) + "\n")
    base.with_name(f"{base.name}.dat").write_bytes(values.astype("<i2").tobytes())


def _ptbxl(folder: Path) -> Facts:
    (folder / "records100").mkdir()
    rows = []
    for number, codes in enumerate(("{'NORM': 100.0, 'SR': 0.0}", "{'IMI': 15.0, 'CLBBB': 0.0}", "{'SR': 0.0}"), 1):
        _write_leads(folder / f"records100/{number}_lr", number)
        rows.append(f'{number},{number // 2}.0,"{codes}",{number},records100/{number}_lr')
    head = "ecg_id,patient_id,scp_codes,strat_fold,filename_lr"
    (folder / "ptbxl_database.csv").write_text("\n".join([head, *rows]) + "\n")
    meanings = ",diagnostic,diagnostic_class\nNORM,1.0,NORM\nIMI,1.0,MI\nCLBBB,1.0,CD\nSR,,\n"
    (folder / "scp_statements.csv").write_text(meanings)
    return samples(folder, "ptbxl", labels=False)


def _cinc(folder: Path) -> Facts:
    for number, codes in enumerate(("426783006", "164889003, 426783006", "")):
        (folder / f"g{number % 2}").mkdir(exist_ok=True)
        _write_leads(folder / f"g{number % 2}/A{number}", number, f"#Age: {50 + number}\n# Sex: Male\n#Dx: {codes}")
    return samples(folder, "cinc", labels=False)


def _spectra(folder: Path) -> Facts:
    texts = {f"{7 * i + 3}": ",".join(f"{v:.5g}" for v in row) for i, row in enumerate(fixed(5, 30) * 300)}
    with zipfile.ZipFile(folder / "train_data.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(f"train_data/{name}.txt"), text)
    kinds = ("star", "galaxy", "qso", "star", "unknown")
    rows = [f"{name},{kind},{10 + i // 2}.5,-3" for i, (name, kind) in enumerate(zip(texts, kinds, strict=True))]
    (folder / "train_index.csv").write_text("\n".join(["id,type,ra,dec", *rows]) + "\n")
    (folder / "wavelength.txt").write_text(",".join(str(3900 + 2 * i) for i in range(30)))
    return samples(folder, "spectra", digested=False)


def _fits(folder: Path) -> Facts:
    """A spectrum in each layout of LAMOST and SDSS, on a grid of 2 angstrom."""
    from astropy.io import fits  # noqa: PLC0415

    pixels = np.arange(4000.0, 4040.0)
    flux = (100 + 20 * fixed(3, 40)).astype(np.float32)
    masks = [("IVAR", "E", np.full(40, 4.0)), ("WAVELENGTH", "E", pixels), ("ANDMASK", "J", np.arange(40) == 7)]
    columns = [fits.Column(name=name, format=f"40{form}", array=v[None]) for name, form, v in [("FLUX", "E", flux[0]), *masks]]
    facts = fits.Header({"CLASS": "STAR", "SUBCLASS": "A9", "Z": -0.000125, "RA": 336.73016, "DEC": 54.971777})
    fits.HDUList([fits.PrimaryHDU(header=facts), fits.BinTableHDU.from_columns(columns, name="COADD")]).writeto(
        folder / "a.fits"
    )
    rows = np.stack([flux[1], np.full(40, 4.0), pixels, np.zeros(40), np.zeros(40)]).astype(np.float32)
    cards = {"TELESCOP": "LAMOST", "COEFF0": np.log10(4000.0), "COEFF1": 1e-4, "CLASS": "GALAXY", "RA": 1.5, "DEC": 2.5}
    fits.PrimaryHDU(rows, fits.Header(cards)).writeto(folder / "b.fits")
    sdss = [("flux", "E", flux[2]), ("loglam", "D", np.log10(pixels)), ("ivar", "E", np.full(40, 0.25))]
    sdss += [("and_mask", "J", np.zeros(40)), ("or_mask", "J", np.zeros(40))]
    columns = [fits.Column(name=name, format=form, array=v) for name, form, v in sdss]
    words = [("PLUG_RA", "D", 237.85517), ("PLUG_DEC", "D", 2.0274375), ("Z", "E", 0.2137), ("CLASS", "6A", "QSO")]
    about = [fits.Column(name=name, format=form, array=np.array([v])) for name, form, v in [*words, ("SUBCLASS", "21A", "")]]
    tables = [fits.BinTableHDU.from_columns(some) for some in (columns, about)]
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(folder / "c.fits")
    return samples(folder, "fits", digits=5, digested=False, grid=(4000.0, 4014.0, 2.0))


def _cadence(folder: Path) -> Facts:
    ids = ("0a1", "0b2", "f00", "7c9")
    for id_, values in zip(ids, fixed(4, 6, 5, 8), strict=True):
        (folder / "train" / id_[0]).mkdir(parents=True, exist_ok=True)
        np.save(folder / "train" / id_[0] / f"{id_}.npy", values.astype(np.float16))
    rows = [f"{id_},{i % 2},{'xxyz'[i]}" for i, id_ in enumerate(ids)]
    (folder / "train_labels.csv").write_text("\n".join(["id,target,background", *rows]) + "\n")
    return samples(folder, "cadence", digested=False)


_HOURS = np.datetime64("2020-01-01", "s") + np.array([0, 1, 2, 5, 6, 7]) * np.timedelta64(3600, "s")


def _npy(folder: Path) -> Facts:
    np.save(folder / "film.npy", counted(3, 4, 5, 6).astype(np.int16))
    reading = {"axes": "sequence time row column", "missing": (7.0,), "scale": 0.5, "offset": 1.0, "unit": "dBZ"}
    return series(folder / "film.npy", **reading)


def _npz(folder: Path) -> Facts:
    beside = {"time": _HOURS, "lat": np.array([51.0, 50.0]), "lon": np.array([0.0, 1.0, 2.0]), "unit": np.array("K")}
    np.savez(folder / "maps.npz", frames=counted(6, 2, 3, 2), channels=np.array(["warmth", "rain"]), **beside)
    return series(folder / "maps.npz", channels=("rain", "warmth"), digested=False)


def _several(folder: Path) -> Facts:
    for number, day in ((2, "02"), (10, "03")):
        times = np.datetime64(f"2020-01-{day}", "s") + np.arange(3) * np.timedelta64(8 * 3600, "s")
        np.savez(folder / f"part{number}.npz", frames=counted(3, 2, 3) + number, time=times)
    return series(folder, digested=False)


def _grid(folder: Path, kind: str) -> Facts:
    """Packed whole numbers of one variable with times and coordinates, as xarray writes them."""
    import xarray  # noqa: PLC0415

    values = counted(6, 2, 3) / 2
    values[1, 0, 0] = np.nan
    axes = {"time": _HOURS.astype("M8[ns]"), "lat": [51.0, 50.0], "lon": [0.0, 1.0, 2.0]}
    made = xarray.Dataset({"t2m": (tuple(axes), values)}, axes)
    made["t2m"].attrs["units"] = "K"
    made["lon"].attrs["units"] = "degrees_east"
    made["t2m"].encoding = {"dtype": "i2", "scale_factor": 0.5, "add_offset": 10.0, "_FillValue": -99}
    path = folder / ("grid.nc" if kind.startswith("netcdf") else "grid.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the writer, on what Zarr 3 leaves open
        if kind.startswith("netcdf"):
            made.to_netcdf(path, engine="h5netcdf" if kind == "netcdf4" else "scipy")
        else:
            made.to_zarr(path, zarr_format=2 if kind == "zarr2" else 3, consolidated=False)
    if kind == "zip":
        path = Path(shutil.make_archive(str(folder / "packed"), "zip", path))
    return series(path, digested=False)


def _images(folder: Path) -> Facts:
    from PIL import Image  # noqa: PLC0415

    for sequence in ("a", "b"):
        (folder / sequence).mkdir()
        for number in (2, 3, 5, 10):
            values = counted(3, 4, 3).astype(np.uint8) + number + 100 * (sequence == "b")
            Image.fromarray(values.astype(np.uint8)).save(folder / sequence / f"frame{number}.png")
    return series(folder, digested=False, scale=0.5, unit="mm/h")


def _grey(folder: Path) -> Facts:
    from PIL import Image  # noqa: PLC0415

    for number in (8, 9, 10):
        Image.fromarray((counted(3, 4) * 5000 + number).astype(np.uint16)).save(folder / f"{number}.png")
    return series(folder, digested=False, missing=(8.0,))


_EVENTS = """Date,Primary Type,Latitude,Longitude
2020-01-01T10:00:00,THEFT,1.5,0.5
2020-01-01T23:59:59,BATTERY,0.5,2.5
2020-01-03 00:00:00,THEFT,1.5,0.5
2020-01-03T00:00:01,ASSAULT,9.5,0.5
2020-01-04T05:00:00,ASSAULT,1.5,
2020-01-04T06:00:00,ASSAULT,0.0,3.0
"""


def _events(folder: Path, **smoothed: float) -> Facts:
    (folder / "events.csv").write_text(_EVENTS)
    events = Events((0.0, 3.0, 0.0, 2.0), (2, 3), **smoothed)
    return series(folder / "events.csv", digits=5 if smoothed else 0, events=events)


def _events_npz(folder: Path) -> Facts:
    names = {"epoch": "2020-01-01", "type_names": np.array(["THEFT", "ASSAULT", "BATTERY"])}
    places = {"lat": np.array([1.5, 0.5, 1.5, 1.5]), "lon": np.array([0.5, 2.5, 0.5, 0.5], np.float32)}
    minutes, kinds = np.array([600, 1439, 2880, 2880], np.uint32), np.array([0, 2, 0, 1], np.uint8)
    np.savez(folder / "events.npz", minute=minutes, type=kinds, **places, **names)
    events = Events((0.0, 3.0, 0.0, 2.0), (2, 3), every="12 hours", kinds={"all": ("THEFT", "ASSAULT", "BATTERY")})
    return series(folder / "events.npz", events=events, digested=False)


def write_scans(folder: Path, suffix: str, rows: int = 4, channels: int = 12) -> list[Path]:
    """Six scans of noise with a line in those of the star that drifts on, written without the project's writers."""
    folder.mkdir(parents=True, exist_ok=True)
    power = 1e9 + 1e8 * fixed(6, rows, channels)
    for panel in (0, 2, 4):
        for row in range(rows):
            power[panel, row, (channels // 3 + (panel * (rows + 2) + row) // 5) % channels] += 3e9
    paths = []
    for number, values in enumerate(power.astype("<f4")):
        facts = {"fch1": 8400.0, "foff": -2.8e-6, "tsamp": 18.0, "tstart": 59000.0 + number * (rows + 2) * 18 / 86400}
        paths.append(folder / f"scan{number}{suffix}")
        (_write_fil if suffix == ".fil" else _write_h5)(paths[-1], values, facts)
    return paths


def _write_fil(path: Path, power: np.ndarray, facts: Mapping[str, float]) -> None:
    def packed(word: str) -> bytes:
        return struct.pack("<i", len(word)) + word.encode()

    whole = {"nchans": power.shape[1], "nifs": 1, "nbits": 32}
    head = [packed("HEADER_START"), packed("source_name") + packed("HIP1234")]
    head += [packed(name) + struct.pack("<d", value) for name, value in facts.items()]
    head += [packed(name) + struct.pack("<i", value) for name, value in whole.items()]
    path.write_bytes(b"".join([*head, packed("HEADER_END"), power.tobytes()]))


def _write_h5(path: Path, power: np.ndarray, facts: Mapping[str, float]) -> None:
    import h5py  # noqa: PLC0415

    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", data=power[:, None])
        data.attrs.update({**facts, "source_name": "HIP1234", "nchans": power.shape[1], "nbits": 32})


def _scans(folder: Path, suffix: str) -> Facts:
    return parts_of_scans(open_observation(write_scans(folder, suffix), 5))


SAMPLES: dict[str, Callable[[Path], Facts]] = {
    "contest": _contest,
    "wide": _wide,
    "ts": _ts,
    "arrays": _arrays,
    "wfdb": _wfdb,
    "ptbxl": _ptbxl,
    "cinc": _cinc,
    "spectra": _spectra,
    "fits": _fits,
    "cadence": _cadence,
}
LAYOUTS: dict[str, Callable[[Path], Facts]] = {
    **SAMPLES,
    "frames .npy": _npy,
    "frames .npz": _npz,
    "frames of several .npz": _several,
    **{
        f"frames {kind}": lambda folder, kind=kind: _grid(folder, kind)
        for kind in ("netcdf3", "netcdf4", "zarr2", "zarr3", "zip")
    },
    "frames of coloured images": _images,
    "frames of grey images": _grey,
    "events .csv": _events,
    "events .csv smoothed": lambda folder: _events(folder, smooth=0.8, memory=1.5),
    "events .npz": _events_npz,
    "scans .fil": lambda folder: _scans(folder, ".fil"),
    "scans .h5": lambda folder: _scans(folder, ".h5"),
}


def without_a_file() -> list[str]:
    """Readers of the two tables for which no small file is above, but one in tests/valid_sources.py."""
    known = {"array", "images", "grid", "events"}
    return sorted({*LAYOUTS_OF_SAMPLES} - {*SAMPLES, "packed", "arrow", "zarr"}) + sorted({*SERIES_LAYOUTS} - known)


# The record


def recorded() -> Facts:
    """What `golden.json` says."""
    found: Facts = json.loads(RECORD.read_text())
    return found


def as_kept(value: Any) -> Any:
    """A value as JSON gives it back."""
    return json.loads(json.dumps(value))


def as_text(value: Any, indent: str = "") -> str:
    """JSON for people: sorted, a line for each name, and lists on one line."""
    if not isinstance(value, Mapping) or not value:
        return json.dumps(value)
    lines = [f"{indent} {json.dumps(name)}: {as_text(value[name], indent + ' ')}" for name in sorted(value)]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


def write_record() -> None:
    """Make every run and layout, and write what they give."""
    with tempfile.TemporaryDirectory() as kept:
        os.environ["WAVEFOLD_CACHE"] = str(Path(kept) / "cache")
        made: Facts = {"platform": this_platform(), "layouts": {}, "runs": {}}
        for name in LAYOUTS:
            made["layouts"][name] = record_layout(name, Path(kept) / "layouts" / name)
        for name in RUNS:
            print(name, file=sys.stderr)
            (Path(kept) / name).mkdir()
            made["runs"][name] = record_run(name, Path(kept) / name)
    RECORD.write_text(as_text(made) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("python tests/golden.py --write: make every run and layout, and write golden.json anew")
    write_record()
