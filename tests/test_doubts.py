"""Values of frames that speak against what was read, and the option that each note names."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from wavefold import api
from wavefold.core.errors import UserError
from wavefold.recipe import Recipe
from wavefold.tasks.frames.doubts import doubts
from wavefold.tasks.frames.reading import read_frames

SHORT = {"windows.past": 3, "windows.ahead": 2}


def notes(path: Path, **keys: object) -> list[str]:
    recipe = Recipe.load("frames").with_({**SHORT, **keys})
    return doubts(recipe, read_frames(recipe, str(path))[0])


def degrees(count: int = 60) -> np.ndarray:
    return np.random.default_rng(0).normal(12, 4, (count, 12, 16))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("codes", [(-32768.0,), (-999.0,), (1e20,), (9.969209968386869e36,), (-32768.0, 32767.0), (-99.9,)])
def test_codes_far_from_all_values_are_doubted_and_the_option_mends_them(tmp_path: Path, codes, dtype) -> None:
    frames = degrees().astype(dtype)
    for place, code in enumerate(codes):
        frames[:, place, :5] = code
    np.save(tmp_path / "a.npy", frames)
    said = notes(tmp_path / "a.npy")
    assert sum("far from all others; this may be a missing-value code" in line for line in said) == len(codes)
    found = re.fullmatch(r"If so, add --set series\.missing=\[(.*)\]", said[-1])
    missing = [float(word) for word in found[1].split(",")]
    assert notes(tmp_path / "a.npy", **{"series.missing": missing}) == []
    recipe = Recipe.load("frames").with_({**SHORT, "series.missing": missing})
    assert np.isnan(read_frames(recipe, str(tmp_path / "a.npy"))[0].frames).sum() == 60 * 5 * len(codes)
    assert any("series.missing=[" in line for line in api.check(Recipe.load("frames").with_(SHORT), str(tmp_path / "a.npy")))


def test_a_single_value_a_million_spreads_away_is_doubted(tmp_path: Path) -> None:
    frames = degrees()
    frames[0, 0, 0] = 1e15
    np.save(tmp_path / "a.npy", frames)
    assert "are 1e+15, far from all others" in notes(tmp_path / "a.npy")[0]


@pytest.mark.parametrize("kind", ["degrees", "rain", "counts", "binary", "constant", "front"])
def test_plain_values_are_not_doubted(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(1)
    frames = {
        "degrees": degrees(),
        "rain": np.clip(rng.normal(-3, 3, (60, 12, 16)), 0, None) ** 2,
        "counts": rng.poisson(0.1, (60, 12, 16)),
        "binary": rng.integers(0, 2, (60, 12, 16)),
        "constant": np.full((60, 12, 16), 273.15),
        "front": np.where(np.arange(16) < 8, 300.0, 200.0) + degrees(),
    }[kind]
    np.save(tmp_path / "a.npy", frames)
    assert notes(tmp_path / "a.npy") == []


def test_frames_that_are_mostly_missing_are_noted(tmp_path: Path) -> None:
    frames = degrees()
    frames[:, :7] = np.nan
    np.save(tmp_path / "a.npy", frames)
    assert "58.3% of the cells are missing" in notes(tmp_path / "a.npy")[0]


def test_cross_entropy_is_refused_for_values_that_are_no_probabilities_and_the_advice_works(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", degrees() - 30)
    for loss in ({"stage.0.loss": "bce"}, {"stage.0.loss": "sum", "stage.0.parts": [{"loss": "mse"}, {"loss": "bce"}]}):
        recipe = Recipe.load("frames").with_({**SHORT, **loss, "prepare": [{"step": "standardise"}]})
        with pytest.raises(UserError, match=r"stage.0.loss: bce needs values from 0 to 1, but .*% of the training frames"):
            api.check(recipe, str(tmp_path / "a.npy"))
        with pytest.raises(UserError, match=r"bce needs values from 0 to 1"):
            api.train(recipe, data=str(tmp_path / "a.npy"), out=tmp_path / "run")
        api.check(recipe.with_({"prepare": [{"step": "min_max"}]}), str(tmp_path / "a.npy"))


def test_check_says_what_was_taken_from_the_source(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", film=degrees(), lat=np.linspace(60, 50, 12), lon=np.arange(16.0))
    lines = api.check(Recipe.load("frames").with_(SHORT), str(tmp_path / "a.npz"))
    said = "axes: time row column; rows: latitude (degrees) 60 to 50; columns: longitude (degrees) 0 to 15"
    assert any(said in line for line in lines)
