"""Spectra in their telescopes' FITS files: each layout, each mask, and one line for each file that cannot be read."""

import csv
import gzip
import pickle
import sys
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from wavefold.core.errors import UserError
from wavefold.data.store import Block
from wavefold.domains.spectra.fits import parse_fits
from wavefold.domains.spectra.medium import GRID_UNIT

fits = pytest.importorskip("astropy.io.fits")

GRID = (4000.0, 4009.0, 1.0)  # ten bins of one pixel each
LAMOST_GRID = (3700.0, 8898.0, 2.0)
PIXELS = np.arange(4000.0, 4010.0)  # angstrom
FLUX = np.arange(10.0, 20.0)


def parse_one(path: Path, grid: tuple[float, float, float] = GRID) -> Block:
    return parse_fits([str(path)], grid=grid)


def row_of(path: Path) -> list[float]:
    block = parse_one(path)
    assert block.problems == [""]
    return block.rows[0].round(3).tolist()


def problem_of(path: Path, grid: tuple[float, float, float] = GRID) -> str:
    problem = parse_one(path, grid).problems[0]
    assert problem.startswith(f"{path.name}: ")
    assert "\n" not in problem
    return problem


def write_table(
    path: Path, columns: Mapping[str, np.ndarray], *, vectors: bool = False, header: Mapping[str, object] | None = None
) -> Path:
    """A file with one table in HDU 1, a pixel a row or one row of vectors."""
    letters = {"f": "E", "i": "J"}
    made = [
        fits.Column(
            name=name,
            format=f"{len(values) if vectors else ''}{letters[values.dtype.kind]}",
            array=values[None] if vectors else values,
        )
        for name, values in columns.items()
    ]
    primary = fits.PrimaryHDU(header=fits.Header(header or {}))
    fits.HDUList([primary, fits.BinTableHDU.from_columns(made, name="COADD")]).writeto(path)
    return path


def lamost(path: Path, **changed: np.ndarray) -> Path:
    """The table that LAMOST writes since DR8; keywords replace columns."""
    columns = {"FLUX": FLUX, "IVAR": np.full(10, 4.0), "WAVELENGTH": PIXELS, "ANDMASK": np.zeros(10), "ORMASK": np.ones(10)}
    facts = {"CLASS": "STAR", "SUBCLASS": "A9", "Z": -0.000125, "RA": 336.73016, "DEC": 54.971777}
    return write_table(path, {**columns, **changed}, vectors=True, header=facts)


def lamost_image(path: Path, rows: np.ndarray, **cards: object) -> Path:
    """LAMOST's older image: rows of pixels, 0.0001 in log10 of the wavelength each, from 4000 angstrom."""
    header = fits.Header({"TELESCOP": "LAMOST", "COEFF0": np.log10(4000.0), "COEFF1": 1e-4, "CLASS": "Unknown", **cards})
    fits.PrimaryHDU(rows, header).writeto(path)
    return path


def sdss(path: Path, *, facts: bool = True, **changed: np.ndarray) -> Path:
    """SDSS's layout; keywords replace columns of HDU 1."""
    masks = {"and_mask": np.zeros(10, np.int32), "or_mask": np.full(10, 1 << 23, np.int32)}
    columns = {"flux": FLUX, "loglam": np.log10(PIXELS), "ivar": np.full(10, 0.25), **masks}
    write_table(path, {**columns, **changed}, header={"RA": 1.0, "DEC": 2.0})  # the telescope's, not the object's
    if facts:
        words = [("PROGRAM", "27A", ["boss"]), ("BITS", "11X", [[True] * 11]), ("FIVE", "5E", [[1, 2, 3, 4, 5]])]
        numbers = [("PLUG_RA", "D", [237.85517]), ("PLUG_DEC", "D", [2.0274375]), ("Z", "E", [0.2137])]
        last = [("CLASS", "6A", ["GALAXY"]), ("SUBCLASS", "21A", [""])]
        made = [fits.Column(name=name, format=form, array=np.array(value)) for name, form, value in words + numbers + last]
        fits.append(path, fits.BinTableHDU.from_columns(made).data)
    return path


def test_lamosts_table_is_read(tmp_path: Path) -> None:
    block = parse_one(lamost(tmp_path / "a.fits"))
    assert block.problems == [""]
    np.testing.assert_allclose(block.rows[0], FLUX, atol=0.02)  # edges between log pixels lie 3e-5 angstrom beside
    assert block.rows.dtype == np.float32
    assert {name: words[0] for name, words in block.facts.items()} == {
        "kind": "lamost table",
        "class": "star",
        "subclass": "A9",
        "z": "-0.000125",
        "ra": "336.73016",
        "dec": "54.971777",
        "snr": "29.00",  # median flux 14.5 x sqrt(4)
        "filled": "0",
        "medium": "",
        "unit": "",
        "outside": "0",
    }


def test_sdss_table_is_read_with_the_objects_facts(tmp_path: Path) -> None:
    block = parse_one(sdss(tmp_path / "spec.fits"))
    np.testing.assert_allclose(block.rows[0], FLUX, atol=0.02)
    facts = {name: words[0] for name, words in block.facts.items()}
    assert (facts["kind"], facts["class"], facts["subclass"], facts["z"]) == ("sdss", "galaxy", "", "0.2137")
    assert (facts["ra"], facts["dec"], facts["snr"]) == ("237.85517", "2.0274375", "7.25")  # median 14.5 x sqrt(0.25)


def test_sdss_without_its_second_table_has_no_facts(tmp_path: Path) -> None:
    block = parse_one(sdss(tmp_path / "spec.fits", facts=False))
    assert block.problems == [""]
    assert (block.facts["class"], block.facts["ra"], block.facts["kind"]) == ([""], [""], ["sdss"])


def test_lamosts_image_is_read(tmp_path: Path) -> None:
    """Flux per angstrom is constant but for one masked pixel; the third row, whatever it holds, is not read."""
    rows = np.full((5, 40), 3.0, np.float32)
    rows[0, 7], rows[1, 7] = 1e6, 0.0
    rows[2], rows[3] = np.nan, 0.0
    rows[0, 20], rows[3, 20] = 1e6, 1.0
    block = parse_one(lamost_image(tmp_path / "spec.fits", rows))
    np.testing.assert_allclose(block.rows[0], 3, rtol=1e-6)
    assert (block.facts["kind"], block.facts["class"]) == (["lamost image"], ["unknown"])
    assert block.facts["snr"] == ["5.20"]  # 3 x sqrt(3)


@pytest.mark.parametrize("rows", [np.full(40, 3.0), np.full((1, 40), 3.0), np.full((2, 40), 3.0)])
def test_an_image_of_fewer_rows_holds_less(tmp_path: Path, rows: np.ndarray) -> None:
    block = parse_one(lamost_image(tmp_path / "spec.fits", rows))
    np.testing.assert_allclose(block.rows[0], 3, rtol=1e-6)
    assert block.facts["snr"] == ["" if rows.size == 40 else "5.20"]


def test_an_image_in_scaled_integers_is_scaled(tmp_path: Path) -> None:
    rows = np.full((2, 40), 3.5, np.float32)
    header = fits.Header({"TELESCOP": "LAMOST", "COEFF0": np.log10(4000.0), "COEFF1": 1e-4})
    hdu = fits.PrimaryHDU(rows, header)
    hdu.scale("int16", bscale=0.5, bzero=1.0)
    hdu.writeto(tmp_path / "spec.fits")
    np.testing.assert_allclose(parse_one(tmp_path / "spec.fits").rows[0], 3.5, rtol=1e-6)


@pytest.mark.parametrize("cards", [{"TELESCOP": "SDSS 2.5-M"}, {"TELESCOP": ""}])
def test_another_telescopes_image_is_not_taken_for_lamosts(tmp_path: Path, cards: dict[str, str]) -> None:
    """SDSS's old spSpec has COEFF0 too, and its second row is no inverse variance."""
    problem = problem_of(lamost_image(tmp_path / "spSpec.fits", np.ones((5, 40)), **cards))
    assert f"an image of 5 rows from {cards['TELESCOP'] or 'an unnamed telescope'}; expected LAMOST's layout" in problem


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_pixels_are_bridged(tmp_path: Path, value: float) -> None:
    """Each rule by itself takes out the pixel with 13, which the line from 12 to 14 gives back; the ends hold their level."""
    for column, bad in [("FLUX", value), ("IVAR", value), ("IVAR", 0.0), ("IVAR", -1.0), ("ANDMASK", 1.0), ("ANDMASK", 32.0)]:
        before = {"FLUX": FLUX, "IVAR": np.ones(10), "ANDMASK": np.zeros(10)}[column].copy()
        before[[0, 3, 9]] = bad
        path = tmp_path / f"{column}{bad}.fits"
        block = parse_one(lamost(path, **{column: before}))
        assert block.problems == [""]
        np.testing.assert_allclose(block.rows[0], [11, 11, 12, 13, 14, 15, 16, 17, 18, 18], atol=0.02)
        assert block.facts["filled"] == ["1"]


@pytest.mark.parametrize(("bit", "masked"), [(23, True), (2, False), (17, False), (24, False)])
def test_of_sdss_bits_only_bright_sky_masks(tmp_path: Path, bit: int, masked: bool) -> None:
    flux, mask = FLUX.copy(), np.zeros(10, np.int32)
    flux[5], mask[5] = 500.0, 1 << bit
    row = parse_one(sdss(tmp_path / "spec.fits", flux=flux, and_mask=mask)).rows[0]
    assert row[5] == pytest.approx(15 if masked else 500, rel=1e-3)


def test_a_gzip_file_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wavefold.domains.spectra.fits._MOST", 1000)
    (tmp_path / "bomb.fits.gz").write_bytes(gzip.compress(b"SIMPLE" + bytes(100_000)))
    assert problem_of(tmp_path / "bomb.fits.gz").endswith("unpacks to more than 1,000 bytes, too large for a spectrum")


def test_a_gzip_file_is_the_same_whatever_its_name(tmp_path: Path) -> None:
    plain = lamost(tmp_path / "a.fits")
    packed = tmp_path / "b.fits"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    block = parse_fits([str(plain), str(packed)], grid=GRID)
    assert block.problems == ["", ""]
    assert np.array_equal(block.rows[0], block.rows[1])


def test_a_bad_file_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    (tmp_path / "empty.fits").touch()
    paths = [lamost(tmp_path / "a.fits"), tmp_path / "empty.fits", sdss(tmp_path / "c.fits"), tmp_path / "gone.fits"]
    block = parse_fits([str(path) for path in paths], grid=GRID)
    assert [bool(problem) for problem in block.problems] == [False, True, False, True]
    assert block.problems[1] == "empty.fits: is empty; expected a FITS file"
    assert "No such file" in block.problems[3]
    assert block.facts["class"] == ["star", "", "galaxy", ""]


def test_other_columns_are_named_beside_the_expected(tmp_path: Path) -> None:
    path = write_table(tmp_path / "x.fits", {"lambda": PIXELS, "flux": FLUX})
    assert problem_of(path) == (
        "x.fits: its table has columns lambda, flux; expected FLUX, IVAR, WAVELENGTH, ANDMASK (LAMOST) "
        "or flux, ivar, loglam, and_mask (SDSS)"
    )


def test_an_image_is_no_spectrum(tmp_path: Path) -> None:
    fits.PrimaryHDU(np.ones((4, 4))).writeto(tmp_path / "x.fits")
    assert "no table in HDU 1 and no image with COEFF0 and COEFF1" in problem_of(tmp_path / "x.fits")


def test_damaged_files_are_one_line_each(tmp_path: Path) -> None:
    whole = lamost(tmp_path / "whole.fits").read_bytes()
    packed = gzip.compress(whole)
    flipped = bytearray(packed)
    flipped[-6] ^= 255  # in the checksum
    damaged = {
        "text.fits": (b"id,type\n1,star\n", "cannot be read as FITS"),
        "cut.fits": (whole[:-2880], f"is truncated: {len(whole) - 2880:,} bytes; expected at least"),
        "header.fits": (whole[:1000], "cannot be read as FITS"),
        "nothing.fits.gz": (gzip.compress(b""), "is empty"),
        "cut.fits.gz": (packed[:-20], "EOFError"),
        "flipped.fits.gz": (bytes(flipped), "CRC check failed"),
    }
    for name, (content, words) in damaged.items():
        (tmp_path / name).write_bytes(content)
        assert words in problem_of(tmp_path / name)
    (tmp_path / "folder.fits").mkdir()
    assert "cannot be read as FITS (IsADirectoryError" in problem_of(tmp_path / "folder.fits")


def test_a_spectrum_with_every_pixel_masked_says_so(tmp_path: Path) -> None:
    path = lamost(tmp_path / "x.fits", IVAR=np.zeros(10))
    assert "all 10 pixels are masked; expected some with inverse variance above 0" in problem_of(path)


def test_a_spectrum_of_zeros_is_none(tmp_path: Path) -> None:
    assert "flux is 0 at every good pixel" in problem_of(lamost(tmp_path / "x.fits", FLUX=np.zeros(10)))


def test_a_spectrum_mostly_masked_says_how_much(tmp_path: Path) -> None:
    ivar = np.ones(10)
    ivar[3:9] = 0
    assert "6 of 10 pixels are masked, which leaves 4 of 10 bins measured" in problem_of(lamost(tmp_path / "x.fits", IVAR=ivar))
    ivar[3] = 1
    assert row_of(lamost(tmp_path / "half.fits", IVAR=ivar))[3] == pytest.approx(13, abs=0.02)  # half of it is enough


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ((5000, 5010, 1), "covers 4000 to 4009 angstrom; the grid is 5000 to 5010 angstrom, and the file covers none of it"),
        (
            (3980, 4008, 1),
            "covers 4000 to 4009 angstrom; the grid is 3980 to 4008 angstrom, and the file covers less than half",
        ),
    ],
)
def test_a_grid_outside_the_file_names_both_ranges(tmp_path: Path, grid: tuple[float, float, float], words: str) -> None:
    assert words in problem_of(lamost(tmp_path / "x.fits"), grid)


def test_wavelengths_that_do_not_rise_are_refused(tmp_path: Path) -> None:
    for name, place in {
        "falling": PIXELS[::-1],
        "twice": np.full(10, 4000.0),
        "zero": np.arange(10.0),
        "nan": PIXELS * np.nan,
    }.items():
        assert "wavelengths are not increasing" in problem_of(lamost(tmp_path / f"{name}.fits", WAVELENGTH=place.copy()))


def test_flux_beyond_32_bits_is_refused(tmp_path: Path) -> None:
    columns = [("FLUX", FLUX * 1e40), ("IVAR", FLUX), ("WAVELENGTH", PIXELS), ("ANDMASK", np.zeros(10))]
    made = [fits.Column(name=name, format="10D", array=values[None]) for name, values in columns]
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(made)]).writeto(tmp_path / "x.fits")
    assert "flux reaches 1.9e+41; expected values within float32 range" in problem_of(tmp_path / "x.fits")


def test_several_spectra_in_one_table_are_refused(tmp_path: Path) -> None:
    names = ("FLUX", "IVAR", "WAVELENGTH", "ANDMASK")
    made = [fits.Column(name=name, format="10E", array=np.ones((3, 10))) for name in names]
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(made)]).writeto(tmp_path / "x.fits")
    assert "its table has 3 rows of vectors; expected one spectrum" in problem_of(tmp_path / "x.fits")


def test_columns_of_two_lengths_are_refused(tmp_path: Path) -> None:
    problem = problem_of(lamost(tmp_path / "x.fits", IVAR=np.ones(9)))
    assert "its columns wavelength, flux, ivar, andmask have 10, 10, 9, 10 pixels; expected one length" in problem


def test_what_follows_the_spectrum_is_not_needed(tmp_path: Path) -> None:
    """SDSS's full files go on with every exposure; one that a download cut off there still holds the whole spectrum."""
    path = sdss(tmp_path / "spec.fits")
    size = path.stat().st_size
    fits.append(path, np.ones(5000))
    path.write_bytes(path.read_bytes()[: size + 2880 + 100])
    block = parse_one(path)
    assert (block.problems, block.facts["class"]) == ([""], ["galaxy"])


def test_without_the_library_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lamost(tmp_path / "x.fits")
    monkeypatch.setitem(sys.modules, "astropy.io.fits", None)
    with pytest.raises(UserError, match=r"pip install 'wavefold\[astronomy\]'"):
        parse_one(path)


def test_a_wrong_grid_is_the_users_and_no_files_problem(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="step must be above 0"):
        parse_one(lamost(tmp_path / "x.fits"), (4000, 4010, 0))


def test_the_parser_travels_to_other_processes(tmp_path: Path) -> None:
    parse = pickle.loads(pickle.dumps(partial(parse_fits, grid=GRID)))
    assert parse([str(lamost(tmp_path / "x.fits"))]).problems == [""]
    assert parse([]).rows.shape == (0, 10)
    assert GRID_UNIT == "angstrom"


def test_every_real_file_is_read(real: Callable[[str], Path]) -> None:
    """12 of LAMOST DR10, 5 of DR1, 17 of SDSS; classes and redshifts as the pipelines' tables say."""
    paths = [
        path for folder in ("lamost/sample_fits", "lamost/sample_fits_dr1") for path in sorted(real(folder).glob("*.fits.gz"))
    ]
    with (real("sdss_sample") / "index.csv").open(newline="") as file:
        index = list(csv.DictReader(file))
    paths += [real("sdss_sample") / row["file"] for row in index]
    block = parse_fits([str(path) for path in paths], grid=LAMOST_GRID)
    assert block.problems == [""] * 34
    assert np.isfinite(block.rows).all()
    assert block.facts["kind"] == ["lamost table"] * 12 + ["lamost image"] * 5 + ["sdss"] * 17
    assert block.facts["class"] == ["star"] * 17 + [row["type"] for row in index]
    assert block.facts["subclass"][17:] == [row["subclass"] for row in index]
    np.testing.assert_allclose([float(z) for z in block.facts["z"][17:]], [float(row["z"]) for row in index], atol=1e-6)
    assert all(float(word) > 0.7 for word in block.facts["snr"])
    assert (
        max(map(int, block.facts["filled"])) < 260
    )  # of 2,600 bins; two of DR1 have no flux at all from 5582 to 5900 angstrom


def test_real_spectra_agree_with_the_contests_txt_of_them(real: Callable[[str], Path]) -> None:
    """The txt averages the pixels whose centres lie in a bin and looks at no mask: half the bins agree to 0.2 %."""
    with (real("lamost") / "train_meta.csv").open(newline="") as file:
        ids = {row["source_file"]: row["id"] for row in csv.DictReader(file)}
    paths = sorted(real("lamost/sample_fits").glob("*.fits.gz"))
    rows = parse_fits([str(path) for path in paths], grid=LAMOST_GRID).rows
    with zipfile.ZipFile(real("lamost/train_data.zip")) as archive:
        for path, row in zip(paths, rows, strict=True):
            text = archive.read(f"train_data/{ids[path.name.removesuffix('.gz')]}.txt").decode()
            txt = np.array(text.split(","), np.float64)
            difference = (row - txt) / np.median(txt)
            assert np.median(np.abs(difference)) < 2e-3
            assert np.quantile(np.abs(difference), 0.95) < 2e-2
            assert abs(np.median(difference)) < 1e-4  # nothing is shifted up or down
