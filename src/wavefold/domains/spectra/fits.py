"""Reads spectra from the surveys' own FITS files, plain or gzip, and resamples them to one wavelength grid.

Three layouts, recognised by the file's contents:

lamost table: HDU 1 is a table with one row of vectors (or one pixel per row): FLUX, IVAR, WAVELENGTH in angstrom, ANDMASK
    (checked on DR10 v2.9.8);
lamost image: the primary image's row 0 is flux, row 1 inverse variance, row 3 and-mask, and COEFF0 + COEFF1 x pixel is
    log10 of the wavelength. Row 2 is not read: it holds the continuum-subtracted flux in the pilot and DR1, and the wavelength
    in later releases. Images may have fewer rows; a single row is flux alone (checked on DR1 v2.6.4);
sdss: HDU 1 is a table with one pixel per row: flux, loglam, ivar, and_mask; HDU 2 is one row of CLASS, Z and so on (also
    `spec-lite`).

Wavelengths are heliocentric in both surveys (HELIO) and not shifted to the rest frame. Their unit is what TUNITn, CUNIT1 or
IRAF's WAT1_001 says, else angstrom. They are in vacuum or in air as VACUUM, AIRORVAC or CTYPE1 (WAVE, AWAV) says: in vacuum in
both surveys. They are converted to the medium asked for. Flux keeps its unit (TUNITn, BUNIT: 1e-17 erg/s/cm2/angstrom in SDSS,
none in LAMOST, where it is relative), unless another is asked for.

A pixel is good if flux and inverse variance are finite, the inverse variance is above 0, and the and-mask does not flag it.
For LAMOST, any of the six bits flags a pixel (bad CCD, bad profile, no sky, bright sky, off the CCD, no data; dr3.lamost.org,
data production description). For SDSS, only BRIGHTSKY does (sdss3.org/dr10/algorithms/bitmask_sppixmask.php: the very bad
bits have already zeroed the inverse variance). SDSS's whole-fibre bits are ignored: BADFLAT marks 99.7 % of two good spectra.
The or-mask is not read: it means that one of many exposures was bad there, and that one has been left out of the sum.
"""

from __future__ import annotations

import gzip
import io
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from textwrap import shorten
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError, UserError, listed
from wavefold.data.astropy_fits import fits
from wavefold.data.dataset import UNIT
from wavefold.data.rebin import Grid, Rebinned, grid_centres, onto_grid, pixel_edges
from wavefold.data.store import Block
from wavefold.data.units import conversion
from wavefold.domains.spectra.medium import AIR, GRID_UNIT, MEDIUM, VACUUM, in_medium

OUTSIDE = "outside"
STATED = (MEDIUM, UNIT, OUTSIDE)  # further facts: what each file says, and how much of the grid it leaves out
FACTS = ("kind", "class", "subclass", "z", "ra", "dec", "snr", "filled")
_MOST = 1 << 28  # bytes of an unpacked file: SDSS files with every exposure have about 10 MB
_LEAST = 0.5  # fraction of the grid's bins that must be measured: below it, most model input would be made up
_LEVEL = 0.01  # share of the grid's bins, nearest to an end, whose median is the level beyond it
_LAMOST_BAD = 0b111111
_BRIGHTSKY = 1 << 23  # SDSS: sky > flux + 10 errors; without these pixels all 17 test files are closer to their own model
_BYTES = {**dict.fromkeys("LBA", 1), "I": 2, **dict.fromkeys("JE", 4), **dict.fromkeys("KDCP", 8), **dict.fromkeys("MQ", 16)}
_KINDS = {"A": "S{}", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
_SDSS_COLUMNS = ("loglam", "flux", "ivar", "and_mask")
_LAMOST_COLUMNS = ("wavelength", "flux", "ivar", "andmask")
_HEADER_KEYS = {"class": "CLASS", "subclass": "SUBCLASS", "z": "Z", "ra": "RA", "dec": "DEC"}
_SDSS_KEYS = {**_HEADER_KEYS, "ra": "PLUG_RA", "dec": "PLUG_DEC"}
_MEDIA = {"vac": VACUUM, "vacuum": VACUUM, "air": AIR, "wave": VACUUM, "awav": AIR, "t": VACUUM, "true": VACUUM, "f": AIR}
_MEDIA |= {"false": AIR, "1": VACUUM, "0": AIR, "yes": VACUUM, "no": AIR}
_WAT_UNITS = re.compile(r"\bunits=(\S+)")
_LOG_UNIT = re.compile(r"(?:log_?(?:10)?|dex)\s*[\s(\[]\s*([^)\]]+?)\s*[)\]]?", re.IGNORECASE)
_TEN = re.compile(r"\b10\s*(?:\*\*|\^)\s*\(?\s*([+-]?\d+)\s*\)?\s*\*?")
_EXPECTED = "expected FLUX, IVAR, WAVELENGTH, ANDMASK (LAMOST) or flux, ivar, loglam, and_mask (SDSS)"

_Values = NDArray[np.float64]
_Bools = NDArray[np.bool_]
_Header = Mapping[str, str | float]


class _Hdu(Protocol):
    """What is used of one of a FITS file's units; a table also has `columns`."""

    header: _Header
    data: NDArray[Any]  # numbers, or the rows of a table
    size: int  # bytes

    def fileinfo(self) -> Mapping[str, int]: ...


@dataclass(frozen=True)
class _Spectrum:
    logs: _Values  # (pixel,) log10 of the wavelength in angstrom
    flux: _Values  # (pixel,)
    good: _Bools  # (pixel,)
    ivar: _Values | None  # (pixel,)
    facts: Mapping[str, str] = field(default_factory=dict)
    medium: str = ""  # "vacuum" or "air", if the file says so
    unit: str = ""  # of the flux, if the file says so


def parse_fits(paths: Sequence[str], *, grid: Grid, medium: str = "", unit: str = "") -> Block:
    """Read files into rows (sample, position) of flux density on a grid in angstrom; a file's error becomes its problem.

    medium: "vacuum" or "air", to which wavelengths of files that state the other are converted; unit: to which flux of files
    that state another is; "" converts nothing.

    Facts are text as in the file, '' if missing: `kind` of layout, `class` in lower case, `subclass`, `z`, `ra` and `dec` in
    degrees, `snr` (the median of flux x sqrt(ivar) over good pixels, the same for all layouts), `filled` (bins without a
    good pixel, interpolated linearly between neighbours; bins outside hold the level of the nearest ones). And what the file
    states: `medium`, `unit` of flux, and `outside`, the number of bins outside the good pixels. UserError for an invalid grid.
    """
    rows = np.zeros((len(paths), len(grid_centres(grid))), np.float32)
    problems = [""] * len(paths)
    facts: dict[str, list[str]] = {name: [""] * len(paths) for name in (*FACTS, *STATED)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about non-standard headers; unreadable content still raises
        for at, path in enumerate(paths):
            try:
                rows[at], found = _row(Path(path), grid, medium, unit)
            except DataError as error:
                problems[at] = f"{Path(path).name}: {error}"
                continue
            for name, word in found.items():
                facts[name][at] = word
    return Block(rows, problems, facts)


def _row(path: Path, grid: Grid, medium: str, unit: str) -> tuple[_Values, dict[str, str]]:
    """Read one file's row (position,) and its facts; DataError, without the file's name, if it has no usable spectrum."""
    spectrum = _converted(_checked(_opened(path)), medium, unit)
    binned = onto_grid(10 ** pixel_edges(spectrum.logs), spectrum.flux, spectrum.good, grid)
    _check_coverage(spectrum, binned.measured, grid)
    if not (np.abs(binned.values) < np.finfo(np.float32).max).all():
        raise DataError(f"flux reaches {np.abs(binned.values).max():.3g}; expected values within float32 range")
    filled = int(binned.filled.sum())
    outside = len(binned.measured) - int(binned.measured.sum()) - filled
    stated = {MEDIUM: spectrum.medium, UNIT: spectrum.unit, OUTSIDE: str(outside)}
    return _held(binned), {**spectrum.facts, "snr": _snr(spectrum), "filled": str(filled), **stated}


def _held(binned: Rebinned) -> _Values:
    """The bins (position,), those before the first and after the last measured one at the level of the nearest measured ones.

    Zeros there would look like a break to a net: a run on MILES told 33 % of its own stars apart, not 76 %, with 4 % of zeros.
    """
    values, there = binned.values.copy(), np.flatnonzero(binned.measured)
    near = max(1, round(_LEVEL * len(values)))
    values[: there[0]] = np.median(values[there[:near]])
    values[there[-1] + 1 :] = np.median(values[there[-near:]])
    return values


def _converted(spectrum: _Spectrum, medium: str, unit: str) -> _Spectrum:
    """The spectrum with wavelengths and flux as wanted, where the file says what its own are."""
    if medium and spectrum.medium and medium != spectrum.medium:
        spectrum = replace(spectrum, logs=np.log10(in_medium(10**spectrum.logs, spectrum.medium, medium)))
    if unit and spectrum.unit and unit != spectrum.unit:
        factor, _ = conversion(spectrum.unit, unit)
        ivar = None if spectrum.ivar is None else spectrum.ivar / factor**2
        spectrum = replace(spectrum, flux=spectrum.flux * factor, ivar=ivar)
    return spectrum


def _medium_of(*headers: _Header) -> str:
    """The medium that headers state; "" if none does. DataError if they disagree."""
    words = {key: str(h[key]).strip() for h in headers for key in ("VACUUM", "AIRORVAC") if key in h}
    types = [word for h in headers if (word := str(h.get("CTYPE1", ""))[:4]) in ("WAVE", "AWAV")]
    words |= {"CTYPE1": types[0]} if types else {}
    said = {key: _MEDIA[word.lower()] for key, word in words.items() if word.lower() in _MEDIA}
    if len(set(said.values())) > 1:
        raise DataError(f"its header says {' and '.join(f'{key} = {words[key]}' for key in said)}; expected one medium")
    return next(iter(said.values()), "")


def _column_unit(header: _Header, names: Sequence[str], column: str) -> str:
    """TUNITn of a table's column."""
    numbers = [i for i, name in enumerate(names, 1) if name.lower() == column]
    return str(header.get(f"TUNIT{numbers[0]}", "")).strip() if numbers else ""


def _axis_unit(*headers: _Header) -> str:
    """The unit of an image's first axis, by CUNIT1, else by IRAF's WAT1_001; "" if none is stated."""
    for header in headers:
        found = _WAT_UNITS.search(str(header.get("WAT1_001", "")))
        if unit := str(header.get("CUNIT1", "")).strip() or (found[1] if found else ""):
            return unit
    return ""


def _to_angstrom(unit: str) -> tuple[float, bool]:
    """What turns wavelengths of a unit into angstrom, and whether the unit is that of their logarithm; DataError if unknown."""
    logarithm = _LOG_UNIT.fullmatch(unit)
    word = logarithm[1] if logarithm else unit
    for spelt in (re.sub(r"(?i)^(angstrom|micron)s$", r"\1", word) or GRID_UNIT, word.lower()):
        with suppress(DataError):
            return conversion(spelt, GRID_UNIT)[0], bool(logarithm)
    raise DataError(f"wavelengths are in {unit!r}; expected a unit of length, such as Angstrom or nm")


def _flux_unit(text: str) -> str:
    """A unit of flux as pint spells it: "1e-17 erg/s/angstrom" for "10**(-17) erg/s/Ang"."""
    word = re.sub(r"\b(Angstroms?|ANGSTROMS?|Ang|A)\b", GRID_UNIT, _TEN.sub(r"1e\1 ", text))
    return " ".join(re.sub(r"(?<=\d)E(?=[+-]?\d)", "e", word).split())


def _opened(path: Path) -> _Spectrum:
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            content = _unpacked(file) if packed else file
            if not content.read(1):
                raise DataError("is empty; expected a FITS file")
            content.seek(0)
            with fits.open(content, mode="readonly", memmap=False, lazy_load_hdus=True) as hdus:
                return _read(hdus, content)
    except UserError:
        raise
    except Exception as error:  # a damaged file can make the library raise any exception
        why = shorten((str(error).splitlines() or [""])[0], 100, placeholder=" ...")
        raise DataError(f"cannot be read as FITS ({type(error).__name__}: {why}); expected a complete FITS file") from None


def _unpacked(file: BinaryIO) -> BinaryIO:
    """Read the whole content of a gzip file, which verifies its checksum."""
    content = gzip.GzipFile(fileobj=file).read(_MOST + 1)
    if len(content) > _MOST:
        raise DataError(f"unpacks to more than {_MOST:,} bytes, too large for a spectrum")
    return io.BytesIO(content)


def _read(hdus: Sequence[_Hdu], content: BinaryIO) -> _Spectrum:
    header, first = hdus[0].header, _hdu(hdus, 1)
    if "COEFF0" in header and header["NAXIS"]:
        return _from_image(_whole(hdus[0], content).data, header)
    if first is None or not hasattr(first, "columns"):
        raise DataError(f"has no table in HDU 1 and no image with COEFF0 and COEFF1; {_EXPECTED}")
    table, columns = _whole(first, content).data, first.columns.names
    names = {name.lower() for name in columns}
    if names >= set(_SDSS_COLUMNS):
        facts = _sdss_facts(_hdu(hdus, 2), content)
        spectrum = _from_table(table, _SDSS_COLUMNS, _BRIGHTSKY, {**facts, "kind": "sdss"})
        wave, is_log = _column_unit(first.header, columns, "loglam"), True
    elif names >= set(_LAMOST_COLUMNS):
        facts = {**_header_facts(header), "kind": "lamost table"}
        spectrum = _from_table(table, _LAMOST_COLUMNS, _LAMOST_BAD, facts)
        wave, is_log = _column_unit(first.header, columns, "wavelength"), False
    else:
        raise DataError(f"its table has columns {listed(columns[:12]) or 'none'}; {_EXPECTED}")
    stated = _column_unit(first.header, columns, "flux") or str(first.header.get("BUNIT", header.get("BUNIT", "")))
    return _stating(spectrum, wave or _axis_unit(first.header, header), is_log, stated, first.header, header)


def _stating(spectrum: _Spectrum, wave: str, is_log: bool, flux: str, *headers: _Header) -> _Spectrum:
    """A spectrum in angstrom, with its medium and unit of flux. wave: unit of its wavelengths; is_log: they are logarithms."""
    factor, says_log = _to_angstrom(wave)
    logs = spectrum.logs
    if says_log and not is_log:  # a column of wavelengths that says it holds their logarithms; they were taken as numbers
        logs = 10**logs
    if factor != 1.0:
        logs = logs + np.log10(factor)
    return replace(spectrum, logs=logs, medium=_medium_of(*headers), unit=_flux_unit(flux))


def _whole(hdu: _Hdu, content: BinaryIO) -> _Hdu:
    """Return the HDU if its data are complete."""
    end, size = hdu.fileinfo()["datLoc"] + hdu.size, content.seek(0, io.SEEK_END)
    if size < end:
        raise DataError(f"is truncated: {size:,} bytes; expected at least {end:,} according to its headers")
    return hdu


def _hdu(hdus: Sequence[_Hdu], number: int) -> _Hdu | None:
    """Return an HDU or None; counting HDUs would read them all, and SDSS files have further ones for each exposure."""
    try:
        return hdus[number]
    except IndexError:
        return None


def _from_image(data: NDArray[np.number], header: _Header) -> _Spectrum:
    if data.ndim > 2 or "COEFF1" not in header:
        raise DataError(f"its image has {data.ndim} axes, COEFF1 {header.get('COEFF1')}; expected rows of pixels and COEFF1")
    rows = np.asarray(np.atleast_2d(data), np.float64)
    maker = f"{header.get('TELESCOP', '')} {header.get('ORIGIN', '')}".strip()
    if len(rows) > 1 and "LAMOST" not in maker:  # SDSS's old spSpec also has COEFF0, but holds the error in row 2
        raise DataError(f"is an image of {len(rows)} rows from {maker or 'an unnamed telescope'}; expected LAMOST's layout")
    logs = float(header["COEFF0"]) + float(header["COEFF1"]) * np.arange(rows.shape[1], dtype=np.float64)
    ivar = rows[1] if len(rows) > 1 else None
    mask = rows[3] if len(rows) > 3 else np.zeros(rows.shape[1])
    good = _good(rows[0], ivar, mask, _LAMOST_BAD)
    spectrum = _Spectrum(logs, rows[0], good, ivar, {**_header_facts(header), "kind": "lamost image"})
    return _stating(spectrum, _axis_unit(header), True, str(header.get("BUNIT", "")), header)


def _from_table(table: NDArray[np.void], columns: Sequence[str], bad_bits: int, facts: Mapping[str, str]) -> _Spectrum:
    """Read a spectrum from a table. columns: wavelength or its log10, flux, inverse variance, and-mask."""
    values = [np.asarray(table[name], np.float64) for name in columns]
    if values[0].ndim > 1 and len(table) != 1:
        raise DataError(f"its table has {len(table)} rows of vectors; expected one spectrum")
    place, flux, ivar, mask = (column.ravel() for column in values)
    if not len(place) == len(flux) == len(ivar) == len(mask):
        raise DataError(
            f"its columns {listed(columns)} have {listed(column.size for column in values)} pixels; expected one length"
        )
    if columns[0] == "wavelength":
        with np.errstate(invalid="ignore", divide="ignore"):
            place = np.log10(place)
    return _Spectrum(place, flux, _good(flux, ivar, mask, bad_bits), ivar, facts)


def _good(flux: _Values, ivar: _Values | None, mask: _Values, bad_bits: int) -> _Bools:
    good: _Bools = np.isfinite(flux) & np.isfinite(mask)
    if ivar is not None:
        good &= np.isfinite(ivar) & (ivar > 0)
    good &= np.where(good, mask, 0).astype(np.int64) & bad_bits == 0
    return good


def _checked(spectrum: _Spectrum) -> _Spectrum:
    count = len(spectrum.logs)
    if count < 2:
        raise DataError(f"has {count} pixel{'s' if count != 1 else ''}; expected a spectrum")
    if not (np.isfinite(spectrum.logs).all() and (np.diff(spectrum.logs) > 0).all() and np.abs(spectrum.logs).max() < 30):
        raise DataError("wavelengths are not increasing; expected increasing wavelengths in angstrom")
    if not spectrum.good.any():
        raise DataError(f"all {count:,} pixels are masked; expected some with inverse variance above 0 and no bad mask bit")
    if not spectrum.flux[spectrum.good].any():
        raise DataError("flux is 0 at every good pixel; expected a spectrum")
    return spectrum


def _check_coverage(spectrum: _Spectrum, measured: _Bools, grid: Grid) -> None:
    """Raise DataError if under half of the grid's bins are measured; it blames the file's range, else its good pixels."""
    if measured.mean() >= _LEAST:
        return
    ends = 10 ** spectrum.logs[[0, -1]]
    goal = f"the grid is {grid[0]:g} to {grid[1]:g} angstrom"
    reach = min(ends[1], grid[1]) - max(ends[0], grid[0])
    if reach < _LEAST * (grid[1] - grid[0]):
        share = "none of it" if reach <= 0 else "less than half of it"
        raise DataError(f"covers {ends[0]:.5g} to {ends[1]:.5g} angstrom; {goal}, and the file covers {share}")
    raise DataError(
        f"{(~spectrum.good).sum():,} of {len(spectrum.good):,} pixels are masked, which leaves {measured.sum():,} of "
        f"{len(measured):,} bins measured; {goal}, and at least half of it must be measured"
    )


def _snr(spectrum: _Spectrum) -> str:
    if spectrum.ivar is None:
        return ""
    return f"{np.median(spectrum.flux[spectrum.good] * np.sqrt(spectrum.ivar[spectrum.good])):.2f}"


def _header_facts(header: _Header) -> dict[str, str]:
    return _words({name: header.get(key, "") for name, key in _HEADER_KEYS.items()})


def _sdss_facts(hdu: _Hdu | None, content: BinaryIO) -> dict[str, str]:
    """Read facts from HDU 2's row; the primary header's RA and DEC are the telescope's, not the object's."""
    if hdu is None:
        return {}
    place = _whole(hdu, content).fileinfo()
    content.seek(place["hdrLoc"])
    header = content.read(place["datLoc"] - place["hdrLoc"]).decode("ascii")
    row = _first_row(header, content.read(place["datSpan"]), _SDSS_KEYS.values())
    return _words({name: row.get(key, "") for name, key in _SDSS_KEYS.items()})


def _first_row(header: str, content: bytes, wanted: Collection[str]) -> dict[str, object]:
    """Read scalar numbers and text from a table's first row, by column.

    The library takes 40 ms to set up the 236 columns of SDSS's HDU 2, ten times as long as the rest of the file.
    """
    names = {number: name.upper() for number, name in re.findall(r"TTYPE(\d+) *= '([^']*?) *'", header)}
    forms = re.findall(r"TFORM(\d+) *= '(\d*)(\w)", header)
    row: dict[str, object] = {}
    at = 0
    for number, times, letter in sorted(forms, key=lambda form: int(form[0])):
        repeat = int(times or 1)
        name = names.get(number, "")
        if name in wanted and (letter == "A" or repeat == 1) and letter in _KINDS:
            row[name] = np.frombuffer(content, _KINDS[letter].format(repeat), 1, at)[0]
        at += -(-repeat // 8) if letter == "X" else repeat * _BYTES[letter]
    return row


def _words(values: Mapping[str, object]) -> dict[str, str]:
    """Format values as text; `class` in lower case, because releases differ (Unknown, UNKNOWN)."""
    words = {name: _word(value) for name, value in values.items()}
    return {**words, "class": words["class"].lower()}


def _word(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("ascii", "replace").strip(" \0")
    return f"{value:.10g}" if type(value) in (float, np.float64) else str(value).strip()
