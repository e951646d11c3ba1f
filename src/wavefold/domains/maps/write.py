"""Writes a series of frames as one `frames.npz`, with times, coordinates, channels and unit beside the frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import UserError
from wavefold.core.files import write_arrays
from wavefold.data.series import Seconds, Series


def write_frames(series: Series, folder: Path) -> Path:
    """Write a series as folder/frames.npz and return its path; `read_series` restores the same series.

    `axes` names the axes of `frames`: (time, row, column) for one stretch and channel, (time, row, column, channel) for several
    channels, and (sequence, time, row, column, channel) for stretches of equal length; for other stretches, `starts` has the
    number of each one's first frame. UserError if the file already exists.
    """
    path = Path(folder) / "frames.npz"
    if path.exists():
        raise UserError(f"{path}: already exists; choose another folder")
    count = len(series.starts)
    lengths = series.ends - series.starts
    together = count > 1 and len(set(lengths.tolist())) == 1
    write_arrays(path, {"frames": _laid_out(series, together), **_beside(series, together)})
    return path


def _laid_out(series: Series, together: bool) -> NDArray[np.float32]:
    frames = np.asarray(series.frames).transpose(0, 2, 3, 1)  # (time, row, column, channel)
    if together:
        return np.ascontiguousarray(frames.reshape(len(series.starts), -1, *frames.shape[1:]))
    return np.ascontiguousarray(frames[..., 0] if frames.shape[-1] == 1 else frames)


def _beside(series: Series, together: bool) -> dict[str, NDArray[np.generic]]:
    count = len(series.starts)
    axes = ["sequence"] * together + ["time", "row", "column"] + ["channel"] * (together or series.frames.shape[1] != 1)
    arrays: dict[str, NDArray[np.generic] | np.float64 | None] = {
        "axes": np.array(" ".join(axes)),
        "time": None if series.times is None else _dates(series.times).reshape((count, -1) if together else -1),
        "step": np.float64(series.step) if series.step else None,
        "starts": series.starts if count > 1 and not together else None,
        "names": series.names,
        "channels": np.array(series.channels, np.str_) if series.channels else None,
        "unit": np.array(series.unit) if series.unit else None,
        "rows": series.rows,
        "columns": series.columns,
    }
    return {name: np.asarray(values) for name, values in arrays.items() if values is not None}


def _dates(times: Seconds) -> NDArray[np.datetime64]:
    """Convert seconds since 1970 to dates, to the millisecond if they are not whole."""
    if np.all(times == np.round(times)):
        return times.astype(np.int64).astype("datetime64[s]")
    return np.round(times * 1000).astype(np.int64).astype("datetime64[ms]")
