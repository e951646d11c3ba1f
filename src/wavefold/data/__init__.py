"""Domain-independent data handling: datasets, series, text tables, caches and splits; registries of layouts and simulators."""

from collections.abc import Callable
from pathlib import Path

from wavefold.core.registry import Table
from wavefold.data.dataset import Dataset
from wavefold.data.read_samples import check_grid, check_layout, read
from wavefold.data.series import Series
from wavefold.data.series_reader import SERIES_LAYOUTS, read_series
from wavefold.data.sources import LAYOUTS, test_files

SIMULATORS: Table[Callable[..., Dataset]] = Table("simulators")
WRITERS: Table[Callable[..., Path]] = Table("writers")
SERIES_SIMULATORS: Table[Callable[..., Series]] = Table("series_simulators")
SERIES_WRITERS: Table[Callable[..., Path]] = Table("series_writers")

__all__ = [
    "LAYOUTS",
    "SERIES_LAYOUTS",
    "SERIES_SIMULATORS",
    "SERIES_WRITERS",
    "SIMULATORS",
    "WRITERS",
    "check_grid",
    "check_layout",
    "read",
    "read_series",
    "test_files",
]
