"""A cadence as the telescope records it: six scans, alternately ON and OFF the star, one filterbank file each.

Windows are cut like the contest's samples: (window, 6 panels, time, frequency), each panel standardised separately.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from wavefold.core.errors import DataError, UserError, listed
from wavefold.data.dataset import Floats, Ints
from wavefold.domains.radio.cadence import NAMES, ON, PANELS
from wavefold.domains.radio.filterbank import Filterbank, Header
from wavefold.domains.radio.filterbank_h5 import read_h5, write_h5
from wavefold.domains.radio.pointing import check_sources, scans_of
from wavefold.domains.radio.psrfits import SUFFIXES, is_psrfits, read_psrfits
from wavefold.domains.radio.sigproc import read_fil, write_fil

SCANS: dict[str, Callable[[Path, int, str], Filterbank]] = {
    **{".h5": read_h5, ".hdf5": read_h5, ".fil": read_fil},
    **dict.fromkeys(SUFFIXES, read_psrfits),
}
_CLOCK = 400  # rows of a clock with longer gaps: the lines to try grow with its square
SCAN_WRITERS: dict[str, Callable[[Path, ArrayLike, Header], None]] = {".h5": write_h5, ".fil": write_fil}


@dataclass(frozen=True)
class Observation:
    """Six scans of the same channels, in time order: ON A, OFF B, ON A, OFF C, ON A, OFF D."""

    scans: tuple[Filterbank, ...]
    on: tuple[int, ...] = ON  # numbers of the ON scans

    @property
    def header(self) -> Header:
        """The header of the first scan."""
        return self.scans[0].header

    @property
    def shape(self) -> tuple[int, int, int]:
        """The numbers of panels, rows and fine channels."""
        return (len(self.scans), *self.scans[0].shape)

    @property
    def seconds(self) -> float:
        """Total observed time of all rows, without the gaps between scans."""
        return self.shape[0] * self.shape[1] * self.header.tsamp

    @property
    def starts(self) -> list[int]:
        """Rows from the first scan's start to each scan's start, on one clock that includes the gaps between scans.

        If the scans are not `on_one_clock`, they are assumed to follow each other without gaps.
        """
        return self._rows_told() if self.on_one_clock else [number * self.shape[1] for number in range(len(self.scans))]

    @property
    def begins(self) -> list[float]:
        """The same, not rounded."""
        first, rows = self.header, self.shape[1]
        told = [(scan.header.tstart - first.tstart) * 86400 / first.tsamp for scan in self.scans]
        return told if self.on_one_clock else [float(number * rows) for number in range(len(self.scans))]

    @property
    def on_one_clock(self) -> bool:
        """Whether scans, by their tstart, do not overlap, with gaps of at most a scan, or few rows from first to last."""
        rows, told = self.shape[1], self._rows_told()
        gaps = [late - early - rows for early, late in pairwise(told)]
        return min(gaps) >= 0 and (max(gaps) <= rows or told[-1] + rows <= _CLOCK)

    def _rows_told(self) -> list[int]:
        return [round((scan.header.tstart - self.header.tstart) * 86400 / self.header.tsamp) for scan in self.scans]

    @property
    def coarse_channels(self) -> list[range]:
        """The fine channels of each coarse channel."""
        return self.scans[0].coarse_channels

    def read(self, first: int, last: int) -> Floats:
        """Power of the fine channels first to last - 1 of all scans: (panel, time, channel) float32."""
        panels = np.empty((*self.shape[:2], last - first), np.float32)
        for panel, scan in zip(panels, self.scans, strict=True):
            panel[:] = scan.read(first, last)
        return panels

    def frequency(self, channel: float) -> float:
        """Centre frequency (MHz) of a fine channel, counted from 0."""
        return self.scans[0].frequency(channel)

    def drift(self, bins: float) -> float:
        """Convert a drift in fine channels per row to Hz/s."""
        return bins * self.header.foff * 1e6 / self.header.tsamp


def is_scan(path: str | Path) -> bool:
    """Whether a path has the suffix of a filterbank file; one of .fits must say that it is PSRFITS."""
    suffix = Path(path).suffix.lower()
    return suffix in SCANS and (suffix != ".fits" or is_psrfits(Path(path).expanduser()))


def open_scan(path: str | Path, fine: int = 0, product: str = "") -> Filterbank:
    """Open a filterbank file: .h5, .hdf5 or .fil. fine: fine channels per coarse channel, 0 for 2.9296875 MHz.

    product: the polarisation product of several: "1" for the first, and so on, or "sum" for the first two.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in SCANS:
        raise UserError(f"{path}: '{path.suffix}' is not a filterbank suffix, expected one of {listed(SCANS)}")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if not is_scan(path):
        raise DataError(f"{path.name}: is no PSRFITS file: its header does not state FITSTYPE = 'PSRFITS'")
    return SCANS[path.suffix.lower()](path, fine, product)


def open_observation(
    paths: Sequence[str | Path], fine: int = 0, *, product: str = "", ignore_names: bool = False, on: str = ""
) -> Observation:
    """Open the six scans of a cadence; UserError if they are not in time order, DataError if they do not match.

    UserError too if their source names contradict ON A, OFF B, ON A, OFF C, ON A, OFF D, unless ignore_names or `on`.
    on: the source name of the ON scans, wherever they stand; the others are OFF.
    product: as for `open_scan`.
    """
    if len(paths) != PANELS:
        raise UserError(
            f"{len(paths)} file{'s' if len(paths) != 1 else ''} given; a cadence has {PANELS} scans in time "
            f"order: {listed(NAMES)}"
        )
    scans = tuple(open_scan(path, fine, product) for path in paths)
    for scan in scans[1:]:
        _check_alike(scans[0], scan)
    starts = [scan.header.tstart for scan in scans]
    same = next((pair for pair in pairwise(scans) if pair[0].header.tstart == pair[1].header.tstart), None)
    if same:
        raise UserError(f"{same[0].path.name} and {same[1].path.name} start at the same time, MJD {same[0].header.tstart:.9g}")
    if any(late <= early for early, late in pairwise(starts)):
        order = listed(scan.path.name for scan in sorted(scans, key=lambda scan: scan.header.tstart))
        raise UserError(f"scans must be in time order, {listed(NAMES)}; by tstart the order is {order}")
    if on:
        return Observation(scans, scans_of(scans, on))
    if not ignore_names:
        check_sources(scans)
    return Observation(scans)


def write_scan(path: Path, power: ArrayLike, header: Header) -> None:
    """Write power (time, channel) of one scan atomically as .h5 or .fil."""
    if path.suffix.lower() not in SCAN_WRITERS:
        raise UserError(f"{path}: '{path.suffix}' is not one of {listed(SCAN_WRITERS)}")
    SCAN_WRITERS[path.suffix.lower()](path, power, header)


def write_observation(
    folder: Path, panels: Iterable[ArrayLike], header: Header, *, suffix: str = ".h5", gap: float = 20.0
) -> list[Path]:
    """Write scan0 to scan5, each power (time, channel), with gaps of `gap` seconds between them; returns their files.

    header: the header of the first scan.
    """
    paths, start = [], header.tstart
    for number, power in enumerate(panels):
        paths.append(folder / f"scan{number}{suffix}")
        write_scan(paths[-1], power, replace(header, tstart=start))
        start += (len(np.asarray(power)) * header.tsamp + gap) / 86400
    return paths


def cut_windows(panels: Floats, starts: Ints, width: int) -> Floats:
    """Cut windows (window, panel, time, width), each panel scaled to mean 0 and standard deviation 1; constant panels become 0.

    panels: (panel, time, channel) power; starts: (window,) first channels.
    """
    views = sliding_window_view(panels, width, axis=2)  # (panel, time, start, width)
    windows = np.ascontiguousarray(views[:, :, starts].transpose(2, 0, 1, 3))
    windows -= windows.mean(axis=(2, 3), keepdims=True, dtype=np.float64).astype(np.float32)
    deviation = np.sqrt(np.mean(windows**2, axis=(2, 3), keepdims=True))
    windows /= np.where(deviation > 0, deviation, 1)
    return windows


def filled(power: Floats) -> Floats:
    """Power (panel, time, channel) with each panel's mean for values that are not finite."""
    there = np.isfinite(power)
    means = np.where(there, power, 0).sum(axis=(1, 2), keepdims=True) / np.maximum(there.sum(axis=(1, 2), keepdims=True), 1)
    return np.where(there, power, means).astype(np.float32)


def _check_alike(first: Filterbank, other: Filterbank) -> None:
    """Raise DataError unless two scans have the same rows, channels and steps."""
    pairs = [("rows", first.shape[0], other.shape[0]), ("channels", first.shape[1], other.shape[1])]
    for name, here, there in pairs:
        if here != there:
            raise DataError(f"{other.path.name} has {there:,} {name}, {first.path.name} has {here:,}: not scans of one cadence")
    if first.header.telescope and other.header.telescope and first.header.telescope != other.header.telescope:
        both = f"telescope_id {other.header.telescope}, {first.path.name} {first.header.telescope}"
        raise DataError(f"{other.path.name} has {both}: not scans of one cadence")
    step = abs(first.header.foff)
    for name, near in (("foff", 1e-6 * step), ("tsamp", 1e-6 * first.header.tsamp), ("fch1", 0.5 * step)):
        here, there = getattr(first.header, name), getattr(other.header, name)
        if abs(here - there) > near:
            unit = "s" if name == "tsamp" else "MHz"
            raise DataError(
                f"{other.path.name} has {name} {there:.9g} {unit}, {first.path.name} {here:.9g} {unit}: not "
                "scans of one cadence"
            )
