"""What the header of a WFDB record names: its segments, and the files of its signals. Source: WFDB Guide, header(5)."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

GAP = "~"  # in place of a segment without signals


def segments_of(header: Path) -> list[tuple[str, int]]:
    """Names and frames of the segments of a multi-segment record, gaps included; none if it is a plain record."""
    first, rest = _lines(header)
    return [(words[0], int(words[1]) if words[1:] and words[1].isdecimal() else 0) for words in rest] if "/" in first else []


def segments_named(header: Path) -> list[str]:
    """Names of the segments of a multi-segment record, without gaps; none if it is a plain record, or cannot be read."""
    return [name for name, _ in segments_of(header) if name != GAP]


def files_named(header: Path) -> list[Path]:
    """The files that a header names and that are there: signal files, and for segments their headers and files."""
    segments = segments_named(header)
    found = [header.with_name(f"{name}.hea") for name in segments] or [header.parent / words[0] for words in _lines(header)[1]]
    there = [file for file in dict.fromkeys(found) if os.path.isfile(file)]  # False for a name that no disk can hold
    return [*there, *(file for segment in there if segments and segment != header for file in _of_segment(segment))]


def _of_segment(header: Path) -> list[Path]:
    return [] if segments_named(header) else files_named(header)  # segments have no segments of their own


def _lines(header: Path) -> tuple[str, list[list[str]]]:
    """The first word of the first line, and the words of the others; comments are passed over."""
    with suppress(OSError):
        lines = header.read_text(encoding="utf-8", errors="replace").replace("\0", "").splitlines()
        words = [line.split() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        return (words[0][0], words[1:]) if words else ("", [])
    return "", []
