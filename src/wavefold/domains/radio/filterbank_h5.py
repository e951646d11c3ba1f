"""Filterbank files in HDF5 (.h5) as Breakthrough Listen's tools write them: a dataset "data" (time, product, channel)
whose attributes are the header keywords. Read slice by slice with h5py; hdf5plugin provides the bitshuffle filter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavefold.core.errors import DataError, listed
from wavefold.core.files import write_whole
from wavefold.core.registry import optional
from wavefold.data.dataset import Floats
from wavefold.data.hdf5 import check_hdf5, h5py
from wavefold.domains.radio.filterbank import Filterbank, Header, check_header, product_note, products_of

hdf5plugin = optional("hdf5plugin", extra="radio")

_NEEDED = ("fch1", "foff", "tsamp")
_Fact = float | str | NDArray[np.floating] | NDArray[np.integer]  # a header's value; an array holds no or several numbers


class _Data(Protocol):
    """What is used of an HDF5 dataset."""

    shape: tuple[int, ...]
    ndim: int
    dtype: np.dtype[np.generic]
    attrs: Mapping[str, _Fact | bytes | np.generic]

    def __getitem__(self, place: tuple[slice, int, slice], /) -> NDArray[np.number]: ...


def read_h5(path: Path, fine: int = 0, product: str = "") -> Filterbank:
    """The scan in an .h5 file, with its power left on disk. fine: fine channels per coarse channel, as in `Filterbank`.

    product: of several polarisations, as `products_of` takes it. Without `fine`, the file's own `nfpc` counts. DataError for a
    file that is not a filterbank, lacks an attribute or has several products and no choice.
    """
    check_hdf5(path)
    with _opened(path) as data:
        if data.ndim != 3:
            raise DataError(f"{path.name}: data has the shape {data.shape}, expected (time, product, channel)")
        facts = {key: _plain(value) for key, value in data.attrs.items()}
        if data.dtype.kind not in "fiu":
            raise DataError(f"{path.name}: data has type {data.dtype}, expected numbers")
        rows, products, channels = data.shape
        bits, signed = 8 * data.dtype.itemsize, data.dtype.kind == "i"
    header = replace(_header(facts, path.name), bits=bits, signed=signed, products=products)
    for key, count in (("nchans", channels), ("nifs", products)):
        if not count or facts.get(key, count) != count:
            shape = f"{rows} x {products} x {channels}"
            raise DataError(f"{path.name}: data has shape {shape}, but its header gives {key}={facts.get(key, count)}")
    taken = products_of(products, product, path.name)
    if not rows:
        raise DataError(f"{path.name}: data has no rows")
    stated = facts.get("nfpc", 0)
    fine = fine or (int(stated) if isinstance(stated, int | float) and 0 < stated <= channels else 0)

    def load(first: int, last: int) -> Floats:
        # file handles cannot be passed between processes; values beyond float32 become infinite and are skipped later
        with _opened(path) as data, np.errstate(over="ignore"):
            values: Floats = data[:, taken[0], first:last].astype(np.float32)
            for number in taken[1:]:
                values += data[:, number, first:last].astype(np.float32)
        return values

    return Filterbank(path, header, (rows, channels), load, fine, product_note(products, taken))


def write_h5(path: Path, power: ArrayLike, header: Header) -> None:
    """Write power (time, channel) as an .h5 file of float32; uncompressed, so that any slice can be read alone."""
    values = np.asarray(power)

    def write(stream: IO[bytes]) -> None:
        with h5py.File(stream.name, "w") as file:  # by name: HDF5 also reads while it writes
            file.attrs["CLASS"], file.attrs["VERSION"] = "FILTERBANK", "1.0"
            data = file.create_dataset("data", (len(values), 1, values.shape[1]), np.float32)
            data[:, 0] = values
            data.attrs.update(_attributes(header, values.shape))
            for axis, name in enumerate(("time", "feed_id", "frequency")):
                data.dims[axis].label = name

    write_whole(path, write)


def _header(facts: Mapping[str, _Fact], name: str) -> Header:
    missing = [key for key in _NEEDED if key not in facts]
    if missing:
        raise DataError(f"{name}: data has no attribute {missing[0]}; available: {listed(sorted(facts)) or 'none'}")
    try:
        fch1, foff, tsamp, tstart = (float(facts.get(key, 0.0)) for key in (*_NEEDED, "tstart"))
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: an attribute is not a number: {error}") from None
    telescope = facts.get("telescope_id", 0)
    known = int(telescope) if isinstance(telescope, int | float) and math.isfinite(telescope) else 0
    header = Header(fch1, foff, tsamp, tstart, source_name=str(facts.get("source_name", "")).strip(), telescope=known)
    check_header(header, name)
    return header


def _attributes(header: Header, shape: tuple[int, ...]) -> dict[str, float | str]:
    whole = {"machine_id": 20, "telescope_id": header.telescope, "data_type": 1, "nifs": 1, "nchans": shape[1], "nbits": 32}
    numbers = {key: getattr(header, key) for key in ("fch1", "foff", "tsamp", "tstart")}
    return {**whole, **numbers, "source_name": header.source_name}


@contextmanager
def _opened(path: Path) -> Iterator[_Data]:
    """The dataset of an .h5 file; HDF5 errors become a one-line DataError."""
    try:
        with h5py.File(path, "r") as file:
            data = file.get("data")
            if not isinstance(data, h5py.Dataset):
                raise DataError(
                    f"{path.name}: not a filterbank file: it contains {listed(file) or 'nothing'} but no dataset 'data'"
                )
            # HDF5 would read any file that a link names
            if isinstance(file.get("data", getlink=True), h5py.ExternalLink) or data.external or data.is_virtual:
                raise DataError(f"{path.name}: data is a link to another file; expected the values in this file")
            made = data.id.get_create_plist()
            _bring_filters([made.get_filter(i)[0] for i in range(made.get_nfilters())], path.name)
            yield data
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:  # TypeError, ValueError: of damaged types
        stated = " ".join(str(error).split())
        raise DataError(f"{path.name}: cannot be read as HDF5: {stated}") from error


def _bring_filters(numbers: Sequence[int], name: str) -> None:
    """Register compression filters by number; only files that use them require the package."""
    if all(h5py.h5z.filter_avail(n) for n in numbers):
        return
    _ = hdf5plugin.FILTERS  # the import registers them
    strange = [n for n in numbers if not h5py.h5z.filter_avail(n)]
    if strange:
        raise DataError(f"{name}: compressed with HDF5 filter {strange[0]}, which hdf5plugin does not provide")


def _plain(value: _Fact | bytes | np.generic) -> _Fact:
    """An attribute as a number or text: HDF5 returns arrays of length 1, numpy scalars and bytes."""
    plain: _Fact | bytes = (
        value.item() if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.size == 1) else value
    )
    return plain.decode("utf-8", "replace") if isinstance(plain, bytes) else plain
