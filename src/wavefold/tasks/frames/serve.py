"""Serving of a forecasting run over HTTP, from past frames to later frames."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wavefold.core import version
from wavefold.core.errors import DataError, UserError
from wavefold.core.records import RunInfo
from wavefold.core.run import RunFolder
from wavefold.data import SERIES_SIMULATORS
from wavefold.data.dataset import Floats
from wavefold.data.hdf5 import check_hdf5, h5py
from wavefold.data.lazy import Ints
from wavefold.data.series import Seconds, Series, Windows, later
from wavefold.export.served import onnx_model
from wavefold.recipe import Recipe
from wavefold.serving.handlers import ServedModel
from wavefold.serving.parsers import InputBatch
from wavefold.serving.responses import JSON, NPY, TOLD, Answer, rounded, score_fields
from wavefold.serving.schemas import Forecast
from wavefold.tasks.base import recipe_of
from wavefold.tasks.frames.export import export_forecaster, forecaster_module
from wavefold.tasks.frames.inference import Forecaster, last_windows, where_seen
from wavefold.tasks.frames.likeness import read_like_run
from wavefold.tasks.frames.reading import sections

Predict = Callable[..., Floats]  # from past frames, and the times of the last ones if it needs them

_MOST = 1 << 30  # bytes of a grid's variables, decompressed
_HDF = b"\x89HDF"


def served_forecaster(run: RunFolder, *, log: Callable[[str], None] = print) -> ServedModel:
    """Load a finished forecasting run for serving. say: receives a line if torch is used instead of ONNX Runtime."""
    recipe, info = recipe_of(run), run.metadata
    channels, rows, columns = info.shape
    predict, engine, timed, past = _asker(run, recipe, log)
    return ServedModel(
        title=info.recipe,
        kind="frames",
        key="frames",
        name="forecasts",
        row=Forecast,
        metadata={**_fields_of(run, recipe, past), "timed": timed, "engine": engine, "recipe_toml": run.recipe_text},
        shape=(channels, past, rows, columns),
        predict=predict,
        answer=forecast_answer(info.channels[: info.targets]),
        offers=(JSON, NPY),
        lines=False,
        npy=True,
        example=_example(recipe, info, past),
        read=lambda path: _read(recipe, info, path, past),
        suffixes=(".npz", ".npy", ".nc"),
        nan=True,
        timed=timed,
        axis_title="column",
    )


def forecast_answer(targets: Sequence[str]) -> Callable[[InputBatch, NDArray[np.floating]], Answer]:
    """Return what makes an answer of forecast frames (sample, target, ahead, row, column)."""

    def answer(batch: InputBatch, frames: NDArray[np.floating]) -> Answer:
        def rows() -> list[dict[str, object]]:
            return [{"id": name, "frames": rounded(one, TOLD)} for name, one in zip(batch.ids, frames, strict=True)]

        return Answer(rows, array=lambda: np.asarray(frames, np.float32), more={"targets": list(targets)})

    return answer


def check_grid_file(path: Path, most: int = _MOST) -> None:
    """Raise DataError for an HDF5 (NetCDF-4) file with links or external data, or too large when decompressed.

    All its values are read in a child process first, which may crash or be stopped.
    """
    with open(path, "rb") as stream:
        if not stream.read(4).startswith(_HDF):
            return
    check_hdf5(path, most=most)
    with h5py.File(path, "r") as file:
        size = _size_of(file, path.name, depth=0)
    if size > most:
        raise DataError(f"{path.name}: decompresses to {size:,} bytes, expected at most {most:,}")


class _Group(Protocol):
    """A group of an HDF5 file."""

    def __iter__(self) -> Iterator[str]:
        """The names of its members."""

    def __getitem__(self, name: str) -> object:
        """A member."""

    def get(self, name: str, *, getlink: bool) -> object:
        """A member, or how it is linked."""


def _size_of(group: _Group, place: str, depth: int) -> int:
    """Size of all datasets in a group and its subgroups, in bytes."""
    if depth > _DEEPEST:
        raise DataError(f"{place}: groups are nested more than {_DEEPEST} deep")
    size = 0
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise DataError(f"{place}: {name[:60]!r} is a link, expected the values themselves")
        part = group[name]
        if isinstance(part, h5py.Group):
            size += _size_of(part, place, depth + 1)
        elif isinstance(part, h5py.Dataset):
            if part.external or part.is_virtual:
                raise DataError(f"{place}: {name[:60]!r} is stored in another file, expected the values themselves")
            size += int(part.nbytes)
    return size


_DEEPEST = 16


class Torch:
    """A run's members in torch, loaded once: past frames (sample, channel, past, row, column) to later ones."""

    def __init__(self, run: RunFolder, recipe: Recipe) -> None:
        self._info, (_, self._windows) = run.metadata, sections(recipe)
        self._forecaster = Forecaster(run, recipe, self._info.targets)

    def forecast(self, frames: Floats, times: Seconds | None = None) -> Floats:
        """Forecast the later frames, (sample, target, ahead, row, column). times: (sample,) of the last past frame."""
        count, channels, past, rows, columns = frames.shape  # more past frames than the nets take, if a blend takes more
        times = np.zeros(count) if times is None else times
        series = Series(
            frames.swapaxes(1, 2).reshape(count * past, channels, rows, columns),
            np.arange(count) * past,
            np.arange(count).astype(np.str_),
            times=_before(times, self._step, past).ravel(),
            step=self._info.step or 0.0,
            channels=self._info.channels,
            unit=self._info.unit,
        )
        none: Ints = np.zeros(count, np.int64)
        first, (own, ahead) = series.starts + past - self._windows.past, (self._windows.past, self._windows.ahead)
        windows = Windows(series, first, none, none, own, ahead, (rows, columns))
        made = np.concatenate([predicted for _, predicted in self._forecaster.forecast(windows)])
        return where_seen(made, frames[:, : self._info.targets, past - own :])

    @property
    def past(self) -> int:
        """Past frames that a forecast takes."""
        return self._forecaster.past_frames(self._info.step or 0.0)

    @property
    def _step(self) -> float:
        return float(self._info.step or 1.0)


def _asker(run: RunFolder, recipe: Recipe, log: Callable[[str], None]) -> tuple[Predict, str, bool, int]:
    """The forecast function, the name of its engine, whether it needs times, and how many past frames it takes."""
    try:
        model = onnx_model(run, export_forecaster, log)
    except Exception as error:  # fall back to torch whatever fails in the export
        line = (str(error).splitlines() or [type(error).__name__])[0]
        log(f"using torch instead of ONNX Runtime: {line}")
        torch = Torch(run, recipe)
        return torch.forecast, f"torch ({line})", forecaster_module(run, recipe).needs_clock, torch.past
    timed, step, (_, windows) = "clock" in model.inputs, float(run.metadata.step or 1.0), sections(recipe)
    past = int(model.metadata["past"])

    def predict(frames: Floats, *times: Seconds) -> Floats:
        predicted: Floats = model.predict(frames, *(_clock(last, step, past, windows.ahead) for last in times))
        return predicted

    return predict, "ONNX Runtime", timed, past


def _before(times: Seconds, step: float, past: int) -> Seconds:
    """Times of past frames in seconds, (sample, past), from the times of the last ones."""
    return later(times[:, None], step, np.arange(1 - past, 1))


def _clock(times: Seconds, step: float, past: int, ahead: int) -> Seconds:
    """Times of past and later frames in seconds, (sample, past + ahead)."""
    return later(times[:, None], step, np.arange(1 - past, ahead + 1))


def _read(recipe: Recipe, info: RunInfo, path: Path, past: int) -> InputBatch:
    """Read the last `past` frames of each segment of an uploaded temporary file; the first may be missing."""
    if path.suffix == ".npz" and not zipfile.is_zipfile(path):
        raise DataError(f"{path.name}: is not a valid .npz file")
    check_grid_file(path)
    series = read_like_run(recipe, str(path), info)
    windows, long = last_windows(recipe, series)
    times = series.clock(windows.first + windows.past - 1)
    return InputBatch(series.names[long].tolist(), windows.before(past), times)


def _example(recipe: Recipe, info: RunInfo, past: int) -> Floats:
    """Past frames of a simulated series of the run's shape, or zeros if the simulator does not support it."""
    _, windows = sections(recipe)
    channels, rows, columns = info.shape
    shape = (channels, past, rows, columns)
    try:
        make = SERIES_SIMULATORS[recipe.data.simulator]
        frames = make(1, 1, shape=[channels, rows, columns], past=past, ahead=windows.ahead).frames[:past]
    except (UserError, ValueError):
        frames = np.empty((0, 0, 0, 0), np.float32)
    made = np.asarray(frames, np.float32).swapaxes(0, 1)
    if made.shape == shape:
        return np.ascontiguousarray(made)
    return np.zeros(shape, np.float32)


def _axis_field(values: Sequence[float] | None, title: str) -> dict[str, object] | None:
    """What /model says of rows or columns: forecasts are in this order, whatever the order of a file."""
    return None if values is None else {"name": title, "first": values[0], "last": values[-1]}


def _fields_of(run: RunFolder, recipe: Recipe, past: int) -> dict[str, object]:
    info, (_, windows) = run.metadata, sections(recipe)
    known = {"recipe": info.recipe, "task": recipe.kind, "channels": list(info.channels), "targets": info.targets}
    known |= {"shape": list(info.shape), "unit": info.unit, "step": info.step, "simulated": info.simulated}
    known |= {
        "attrs": dict(info.attrs),
        "rows": _axis_field(info.rows, info.up),
        "columns": _axis_field(info.columns, info.across),
    }
    more = {"past": past, "ahead": windows.ahead, "learned_from": run.scores.learned_from}
    return {**known, **more, **score_fields(run.scores), "wavefold": version.__version__}
