"""PSRFITS files in search mode (.sf, .fits): a table SUBINT with a block of rows of power in each of its rows.

Source: Hotan, van Straten and Manchester 2004, and the definition at atnf.csiro.au/research/pulsar/psrfits_definition. Power is
(DATA - ZERO_OFF) x DAT_SCL + DAT_OFFS, a scale and an offset for each product and channel; channels of weight 0 (DAT_WTS)
are not finite here, and so count as no signal.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wavefold.core.errors import DataError, listed
from wavefold.data.astropy_fits import fits
from wavefold.data.dataset import Floats
from wavefold.domains.radio.filterbank import Filterbank, Header, check_header, product_note, products_of

SUFFIXES = (".sf", ".fits", ".psrfits")
_HEAD = 2 * 2880  # bytes of a primary header in which its kind stands
_MARK = b"FITSTYPE= 'PSRFITS"
_BITS = (1, 2, 4, 8, 16, 32)
_TELESCOPES = {  # SIGPROC's numbers
    **{"arecibo": 1, "ooty": 2, "nancay": 3, "parkes": 4, "jodrell": 5, "lovell": 5, "gbt": 6, "gmrt": 7, "effelsberg": 8},
    **{"ata": 9, "srt": 10, "lofar": 11, "vla": 12, "chime": 20, "fast": 21, "meerkat": 64},
}
_DAY = 86400.0
_UNEVEN = 0.01  # of a channel, by which a stated frequency may differ from even steps


@dataclass(frozen=True)
class _Block:
    """What a header states of the table's rows."""

    rows: int  # of power in each of the table's
    products: int
    channels: int
    bits: int
    zero: float


def is_psrfits(path: Path) -> bool:
    """Whether a file states that it is PSRFITS."""
    try:
        with open(path, "rb") as stream:
            return _MARK in stream.read(_HEAD)
    except OSError:
        return False


def read_psrfits(path: Path, fine: int = 0, product: str = "") -> Filterbank:
    """The scan in a PSRFITS file, with its power left on disk. fine: fine channels per coarse channel, as in `Filterbank`.

    product: of several polarisations, as `products_of` takes it. DataError for a file that holds folded pulses or no power,
    lacks a keyword, or whose channels are not evenly spaced.
    """
    with _opened(path) as (first, table):
        if (mode := str(first.get("OBS_MODE", "")).strip()) not in ("SEARCH", "SRCH"):
            raise DataError(f"{path.name}: OBS_MODE is {mode or 'not stated'}, expected SEARCH (power over time, not folded)")
        block = _block(table, path.name)
        taken = products_of(block.products, product, path.name)
        header = _header(first, table, block, path.name)
        count = len(table.data) * block.rows
    check_header(header, path.name)

    def load(start: int, stop: int) -> Floats:
        with _opened(path) as (_, table):
            return _power(table.data, block, taken, start, stop)

    return Filterbank(path, header, (count, block.channels), load, fine, product_note(block.products, taken))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The primary header and the table SUBINT; astropy's errors become one line."""
    try:
        with warnings.catch_warnings(), fits.open(path, memmap=True, lazy_load_hdus=True) as file:
            warnings.simplefilter("ignore")  # of cards that are not standard
            table = next((hdu for hdu in file if hdu.name == "SUBINT"), None)
            if table is None or table.data is None or not len(table.data):
                raise DataError(f"{path.name}: has no rows of power; expected a table SUBINT")
            yield file[0].header, table
    except (OSError, ValueError, TypeError, KeyError, IndexError, EOFError) as error:
        raise DataError(f"{path.name}: cannot be read as PSRFITS: {' '.join(str(error).split())}") from error


def _block(table: Any, name: str) -> _Block:
    names = [column.upper() for column in table.columns.names]
    missing = [word for word in ("DATA", "DAT_FREQ") if word not in names]
    missing += [word for word in ("NBITS", "NCHAN", "NPOL", "NSBLK", "TBIN") if word not in table.header]
    if missing:
        raise DataError(f"{name}: its table SUBINT has no {missing[0]}")
    head = table.header
    block = _Block(int(head["NSBLK"]), int(head["NPOL"]), int(head["NCHAN"]), int(head["NBITS"]), _number(head.get("ZERO_OFF")))
    if block.bits not in _BITS:
        raise DataError(f"{name}: {block.bits} bits per value (NBITS), expected one of {listed(map(str, _BITS))}")
    stored = np.asarray(table.data["DATA"][0])
    wanted = block.rows * block.products * block.channels
    if stored.size * (max(1, 8 // block.bits)) != wanted:
        shape = f"{block.rows} x {block.products} x {block.channels}"
        raise DataError(f"{name}: DATA has {stored.size:,} values a row, expected {shape} (NSBLK, NPOL, NCHAN)")
    return block


def _number(value: object) -> float:
    """A number of a header, 0 for none: some write "*" where a value is not known."""
    try:
        return float(str(value))
    except ValueError:
        return 0.0


def _header(first: Any, table: Any, block: _Block, name: str) -> Header:
    frequency = np.asarray(table.data["DAT_FREQ"][0], np.float64).reshape(-1)
    steps = np.diff(frequency)
    step = float((frequency[-1] - frequency[0]) / max(1, block.channels - 1)) if len(steps) else float(table.header["CHAN_BW"])
    even = frequency[0] + step * np.arange(len(frequency))
    # DAT_FREQ in single precision is not worth more than the band's centre and width
    rounded = abs(frequency[0]) * 1e-7 if table.data["DAT_FREQ"].dtype.itemsize // max(1, block.channels) < 8 else 0.0
    if len(frequency) != block.channels or np.abs(even - frequency).max() > max(_UNEVEN * abs(step), rounded):
        raise DataError(f"{name}: DAT_FREQ has no {block.channels} evenly spaced channels")
    missing = [word for word in ("STT_IMJD", "STT_SMJD") if word not in first]
    if missing:
        raise DataError(f"{name}: its header has no {missing[0]}")
    seconds = float(first["STT_SMJD"]) + _number(first.get("STT_OFFS"))
    seconds += _number(table.header.get("NSUBOFFS")) * block.rows * float(table.header["TBIN"])
    telescope = str(first.get("TELESCOP", "")).strip().lower()
    return Header(
        fch1=float(frequency[0]),
        foff=step,
        tsamp=float(table.header["TBIN"]),
        tstart=float(first["STT_IMJD"]) + seconds / _DAY,
        source_name=str(first.get("SRC_NAME", "")).strip(),
        bits=block.bits,
        telescope=_TELESCOPES.get(telescope, 0),
        products=block.products,
    )


def _power(rows: Any, block: _Block, taken: list[int], start: int, stop: int) -> Floats:
    """Power (time, channel) of some channels, the sum of the products that are taken."""
    power = np.zeros((len(rows), block.rows, stop - start), np.float32)
    names = [column.upper() for column in rows.names]
    for own, row in zip(power, rows, strict=True):
        values = _unpacked(np.asarray(row["DATA"]), block)
        for number in taken:
            part = values[:, number, start:stop].astype(np.float32) - np.float32(block.zero)
            for word, add in (("DAT_SCL", False), ("DAT_OFFS", True)):
                if word in names:
                    told = np.asarray(row[word], np.float32).reshape(block.products, block.channels)[number, start:stop]
                    part = part + told if add else part * told
            own += part
        if "DAT_WTS" in names:
            own[:, np.asarray(row["DAT_WTS"], np.float32).reshape(-1)[start:stop] == 0] = np.nan
    return power.reshape(-1, stop - start)


def _unpacked(stored: Any, block: _Block) -> Any:
    """A row's values (time, product, channel): of several in a byte, the first is in its highest bits."""
    if block.bits < 8:
        parts = np.arange(8 - block.bits, -1, -block.bits, dtype=np.uint8)
        stored = (stored.reshape(-1, 1).view(np.uint8) >> parts) & np.uint8((1 << block.bits) - 1)
    return stored.reshape(block.rows, block.products, block.channels)
