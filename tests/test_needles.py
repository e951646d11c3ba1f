"""Needles: where they run, how strong they are, in which panels; and cadences simulated and injected with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wavefold.api import simulate
from wavefold.core.errors import DataError, UserError
from wavefold.data import SIMULATORS, read
from wavefold.data.lazy import Lazy
from wavefold.domains.radio.cadence import MIRRORS, OFF, ON
from wavefold.domains.radio.needles import FAMILIES, Needles, add_needles, draw_needles, residual, standardised
from wavefold.recipe import Recipe
from wavefold.transforms import MIXERS

ROWS, COLUMNS = 64, 128
EVERY = torch.arange(400)


def simulated(count: int, seed: int = 5, shape: tuple[int, ...] = (6, ROWS, COLUMNS)):
    return SIMULATORS["cadence"](count, seed, shape=shape, classes=("0", "1"))


def straight(drift: float, amplitude: float = 5.0) -> Needles:
    clock = torch.arange(6 * ROWS, dtype=torch.float32)
    lit = torch.ones(1, 6, ROWS, dtype=torch.bool)
    column = (20 + drift * clock).view(1, 6, ROWS)
    return Needles(torch.zeros(1, dtype=torch.int64), torch.tensor([amplitude]), torch.tensor([drift]), column, lit)


def test_every_needle_shines_in_a_pixel_of_an_on_panel():
    inside = draw_needles(3, EVERY, ROWS, COLUMNS).inside(COLUMNS)
    assert (inside[:, list(ON)].flatten(1).any(1)).all()


def test_families_are_as_often_and_amplitudes_and_drifts_in_their_range():
    needles = draw_needles(3, torch.arange(4000), ROWS, COLUMNS)
    shares = torch.bincount(needles.family, minlength=len(FAMILIES)) / 4000
    assert ((shares - 0.25).abs() < 0.03).all()
    assert needles.amplitude.min() >= 0.3
    assert needles.amplitude.max() <= 12
    middle = needles.amplitude.log().median().exp()  # log-uniform: the median is the geometric mean
    assert abs(middle - (0.3 * 12) ** 0.5) < 0.2
    assert needles.drift.abs().max() <= 0.5


def test_a_needle_is_the_same_whatever_the_batch():
    whole, part = draw_needles(3, EVERY, ROWS, COLUMNS), draw_needles(3, EVERY[100:110], ROWS, COLUMNS)
    assert torch.equal(whole.column[100:110], part.column)
    assert torch.equal(whole.lit[100:110], part.lit)


def test_a_straight_line_runs_on_one_clock_through_the_on_panels_only():
    on = torch.tensor([[panel in ON for panel in range(6)]])
    made = add_needles(torch.zeros(1, 6, ROWS, COLUMNS), straight(0.25), on)[0]
    assert made[list(OFF)].abs().max() == 0
    for panel in ON:
        places = made[panel].argmax(1)
        expected = (20 + 0.25 * (panel * ROWS + torch.arange(ROWS))).round().long()
        assert torch.equal(places, expected)
    assert made[0, 0, 20] == 5
    assert made[0, 0, 21] == pytest.approx(5 * 0.035)


def test_what_is_out_of_the_window_is_not_added():
    made = add_needles(torch.zeros(1, 6, ROWS, COLUMNS), straight(1.0), torch.ones(1, 6, dtype=torch.bool))[0]
    assert made[3:].abs().max() == 0  # from row 108 on it is past column 127
    assert straight(1.0).snr(COLUMNS) == pytest.approx(5 * ROWS**0.5)


def test_partial_needles_and_pulses_leave_rows_dark():
    needles = draw_needles(3, EVERY, ROWS, COLUMNS)
    dark = (~needles.lit).flatten(1).float().mean(1)
    assert dark[needles.family == 3].min() > 0.2
    whole = dark[needles.family != 3] == 0
    assert 0.6 < whole.float().mean() < 0.8


@pytest.mark.parametrize("sigma", [0.1, 3.0])
def test_the_residual_is_blind_to_rows_and_columns(sigma):
    noise = torch.randn(2, 6, 273, 256, generator=torch.Generator().manual_seed(0)) * sigma
    rows, columns = torch.linspace(-50, 50, 273)[:, None], torch.linspace(9, 0, 256).exp()
    assert torch.allclose(residual(noise + rows + columns / 100), torch.tensor(sigma), rtol=0.03)


def test_standardised_panels_have_mean_0_and_std_1():
    panels = standardised(torch.rand(2, 6, 30, 40) * 7 + 3)
    assert panels.mean((2, 3)).abs().max() < 1e-5
    assert torch.allclose(panels.std((2, 3), correction=0), torch.tensor(1.0), atol=1e-4)


def test_playing_backwards_keeps_on_panels_on_and_a_line_on_its_clock():
    made = add_needles(torch.zeros(1, 6, ROWS, COLUMNS), straight(0.25), torch.ones(1, 6, dtype=torch.bool))
    back = MIRRORS["time"](made)[0]
    for panel in range(5):  # the last one, which was the last OFF panel, is off the clock
        expected = (20 + 0.25 * (5 * ROWS - 1 - panel * ROWS - torch.arange(ROWS))).round()
        assert (back[panel].argmax(1) - expected).abs().max() <= 1
    again = MIRRORS["time"](back[None])
    assert torch.equal(again[:, :5], made[:, :5])


def test_simulated_cadences_are_made_when_asked_for_and_as_their_files_hold_them():
    dataset = simulated(40)
    assert isinstance(dataset.signals, Lazy)
    assert dataset.signals.shape == (40, 6, ROWS, COLUMNS)
    some = dataset.signals[np.array([7, 3])]
    np.testing.assert_array_equal(some[1], dataset.signals[3])
    np.testing.assert_array_equal(some, some.astype(np.float16).astype(np.float32))
    assert np.abs(some.mean((2, 3))).max() < 1e-3
    np.testing.assert_allclose(some.std((2, 3)), 1, atol=1e-3)


def test_simulated_truth_stands_beside_the_samples():
    dataset = simulated(400)
    needle, truth = dataset.known_labels() == 1, dataset.columns
    assert needle.sum() == 40
    assert set(truth["family"][needle]) == set(FAMILIES)
    assert set(truth["family"][~needle]) == {"none"}
    assert (truth["snr"][~needle] == "").all()
    assert (truth["snr"][needle].astype(float) > 0).all()
    assert 0.2 < (truth["interference"] != "none").mean() < 0.4
    assert len(set(truth["background"])) == 100


def test_a_background_keeps_its_structure_and_not_its_noise():
    dataset = simulated(80)
    clean = (dataset.known_labels() == 0) & (dataset.columns["interference"] == "none")
    groups = dataset.columns["background"]
    pairs = [(i, i + 1) for i in range(79) if clean[i] and clean[i + 1] and groups[i] == groups[i + 1]]
    profiles = dataset.signals[:].mean((1, 2))  # (sample, column)
    alike = [np.corrcoef(profiles[i], profiles[j])[0, 1] for i, j in pairs]
    others = [np.corrcoef(profiles[i], profiles[(i + 41) % 80])[0, 1] for i, _ in pairs]
    assert np.median(alike) > 0.6 > abs(np.median(others))


def test_residuals_of_simulated_panels_are_those_of_real_ones():
    sigma = residual(torch.from_numpy(simulated(200, shape=(6, 96, 128)).signals[::4])).numpy()
    assert 0.07 < np.percentile(sigma, 10) < 0.2
    assert 0.2 < np.median(sigma) < 0.4
    assert 0.4 < np.percentile(sigma, 95) < 0.85


@pytest.mark.parametrize(
    ("shape", "classes", "message"),
    [((1, 205), ("0", "1"), r"needs \[6, rows, columns\]"), ((6, 32, 32), ("a", "b", "c"), "needs exactly 2 classes, got 3")],
)
def test_a_shape_that_is_no_cadence_is_one_line(shape, classes, message):
    with pytest.raises(UserError, match=message):
        SIMULATORS["cadence"](5, 0, shape=shape, classes=classes)


def injected(needles: float, decoys: float, count: int = 64):
    dataset = simulated(count)
    signals = torch.from_numpy(dataset.signals[:])
    targets = torch.eye(2)[torch.from_numpy(dataset.known_labels())]
    return signals, targets, MIXERS["inject"](needles=needles, decoys=decoys)(signals, targets, torch.arange(count), 11)


def test_inject_makes_positives_of_its_share_and_never_a_negative():
    _, before, (_, after) = injected(0.5, 0.0)
    assert (after[:, 1] >= before[:, 1]).all()
    assert 0.4 < after[:, 1].mean() < 0.75
    assert torch.equal(after.sum(1), torch.ones(64))


def test_inject_leaves_off_panels_without_needles_as_they_were():
    before, _, (after, _) = injected(1.0, 0.0)
    assert torch.allclose(after[:, list(OFF)], before[:, list(OFF)], atol=2e-3)  # standardised twice
    assert (after[:, list(ON)] - before[:, list(ON)]).abs().flatten(1).max(1).values.min() > 0.01


@pytest.mark.parametrize("scale", [0.01, 30.0])
def test_inject_keeps_the_scale_and_level_of_each_panel(scale):
    dataset = simulated(8)
    signals = torch.from_numpy(dataset.signals[:]) * scale + 2 * scale
    made, _ = MIXERS["inject"](needles=1.0, decoys=1.0)(signals, torch.eye(2)[torch.zeros(8, dtype=int)], torch.arange(8), 11)
    assert not torch.allclose(made, signals, rtol=0.01)
    torch.testing.assert_close(made.mean((2, 3)), signals.mean((2, 3)), rtol=1e-4, atol=0)
    torch.testing.assert_close(made.std((2, 3)), signals.std((2, 3)), rtol=1e-4, atol=0)
    assert MIXERS["inject"](needles=1.0)(0 * signals, torch.ones(8, 2), torch.arange(8), 1)[0].abs().max() == 0


@pytest.mark.parametrize("rows", [8, 16, 273])
def test_a_sine_is_no_steeper_than_a_bin_a_row(rows):
    needles = draw_needles(3, torch.arange(2000), rows, 256)
    column, sine = needles.column.flatten(1), needles.family == FAMILIES.index("sine")
    wave = column[sine].diff(dim=1) - needles.drift[sine][:, None]
    assert 0.5 < wave.abs().max() <= 1.01


def test_decoys_change_no_label():
    _, before, (after, targets) = injected(0.0, 1.0)
    assert torch.equal(before, targets)
    assert after.isfinite().all()


def test_inject_is_the_same_whatever_the_batch():
    signals, targets, (whole, labels) = injected(0.5, 0.3)
    some, few = MIXERS["inject"](needles=0.5, decoys=0.3)(signals[9:13], targets[9:13], torch.arange(9, 13), 11)
    assert torch.equal(whole[9:13], some)
    assert torch.equal(labels[9:13], few)


def test_inject_says_what_it_takes():
    with pytest.raises(UserError, match=r"inject\.needles: 1\.5 is not a valid fraction"):
        MIXERS["inject"](needles=1.5)
    with pytest.raises(UserError, match="expected cadences of 6 panels and 2 classes; got 1 x 5 x 5 and 2"):
        MIXERS["inject"]()(torch.zeros(2, 1, 5, 5), torch.zeros(2, 2), torch.arange(2), 0)


def test_needles_go_into_cadences_that_are_given(tmp_path):
    shape = (6, 32, 48)
    given = SIMULATORS["cadence"](12, 9, shape=shape, classes=("0", "1"))
    made = SIMULATORS["cadence"](40, 1, shape=shape, classes=("0", "1"), backgrounds=given)
    empty = given.take(np.flatnonzero(given.known_labels() == 0))
    untouched = (made.known_labels() == 0) & (made.columns["interference"] == "none")
    for sample in np.flatnonzero(untouched)[:5]:
        np.testing.assert_allclose(made.signals[int(sample)], empty.signals[int(sample) % len(empty)], atol=4e-3)
    assert set(made.columns["background"]) <= set(given.columns["background"])
    with pytest.raises(DataError, match=r"samples have shape 6 x 32 x 48, but data\.shape is 6 x 32 x 64"):
        SIMULATORS["cadence"](4, 1, shape=(6, 32, 64), classes=("0", "1"), backgrounds=given)


def test_simulate_takes_backgrounds_by_the_recipe(tmp_path):
    small = {"data.shape": [6, 32, 48]}
    recipe = Recipe.load("cadence").with_(small)
    simulate(recipe, tmp_path / "a", count=20, seed=1)
    simulate(recipe.with_({"data.backgrounds": str(tmp_path / "a")}), tmp_path / "b", count=30, seed=2)
    dataset = read(tmp_path / "b")
    assert len(dataset) == 30
    assert set(dataset.columns["background"]) <= {f"s1b{i}" for i in range(5)}
    beats = Recipe.load("heartbeat").with_({"data.backgrounds": "beats.csv"})
    with pytest.raises(UserError, match=r"data\.backgrounds: the simulator ecg makes its own"):
        simulate(beats, tmp_path / "c", count=5, seed=0)
