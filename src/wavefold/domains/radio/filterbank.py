"""Represents a filterbank file: its header, and its power, read one range of channels at a time and never whole.

These are Green Bank Telescope data products as published by Breakthrough Listen: power (time, channel) of one scan. Channels
are narrow ("fine"); the telescope's "coarse" channels are 2.9296875 MHz wide and have a DC spike at their centre.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from wavefold.core.errors import DataError
from wavefold.data.dataset import Floats

COARSE = 2.9296875  # MHz per coarse channel: the digitiser's 187.5 MHz in 64 parts


@dataclass(frozen=True)
class Header:
    """The metadata of a scan."""

    fch1: float  # MHz, centre of the first channel
    foff: float  # MHz from one channel to the next; negative for descending frequencies
    tsamp: float  # s from one row to the next
    tstart: float = 0.0  # MJD of the first row
    source_name: str = ""
    bits: int = 32  # per value on disk
    signed: bool = False  # whether whole numbers on disk may be negative
    telescope: int = 6  # SIGPROC's number (6: Green Bank); 0 if the file does not state it
    products: int = 1  # polarisation products on disk (nifs)


@dataclass(frozen=True)
class Filterbank:
    """One scan's file: (time, channel) power, read on demand."""

    path: Path
    header: Header
    shape: tuple[int, int]  # rows in time, fine channels
    load: Callable[[int, int], Floats] = field(repr=False)  # first, last -> (time, last - first) float32
    fine: int = 0  # fine channels per coarse channel; 0: as many as span 2.9296875 MHz
    note: str = ""  # which polarisation product was taken of several

    @property
    def coarse_channels(self) -> list[range]:
        """The fine channels of each coarse channel, in file order; just one if the file is no wider."""
        count = self.shape[1]
        size = self.fine or round(min(COARSE / abs(self.header.foff), count)) or 1
        return [range(first, min(first + size, count)) for first in range(0, count, size)]

    def read(self, first: int, last: int) -> Floats:
        """Power of the fine channels first to last - 1: (time, channel) float32; DataError outside the file."""
        if not 0 <= first < last <= self.shape[1]:
            raise DataError(f"{self.path.name}: channels {first} to {last} are out of range; the file has {self.shape[1]:,}")
        return np.ascontiguousarray(self.load(first, last), np.float32)

    def frequency(self, channel: float) -> float:
        """Centre frequency (MHz) of a fine channel, counted from 0."""
        return self.header.fch1 + channel * self.header.foff


def check_header(header: Header, name: str) -> None:
    """Raise DataError for an invalid header. name: the file name, for the message."""
    for key in ("fch1", "foff", "tsamp", "tstart"):
        if not math.isfinite(getattr(header, key)):
            raise DataError(f"{name}: {key} is {getattr(header, key)}, expected a finite number")
    if header.foff == 0 or header.tsamp <= 0:
        key, value, sign = ("foff", header.foff, "not 0") if header.foff == 0 else ("tsamp", header.tsamp, "above 0")
        raise DataError(f"{name}: {key} is {value:g}, expected a number {sign}")


def products_of(count: int, wanted: str, name: str) -> list[int]:
    """The polarisation products to add, of `count` in a file. wanted: "" needs exactly one; "1" is the first; or "sum".

    "sum" adds the first two, which are total power where the products are XX and YY; Stokes I is the first of I, Q, U, V.
    DataError for several products without a choice, or a choice that the file does not have.
    """
    if count < 1:
        raise DataError(f"{name}: has {count} polarisation products (nifs), expected 1 or more")
    if count == 1:
        return [0]
    several = f"{name}: has {count} polarisation products (nifs)"
    if not wanted:
        raise DataError(
            f"{several}, expected 1 (total power); choose with --product: 1 takes the first (Stokes I of I, Q, U, V), "
            "sum adds the first two (XX and YY)"
        )
    if wanted == "sum":
        return [0, 1]
    if not wanted.isdecimal() or not 1 <= int(wanted) <= count:
        raise DataError(f"{several}, but --product is {wanted!r}, expected sum or a number from 1 to {count}")
    return [int(wanted) - 1]


def product_note(count: int, taken: Sequence[int]) -> str:
    """A line on the products that were taken of several; "" for one."""
    if count == 1:
        return ""
    which = " + ".join(str(number + 1) for number in taken)
    return f"of {count} polarisation products, {which} {'is' if len(taken) == 1 else 'are'} searched"
