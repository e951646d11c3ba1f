"""Layouts of cadence files: the contest's folder of .npy files with its label CSV, or a folder of .npy files alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wavefold.core.errors import DataError, UserError
from wavefold.data.layout import Found, Layout
from wavefold.data.sources import check_exists
from wavefold.domains.radio.cadence import PANELS
from wavefold.domains.radio.contest_files import labels_in, lists_cadences, part_to_predict, parts_of
from wavefold.domains.radio.contest_npy import EXPECTED, read_cadences
from wavefold.domains.radio.observation import SCANS, is_scan, open_scan
from wavefold.domains.radio.psrfits import is_psrfits

_ANY = "1"  # of several polarisations: which one does not matter here


def sniff(path: Path) -> float:
    """Return 0.9 if a CSV lists cadences, or for one .npy; 0.3 for a folder that only contains .npy files; else 0.

    Scans, too, are 0.3, 0.95 if they say so, or 0.1 for a folder of them, so that locating them says what to do with scans.
    """
    if path.is_file():
        if lists_cadences(path):
            return 0.9
        return 0.0 if not _holds_scan(path) else 0.95 if is_psrfits(path) else 0.3
    if not path.is_dir():
        return 0.0
    return 0.9 if labels_in(path) else 0.3 if parts_of(path) else 0.1 if _scans_in(path) else 0.0


def locate(path: Path) -> Found:
    """Locate the CSV that lists the samples, or the folder that contains them; DataError for none, and for scans."""
    check_exists(path)
    scans = [path] if path.is_file() and _holds_scan(path) else _scans_in(path)
    parts = parts_of(path)
    if scans and parts is None:
        raise DataError(
            f"{path.name}: scans (.h5, .fil, PSRFITS) are searched, not trained on or scored: "
            f"wavefold search {' '.join(_in_time(scans))} --out candidates.csv"
        )
    if parts is None:
        raise DataError(f"{path.name}: contains no .npy files; {EXPECTED}")
    return Found(parts.listing or parts.samples, "cadence", (), folder=parts.samples)


def _holds_scan(path: Path) -> bool:
    """Whether a file is a scan; an HDF5 file may hold anything else."""
    if not is_scan(path) or path.suffix.lower() == ".fil":
        return is_scan(path)
    try:
        open_scan(path, product=_ANY)
    except DataError:
        return False
    except UserError:  # h5py is not installed
        return True
    return True


def _scans_in(folder: Path) -> list[Path]:
    """The scans in a folder. Of .fits files only the first is looked into: there may be half a million of spectra."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SCANS) if folder.is_dir() else []
    fits = [file for file in files if file.suffix.lower() == ".fits"]
    return files if not fits or is_scan(fits[0]) else [file for file in files if file.suffix.lower() != ".fits"]


def _in_time(scans: Sequence[Path]) -> list[str]:
    """The paths of six scans in time order, as the command takes them; otherwise the places of six."""
    if len(scans) != PANELS:
        return [f"SCAN{number + 1}" for number in range(PANELS)]
    try:
        opened = [open_scan(path, product=_ANY) for path in scans]
        return [str(scan.path) for scan in sorted(opened, key=lambda scan: scan.header.tstart)]
    except DataError:  # the search will say what is wrong with them
        return list(map(str, scans))


LAYOUTS = {
    "cadence": Layout(
        read_cadences,
        sniff=sniff,
        locate=locate,
        test_files=part_to_predict,
        suffixes=(".npy", ".zip"),
        keeps="nothing",
        one_file=False,
    ),
}
