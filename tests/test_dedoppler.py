"""Sums along lines equal the plain ones; the search finds needles, not interference, and learns a rising map."""

import itertools

import numpy as np
import pytest
import torch

from wavefold.core.errors import UserError
from wavefold.data.lazy import Lazy
from wavefold.domains.radio.dedoppler import DeDoppler, best_tracks, clean
from wavefold.domains.radio.drift_lines import line_drifts, line_parts, line_rows, line_shifts, line_sums

ROWS, COLUMNS = 48, 64


def plain_sums(panels, drifts, margin):
    """Row by row, column by column."""
    count, rows, columns = panels.shape
    shifts = line_shifts(rows, drifts)
    sums = torch.zeros(count, len(drifts), columns + 2 * margin, dtype=panels.dtype)
    for number in range(len(drifts)):
        for row in range(rows):
            for start in range(-margin, columns + margin):
                column = start + int(shifts[number, row])
                if 0 <= column < columns:
                    sums[:, number, start + margin] += panels[:, row, column]
    return sums


SHAPES = [  # rows, columns, drifts, margin
    (17, 9, range(-8, 9), 0),
    (17, 9, range(-8, 9), 8),
    (16, 12, range(-40, 41, 5), 30),  # steeper than a bin a row
    (5, 3, range(-20, 21), 20),  # steeper than the panel is wide in a row
    (23, 30, [3, -2, 3], 4),
    (1, 5, [0, 0], 2),
    (2, 4, range(-9, 10), 9),
]


@pytest.mark.parametrize(("rows", "columns", "drifts", "margin"), SHAPES)
def test_sums_are_those_of_the_very_lines(rows, columns, drifts, margin):
    panels = torch.randn(2, rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sums = line_sums(panels, drifts, margin=margin)
    torch.testing.assert_close(sums, plain_sums(panels, drifts, margin), atol=1e-12, rtol=0)
    inside = plain_sums(torch.ones(1, rows, columns), drifts, margin)[0]
    assert torch.equal(line_rows(rows, columns, drifts, margin=margin), inside.long())


def test_a_line_moves_by_its_drift_and_rounds_alike_either_way():
    assert line_shifts(5, [2, -2]).tolist() == [[0, 1, 1, 2, 2], [0, -1, -1, -2, -2]]  # 0, .5, 1, 1.5, 2
    assert line_drifts(273) == range(-136, 137)
    assert line_sums(torch.ones(1, 5, 4)).shape == (1, 5, 4)  # half a bin a row: -2 .. 2


def test_parts_of_a_wide_panel_are_the_whole():
    panels = torch.randn(2, 16, 1000, generator=torch.Generator().manual_seed(1))
    whole, drifts = line_sums(panels, range(-40, 61)), range(-40, 61)
    parts = list(line_parts(panels, drifts, columns=300))
    assert [first for first, _ in parts] == [0, 300, 600, 900]
    assert torch.equal(torch.cat([part for _, part in parts], 2), whole)


def test_no_drift_is_told():
    with pytest.raises(UserError, match="0 drifts"):
        line_sums(torch.ones(1, 5, 4), [])


def cadences(count, seed=0):
    return torch.randn(count, 6, ROWS, COLUMNS, generator=torch.Generator().manual_seed(seed))


def add_line(cadence, panels, drift, column, height):
    """Add a line, on one clock through all panels, that stands at `column` in the first row of all."""
    for panel in panels:
        for row in range(ROWS):
            place = round(column + drift * (panel * ROWS + row))
            if 0 <= place < COLUMNS:
                cadence[panel, row, place] += height


def test_a_needle_is_found_with_its_drift_column_and_panel():
    x = cadences(3)
    add_line(x[0], (0, 2, 4), 0.2, 3, 3.0)
    add_line(x[1], (0, 2, 4), -0.35, 110, 3.0)  # enters the window in the second ON panel
    tracks = best_tracks(x)
    assert tracks.score[0] > 8
    assert tracks.score[1] > 8
    assert tracks.score[2] < 6
    np.testing.assert_allclose(tracks.drift[:2], [0.2, -0.35], atol=0.025)
    middle = tracks.panel[:2].numpy() * ROWS + ROWS // 2
    np.testing.assert_allclose(tracks.column[:2], np.array([3, 110]) + np.array([0.2, -0.35]) * middle, atol=2)


def test_a_line_in_all_panels_or_in_off_alone_scores_as_noise():
    x = cadences(3)
    add_line(x[0], range(6), 0.2, 3, 4.0)
    add_line(x[1], (1, 3, 5), 0.2, 3, 4.0)
    add_line(x[2], (0, 2, 4), 0.2, 3, 4.0)
    scores = best_tracks(x).score
    assert scores[:2].max() < 8
    assert scores[2] > 20


def test_scale_level_gain_bandpass_and_carriers_are_taken_off():
    x, plain = cadences(4), best_tracks(cadences(4)).score
    generator = torch.Generator().manual_seed(2)
    x += torch.randn(4, 6, ROWS, 1, generator=generator) * 3 + torch.linspace(-4, 4, COLUMNS)
    carrier = torch.exp(-(((torch.arange(COLUMNS) - 30) / 4.0) ** 4))
    x += 5 * carrier * (1 + torch.rand(4, 6, ROWS, 1, generator=generator))
    x = x * torch.tensor([0.1, 2.0, 1.0, 0.5, 3.0, 1.0])[:, None, None] + 7
    assert clean(x).std().item() == pytest.approx(1, abs=0.15)
    assert best_tracks(x).score.max() < plain.max() + 1.5


def test_a_constant_panel_has_a_finite_score():
    x = cadences(2)
    x[0, 3] = 1.0
    x[1] = 0.0
    assert torch.isfinite(best_tracks(x).score).all()


@pytest.mark.parametrize("drift", [0.0, 0.02, 0.1, 0.25, 0.5])
def test_of_16_rows_a_line_of_4_sigma_stands_far_above_noise(drift):
    rng = torch.Generator().manual_seed(3)
    x = torch.randn(24, 6, 16, 128, generator=rng)
    x[:, :, :, 70] += 20.0  # a spike in all panels
    for panel, row in itertools.product((0, 2, 4), range(16)):
        x[:4, panel, row, round(30 + drift * (16 * panel + row))] += 4.0  # S/N 4 sqrt(48) = 27.7 at best
        x[4, panel, row, 100] += 4.0
    x[4, 1::2, :, 100] += 4.0  # in OFF too
    tracks = best_tracks(x)
    assert tracks.score[:4].min() > 11
    assert tracks.score[4:].max() < 7
    assert tracks.drift[:4].tolist() == pytest.approx([drift] * 4, abs=0.05)  # two thirds of a bin a panel


def sky(count=40):
    """Every second cadence with a needle."""
    x = cadences(count, seed=5)
    for sample in range(0, count, 2):
        add_line(x[sample], (0, 2, 4), 0.4 * (sample / count - 0.5), 20 + sample % 20, 1.0 + sample % 3)
    return x.numpy(), 1 - np.arange(count) % 2


def test_the_classifier_ranks_needles_first_from_memory_and_lazily():
    x, y = sky()
    fitted = DeDoppler(seed=0).fit(x, y, 2)
    answers = fitted.probabilities(x)
    assert fitted.slope > 0
    assert (answers[y == 1, 1][:, None] > answers[y == 0, 1]).mean() > 0.9
    lazy = Lazy(lambda rows: x[rows], np.arange(len(x)), x.shape[1:])
    np.testing.assert_array_equal(fitted.probabilities(lazy), answers)
    np.testing.assert_array_equal(DeDoppler(seed=0).fit(lazy, y, 2).probabilities(lazy), answers)


def test_a_saved_classifier_answers_alike(tmp_path):
    x, y = sky(16)
    fitted = DeDoppler(seed=3, drift=0.3).fit(x, y, 2)
    fitted.save(tmp_path)
    again = DeDoppler.load(tmp_path)
    np.testing.assert_array_equal(again.probabilities(x), fitted.probabilities(x))
    assert (again.seed, again.drift) == (3, 0.3)
    assert fitted.probabilities(x[:0]).shape == (0, 2)


def test_the_map_never_falls():
    x, y = sky(16)
    fitted = DeDoppler(seed=0).fit(x, 1 - y, 2)  # needles called none
    assert fitted.slope == 0
    np.testing.assert_allclose(fitted.probabilities(x), 0.5)


@pytest.mark.parametrize("drift", [0.0, 17.0, float("nan")])
def test_a_drift_without_sense_is_named(drift):
    with pytest.raises(UserError, match=r"dedoppler: drift .* above 0 and at most 16"):
        DeDoppler(seed=0, drift=drift)


def test_what_is_no_cadence_or_not_of_two_classes_is_told():
    x, y = sky(4)
    with pytest.raises(UserError, match="3 classes"):
        DeDoppler(seed=0).fit(x, y, 3)
    with pytest.raises(UserError, match=r"shape \[1, 40\]; expected \[6, rows, columns\]"):
        DeDoppler(seed=0).fit(np.zeros((4, 1, 40), np.float32), y, 2)


def test_the_needle_of_a_real_cadence_is_found(real):
    x = torch.from_numpy(np.load(real("seti/0028a35de92941d.npy"), allow_pickle=False).astype(np.float32))[None]
    tracks = best_tracks(x)
    assert tracks.score > 8
    assert tracks.drift.item() == pytest.approx(0.0275, abs=0.003)
