"""Options for reading a source of frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Events:
    """How a table of timed events becomes frames: counts per cell and step, or a smoothed rate."""

    box: tuple[float, float, float, float]  # west, east, south, north edge, in the units of x and y
    cells: tuple[int, int]  # rows, columns; row 0 lies in the north
    time: str = ""  # column names; "" searches for the usual names
    x: str = ""
    y: str = ""
    kind: str = ""
    epoch: str = ""  # ISO date from which a numeric time column counts, if the source does not say
    dates: str = ""  # order of dates such as 03/04/2023: "day first" or "month first"; "" decides from all rows, or asks
    clock: str = "utc"  # of times with an offset, such as -05:00: "utc" counts days in UTC, "local" by the clock as written
    every: str = "1 day"  # step length in seconds, minutes, hours, days or weeks
    smooth: float = 0.0  # standard deviation of a Gaussian over neighbouring cells, in cells
    memory: float = 0.0  # half-life in steps of an exponential mean over this and earlier steps; 0: none
    kinds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # channel -> kinds counted in it; default: one each


@dataclass(frozen=True)
class Reading:
    """What to read from a source of frames, and how to decode it: value = stored * scale + offset."""

    variable: str = ""  # in .npz, NetCDF and Zarr; "" takes the only one that can be frames
    axes: str = ""  # axes of an array in order, from: sequence, time, row, column, channel
    channels: tuple[str, ...] = ()  # keep these, in this order; () keeps all
    scale: float = 1.0
    offset: float = 0.0
    missing: tuple[float, ...] = ()  # stored codes for missing values
    unit: str = ""  # "" takes the unit of the source
    in_folder: bool = False  # whether the file is one of a folder, and may hold a single frame; set by `read_series`
    events: Events | None = None
