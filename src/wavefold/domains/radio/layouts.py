"""Layouts of cadence files: the contest's folder of .npy files with its label CSV, or a folder of .npy files alone."""

from __future__ import annotations

from pathlib import Path

from wavefold.core.errors import DataError
from wavefold.data.layout import Found, Layout
from wavefold.data.sources import check_exists
from wavefold.domains.radio.contest_files import labels_in, lists_cadences, part_to_predict, parts_of
from wavefold.domains.radio.contest_npy import EXPECTED, read_cadences


def sniff(path: Path) -> float:
    """Return 0.9 if a CSV lists cadences, or for one .npy; 0.3 for a folder that only contains .npy files; else 0."""
    if path.is_file():
        return 0.9 if lists_cadences(path) else 0.0
    if not path.is_dir():
        return 0.0
    return 0.9 if labels_in(path) else 0.3 if parts_of(path) else 0.0


def locate(path: Path) -> Found:
    """Locate the CSV that lists the samples, or the folder that contains them."""
    check_exists(path)
    parts = parts_of(path)
    if parts is None:
        raise DataError(f"{path.name}: contains no .npy files; {EXPECTED}")
    return Found(parts.listing or parts.samples, "cadence", (), folder=parts.samples)


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
