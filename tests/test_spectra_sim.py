"""Simulated spectra: the contest's shares, grid and files; lines where physics has them; neither trivial nor noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score

from wavefold.core.errors import DataError, UserError
from wavefold.data.dataset import Dataset
from wavefold.data.significant import five_digits
from wavefold.domains.spectra import lines
from wavefold.domains.spectra.celestial import LIGHT, add_lines, draw_galaxies, draw_quasars, draw_stars, temperatures
from wavefold.domains.spectra.simulate import (
    CLASSES,
    GALAXY,
    QSO,
    STAR,
    observe,
    signal_to_noise,
    simulate_spectra,
    wavelengths,
)
from wavefold.domains.spectra.write import write_spectra

AXIS = wavelengths(2600)


def near(flux: np.ndarray, wavelength: float, half: float = 3.0) -> float:
    """Mean flux of the mean spectrum within `half` angstrom."""
    return float(flux.mean(axis=0)[np.abs(AXIS - wavelength) <= half].mean())


def small(count: int = 3) -> Dataset:
    return simulate_spectra(count, 0, shape=(1, 100))


def members(path: Path) -> list[str]:
    with ZipFile(path) as archive:
        return archive.namelist()


def test_vacuum_wavelengths_are_the_tabled_ones() -> None:
    # Air and vacuum of H-alpha, H-beta, [O III] and Na D2 as SDSS lists them beside each other.
    np.testing.assert_allclose(
        lines.vacuum([6562.80, 4861.325, 5006.843, 5889.950]), [6564.61, 4862.683, 5008.239, 5891.583], atol=0.01
    )


def test_grid_is_the_contests() -> None:
    np.testing.assert_array_equal(AXIS, np.arange(3700.0, 8899, 2))
    np.testing.assert_allclose(wavelengths(100)[[0, 1, -1]], [3725, 3777, 8873])  # 52 angstrom each from 3699 to 8899


def test_shares_are_honest_and_no_class_is_empty() -> None:
    data = simulate_spectra(1000, 3, shape=(1, 100))
    assert data.classes == ("star", "unknown", "galaxy", "qso")
    assert np.bincount(data.known_labels()).tolist() == [780, 70, 110, 40]
    assert np.bincount(small(4).known_labels()).tolist() == [1, 1, 1, 1]
    assert np.bincount(small(10).known_labels()).tolist() == [7, 1, 1, 1]
    assert len(small(2)) == 2


def test_classes_may_be_fewer_and_in_any_order() -> None:
    data = simulate_spectra(200, 3, shape=(1, 100), classes=("qso", "star", "galaxy"))
    assert data.classes == ("qso", "star", "galaxy")
    assert np.bincount(data.known_labels()).tolist() == [8, 168, 24]  # .04, .84, .12
    assert data.digest != simulate_spectra(200, 3, shape=(1, 100)).digest


def test_same_seed_same_spectra() -> None:
    one, again, other = (simulate_spectra(600, seed, shape=(1, 120)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.signals, again.signals)
    assert (one.ids == again.ids).all()
    assert not np.array_equal(one.signals, other.signals)
    assert one.digest == "simulated-spectra-600-5-120"


def test_dataset_is_whole() -> None:
    data = simulate_spectra(300, 1)
    assert data.signals.shape == (300, 1, 2600)
    assert data.signals.dtype == np.float32
    assert np.isfinite(data.signals).all()
    assert data.axis is not None
    assert (data.axis == AXIS).all()
    assert (data.unit, data.groups, len(set(data.ids.tolist()))) == ("2 angstrom", None, 300)
    assert all(word.isdigit() and len(word) == 9 for word in data.ids.tolist())
    level = np.median(data.signals[:, 0], axis=1)
    assert np.percentile(level, 95) > 100 * np.percentile(level, 5)  # brightness differs by orders of magnitude
    assert (data.signals < 0).any()


def test_signal_to_noise_is_from_1_to_60_and_is_what_was_asked() -> None:
    rng = np.random.default_rng(0)
    drawn = signal_to_noise(np.repeat([STAR, GALAXY, QSO], 2000), rng)
    assert 1 <= drawn.min() < 1.05
    assert 57 < drawn.max() <= 60
    for requested in (3.0, 30.0):
        seen = observe(np.ones((50, 2600), np.float32), np.full(50, requested), np.zeros(50), np.zeros(50), AXIS, rng)
        noise = np.median(np.abs(np.diff(seen, axis=1)), axis=1) / 0.6745 / np.sqrt(2)
        assert np.median(np.median(seen, axis=1) / noise) == pytest.approx(requested, rel=0.15)


def test_line_has_its_place_and_area() -> None:
    for wings in (False, True):
        target = np.zeros((2, 2601), np.float32)
        add_lines(target, AXIS, np.array([5000.7, 6000.0]), np.array([4.0, 9.0]), np.array([10.0, -3.0]), wings=wings)
        line = target[:, :-1]
        np.testing.assert_allclose(line.sum(axis=1) * 2, [10, -3], rtol=0.05)  # bins of 2 angstrom
        np.testing.assert_allclose((line * AXIS).sum(axis=1) / line.sum(axis=1), [5000.7, 6000.0], atol=0.1)
    target = np.zeros((1, 2601), np.float32)
    add_lines(target, AXIS, np.array([3699.0]), np.array([4.0]), np.array([10.0]))
    assert (target[0, :-1] * 2).sum() == pytest.approx(5, rel=0.2)  # half of it lies outside


@pytest.mark.parametrize(("temperature", "deepest"), [(9000, lines.BALMER[1]), (4500, lines.CALCIUM_K_H[0])])
def test_stars_show_the_lines_of_their_temperature(temperature: float, deepest: float) -> None:
    flux = draw_stars(np.full(200, float(temperature)), AXIS, np.random.default_rng(0))
    others = {9000: lines.CALCIUM_K_H[0], 4500: lines.BALMER[1]}
    depth = {line: 1 - near(flux, line) / near(flux, line + 40) for line in (deepest, others[temperature])}
    assert depth[deepest] > 0.3
    assert depth[deepest] > 2 * depth[others[temperature]]


def test_cool_stars_have_bands_and_hot_ones_are_blue() -> None:
    rng = np.random.default_rng(1)
    cool, sun, hot = (draw_stars(np.full(100, t), AXIS, rng) for t in (3200.0, 5800.0, 15_000.0))
    head = lines.BANDS[10]
    assert near(cool, head + 20) < 0.7 * near(cool, head - 20)
    assert near(sun, head + 20) == pytest.approx(near(sun, head - 20), rel=0.03)
    assert near(hot, 4000, 20) / near(hot, 8000, 20) > 3 > near(sun, 4000, 20) / near(sun, 8000, 20)
    drawn = temperatures(5000, rng)
    assert 0.7 < ((drawn > 3900) & (drawn < 7300)).mean() < 0.95  # F, G and K are most


@pytest.mark.parametrize("redshift", [0.02, 0.1, 0.3])
def test_galaxies_glow_at_their_redshift(redshift: float) -> None:
    flux = draw_galaxies(np.full(400, redshift), AXIS, np.random.default_rng(2))
    stretch = 1 + redshift
    alpha, beta = (lines.BALMER[i] * stretch for i in (0, 1))
    mean = flux.mean(axis=0)
    window = np.abs(AXIS - alpha) < 15
    assert abs(AXIS[window][np.argmax(mean[window])] - alpha) <= 2
    assert near(flux, alpha) - near(flux, alpha + 80) > 2 * (near(flux, beta) - near(flux, beta + 40))
    weak, strong = ((near(flux, x * stretch) - near(flux, 5050 * stretch)) for x in lines.OXYGEN_III)
    assert 2 < strong / weak < 4.5
    if redshift > 0.05:
        assert near(flux, 4080 * stretch, 20) > 1.2 * near(flux, 3850 * stretch, 20)  # the break at 4000 angstrom
        assert near(flux, 3728.5 * stretch) > near(flux, 3700 * stretch)  # [O II]


@pytest.mark.parametrize(("redshift", "line"), [(0.9, lines.QUASAR[6]), (2.0, lines.QUASAR[3]), (2.8, lines.LYMAN_ALPHA)])
def test_quasars_peak_at_their_redshift(redshift: float, line: float) -> None:
    flux = draw_quasars(np.full(200, redshift), AXIS, np.random.default_rng(3))
    smooth = flux.mean(axis=0)
    window = np.abs(AXIS - line * (1 + redshift)) < 60
    peak = AXIS[window][np.argmax(smooth[window])]
    assert abs(peak / (line * (1 + redshift)) - 1) < 1200 / LIGHT  # lines are a little blue of their place
    assert smooth[window].max() > 1.2 * smooth[np.abs(AXIS - line * (1 + redshift) - 230) < 20].mean()


def test_forest_dims_quasars_bluewards_of_lyman_alpha() -> None:
    flux = draw_quasars(np.full(200, 3.5), AXIS, np.random.default_rng(4))
    alpha = lines.LYMAN_ALPHA * 4.5
    blue, red = alpha - 350, alpha + 700
    let_through = near(flux, blue, 100) / near(flux, red, 100) * (blue / red) ** 1.56  # beside the mean power law
    expected = np.exp(-0.0036 * (blue / lines.LYMAN_ALPHA) ** 3.46)  # Madau 1995
    assert let_through == pytest.approx(expected, abs=0.1)
    farther = draw_quasars(np.full(50, 3.9), AXIS, np.random.default_rng(4))
    assert near(farther, 3850, 50) < 0.1 * near(farther, lines.LYMAN_ALPHA * 4.9 + 700, 100)  # beyond the Lyman limit


def test_classes_overlap_yet_differ() -> None:
    data = simulate_spectra(2400, 2, shape=(1, 520))
    x, y = data.signals[:, 0], data.known_labels()
    x = np.clip(x / np.median(np.abs(x), axis=1, keepdims=True), -5, 10)
    parts = PCA(25, random_state=0).fit(x[:1600]).transform(x)
    forest = RandomForestClassifier(100, class_weight="balanced_subsample", min_samples_leaf=3, random_state=0, n_jobs=1)
    guess = forest.fit(parts[:1600], y[:1600]).predict(parts[1600:])
    assert 0.5 < f1_score(y[1600:], guess, average="macro") < 0.95  # stars alone would give 0.22


def test_contest_layout_is_written(tmp_path: Path) -> None:
    data = small()
    index = write_spectra(data, tmp_path)
    assert index == tmp_path / "train_index.csv"
    names = [data.classes[i] for i in data.known_labels()]
    assert index.read_text() == "id,type\n" + "".join(f"{i},{n}\n" for i, n in zip(data.ids, names, strict=True))
    assert members(tmp_path / "train_data.zip") == [f"train_data/{i}.txt" for i in data.ids]
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "wavelength.txt", delimiter=","), data.axis)
    with ZipFile(tmp_path / "train_data.zip") as archive:
        text = archive.read(f"train_data/{data.ids[1]}.txt").decode()
    assert text.count("\n") == 1
    back = np.array(text.split(","), np.float64)
    np.testing.assert_allclose(back, data.signals[1, 0], rtol=5.0001e-5)
    assert max(len(word.strip("\n-").replace(".", "").split("e")[0].strip("0")) for word in text.split(",")) == 5


def test_numbers_are_written_as_five_digits() -> None:
    rng = np.random.default_rng(0)
    values = np.float32(
        np.concatenate([rng.normal(0, 10.0 ** np.arange(-3, 4), (600, 7)).ravel(), rng.integers(-999, 999, 99)])
    )
    values = values[(values == 0) | (np.abs(values) > 1e-4)]
    edges = np.float32([0, -0.0, 1, 10, 100, 1000, 10_000, 99_999, 0.0001, 0.001, 0.01, 0.1, 9.99996, 999.999, -20, 1.5, 12340])
    for row in (values, edges):
        written = five_digits(row).decode().split(",")
        assert written == [f"{value + 0.0:.5g}" for value in row.tolist()]  # + 0.0: no minus zero
    rare = np.float32([1e-7, 3.0e38, 99_999.6, 1, np.nan])
    assert five_digits(rare) == b"1e-07,3e+38,1e+05,1,nan"


def test_same_dataset_same_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_spectra(small(), tmp_path / folder)
    for name in ("train_index.csv", "train_data.zip", "wavelength.txt"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_test_part_stands_beside_train_without_labels(tmp_path: Path) -> None:
    data = small()
    write_spectra(data, tmp_path)
    index = write_spectra(replace(data, labels=None), tmp_path, "test")
    assert index.read_text().splitlines() == ["id", *data.ids.tolist()]
    assert members(tmp_path / "test_data.zip")[0] == f"test_data/{data.ids[0]}.txt"
    with pytest.raises(UserError, match=r"wavelength\.txt: already exists"):
        write_spectra(simulate_spectra(3, 0, shape=(1, 101)), tmp_path, "more")
    write_spectra(replace(data, axis=None), tmp_path / "bare")
    assert not (tmp_path / "bare" / "wavelength.txt").exists()


@pytest.mark.parametrize("there", ["train_index.csv", "train_data.zip"])
def test_nothing_is_written_over(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(UserError, match=f"{there}: already exists; choose another folder"):
        write_spectra(small(), tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


@pytest.mark.parametrize("word", ["../up", "a/b", ".hidden", "", "a,b", "c\n"])
def test_ids_that_are_no_file_names_are_refused(tmp_path: Path, word: str) -> None:
    with pytest.raises(DataError, match="is not safe as a file name"):
        write_spectra(replace(small(), ids=np.array(["1", word, "3"])), tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_the_layout_cannot_hold_is_refused(tmp_path: Path) -> None:
    data = small()
    with pytest.raises(DataError, match="has 2 channels; the contest layout supports only 1"):
        write_spectra(replace(data, signals=np.repeat(data.signals, 2, axis=1)), tmp_path)
    with pytest.raises(DataError, match="id 'A' appears twice"):
        write_spectra(replace(data, ids=np.array(["a", "b", "A"])), tmp_path)
    with pytest.raises(DataError, match="class 'a,b' contains a comma"):
        write_spectra(replace(data, classes=("a,b", "c", "d", "e")), tmp_path)


def test_bad_orders_are_refused() -> None:
    with pytest.raises(UserError, match="0 spectra"):
        simulate_spectra(0, 0)
    with pytest.raises(UserError, match="of 99 values requested; expected at least 1 of at least 100"):
        simulate_spectra(4, 0, shape=(1, 99))
    with pytest.raises(UserError, match="class 'stars' is not one of star, unknown, galaxy, qso; did you mean 'star'"):
        simulate_spectra(4, 0, classes=("stars", "qso"))
    for classes in (("star",), ("star", "star"), ()):
        with pytest.raises(UserError, match="expected 2 or more"):
            simulate_spectra(4, 0, classes=classes)
    assert set(CLASSES) == {"star", "unknown", "galaxy", "qso"}
