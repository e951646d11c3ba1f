"""What spectra state is obeyed: the unit and the medium of wavelengths, the unit of flux, how much of a grid a file covers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import wavefold
from wavefold import api
from wavefold.core.errors import DataError, UserError
from wavefold.data import read
from wavefold.domains.spectra.contest_txt import read_wavelengths
from wavefold.domains.spectra.medium import air_index, in_medium
from wavefold.tasks.samples.reading import even_grid

fits = pytest.importorskip("astropy.io.fits")

Values = NDArray[np.float64]
LINE = 6564.61  # angstrom in vacuum: H-alpha
GRID = [6000.0, 7000.0, 0.5]
AXIS = np.arange(5900.0, 7100.0, 0.5)


def texts(folder: Path, wavelengths: Values, count: int = 20) -> Path:
    """An index, txt files of two classes, and wavelength.txt."""
    (folder / "train_data").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        slope = 1 if number % 2 else -1
        flux = 100 + slope * np.linspace(-30, 30, len(wavelengths)) + rng.normal(0, 1, len(wavelengths))
        (folder / "train_data" / f"{number}.txt").write_text(",".join(f"{value:.5g}" for value in flux))
        rows.append(f"{number},{'red' if number % 2 else 'blue'}")
    (folder / "train_index.csv").write_text("id,type\n" + "\n".join(rows) + "\n")
    (folder / "wavelength.txt").write_text(",".join(f"{value:.12g}" for value in wavelengths))
    return folder


def said(source: Path, **options: object) -> str:
    with pytest.raises(UserError) as error:
        read(source, cache=False, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


STEPS = np.arange(3360.0, 10201.0, 20.0)  # angstrom


@pytest.mark.parametrize(
    ("values", "unit", "looks"),
    [
        (STEPS / 10, "nm", "taken as angstrom, but look like nm; set data.wavelength_unit=nm"),
        (
            np.log10(STEPS),
            "log10 angstrom",
            "as micron, but look like log10 of angstrom; set data.wavelength_unit='log10 angstrom'",
        ),
        (STEPS, "angstrom", ""),
        (STEPS / 1e4, "micron", ""),
        (STEPS * 100, "angstrom", "taken as angstrom, but look like another unit; set data.wavelength_unit="),
    ],
)
def test_a_unit_of_wavelengths_is_doubted_and_can_be_set(tmp_path: Path, values: Values, unit: str, looks: str) -> None:
    source = texts(tmp_path, values)
    guessed = read(source)
    assert (looks in " ".join(guessed.notes)) if looks else guessed.notes == ()
    assert bool(guessed.notes) == bool(looks)
    told = read(source, wavelength_unit=unit)
    assert told.notes == ()
    assert told.axis is not None
    np.testing.assert_allclose(told.axis * (1e4 if unit == "micron" else 1), values if unit == "angstrom" else STEPS, rtol=1e-9)
    np.testing.assert_array_equal(told.signals, guessed.signals)
    if unit == "nm":
        assert told.unit == "20 angstrom"
        assert even_grid(told) == pytest.approx([3360, 10200, 20])
        lines = api.check(api.resolve("spectra", overrides={"data.wavelength_unit": "nm"}), str(source))
        assert "axis: 3360 to 10200 (20 angstrom)" in lines
        assert any(line.startswith("note:") and "look like nm" in line for line in api.check("spectra", str(source)))


@pytest.mark.parametrize("unit", ["angstrom", "micron"])
def test_a_doubted_guess_can_be_confirmed(tmp_path: Path, unit: str) -> None:
    values = STEPS / 10 if unit == "angstrom" else np.log10(STEPS)
    (tmp_path / "wavelength.txt").write_text(",".join(map(str, values)))
    assert f"{unit} confirms the guess" in read_wavelengths(tmp_path / "wavelength.txt").notes[0]
    told = read_wavelengths(tmp_path / "wavelength.txt", unit)
    assert (told.notes, told.unit) == ((), unit)
    np.testing.assert_array_equal(told.values, values)


def test_wavelengths_that_cannot_be_the_unit_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "wavelength.txt"
    file.write_text("4000,4001")
    with pytest.raises(DataError, match=r"value 2 is 4001, too large for log10 of angstrom; set data.wavelength_unit to"):
        read_wavelengths(file, "log10 angstrom")
    file.write_text("29761.9,29585.8,29411.7")
    with pytest.raises(
        DataError, match=r"value 2 is 29585.8, expected more than .* all values fall: .* write 1e8 / value instead"
    ):
        read_wavelengths(file)


def columns(axis: Values, flux: Values, mark: str) -> str:
    return "".join(f"{a:.2f}{mark}{f:.4f}\n" for a, f in zip(axis, flux, strict=True))


FORMS: dict[str, tuple[Callable[[Values, Values], str], str]] = {
    "spaces": (lambda a, f: columns(a, f, "  "), "two columns of 60 rows, such as wavelength and flux"),
    "commas": (lambda a, f: columns(a, f, ","), "two columns of 60 rows, such as wavelength and flux"),
    "tabs": (lambda a, f: columns(a, f, "\t").replace("\n", "\r\n"), "two columns of 60 rows"),
    "header": (
        lambda a, f: "# wavelength flux\n" + columns(a, f, " "),
        "two columns of 60 rows, such as wavelength and flux, and 1 line of",
    ),
    "three": (lambda a, f: columns(a, f, " 1 "), "3 columns of 60 rows"),
    "one a line": (lambda _, f: "\n".join(f"{v:.4f}" for v in f), "one value a line (60 lines)"),
    "one line": (lambda _, f: " ".join(f"{v:.4f}" for v in f), "60 values on a line without commas"),
    "semicolons": (lambda _, f: ";".join(f"{v:.4f}" for v in f), "60 values on a line without commas"),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_text_of_another_form_is_named_and_the_advice_works(tmp_path: Path, name: str) -> None:
    form, looks = FORMS[name]
    axis, flux = np.arange(4000.0, 4300.0, 5), np.random.default_rng(0).normal(0, 1, (3, 60)).round(4)
    (tmp_path / "data").mkdir()
    for number, row in enumerate(flux):
        (tmp_path / "data" / f"{number}.txt").write_text(form(axis, row), newline="")
    for source in (tmp_path / "data", tmp_path / "data" / "0.txt"):
        words = said(source)
        assert words.startswith(f"data 0.txt: looks like {looks}")
        assert "; expected one line of fluxes joined by commas, and the wavelengths likewise once in wavelength.txt" in words
    for number, row in enumerate(flux):
        (tmp_path / "data" / f"{number}.txt").write_text(",".join(map(str, row)))
    (tmp_path / "data" / "wavelength.txt").write_text(",".join(map(str, axis)))
    data = read(tmp_path / "data", cache=False)
    assert (data.signals.shape, data.unit) == ((3, 1, 60), "5 angstrom")


def test_a_table_of_samples_is_named_and_can_be_read_as_csv(tmp_path: Path) -> None:
    rows = [[number % 2, *np.round(np.linspace(0, number, 20), 3)] for number in range(30)]
    (tmp_path / "x.txt").write_text("".join("  ".join(map(str, row)) + "\n" for row in rows))
    words = said(tmp_path / "x.txt")
    assert "x.txt: looks like a table of 30 rows and 21 columns; expected one spectrum a file" in words
    assert words.endswith("if each row is a sample, save it as .csv with a line of column names")
    names = ",".join(["label", *(f"t{k}" for k in range(20))])
    (tmp_path / "x.csv").write_text(f"{names}\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    data = read(tmp_path / "x.csv", cache=False)
    assert (data.signals.shape, data.classes) == ((30, 1, 20), ("0", "1"))


def test_a_file_of_the_working_folder_is_named_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "7.txt").write_text("1 2 3")
    monkeypatch.chdir(tmp_path)
    assert said(Path("7.txt")).startswith(f"{tmp_path.name} 7.txt: looks like")
    assert said(Path("."), layout="spectra").startswith(f"{tmp_path.name} 7.txt: looks like")


@pytest.mark.parametrize(("vacuum", "air"), [(4862.71, 4861.35), (5185.05, 5183.60), (6564.61, 6562.79), (8544.44, 8542.09)])
def test_wavelengths_in_air_are_as_published(vacuum: float, air: float) -> None:
    """H-beta, Mg b, H-alpha and Ca II: NIST's wavelengths in air, and SDSS's in vacuum."""
    assert in_medium(np.array([vacuum]), "vacuum", "air")[0] == pytest.approx(air, abs=0.03)
    assert in_medium(np.array([air]), "air", "vacuum")[0] == pytest.approx(vacuum, abs=0.03)


def test_the_two_conversions_undo_each_other() -> None:
    axis = np.linspace(2100, 25000, 1000)
    np.testing.assert_allclose(in_medium(in_medium(axis, "vacuum", "air"), "air", "vacuum"), axis, rtol=1e-12)
    for stated, wanted in (("air", "air"), ("", "air"), ("air", "")):
        assert in_medium(axis, stated, wanted) is axis
    assert air_index(np.array([1900.0, 5000.0])) == pytest.approx([1, 1.000279], abs=1e-7)


def lamost(path: Path, *, axis: Values = AXIS, medium: str = "", flux: Values | None = None, **cards: object) -> Path:
    """A LAMOST table with H-alpha in emission. axis: in vacuum; the file has it in `medium`. cards: of the table's header."""
    axis = in_medium(axis, "vacuum", medium or "vacuum")
    there = 10 + 50 * np.exp(-0.5 * ((axis - in_medium(np.array([LINE]), "vacuum", medium or "vacuum")) / 2) ** 2)
    values = {"FLUX": there if flux is None else flux, "IVAR": np.ones(len(axis)), "WAVELENGTH": axis, "ANDMASK": 0 * axis}
    values["WAVELENGTH"] = cards.pop("values", axis)
    made = [fits.Column(name=name, format=f"{len(axis)}D", array=array[None]) for name, array in values.items()]
    primary = fits.PrimaryHDU(header=fits.Header({"CLASS": "STAR", **cards.pop("primary", {})}))
    table = fits.BinTableHDU.from_columns(made)
    table.header.update(cards)
    path.parent.mkdir(exist_ok=True)
    fits.HDUList([primary, table]).writeto(path)
    return path


def sdss(path: Path, logs: Values, unit: str) -> Path:
    zeros = np.zeros(len(logs))
    values = {"loglam": logs, "flux": np.ones(len(logs)), "ivar": zeros + 1, "and_mask": zeros}
    made = [fits.Column(name=n, format="D", array=v, unit=unit if n == "loglam" and unit else None) for n, v in values.items()]
    path.parent.mkdir(exist_ok=True)
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(made)]).writeto(path)
    return path


def peak(data: wavefold.data.Dataset, row: int = 0) -> float:
    """Where the brightest bin is, in angstrom."""
    assert data.axis is not None
    return float(data.axis[np.argmax(data.signals[row, 0])])


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("nm", 0.1), ("Angstrom", 1), ("ANGSTROMS", 1), ("um", 1e-4), ("MICRON", 1e-4), ("0.1 nm", 1), ("m", 1e-10)],
)
def test_the_unit_of_wavelengths_is_obeyed(tmp_path: Path, unit: str, factor: float) -> None:
    plain = read(lamost(tmp_path / "a" / "a.fits"), grid=GRID, cache=False)
    for name, cards in {
        "TUNIT3": {"TUNIT3": unit},
        "CUNIT1": {"CUNIT1": unit},
        "WAT": {"primary": {"WAT1_001": f"wtype=linear units={unit}"}},
    }.items():
        if name == "WAT" and " " in unit:
            continue
        other = read(lamost(tmp_path / name / "a.fits", values=AXIS * factor, **cards), grid=GRID, cache=False)
        np.testing.assert_allclose(other.signals, plain.signals, rtol=1e-4)


@pytest.mark.parametrize("unit", ["log10(Angstrom)", "log(nm)", "LOG10 ANGSTROMS", "Angstrom", ""])
def test_the_unit_of_logarithms_is_obeyed(tmp_path: Path, unit: str) -> None:
    logs = np.log10(AXIS / (10 if "nm" in unit else 1))
    data = read(sdss(tmp_path / "a.fits", logs, unit), grid=GRID, cache=False)
    np.testing.assert_allclose(data.signals, 1, rtol=1e-6)
    column = lamost(tmp_path / "b.fits", values=logs, TUNIT3=unit)
    if "log" in unit.lower():
        assert peak(read(column, grid=GRID, cache=False)) == pytest.approx(LINE, abs=0.5)
    else:
        assert "wavelengths" in said(column, grid=GRID) or "covers" in said(column, grid=GRID)


@pytest.mark.parametrize("unit", ["Hz", "eV", "pix", "cm-1"])
def test_a_unit_that_is_no_length_is_refused(tmp_path: Path, unit: str) -> None:
    words = said(lamost(tmp_path / "a.fits", TUNIT3=unit), grid=GRID)
    assert words == f"a.fits: wavelengths are in '{unit}'; expected a unit of length, such as Angstrom or nm"


@pytest.mark.parametrize("cards", [{"VACUUM": False}, {"VACUUM": "F"}, {"AIRORVAC": "air"}, {"CTYPE1": "AWAV"}])
def test_wavelengths_in_air_are_stated_and_converted(tmp_path: Path, cards: dict[str, object]) -> None:
    data = read(lamost(tmp_path / "air.fits", medium="air", primary=cards), grid=GRID, cache=False)
    assert (dict(data.attrs), data.notes) == ({"medium": "air"}, ())
    assert peak(data) == pytest.approx(LINE - 1.8, abs=0.5)
    vacuum = read(tmp_path / "air.fits", grid=GRID, cache=False, medium="vacuum")
    assert dict(vacuum.attrs) == {"medium": "vacuum"}
    assert vacuum.notes == ("wavelengths of 1 file converted to vacuum (refractive index of air by Ciddor 1996)",)
    assert peak(vacuum) == pytest.approx(LINE, abs=0.5)


def test_files_in_air_and_in_vacuum_come_to_one_medium(tmp_path: Path) -> None:
    for number, medium in enumerate(["vacuum", "air", "vacuum", ""]):
        card = {"VACUUM": medium == "vacuum"} if medium else {}
        lamost(tmp_path / "x" / f"{number}.fits", medium=medium, primary=card)
    for _ in range(2):  # read, then from the cache
        data = read(tmp_path / "x", grid=GRID)
        assert dict(data.attrs) == {"medium": "vacuum"}
        assert [peak(data, row) for row in range(4)] == pytest.approx([LINE] * 4, abs=0.5)
        assert data.notes == (
            "1 of 4 files state neither vacuum nor air; taken as vacuum",
            "wavelengths of 1 file converted to vacuum (refractive index of air by Ciddor 1996)",
        )
    air = read(tmp_path / "x", grid=GRID, medium="air")
    assert [peak(air, row) for row in (0, 1, 2)] == pytest.approx([LINE - 1.8] * 3, abs=0.5)
    (tmp_path / "y").mkdir()
    (tmp_path / "x" / "3.fits").rename(tmp_path / "y" / "3.fits")
    note = "no file states whether its wavelengths are in vacuum or in air; data.medium says so"
    assert read(tmp_path / "y", grid=GRID).notes == (note,)
    assert dict(read(tmp_path / "y", grid=GRID, medium="air").attrs) == {"medium": "air"}


def test_a_header_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    file = lamost(tmp_path / "a.fits", primary={"VACUUM": True, "AIRORVAC": "air"})
    assert said(file, grid=GRID) == "a.fits: its header says VACUUM = True and AIRORVAC = air; expected one medium"


def test_flux_of_several_units_is_converted_or_named(tmp_path: Path) -> None:
    usual, flux = "1E-17 erg/cm^2/s/Ang", 10 + np.arange(len(AXIS)) / 100
    for name, (factor, unit) in {
        "a": (1, usual),
        "b": (1, usual),
        "c": (0.1, "10**(-16) erg/s/cm^2/Angstrom"),
        "d": (1, ""),
    }.items():
        lamost(
            tmp_path / f"{name}.fits", flux=flux * factor, primary={"BUNIT": unit, "VACUUM": True} if unit else {"VACUUM": True}
        )
    data = read(tmp_path, grid=GRID)
    assert dict(data.attrs) == {"medium": "vacuum", "unit": "1e-17 erg/cm^2/s/angstrom"}
    np.testing.assert_allclose(data.signals[:], np.broadcast_to(data.signals[:1], data.signals.shape), rtol=1e-5)
    assert data.notes == (
        "1 of 4 files state no unit of flux; taken as 1e-17 erg/cm^2/s/angstrom, as the others say",
        "flux of 1 file converted to 1e-17 erg/cm^2/s/angstrom",
    )
    lamost(tmp_path / "e.fits", TUNIT1="adu", primary={"VACUUM": True})
    assert said(tmp_path, grid=GRID).startswith("e.fits: unit 'adu' cannot be converted to '1e-17 erg/cm^2/s/angstrom'")
    left = read(tmp_path, grid=GRID, skip_bad=True)
    assert (left.ids.tolist(), [name for name, _ in left.left_out]) == (["a", "b", "c", "d"], ["e"])


def test_a_grid_that_files_do_not_cover_is_noted_and_less_than_half_refused(tmp_path: Path) -> None:
    lamost(tmp_path / "a.fits", primary={"VACUUM": True})
    part = AXIS[AXIS > 6200]
    lamost(tmp_path / "b.fits", axis=part, primary={"VACUUM": True})
    data = read(tmp_path, grid=GRID)
    assert data.notes == (
        "1 file of 2 does not cover the grid 6000 to 7000 angstrom: 20.0% of the bins on average, 20.0% at most, lie outside "
        "the good pixels and hold the level at their edge; a grid that all files cover avoids it",
    )
    assert data.signals[1, 0, :400] == pytest.approx(10, abs=0.01)  # not 0, which a net takes for a break
    assert read(tmp_path, grid=[6201, 7000, 0.5]).notes == ()
    assert "covers 6200.5 to 7099.5 angstrom; the grid is 5000 to 7000" in said(tmp_path / "b.fits", grid=[5000, 7000, 0.5])


def test_the_real_surveys_state_vacuum_and_units(real: Callable[[str], Path]) -> None:
    grid = [3850, 9000, 2]
    for folder, attrs in {
        "lamost/sample_fits": {"medium": "vacuum"},
        "lamost/sample_fits_dr1": {"medium": "vacuum"},
        "sdss_sample": {"medium": "vacuum", "unit": "1e-17 erg/cm^2/s/angstrom"},
    }.items():
        assert dict(read(real(folder), grid=grid, labels=False).attrs) == attrs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> wavefold.Run:
    """A run on texts in nm, of which the recipe says that they are in air."""
    folder = tmp_path_factory.mktemp("texts")
    data = texts(folder / "data", np.arange(600.0, 700.0, 0.5), 60)
    changes = {"data.wavelength_unit": "nm", "data.medium": "air", "member": [{"model": "kernels"}], "output.baseline": ""}
    return wavefold.train("spectra", data, out=folder / "run", quick=True, overrides=changes, log=lambda _: None)


def test_a_run_hands_its_grid_and_its_medium_to_fits(run: wavefold.Run, tmp_path: Path) -> None:
    assert run.metadata.grid == pytest.approx((6000, 6995, 5))
    assert dict(run.metadata.attrs) == {"medium": "air"}
    lines: list[str] = []
    vacuum = run.predict(lamost(tmp_path / "vacuum.fits", primary={"VACUUM": True}), warn=lines.append)
    assert any("converted to air" in line for line in lines)
    air = run.predict(lamost(tmp_path / "air.fits", medium="air", primary={"VACUUM": False}))
    np.testing.assert_allclose(vacuum.probabilities, air.probabilities, atol=0.02)


def test_a_run_that_does_not_know_its_medium_says_so(tmp_path: Path) -> None:
    data = texts(tmp_path / "data", np.arange(6000.0, 7000.0, 5), 60)
    changes = {"member": [{"model": "kernels"}], "output.baseline": ""}
    run = wavefold.train("spectra", data, out=tmp_path / "run", quick=True, overrides=changes, log=lambda _: None)
    lines: list[str] = []
    run.predict(lamost(tmp_path / "vacuum.fits", primary={"VACUUM": True}), warn=lines.append)
    assert any("the run does not say whether its own are in vacuum or in air: train with data.medium" in line for line in lines)
