"""Serving of a run over HTTP: inference, input parsing and metadata. Uses ONNX Runtime or torch, whichever is faster."""

from __future__ import annotations

import re
import time
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from wavefold.core import version
from wavefold.core.errors import DataError, UserError, listed
from wavefold.core.records import RunInfo
from wavefold.core.run import RunFolder
from wavefold.data import LAYOUTS, SIMULATORS, read
from wavefold.data.axes import axis_of
from wavefold.data.dataset import Dataset, Floats, Strings
from wavefold.data.npy_header import HEAD, read_header
from wavefold.domains.base import domain_of
from wavefold.export.served import onnx_model
from wavefold.models.kernels import compile_counts
from wavefold.models.saliency import occlusion
from wavefold.recipe import Recipe
from wavefold.serving.handlers import ServedModel
from wavefold.serving.parsers import InputBatch
from wavefold.serving.responses import CSV, JSON, Answer, score_fields
from wavefold.tasks.base import recipe_of
from wavefold.tasks.samples.evaluate import decision_of
from wavefold.tasks.samples.explain import pieces_of
from wavefold.tasks.samples.export import export_run
from wavefold.tasks.samples.inference import Members
from wavefold.tasks.samples.predictions import Predictions
from wavefold.tasks.samples.reading import like_training, stated_for
from wavefold.tasks.samples.target import Target, target_of

Values = NDArray[np.float64]
Log = Callable[[str], None]
Predict = Callable[..., NDArray[np.floating]]

_LONG = 1 << 24  # most values of a WFDB signal, which may be packed into fewer bytes
_MEASURED = 1, 16, 64  # samples in a batch
_PATIENCE = 0.5  # seconds that a batch may take to be timed
_RATES = (20.0, 20000.0)  # sampling rate of a WFDB record in Hz: least, most


def served_run(run: RunFolder, *, log: Log = print) -> ServedModel:
    """Load a finished run for serving. log: receives a line if the export to ONNX fails."""
    recipe, info = recipe_of(run), run.metadata
    target, (predict, engine) = target_of(recipe), _asker(run, recipe, log)
    example = example_of(recipe, info)
    axis = axis_of(
        Dataset(example[None], np.array(["example"]), unit=info.unit, axis=_positions(info)),
        domain_of(recipe.data.simulator).axis_title,
    )
    return ServedModel(
        title=info.recipe,
        kind=target.kind,
        key="signals",
        name="predictions",
        row=target.row_model(info.classes),
        metadata={**_fields_of(run, recipe, engine), "axis": _ends(axis.title, axis.values)},
        shape=info.shape,
        predict=predict,
        example=example,
        answer=prediction_answer(run, recipe),
        offers=(JSON, CSV),
        read=lambda path: _read(recipe, info, path),
        suffixes=_suffixes(info, recipe.data.simulator),
        csv=len(info.shape) == 2 and info.shape[0] == 1,
        explain=partial(_explain, target),
        axis=axis.values,
        axis_title=axis.title,
    )


def prediction_answer(run: RunFolder, recipe: Recipe) -> Callable[[InputBatch, NDArray[np.floating]], Answer]:
    """Return what makes an answer of a run's predictions (sample, ...)."""
    target, rule = target_of(recipe), decision_of(run, recipe)

    def answer(batch: InputBatch, values: NDArray[np.floating]) -> Answer:
        def predictions() -> Predictions:
            names: Strings = np.array(batch.ids, object)  # str_ would strip a trailing NUL
            exact = np.asarray(values, np.float64)
            return target.predictions(recipe, names, run.metadata.classes, exact, rule.apply(exact))

        return Answer(lambda: predictions().messages(), columns=lambda: predictions().columns())

    return answer


def example_of(recipe: Recipe, info: RunInfo) -> Floats:
    """One simulated sample of the run's shape, or a sine wave if the simulator does not support the shape."""
    try:
        target = target_of(recipe)
        names = target.classes_of(target.names(recipe))
        made = SIMULATORS[recipe.data.simulator](2, 1, shape=info.shape, classes=names).signals[:1]
    except (UserError, ValueError):
        made = np.empty(0, np.float32)
    if made.shape[1:] == info.shape and np.isfinite(made).all():
        return np.asarray(made[0], np.float32)
    wave = np.sin(np.linspace(0, 20, int(np.prod(info.shape)))).reshape(info.shape)
    return wave.astype(np.float32)


def _asker(run: RunFolder, recipe: Recipe, log: Log) -> tuple[Predict, str]:
    """The faster way to predict on this machine, and its name for GET /model."""
    own = Members(run, recipe).predictions
    try:
        exported = onnx_model(run, export_run, log).predict
    except Exception as error:  # fall back to torch whatever fails in the export
        line = (str(error).splitlines() or [type(error).__name__])[0]
        log(f"using torch instead of ONNX Runtime: {line}")
        return own, f"torch ({line})"
    if any(member.model == "kernels" for member in recipe.member):
        compile_counts()
    return _faster({"ONNX Runtime": exported, "torch": own}, example_of(recipe, run.metadata))


def _faster(engines: Mapping[str, Predict], example: Floats) -> tuple[Predict, str]:
    """The engine that takes the least time for batches of the sizes that a server's queue makes, the best of three each."""
    one = max(min(_timed(predict, example[None]) for _ in range(2)) for predict in engines.values())  # the first loads
    sizes = [size for size in _MEASURED if size == 1 or size * one < _PATIENCE]
    taken = dict.fromkeys(engines, 0.0)
    for size in sizes:
        batch = np.repeat(example[None], size, axis=0)
        for name, predict in engines.items():
            taken[name] += min(_timed(predict, batch) for _ in range(3))
    fastest = min(taken, key=lambda name: taken[name])
    return engines[fastest], fastest


def _timed(predict: Predict, batch: Floats) -> float:
    start = time.perf_counter()
    predict(batch)
    return time.perf_counter() - start


def _fields_of(run: RunFolder, recipe: Recipe, engine: str) -> dict[str, object]:
    info = run.metadata
    known: dict[str, object] = {"recipe": info.recipe, "task": recipe.kind}
    known |= {"classes": list(info.classes), "units": list(info.units)}
    known |= {
        "shape": list(info.shape),
        "unit": info.unit,
        "attrs": dict(info.attrs),
        "samples": info.samples,
        "simulated": info.simulated,
    }
    more = {"decision": recipe.combine.decide, "learned_from": run.scores.learned_from, "engine": engine}
    return {**known, **score_fields(run.scores), **more, "wavefold": version.__version__, "recipe_toml": run.recipe_text}


def _ends(title: str, values: Values | None) -> dict[str, object] | None:
    return None if values is None else {"title": title, "first": float(values[0]), "last": float(values[-1])}


def _positions(info: RunInfo) -> Values | None:
    """The axis at every position, interpolated from the marks stored in the run."""
    marks, length = info.axis, info.shape[-1]
    if not marks:
        return None
    at = np.linspace(0, length - 1, len(marks)).round()
    positions: Values = np.interp(np.arange(length), at, marks)
    return positions


def _explain(target: Target, sample: Floats, predict: Callable[[Floats], NDArray[np.floating]]) -> Floats:
    """Saliency map of a sample (channel, ...) by occlusion: each segment is replaced by the mean of its channel."""
    column = target.explained(np.asarray(predict(sample[None]), np.float64))
    origin = sample.mean(axis=tuple(range(1, sample.ndim)), keepdims=True)
    explained: Floats = occlusion(predict, sample[None], column, pieces=pieces_of(sample.shape), origin=origin)[0]
    return explained


def _suffixes(info: RunInfo, simulator: str) -> tuple[str, ...]:
    """The file suffixes accepted for samples of a run's shape, those of the layouts of the simulator's domain among them."""
    shape = info.shape
    if len(shape) > 2:
        own: tuple[str, ...] = (".npy", ".zip")
    elif shape[0] > 1:
        own = (".npy", ".ts")
    else:
        fits = (".fits", ".fit", ".fits.gz", ".fit.gz") if info.grid else ()
        own = (".npy", ".csv", ".csv.gz", ".txt", ".ts", ".zip", *fits)
    layouts = domain_of(simulator).layouts.values()  # those that read files as they are, without a grid of the run's
    return tuple(dict.fromkeys([*own, *(end for layout in layouts if "grid" not in layout.options for end in layout.suffixes)]))


def _read(recipe: Recipe, info: RunInfo, path: Path) -> InputBatch:
    """Read the samples of an uploaded temporary file, without caching."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if any(name.endswith(".npy") for name in names):
                return _of_arrays(archive, info.shape)
            if any(name.endswith(".hea") for name in names):
                folder = path.with_name("records")
                folder.mkdir()
                keep_record(archive, folder)
                path = folder
    named = recipe.data.layout  # of many files: a table may be sent instead
    layout = named if named != "auto" and LAYOUTS[named].one_file else "auto"
    dataset = read(path, layout=layout, labels=False, cache=False, **stated_for(recipe, info))
    dataset = like_training(dataset, info)
    return InputBatch(dataset.ids.tolist(), np.asarray(dataset.signals[: len(dataset)], np.float32))


def _of_arrays(archive: zipfile.ZipFile, shape: tuple[int, ...]) -> InputBatch:
    """Read the samples of a zip of .npy files, one per file, in memory; other entries are ignored."""
    ids, signals = list[str](), list[Floats]()
    for info in archive.infolist():
        name = PurePosixPath(info.filename).name
        if not name.endswith(".npy") or name.startswith(".") or info.filename.startswith("__MACOSX/"):
            continue
        content = archive.read(info)
        stored = read_header(content[:HEAD], len(content), name)
        if stored.shape != shape:
            raise DataError(f"{name}: shape is {' x '.join(map(str, stored.shape))}, expected {' x '.join(map(str, shape))}")
        ids.append(name.removesuffix(".npy"))
        signals.append(stored.values(content).astype(np.float32))
    if not ids:
        raise DataError("the zip has no .npy file; expected one per sample")
    return InputBatch(ids, np.stack(signals))


def keep_record(archive: zipfile.ZipFile, folder: Path) -> None:
    """Extract the only WFDB record of a zip under safe file names; DataError if it has several or refers to other files."""
    headers = [name for name in archive.namelist() if name.endswith(".hea") and not name.startswith("__MACOSX/")]
    if len(headers) != 1:
        raise DataError(f"the zip has {len(headers)} .hea files, expected one record")
    known = {PurePosixPath(name).name: name for name in archive.namelist()}
    lines = archive.read(headers[0]).decode("ascii", "replace").splitlines()
    rows = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not rows:
        raise DataError("the .hea file in the zip is empty, expected a WFDB header")
    named = list(dict.fromkeys(row.split()[0] for row in rows[1:]))
    for name in named:
        if name not in known:
            raise DataError(
                f"the .hea file names {name[:60]!r}, which is not in the zip; the zip has {listed(sorted(known)[:8])}"
            )
    ours = {name: f"record{number}.dat" for number, name in enumerate(named)}
    held = sum(archive.getinfo(known[name]).file_size for name in named)
    head = "\n".join([_first_line(rows[0], held), *(" ".join([ours[row.split()[0]], *row.split()[1:]]) for row in rows[1:])])
    (folder / "record.hea").write_text(f"{head}\n", encoding="ascii", errors="replace")
    for name, own in ours.items():
        (folder / own).write_bytes(archive.read(known[name]))
    beats = known.get(f"{PurePosixPath(headers[0]).stem}.atr")
    if beats is not None:
        (folder / "record.atr").write_bytes(archive.read(beats))


def _first_line(line: str, held: int) -> str:
    """Check a WFDB header's first line and replace its record name. held: bytes of its signals."""
    words = line.split()
    rate = re.match(r"[0-9.]+", words[2]) if len(words) > 2 else None
    if "/" in words[0] or rate is None or not _RATES[0] <= float(rate[0]) <= _RATES[1]:
        raise DataError(
            f"the .hea file in the zip begins with {line[:60]!r}, expected the name of a single-segment record, the number of "
            f"signals and the sampling rate ({_RATES[0]:g} to {_RATES[1]:g} Hz)"
        )
    if len(words) > 3 and not (words[3].isascii() and words[3].isdigit() and int(words[3][:15]) <= max(held, _LONG)):
        raise DataError(
            f"the .hea file in the zip gives {words[3][:20]!r} values per signal, but the signal files have {held:,} bytes"
        )
    return " ".join(["record", *words[1:]])
