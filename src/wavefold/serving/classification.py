"""Serving of a run over HTTP: inference, input parsing and metadata. Uses ONNX Runtime, or torch if the export fails."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavefold.core import version
from wavefold.core.errors import DataError, UserError, listed
from wavefold.core.run import RunFolder
from wavefold.data import LAYOUTS, SIMULATORS, read
from wavefold.data.axes import axis_of
from wavefold.data.dataset import Dataset, Floats
from wavefold.data.npy_header import HEAD, read_header
from wavefold.domains.base import domain_of
from wavefold.export.classification import export_run
from wavefold.export.served import onnx_model
from wavefold.models.saliency import occlusion
from wavefold.recipe import Recipe
from wavefold.serving.app import ServedModel
from wavefold.serving.forecasting import served_forecaster
from wavefold.serving.parsers import InputBatch
from wavefold.serving.responses import CSV, JSON, Answer
from wavefold.serving.schemas import prediction_model
from wavefold.tasks.samples.evaluate import decided_by
from wavefold.tasks.samples.explain import pieces_of
from wavefold.tasks.samples.inference import Members, recipe_of
from wavefold.tasks.samples.predictions import Predictions
from wavefold.tasks.samples.reading import check_shape

Values = NDArray[np.float64]
Log = Callable[[str], None]

_LONG = 1 << 24  # most values of a WFDB signal, which may be packed into fewer bytes
_RATES = (20.0, 20000.0)  # sampling rate of a WFDB record in Hz: least, most


def served_run(run: RunFolder, *, log: Log = print) -> ServedModel:
    """Load a finished run for serving. say: receives a line if torch is used instead of ONNX Runtime."""
    recipe = recipe_of(run)
    if recipe.windows:
        return served_forecaster(run, log=log)
    metadata, scores = run.metadata, run.scores
    predict, engine = _asker(run, recipe, log)
    shape, example = tuple(metadata["shape"]), example_of(recipe, metadata)
    axis = axis_of(
        Dataset(example[None], np.array(["example"]), unit=metadata["unit"], axis=_positions(metadata)),
        domain_of(recipe.data.simulator).axis_title,
    )
    return ServedModel(
        title=metadata["recipe"],
        kind="classes",
        key="signals",
        name="predictions",
        row=prediction_model(metadata["classes"]),
        metadata={**_fields_of(recipe, metadata, scores, run.recipe_text, engine), "axis": _ends(axis.title, axis.values)},
        shape=shape,
        predict=predict,
        example=example,
        answer=prediction_answer(metadata["classes"], lambda odds: decided_by(recipe, recipe.combine.decide, odds)),
        offers=(JSON, CSV),
        read=lambda path: _read(recipe, metadata, path),
        suffixes=_suffixes(shape, metadata, recipe.data.simulator),
        csv=len(shape) == 2 and shape[0] == 1,
        explain=_explain,
        axis=axis.values,
        axis_title=axis.title,
    )


def prediction_answer(
    classes: Sequence[str], decide: Callable[[Values], Values]
) -> Callable[[InputBatch, NDArray[Any]], Answer]:
    """Return what makes an answer of probabilities (sample, class). decide: from these to the decisions, of that shape too."""

    def answer(batch: InputBatch, probabilities: NDArray[Any]) -> Answer:
        def predictions() -> Predictions:
            names: Any = np.array(batch.ids, object)  # str_ would strip a trailing NUL
            decided = np.asarray(decide(probabilities), np.float64)
            return Predictions(names, tuple(classes), np.asarray(probabilities, np.float64), decided)

        return Answer(lambda: _rows(predictions()), columns=lambda: predictions().columns())

    return answer


def _rows(predictions: Predictions) -> list[dict[str, Any]]:
    """The id, the most probable class, probabilities by class and decisions by class of each sample."""
    classes = predictions.classes
    odds, decided = np.round(predictions.probabilities, 7).tolist(), np.round(predictions.decided, 7).tolist()
    named = [classes[i] for i in predictions.probabilities.argmax(axis=1)]
    return [
        {
            "id": id_,
            "class": name,
            "probabilities": dict(zip(classes, p, strict=True)),
            "decided": dict(zip(classes, d, strict=True)),
        }
        for id_, name, p, d in zip(predictions.ids.tolist(), named, odds, decided, strict=True)
    ]


def score_fields(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The score of a run for GET /model: metric, value, 95 % interval, n, and baseline scores."""
    metric = scores["metric"]
    value, *interval = scores["score"][metric][:3]
    beside = [{"name": b["name"], "value": b[metric][0], "interval": b[metric][1:3]} for b in scores["baselines"]]
    fields = {"metric": metric, "value": value, "interval": interval, "n": scores["n"], "per": scores.get("per", 0)}
    return {"score": fields, "baselines": beside, "notes": list(scores.get("notes", []))}


def example_of(recipe: Recipe, metadata: Mapping[str, Any]) -> Floats:
    """One simulated sample of the run's shape, or a sine wave if the simulator does not support the shape."""
    shape = tuple(metadata["shape"])
    try:
        made = SIMULATORS[recipe.data.simulator](2, 1, shape=shape, classes=recipe.data.classes).signals[:1]
    except (UserError, ValueError):
        made = np.empty(0, np.float32)
    if made.shape[1:] == shape and np.isfinite(made).all():
        return np.asarray(made[0], np.float32)
    wave = np.sin(np.linspace(0, 20, int(np.prod(shape)))).reshape(shape)
    return wave.astype(np.float32)


def _asker(run: RunFolder, recipe: Recipe, log: Log) -> tuple[Callable[..., NDArray[Any]], str]:
    """The prediction function, and the name of its engine for GET /model."""
    try:
        return onnx_model(run, export_run, log).predict, "ONNX Runtime"
    except Exception as error:  # fall back to torch whatever fails in the export
        line = (str(error).splitlines() or [type(error).__name__])[0]
        log(f"using torch instead of ONNX Runtime: {line}")
        return Members(run, recipe).probabilities, f"torch ({line})"


def _fields_of(
    recipe: Recipe, metadata: Mapping[str, Any], scores: Mapping[str, Any], text: str, engine: str
) -> dict[str, Any]:
    known = {name: metadata[name] for name in ("recipe", "classes", "shape", "unit", "samples", "simulated")}
    more = {"decision": recipe.combine.decide, "learned_from": scores["learned_from"], "engine": engine}
    return {**known, **score_fields(scores), **more, "wavefold": version.__version__, "recipe_toml": text}


def _ends(title: str, values: Values) -> dict[str, Any]:
    return {"title": title, "first": float(values[0]), "last": float(values[-1])}


def _positions(metadata: Mapping[str, Any]) -> Values | None:
    """The axis at every position, interpolated from the marks stored in the run."""
    marks, length = metadata.get("axis"), metadata["shape"][-1]
    if not marks:
        return None
    at = np.linspace(0, length - 1, len(marks)).round()
    positions: Values = np.interp(np.arange(length), at, marks)
    return positions


def _explain(sample: Floats, predict: Callable[[Floats], NDArray[Any]]) -> Floats:
    """Saliency map of a sample (channel, ...) by occlusion: each segment is replaced by the mean of its channel."""
    predicted = predict(sample[None])[0]
    axes = tuple(range(1, sample.ndim))
    origin = sample.mean(axis=axes, keepdims=True)
    explained: Floats = occlusion(
        predict, sample[None], np.array([predicted.argmax()]), pieces=pieces_of(sample.shape), origin=origin
    )[0]
    return explained


def _suffixes(shape: Sequence[int], metadata: Mapping[str, Any], simulator: str) -> tuple[str, ...]:
    """The file suffixes accepted for samples of this shape, those of the layouts of the simulator's domain among them."""
    if len(shape) > 2:
        own: tuple[str, ...] = (".npy", ".zip")
    elif shape[0] > 1:
        own = (".npy", ".ts")
    else:
        fits = (".fits", ".fit", ".fits.gz", ".fit.gz") if metadata.get("grid") else ()
        own = (".npy", ".csv", ".csv.gz", ".txt", ".ts", ".zip", *fits)
    layouts = domain_of(simulator).layouts.values()  # those that read files as they are, without a grid of the run's
    return tuple(dict.fromkeys([*own, *(end for layout in layouts if "grid" not in layout.options for end in layout.suffixes)]))


def _read(recipe: Recipe, metadata: Mapping[str, Any], path: Path) -> InputBatch:
    """Read the samples of an uploaded temporary file, without caching."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if any(name.endswith(".npy") for name in names):
                return _of_arrays(archive, tuple(metadata["shape"]))
            if any(name.endswith(".hea") for name in names):
                folder = path.with_name("records")
                folder.mkdir()
                keep_record(archive, folder)
                path = folder
    named = recipe.data.layout  # of many files: a table may be sent instead
    layout = named if named != "auto" and LAYOUTS[named].one_file else "auto"
    grid = metadata.get("grid") or recipe.data.grid
    dataset = read(path, layout=layout, classes=tuple(metadata["classes"]), labels=False, cache=False, grid=grid)
    check_shape(dataset, metadata)
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
