"""Stellar parameters: simulated spectra that show them, written with their targets, and the columns of real catalogues."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV

from wavefold.core.errors import DataError, UserError
from wavefold.data import read
from wavefold.domains.spectra.celestial import LIGHT
from wavefold.domains.spectra.lines import BALMER, CALCIUM_K_H, MAGNESIUM_B
from wavefold.domains.spectra.simulate import wavelengths
from wavefold.domains.spectra.simulate_stellar import LIMITS, TARGETS, draw_parameters, draw_spectra, simulate_stellar
from wavefold.domains.spectra.write import write_spectra

AXIS = wavelengths(2600)


def depth(stars: list[list[float]], line: float) -> np.ndarray:
    """How deep a line is below its surroundings in noise-free spectra of the given teff, logg and feh; means of 40 stars."""
    flux = draw_spectra(np.repeat(np.array(stars, float), 40, axis=0), AXIS, np.random.default_rng(0))
    near = np.abs(AXIS / line - 1) * LIGHT
    bottom, beside = flux[:, near < 400].min(axis=1), flux[:, (near > 2500) & (near < 4500)].mean(axis=1)
    return (1 - bottom / beside).reshape(len(stars), 40).mean(axis=1)


def test_spectra_have_their_shape_axis_and_parameters() -> None:
    data = simulate_stellar(500, 1, shape=(1, 650))
    assert data.signals.shape == (500, 1, 650)
    assert data.signals.dtype == np.float32
    assert np.isfinite(data.signals).all()
    assert data.axis is not None
    assert (data.axis[0], data.axis[-1], data.unit) == (3703.0, 8895.0, "8 angstrom")
    assert (data.target_names, data.labels, data.classes) == (TARGETS, None, ())
    assert data.targets is not None
    unknown = np.isnan(data.targets).mean(axis=0)
    assert (unknown > 0).all()
    assert (unknown < 0.12).all()
    for column, (low, high) in zip(data.targets.T, LIMITS, strict=True):
        assert low <= np.nanmin(column) < np.nanmax(column) <= high
    snr = data.columns["snrg"].astype(float)
    assert 8 <= snr.min() < 15
    assert 150 < snr.max() <= 200


def test_more_signal_to_noise_is_less_noise() -> None:
    data = simulate_stellar(400, 2)
    scaled = data.signals[:, 0] / np.median(data.signals[:, 0], axis=1, keepdims=True)
    noise = np.median(np.abs(np.diff(scaled[:, 1400:1800])), axis=1)
    assert np.corrcoef(np.log(noise), np.log(data.columns["snrg"].astype(float)))[0, 1] < -0.9


def test_lines_change_with_the_parameters_as_in_stars() -> None:
    beta, calcium, magnesium = BALMER[1], CALCIUM_K_H[0], MAGNESIUM_B[1]
    assert (np.diff(depth([[5000, 4.4, 0], [6500, 4.4, 0], [8500, 4.4, 0]], beta)) > 0.05).all()
    assert (np.diff(depth([[5000, 4.4, 0], [6500, 4.4, 0], [8500, 4.4, 0]], calcium)) < -0.05).all()
    assert (np.diff(depth([[5500, 4.4, -2], [5500, 4.4, -1], [5500, 4.4, 0]], magnesium)) > 0.03).all()
    assert (np.diff(depth([[4800, 1.5, 0], [4800, 3, 0], [4800, 4.5, 0]], magnesium)) > 0.03).all()


def test_hotter_stars_are_bluer() -> None:
    flux = draw_spectra(np.array([[4500, 4.5, 0], [6000, 4.5, 0], [8500, 4.2, 0]]), AXIS, np.random.default_rng(0))
    assert (np.diff(flux[:, 400:600].mean(axis=1) / flux[:, 1900:2100].mean(axis=1)) > 0.1).all()


def test_dwarfs_and_giants() -> None:
    teff, logg, feh = draw_parameters(5000, np.random.default_rng(0)).T
    assert logg[teff > 6500].mean() > 3.8
    assert 0.25 < (logg[teff < 5200] < 3.3).mean() < 0.65
    assert 0.05 < (feh < -1).mean() < 0.15


def test_parameters_can_be_learned_but_not_perfectly() -> None:
    data = simulate_stellar(1500, 4, shape=(1, 520))
    assert data.targets is not None
    scaled = np.clip(data.signals[:, 0] / np.median(data.signals[:, 0], axis=1, keepdims=True), -1, 5)
    for number, (low, high) in enumerate(((0.1, 0.6), (0.3, 0.95), (0.3, 0.95))):
        known = ~np.isnan(data.targets[:, number])
        train, test = known & (np.arange(1500) < 1100), known & (np.arange(1500) >= 1100)
        model = RidgeCV(np.logspace(-1, 4, 11)).fit(scaled[train], data.targets[train, number])
        error = model.predict(scaled[test]) - data.targets[test, number]
        assert low < error.std() / data.targets[test, number].std() < high, TARGETS[number]


def test_targets_are_written_beside_the_index_and_read_back(tmp_path: Path) -> None:
    data = simulate_stellar(60, 3, shape=(1, 130))
    index = write_spectra(data, tmp_path)
    assert index.read_text().splitlines()[:2] == ["id", data.ids[0]]
    assert (tmp_path / "train_meta.csv").read_text().splitlines()[0] == "id,teff,logg,feh,snrg"
    back = read(tmp_path, labels=False)
    np.testing.assert_allclose(back.signals, data.signals, rtol=5e-5)
    assert back.ids.tolist() == data.ids.tolist()
    assert back.columns["snrg"].tolist() == data.columns["snrg"].tolist()
    assert data.targets is not None
    for name, column in zip(TARGETS, data.targets.T, strict=True):
        words = back.columns[name]
        np.testing.assert_array_equal(np.where(words == "", "nan", words).astype(np.float32), column)
    assert (back.columns["feh"] == "").any()
    with pytest.raises(UserError, match="already exists"):
        write_spectra(data, tmp_path)


def test_a_table_of_targets_in_the_way_is_not_replaced(tmp_path: Path) -> None:
    data = simulate_stellar(3, 3, shape=(1, 130))
    (tmp_path / "train_meta.csv").write_text("id\n")
    with pytest.raises(UserError, match=r"train_meta\.csv: already exists"):
        write_spectra(data, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["train_meta.csv"]
    with pytest.raises(DataError, match=r"train_meta\.csv: 'a\\nb' contains a line break"):
        write_spectra(replace(data, columns={"name": np.array(["a\nb", "c", 'd, "e"'])}), tmp_path / "other")
    named = replace(data, columns={"name": np.array(["a", "c", 'd, "e"'])}, labels=np.array([0, 1, 0]), classes=("A", "F"))
    back = read(write_spectra(named, tmp_path / "named"))
    assert (back.columns["name"].tolist(), back.known_labels().tolist()) == (["a", "c", 'd, "e"'], [0, 1, 0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": (2, 205)}, "simulator 'stellar_parameters' needs 1 channel, got 2"),
        ({"shape": (1, 99)}, "3 spectra of 99 values requested; expected at least 1 of at least 100"),
        ({"classes": ("star",)}, "has no classes, got star; unset data.classes"),
    ],
)
def test_simulator_refuses_what_it_cannot_make(change: dict[str, tuple[int | str, ...]], words: str) -> None:
    with pytest.raises(UserError, match=words):
        simulate_stellar(3, 0, **change)  # type: ignore[arg-type]  # of two kinds


@pytest.mark.parametrize(("name", "count", "further"), [("lamost", 2243, ("snrg", "ra", "dec")), ("miles", 749, ("name",))])
def test_real_catalogues_give_their_parameters(
    real: Callable[[str], Path], name: str, count: int, further: tuple[str, ...]
) -> None:
    data = read(real(name), labels=False)
    assert data.labels is None
    assert len(data) == count
    assert {*TARGETS, *further} <= set(data.columns)
    teff, logg, feh = (data.columns[column] for column in TARGETS)
    known = (teff != "") & (logg != "") & (feh != "")
    assert known.mean() > 0.9
    assert 3000 < np.median(teff[known].astype(float)) < 8000
    assert 2 < np.median(logg[known].astype(float)) < 4.6
    assert -1 < np.median(feh[known].astype(float)) < 0.3
