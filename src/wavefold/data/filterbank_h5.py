"""Filterbank files in HDF5 (.h5) as Breakthrough Listen's tools write them: a dataset "data" (time, product, channel)
whose attributes are the header's keywords. Read with h5py, slice by slice; bitshuffle's filter comes with hdf5plugin.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from wavefold.base.build import optional
from wavefold.base.dataset import Floats
from wavefold.base.errors import DataError, listed
from wavefold.base.files import write_whole
from wavefold.data.filterbank import Filterbank, Header, check_header, check_polarisations

h5py = optional("h5py", extra="radio")
hdf5plugin = optional("hdf5plugin", extra="radio")

_NEEDED = ("fch1", "foff", "tsamp")


def read_h5(path: Path, fine: int = 0) -> Filterbank:
    """The scan of an .h5 file, its power left on disk. fine: channels a coarse channel, as `Filterbank` has them.

    DataError for what is no filterbank, misses an attribute or holds more than one product.
    """
    with _opened(path) as data:
        if data.ndim != 3:
            raise DataError(f"{path.name}: data has the shape {data.shape}, expected (time, 1, channel)")
        facts = {key: _plain(value) for key, value in data.attrs.items()}
        if data.dtype.kind not in "fiu":
            raise DataError(f"{path.name}: data holds {data.dtype}, expected numbers")
        rows, products, channels = data.shape
        bits = 8 * data.dtype.itemsize
    header = _header(facts, bits, path.name)
    check_polarisations(products, path.name)
    if not rows or facts.get("nchans", channels) != channels:
        raise DataError(f"{path.name}: data is {rows} x {channels}, its header says {facts.get('nchans')} channels (nchans)")

    def load(first: int, last: int) -> Floats:
        # a handle would not survive in another process; what float32 cannot hold becomes infinite, and is passed over
        with _opened(path) as data, np.errstate(over="ignore"):
            values: Floats = data[:, 0, first:last].astype(np.float32)
        return values

    return Filterbank(path, header, (rows, channels), load, fine)


def write_h5(path: Path, power: ArrayLike, header: Header) -> None:
    """Write power (time, channel) as an .h5 file of float32, whole; uncompressed, so that any slice is read alone."""
    values = np.asarray(power)

    def write(stream: Any) -> None:
        with h5py.File(stream.name, "w") as file:  # the same temporary file: HDF5 wants to read what it writes
            file.attrs["CLASS"], file.attrs["VERSION"] = "FILTERBANK", "1.0"
            data = file.create_dataset("data", (len(values), 1, values.shape[1]), np.float32)
            data[:, 0] = values
            data.attrs.update(_attributes(header, values.shape))
            for axis, name in enumerate(("time", "feed_id", "frequency")):
                data.dims[axis].label = name

    write_whole(path, write)


def _header(facts: dict[str, Any], bits: int, name: str) -> Header:
    missing = [key for key in _NEEDED if key not in facts]
    if missing:
        raise DataError(f"{name}: data has no attribute {missing[0]}; it has {listed(sorted(facts)) or 'none'}")
    try:
        numbers = {key: float(facts[key]) for key in (*_NEEDED, "tstart") if key in facts}
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: an attribute is no number: {error}") from None
    header = Header(**numbers, source_name=str(facts.get("source_name", "")), bits=bits)
    check_header(header, name)
    return header


def _attributes(header: Header, shape: tuple[int, ...]) -> dict[str, Any]:
    whole = {"machine_id": 20, "telescope_id": 6, "data_type": 1, "nifs": 1, "nchans": shape[1], "nbits": 32}
    numbers = {key: getattr(header, key) for key in ("fch1", "foff", "tsamp", "tstart")}
    return {**whole, **numbers, "source_name": header.source_name}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The dataset of an .h5 file; one line for whatever HDF5 says of it."""
    try:
        with h5py.File(path, "r") as file:
            data = file.get("data")
            if not isinstance(data, h5py.Dataset):
                raise DataError(
                    f"{path.name}: is no filterbank file, it holds {listed(file) or 'nothing'} and no dataset 'data'"
                )
            _check_own(file, data, path.name)
            _bring_filters(data, path.name)
            yield data
    except (OSError, RuntimeError, KeyError) as error:
        said = " ".join(str(error).split())
        raise DataError(f"{path.name}: could not be read as HDF5: {said}") from error


def _check_own(file: Any, data: Any, name: str) -> None:
    """DataError where the values stand in another file: HDF5 would read any that its maker names."""
    if isinstance(file.get("data", getlink=True), h5py.ExternalLink) or data.external or data.is_virtual:
        raise DataError(f"{name}: data points into another file; expected the values in the file itself")


def _bring_filters(data: Any, name: str) -> None:
    """Make the filters known that the data went through; only files that need them need the package."""
    made = data.id.get_create_plist()
    numbers = [made.get_filter(i)[0] for i in range(made.get_nfilters())]
    if all(h5py.h5z.filter_avail(n) for n in numbers):
        return
    _ = hdf5plugin.FILTERS  # the import registers them
    strange = [n for n in numbers if not h5py.h5z.filter_avail(n)]
    if strange:
        raise DataError(f"{name}: is compressed by the HDF5 filter {strange[0]}, which hdf5plugin does not bring")


def _plain(value: Any) -> Any:
    """An attribute as a number or text: HDF5 hands over arrays of one, numpy scalars and bytes."""
    value = value.item() if isinstance(value, np.generic | np.ndarray) and np.size(value) == 1 else value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
