"""Write forecasts to a file: NumPy arrays, NetCDF, a table, a picture or an animation, selected by the path's suffix.

A table has one row per value: name, time (if the source has times), lead (1 is the next frame), channel, row, column, value;
row and column are coordinates if known, else numbers from 0. All values are in the source's own unit.
"""

from __future__ import annotations

import csv
import io
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.io import netcdf_file

from wavefold.core.errors import DataError, UserError, listed, nearest
from wavefold.core.files import write_whole
from wavefold.data.dataset import Strings
from wavefold.data.lazy import Floats
from wavefold.data.parquet import check_parquet, parquet_bytes
from wavefold.data.series import Seconds, time_word
from wavefold.data.xlsx import check_xlsx, xlsx_bytes
from wavefold.plots.animation import animate
from wavefold.plots.canvas import Field, animations
from wavefold.plots.forecast_picture import draw_forecast

Columns = dict[str, NDArray[np.generic]]
_MOST_ROWS = 1_048_575  # maximum rows of a spreadsheet, without the header
_MOST_BYTES = 2**32 - 4  # maximum bytes of one NetCDF variable with 64-bit offsets


@dataclass(frozen=True)
class Forecasts:
    """Forecast frames in the source's unit, with their times, names and coordinates."""

    frames: Floats  # (sample, channel, lead, row, column), NaN for missing values
    clock: Seconds | None  # (sample, lead) seconds since 1970-01-01 UTC; None if the source has no times
    names: Strings  # (sample,) names of the segments of frames that the forecasts continue
    channels: tuple[str, ...]
    unit: str = ""
    step: float = 0.0  # seconds from one frame to the next; 0 if unknown
    rows: NDArray[np.float64] | None = None  # (row,) coordinates, such as latitudes
    columns: NDArray[np.float64] | None = None  # (column,)
    up: str = ""  # name and unit of the rows' coordinates: "latitude (degrees_north)"
    across: str = ""
    past: Floats | None = None  # (sample, channel, frame, row, column) the preceding frames, for pictures

    def __len__(self) -> int:
        return len(self.names)

    def __post_init__(self) -> None:
        samples, channels, leads, rows, columns = self.frames.shape
        sizes: dict[str, tuple[ArrayLike | None, tuple[int, ...]]] = {
            "names": (self.names, (samples,)),
            "channels": (self.channels, (channels,)),
            "clock": (self.clock, (samples, leads)),
            "rows": (self.rows, (rows,)),
            "columns": (self.columns, (columns,)),
        }
        for name, (values, shape) in sizes.items():
            if values is not None and np.shape(values) != shape:
                raise DataError(
                    f"forecasts of shape {self.frames.shape}: {name} has shape {np.shape(values)}, expected {shape}"
                )

    def write(self, path: str | Path) -> None:
        """Write a file in the form that its suffix names; "-" is CSV to standard output."""
        write_forecasts(path, self)

    @property
    def times(self) -> NDArray[np.datetime64] | None:
        """The time of each frame to the second, (sample, lead); None if there are no times."""
        return None if self.clock is None else np.round(self.clock).astype("datetime64[s]")

    @property
    def axes(self) -> tuple[NDArray[np.number], NDArray[np.number]]:
        """Coordinates of rows and columns if known, else their numbers."""
        numbers = (np.arange(size) for size in self.frames.shape[3:])
        rows, columns = (n if given is None else given for n, given in zip(numbers, (self.rows, self.columns), strict=True))
        return rows, columns


def write_forecasts(out: str | Path, forecasts: Forecasts) -> None:
    """Write forecasts atomically in the format given by the path's suffix, or as CSV to standard output if it is "-"."""
    check_forecast_target(out)
    if str(out) == "-":
        _write_csv(sys.stdout.buffer, forecasts)
        sys.stdout.buffer.flush()
        return
    path = Path(out)
    suffix = path.suffix.lower()
    try:
        if suffix in _PICTURES:
            _PICTURES[suffix](path, forecasts)
        else:
            write_whole(path, lambda stream: _FORMS[suffix](stream, forecasts))
    except OSError as error:
        raise UserError(f"{out}: could not be written: {error.strerror}; no partial file was left") from error


def check_forecast_target(out: str | Path) -> None:
    """Raise UserError, before any work, if the suffix is unknown, its package missing or the folder not writable."""
    if str(out) == "-":
        return
    path, forms = Path(out), [*_FORMS, *_PICTURES]
    suffix = path.suffix.lower()
    if suffix not in forms:
        hint = nearest(suffix, forms)
        raise UserError(f"{out}: '{suffix}' is not one of {listed(forms)}, or - for CSV on standard output{hint}")
    if path.is_dir():
        raise UserError(f"{out}: this is a folder; give a file name")
    folder = next(p for p in path.absolute().parents if p.exists())
    if not folder.is_dir():
        raise UserError(f"{out}: {folder} is a file, not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{out}: no permission to write to the folder {folder}")
    _NEEDS.get(suffix, lambda: None)()


def forecast_columns(forecasts: Forecasts) -> Columns:
    """Return the table as columns name, time if known, lead, channel, row, column and value; one row per value."""
    _, channels, leads, _, _ = forecasts.frames.shape
    rows, columns = forecasts.axes
    shape = forecasts.frames.shape

    def spread(values: NDArray[np.generic], *axes: int) -> NDArray[np.generic]:
        """Repeat values given along some axes of the frames along the others."""
        aligned = values.reshape([shape[axis] if axis in axes else 1 for axis in range(5)])
        return np.broadcast_to(aligned, shape).reshape(-1)

    times = forecasts.times
    return {
        "name": spread(np.asarray(forecasts.names, np.str_), 0),
        **({} if times is None else {"time": spread(times, 0, 2)}),
        "lead": spread(np.arange(1, leads + 1), 2),
        "channel": spread(np.array(forecasts.channels, np.str_).reshape(channels), 1),
        "row": spread(rows, 3),
        "column": spread(columns, 4),
        "value": forecasts.frames.reshape(-1),
    }


def _write_csv(stream: IO[bytes], forecasts: Forecasts) -> None:
    """Write one map at a time: its rows share a prefix, and one format operation fills in all values."""
    stream.write((",".join(_header(forecasts)) + "\n").encode())
    rows, columns = forecasts.axes
    ends = [f"{row:.10g},{column:.10g},%.7g\n" for row in rows.tolist() for column in columns.tolist()]
    for begin, frame in _maps(forecasts):
        held = begin.replace("%", "%%")  # else it would be a placeholder
        text = (held + held.join(ends)) % tuple(frame.reshape(-1).tolist())
        stream.write(text.replace(",nan\n", ",\n").encode())


def _header(forecasts: Forecasts) -> list[str]:
    return ["name", *([] if forecasts.clock is None else ["time"]), "lead", "channel", "row", "column", "value"]


def _maps(forecasts: Forecasts) -> Iterator[tuple[str, Floats]]:
    """Yield each map (row, column) with the prefix of its table rows, in the order of the frames' axes."""
    times = None if forecasts.times is None else np.datetime_as_string(forecasts.times)
    for sample, name in enumerate(forecasts.names.tolist()):
        for number, channel in enumerate(forecasts.channels):
            for lead in range(forecasts.frames.shape[2]):
                moment = [] if times is None else [times[sample, lead]]
                text = io.StringIO()
                csv.writer(text, lineterminator=",").writerow([name, *moment, lead + 1, channel])
                yield text.getvalue(), forecasts.frames[sample, number, lead]


def _write_npz(stream: IO[bytes], forecasts: Forecasts) -> None:
    """Arrays frames, names, channels, unit, step and, if known, time, rows, columns; np.load reads them without pickle."""
    arrays: dict[str, NDArray[np.generic] | None] = {
        "frames": forecasts.frames,
        "names": np.asarray(forecasts.names, np.str_),
        "channels": np.array(forecasts.channels, np.str_),
        "unit": np.array(forecasts.unit),
        "step": np.array(forecasts.step),
        "time": forecasts.times,
        "rows": forecasts.rows,
        "columns": forecasts.columns,
    }
    known = {name: values for name, values in arrays.items() if values is not None}
    np.savez(stream, **known)  # type: ignore[arg-type]  # names as keywords


def _write_nc(stream: IO[bytes], forecasts: Forecasts) -> None:
    """NetCDF 3 with CF conventions: a variable per channel, its axes time, latitude, longitude as the source names them.

    Forecasts that follow one another in time lie along one axis of time, others along (sample, lead). Without times the axis
    of one forecast is `lead`. Rows and columns without coordinates are numbered.
    """
    samples, _, leads, rows, columns = forecasts.frames.shape
    if samples * leads * rows * columns * 4 > _MOST_BYTES:
        raise DataError(f"NetCDF holds 4 GiB per channel, too little for frames {forecasts.frames.shape}; write .npz or .npy")
    clock = forecasts.clock
    along = ("lead",) if clock is None and samples == 1 else ("sample", "lead")
    if clock is not None and (np.diff(clock.ravel()) > 0).all():
        along = ("time",)
    down, across = _axis_name(forecasts.up, "row", along), _axis_name(forecasts.across, "column", along)
    dimensions = (*along, down, across)
    sizes = (samples * leads, rows, columns) if len(along) == 1 else (samples, leads, rows, columns)
    with os.fdopen(os.dup(stream.fileno()), "wb") as own, netcdf_file(own, "w", version=2) as file:  # netcdf_file closes it
        for name, size in zip(dimensions, sizes, strict=True):
            file.createDimension(name, size)
        file.Conventions = b"CF-1.8"
        file.step_seconds = float(forecasts.step)
        ahead = np.tile(np.arange(1, leads + 1, dtype=np.int32), samples if len(along) == 1 else 1)
        _put(file, "lead", along[-1:], ahead, long_name="frames ahead")
        for name, title, coordinates in ((down, forecasts.up, forecasts.rows), (across, forecasts.across, forecasts.columns)):
            if coordinates is not None:
                _put(file, name, (name,), coordinates.astype(np.float64), **_axis_facts(title, "Y" if name == down else "X"))
        if clock is not None:
            since = {"units": "seconds since 1970-01-01 00:00:00", "calendar": "standard", "standard_name": "time"}
            _put(file, "time", along, clock.reshape(sizes[: len(along)]), **since, **({"axis": "T"} if len(along) == 1 else {}))
        letters = np.char.encode(np.asarray(forecasts.names, np.str_), "utf-8")
        letters = np.repeat(letters, leads if len(along) == 1 else 1)
        file.createDimension("letter", max(1, letters.dtype.itemsize))
        named = letters.astype(f"S{max(1, letters.dtype.itemsize)}").view("S1").reshape(len(letters), -1)
        _put(file, "name", (along[0], "letter"), named, _Encoding="utf-8")
        beside = " ".join(
            word for word in ("time", "lead", "name") if word not in dimensions and (clock is not None or word != "time")
        )
        names = _variable_names(forecasts.channels, {*dimensions, "lead", "time", "name", "letter"})
        for name, frames in zip(names, forecasts.frames.swapaxes(0, 1), strict=True):
            extra = {"units": forecasts.unit} if forecasts.unit else {}
            values = frames.reshape(*sizes)
            _put(file, name, dimensions, values, coordinates=beside, _FillValue=np.float32("nan"), **extra)


_TITLE = re.compile(r"([A-Za-z]\w*)(?: \((.*)\))?", re.ASCII)
_DEGREES = {"lat": "degrees_north", "lon": "degrees_east"}


def _axis_name(title: str, usual: str, taken: Sequence[str]) -> str:
    """The name of an axis's coordinates, "latitude" of "latitude (degrees_north)"; the usual one if it has none."""
    found = _TITLE.fullmatch(title)
    return found[1] if found and found[1] not in (*taken, "lead", "time", "name", "letter") else usual


def _axis_facts(title: str, axis: str) -> dict[str, str]:
    """CF attributes of an axis of rows (Y) or columns (X)."""
    found = _TITLE.fullmatch(title)
    name, unit = (found[1].lower(), found[2] or "") if found else ("", "")
    for word, degrees in _DEGREES.items():
        if name.startswith(word) or unit == degrees:
            standard = {"lat": "latitude", "lon": "longitude"}[word]
            return {"standard_name": standard, "units": degrees if unit in ("", "degrees") else unit, "axis": axis}
    return {"axis": axis, **({"units": unit} if unit else {})}


def _put(file: netcdf_file, name: str, dimensions: tuple[str, ...], values: NDArray[np.generic], **attributes: object) -> None:
    """Add a variable with its attributes; text is encoded as UTF-8."""
    variable = file.createVariable(name, values.dtype, dimensions)
    variable[:] = values
    for key, value in attributes.items():
        setattr(variable, key, value.encode() if isinstance(value, str) else value)


def _variable_names(channels: tuple[str, ...], others: Collection[str]) -> list[str]:
    """Convert channels to unique NetCDF names of letters, digits and underscores. others: names that are taken."""
    taken, names = {*others, "row", "column", "sample"}, []
    for number, channel in enumerate(channels):
        name = re.sub(r"\W", "_", channel, flags=re.ASCII).lstrip("_") or "value"
        name = f"channel_{name}" if name[0].isdigit() else name
        while name in taken:
            name = f"{name}_{number}"
        taken.add(name)
        names.append(name)
    return names


def _write_xlsx(stream: IO[bytes], forecasts: Forecasts) -> None:
    """Write the table with times as text and missing values as empty cells."""
    count = forecasts.frames.size
    if count > _MOST_ROWS:  # checked before the columns are built
        raise DataError(
            f"a spreadsheet holds at most {_MOST_ROWS:,} rows, but this table has {count:,}; write .csv, .parquet or .nc"
        )
    columns = forecast_columns(forecasts)
    if "time" in columns:
        columns["time"] = np.datetime_as_string(columns["time"].astype("datetime64[s]"))
    stream.write(xlsx_bytes(columns))


def _draw(path: Path, forecasts: Forecasts) -> None:
    """Draw the first channel of the first forecasts, one row each, by lead."""
    shown = range(min(len(forecasts.names), _MOST_SHOWN))
    one = len(shown) == 1
    names = ["forecast" if one else _name(forecasts, number) for number in shown]
    frames = {name: forecasts.frames[number, 0] for name, number in zip(names, shown, strict=True)}
    draw_forecast(
        path,
        forecasts.past[0, 0] if one and forecasts.past is not None else None,
        None,
        frames,
        field=_field(forecasts),
        clock=forecasts.clock[0] if one and forecasts.clock is not None else None,
        title=_title(forecasts, len(shown)),
    )


def _animate(path: Path, forecasts: Forecasts) -> None:
    """Animate the first channel of the forecast that varies most, after its past frames if available."""
    title = _title(forecasts, 1, number := _liveliest(forecasts))
    animate(
        path,
        None if forecasts.past is None else forecasts.past[number, 0],
        None,
        {"forecast": forecasts.frames[number, 0]},
        field=_field(forecasts),
        clock=None if forecasts.clock is None else forecasts.clock[number],
        title=title,
    )


def _liveliest(forecasts: Forecasts) -> int:
    """The index of the forecast whose first channel varies most from cell to cell."""
    values = forecasts.frames[:, 0].reshape(len(forecasts), -1)
    spread = [float(np.std(one[np.isfinite(one)])) if np.isfinite(one).any() else 0.0 for one in values]
    return int(np.argmax(spread)) if spread else 0


_MOST_SHOWN = 6  # most forecasts in a picture


def _name(forecasts: Forecasts, number: int) -> str:
    """Name a forecast by its number from 1, its segment and the time of its first frame."""
    when = "" if forecasts.clock is None else f" {time_word(forecasts.clock[number, 0])}"
    return f"{number + 1}: {forecasts.names[number]}{when}"


def _field(forecasts: Forecasts) -> Field:
    return Field(forecasts.channels[0], forecasts.unit, forecasts.step, forecasts.rows, forecasts.columns)


def _title(forecasts: Forecasts, shown: int, number: int = 0) -> str:
    """The title: which of how many forecasts are shown. number: the forecast, if only one is shown."""
    if not len(forecasts.names):
        raise DataError("picture of forecasts: no forecasts to draw")
    count = len(forecasts.names)
    first = str(forecasts.names[number]) + (f" (forecast {number + 1} of {count})" if count > 1 else "")
    if shown > 1:
        first = f"{count} forecasts" if shown == count else f"the first {shown} of {count} forecasts"
    many = len(forecasts.channels)
    return f"{first}, {forecasts.channels[0]}" + (f" (the first of {many} channels)" if many > 1 else "")


_PICTURES: dict[str, Callable[[Path, Forecasts], None]] = {".png": _draw, ".gif": _animate}
_FORMS: dict[str, Callable[[IO[bytes], Forecasts], object]] = {
    ".npz": _write_npz,
    ".npy": lambda stream, forecasts: np.save(stream, forecasts.frames),
    ".nc": _write_nc,
    ".csv": _write_csv,
    ".parquet": lambda stream, forecasts: stream.write(parquet_bytes(forecast_columns(forecasts))),
    ".xlsx": _write_xlsx,
}


def _check_pictures() -> None:
    _ = animations.PillowWriter


_NEEDS: dict[str, Callable[[], None]] = {
    ".parquet": check_parquet,
    ".xlsx": check_xlsx,
    ".png": _check_pictures,
    ".gif": _check_pictures,
}
