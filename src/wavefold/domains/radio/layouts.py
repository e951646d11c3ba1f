"""Where cadences lie: the contest's folder of .npy with its CSV of labels, or a folder of .npy alone."""

from __future__ import annotations

from pathlib import Path

from wavefold.core.errors import DataError
from wavefold.data.layout import Found, Layout
from wavefold.data.sources import check_exists
from wavefold.domains.radio.contest_files import labels_in, lists_cadences, part_to_predict, parts_of
from wavefold.domains.radio.contest_npy import EXPECTED, read_cadences


def sniff(path: Path) -> float:
    """.9 where a CSV lists cadences, or for one .npy; less for a folder that holds .npy files."""
    if path.is_file():
        return 0.9 if lists_cadences(path) else 0.0
    if not path.is_dir():
        return 0.0
    return 0.9 if labels_in(path) else 0.3 if parts_of(path) else 0.0


def locate(path: Path) -> Found:
    """The CSV that lists the samples, or the folder that holds them."""
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
