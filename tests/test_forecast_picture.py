"""Pictures of forecasts: files of the right size, edge cases without a warning, words and scales by hand."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from wavefold.core.errors import DataError
from wavefold.plots.animation import animate
from wavefold.plots.canvas import Field, Sheet, draw_map, lead_axis, lead_word, limits_of
from wavefold.plots.forecast_picture import draw_errors, draw_forecast
from wavefold.plots.skill_picture import draw_skill, draw_spectrum

pytest.importorskip("matplotlib")

PLAIN = Field("t2m", "degC", 3600.0)
GRID = Field("rain $x$", "mm/h", 300.0, np.linspace(58, 50, 12), np.linspace(-10, 2, 18))
CLOCK = 1551830400.0 + 300 * np.arange(8)


def frames(count: int, seed: int = 1) -> np.ndarray:
    """(count, 12, 18) of noise with some cells without a value."""
    made = np.random.default_rng(seed).normal(size=(count, 12, 18)).astype(np.float32)
    made[:, :2, :3] = np.nan
    return made


def size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG, dots."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:])
    return width, height


def test_a_picture_has_truth_forecasts_and_the_error(tmp_path):
    past, truth = frames(4), frames(8, 2)
    both = {"ours": truth + 0.1, "persistence": np.repeat(past[-1:], 8, 0)}
    draw_forecast(tmp_path / "a.png", past, truth, both, field=GRID, clock=CLOCK, title="a $ source")
    draw_forecast(tmp_path / "b.png", past, None, both, field=GRID, clock=CLOCK)
    wide, tall = size(tmp_path / "a.png")
    assert 1190 <= wide <= 1210
    assert size(tmp_path / "b.png")[1] < 0.7 * tall  # neither truth nor error
    assert len(list(tmp_path.iterdir())) == 2


def test_leads_are_chosen_or_refused(tmp_path):
    draw_forecast(tmp_path / "a.png", None, frames(8), {"ours": frames(8)}, field=PLAIN, leads=(1, 8))
    assert size(tmp_path / "a.png")[0] < 1000
    with pytest.raises(DataError, match="there is no lead 9; expected 1 to 8"):
        draw_forecast(tmp_path / "b.png", None, None, {"ours": frames(8)}, field=PLAIN, leads=(1, 9))
    with pytest.raises(DataError, match=r"truth has shape \(7, 12, 18\)"):
        draw_forecast(tmp_path / "b.png", None, frames(7), {"ours": frames(8)}, field=PLAIN)
    with pytest.raises(DataError, match="no forecast"):
        draw_forecast(tmp_path / "b.png", None, None, {}, field=PLAIN)
    assert not (tmp_path / "b.png").exists()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 40), (2, 60, 2), (1, 12, 18)])
@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_one_frame_one_cell_and_no_value_at_all(tmp_path, shape, value):
    flat = np.full(shape, value, np.float32)
    draw_forecast(tmp_path / "a.png", flat[:0], flat, {"ours": flat}, field=Field())
    draw_errors(tmp_path / "b.png", flat, [f"channel {n}" for n in range(len(flat))], field=Field())
    animate(tmp_path / "c.gif", None, None, {"ours": flat}, field=Field())
    draw_spectrum(tmp_path / "d.png", {"truth": np.full(1, value), "ours": np.full(1, value)})
    assert all(min(size(tmp_path / f"{name}.png")) > 100 for name in "abd")
    assert (tmp_path / "c.gif").read_bytes()[:6] == b"GIF89a"


def test_error_maps_stand_three_in_a_row(tmp_path):
    draw_errors(tmp_path / "a.png", np.abs(frames(3)), ["a", "b", "c"], field=PLAIN, title="errors")
    draw_errors(tmp_path / "b.png", np.abs(frames(4)), ["a", "b", "c", "d"], field=PLAIN, title="errors")
    (wide, tall), (same, taller) = size(tmp_path / "a.png"), size(tmp_path / "b.png")
    assert wide == same
    assert taller > 1.5 * tall


def test_an_animation_has_each_past_and_later_frame(tmp_path):
    images = pytest.importorskip("PIL.Image")
    past, truth = frames(3), frames(5, 2)
    animate(tmp_path / "a.gif", past, truth, {"ours": truth}, field=GRID, clock=CLOCK[:5], title="a")
    with images.open(tmp_path / "a.gif") as made:
        assert made.n_frames == 8
        assert made.info["loop"] == 0
        assert made.info["duration"] == 250
        assert made.size[0] <= 1200
    assert (tmp_path / "a.gif").stat().st_size < 600_000
    animate(tmp_path / "b.gif", None, None, {"ours": truth}, field=PLAIN)
    with images.open(tmp_path / "b.gif") as made:
        assert made.n_frames == 5


def test_skill_and_spectrum_are_drawn(tmp_path):
    curves = {"ours": np.arange(1.0, 7), "persistence": np.arange(2.0, 8), "empty": np.full(6, np.nan)}
    band = {"ours": np.stack([np.arange(6.0), np.arange(2.0, 8)], 1)}
    draw_skill(tmp_path / "a.png", curves, "RMSE", unit="degC", step=3600.0, intervals=band, title="by lead")
    draw_skill(tmp_path / "b.png", {"ours": np.array([0.5])}, "ssim")
    power = {"truth": np.array([0, 4.0, 2, 1]), "ours": np.array([0, 4, 0.5, 0]), "blurred": np.array([0, 4, 1e-9, 1e-20])}
    draw_spectrum(tmp_path / "c.png", power, unit="degC", title="+6 h")
    draw_spectrum(tmp_path / "d.png", power, side=7)
    assert {size(tmp_path / f"{name}.png") for name in "abcd"} == {(800, 500)}


@pytest.mark.parametrize(
    ("lead", "step", "word"),
    [
        *((3, 300, "+15 min"), (12, 300, "+60 min"), (24, 300, "+2 h"), (1, 3600, "+1 h"), (25, 3600, "+25 h")),
        *((48, 3600, "+2 days"), (1, 86400, "+1 day"), (2, 0, "frame +2"), (1, 31 * 86400, "+1 month")),
        *(
            (5, 30.4 * 86400, "+5 months"),
            (13, 28 * 86400, "+364 days"),
            (3, 365 * 86400, "+36 months"),
            (2, 0.04, "+80 ms"),
            (7, 1, "+7 s"),
            (1, 5400, "+90 min"),
        ),
    ],
)
def test_leads_in_words(lead, step, word):
    assert lead_word(lead, step) == word


def test_leads_on_an_axis():
    assert (lead_axis(3, 300)[0].tolist(), lead_axis(3, 300)[1]) == ([5, 10, 15], "min")
    assert (lead_axis(2, 21600)[0].tolist(), lead_axis(2, 21600)[1]) == ([6, 12], "h")
    assert lead_axis(2, 0)[1] == "frames"
    assert (lead_axis(2, 28 * 86400)[0].tolist(), lead_axis(2, 28 * 86400)[1]) == ([28, 56], "days")


def test_limits_leave_out_the_farthest_and_say_so():
    values = np.concatenate([np.linspace(0, 1, 1000), [1000]]).astype(np.float32)
    low, high, beyond = limits_of([values])
    assert 0 < low < 0.01
    assert 0.99 < high < 1.01
    assert beyond == "both"
    rare = np.zeros(1000, np.float32)
    rare[0] = 8
    assert limits_of([rare]) == (0.0, 8.0, "neither")
    assert limits_of([np.full(3, np.nan, np.float32)]) == (0.0, 1.0, "neither")
    assert limits_of([np.full(3, 2, np.float32)]) == (2.0, 3.0, "neither")


def test_coordinates_rise_upward_whichever_way_rows_go():
    sheet = Sheet.of(1, 3, (2, 2))
    figure = sheet.figure("a")
    frame = np.zeros((2, 2), np.float32)
    for column, rows in enumerate((np.array([58.0, 57.0]), np.array([57.0, 58.0]), None)):
        place = sheet.panel(figure, 0, column)
        draw_map(place, frame, Field(rows=rows), (0.0, 1.0))
        assert place.get_ylim() == ((1.5, -0.5) if rows is None else (56.5, 58.5))
