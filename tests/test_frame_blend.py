"""Blends of forecasts by lead: their weights, what is left of them where parts are missing, and a run with rolling origins."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from wavefold import api
from wavefold.cli import main
from wavefold.core.errors import UserError
from wavefold.data.series import Series
from wavefold.data.windows import cut_windows, split_rolling
from wavefold.recipe import Recipe
from wavefold.tasks.base import recipe_of
from wavefold.tasks.frames.blend import Blend, fit_blend
from wavefold.tasks.frames.inference import Forecaster
from wavefold.tasks.frames.reading import read_frames, windows_in

SMALL = {
    "windows": {"past": 4, "ahead": 3},
    "member": [{"model": "blend", "blurs": [1.0]}],
    "stage.*.epochs": 1,
    "output.pictures": False,
    "output.metric": "rmse",
}


def hourly(folder: Path, count: int = 200, seed: int = 0) -> Path:
    """Frames with a daily cycle and weather that wanders."""
    rng = np.random.default_rng(seed)
    cycle = 5 * np.sin(np.arange(count) / 12 * np.pi)
    weather = rng.normal(size=(count, 8, 9)).cumsum(axis=0) * 0.2
    times = np.datetime64("2020-01-01", "s") + np.arange(count) * np.timedelta64(3600, "s")
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "frames.npz", frames=(cycle[:, None, None] + weather).astype(np.float32), time=times)
    return folder / "frames.npz"


def series_of(count: int, timed: bool = True) -> Series:
    frames = np.zeros((count, 1, 2, 2), np.float32)
    times = np.arange(count) * 3600.0 if timed else None
    return Series(frames, np.zeros(1, np.int64), np.array(["a"]), times=times, step=3600.0 * timed, channels=("x",))


def test_weights_favour_what_is_right_at_each_lead():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(40, 1, 2, 6, 6))
    near, far = (truth + rng.normal(size=truth.shape) * np.array(size)[:, None, None] for size in ([0.1, 2.0], [2.0, 0.1]))
    poor = truth + 5 * rng.normal(size=truth.shape)
    truth[3, 0, 0] = np.nan  # a missing frame has no say
    answers = {"near": near, "far": far, "poor": poor}
    blend = fit_blend(({k: v[a:b] for k, v in answers.items()}, truth[a:b]) for a, b in ((0, 15), (15, 40)))
    weights = dict(zip(blend.names, blend.weights[:, :, 0], strict=True))
    assert "poor" not in weights or weights["poor"].max() < 0.1
    assert blend.weights.sum(axis=0) == pytest.approx(np.ones((2, 1)))
    assert (blend.weights >= 0).all()
    alone = {name: np.nanmean((values - truth) ** 2) for name, values in answers.items()}
    assert np.nanmean((blend.of(answers) - truth) ** 2) < min(alone.values())
    assert weights["near"][0] > weights["near"][1]


def test_where_parts_are_missing_the_others_share_their_weight(tmp_path):
    blend = Blend(("a", "b", "c"), np.array([[[0.5], [1.0]], [[0.25], [0.0]], [[0.25], [0.0]]]))
    less = blend.among(["b", "c"])
    assert less.weights[:, :, 0].tolist() == [[0.5, 0.5], [0.5, 0.5]]  # where both had none, their mean
    blend.save(tmp_path / "blend.npz")
    again = Blend.load(tmp_path / "blend.npz")
    assert again.names == blend.names
    assert np.array_equal(again.weights, blend.weights)
    same = fit_blend([({"a": np.zeros((2, 1, 3, 2, 2)), "b": np.zeros((2, 1, 3, 2, 2))}, np.zeros((2, 1, 3, 2, 2)))])
    assert same.weights == pytest.approx(np.full((2, 3, 1), 0.5))


def test_rolling_origins_test_what_follows_and_learn_from_all_before():
    windows = cut_windows(series_of(200), past=4, ahead=3)
    splits = split_rolling(windows)
    assert len(splits) == 3
    ends = []
    for split in splits:
        first, last = (lambda part: windows.first[part].min()), (lambda part: windows.first[part].max() + windows.length)
        assert last(split.train) + windows.length <= first(split.validation)
        assert last(split.validation) + windows.length <= first(split.test)
        assert first(split.train) == 0
        ends.append((int(first(split.test)), int(last(split.test))))
    assert ends == [(110, 140), (140, 170), (170, 200)]
    assert len(split_rolling(cut_windows(series_of(200, timed=False), past=4, ahead=3))) == 1
    assert len(split_rolling(windows, cuts=2, test=0.2)) == 2
    for wrong in ({"cuts": -1}, {"cuts": 2, "test": 0.0}, {"cuts": 6}):
        with pytest.raises(UserError, match="split"):
            split_rolling(windows, **wrong)


def test_a_run_scores_each_cut_by_a_net_of_its_own_and_forecasts_with_the_last(tmp_path):
    data = hourly(tmp_path)
    run = api.train(Recipe.load("frames").with_(SMALL), data=str(data), out=tmp_path / "run", log=lambda line: None)
    rows = list(csv.DictReader((run.folder / "splits.csv").read_text().splitlines()))
    assert {row["fold"] for row in rows} == {"0", "1", "2"}
    scores, recipe = run.scores, recipe_of(run)
    assert scores.n == sum(row["part"] == "test" for row in rows)
    series, targets = read_frames(recipe, str(data))
    windows, squares, count = windows_in(recipe, series), 0.0, 0
    for fold in range(3):
        tested = [int(row["frame"]) for row in rows if row["part"] == "test" and row["fold"] == str(fold)]
        some = windows.take(np.isin(windows.first, tested))
        made = np.concatenate([m for _, m in Forecaster(run, recipe, targets, fold).forecast(some)])
        off = made - some.values()[:, :, some.past :]
        squares, count = squares + float((off.astype(np.float64) ** 2).sum()), count + off.size
        shown = [row for row in scores.folds if row.fold == fold and not row.name]
        assert shown[0].value("rmse") == pytest.approx(np.sqrt((off.astype(np.float64) ** 2).mean()), rel=1e-5)
    assert scores.score.value("rmse") == pytest.approx(np.sqrt(squares / count), rel=1e-5)
    lines = api.describe_scores(run)
    assert "rmse by cut" in lines
    assert "against the best baseline of each lead, by rmse and its 95 % intervals: better at " in lines
    best = min(row.value("rmse") for row in scores.baselines)
    assert scores.score.value("rmse") < 1.1 * best
    later = api.predict(run, str(data), out=str(tmp_path / "x.npz"))
    last = Forecaster(run, recipe, targets)
    assert last.past_frames(3600.0) in (4, 24, 25)
    end = np.zeros(1, np.int64)
    from_last = next(last.forecast(type(windows)(series, end + 196, end, end, 4, 3, series.size)))[1]
    np.testing.assert_array_equal(later.frames, from_last)
    before = (run.folder / "fold2" / "blend.npz").read_bytes()
    (run.folder / "fold2" / "blend.npz").unlink()
    with pytest.raises(UserError, match=r"blend\.npz: missing, .* remove .*scores\.json and train again"):
        api.predict(run, str(data), out=str(tmp_path / "y.npz"))
    (run.folder / "scores.json").unlink()
    api.train(Recipe.load("frames").with_(SMALL), data=str(data), out=run.folder, log=lambda line: None)
    assert (run.folder / "fold2" / "blend.npz").read_bytes() == before


def test_a_blend_needs_a_validation_part_and_no_options(tmp_path):
    data = hourly(tmp_path)
    with pytest.raises(UserError, match=r"by_lead needs validation windows; set split\.validation above 0"):
        api.train(Recipe.load("frames").with_({**SMALL, "split.validation": 0.0}), data=str(data), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="combine"):
        api.check(Recipe.load("frames").with_({**SMALL, "combine.by": "vote"}))


def test_what_does_not_fit_ends_with_settings_that_do(tmp_path):
    data = hourly(tmp_path, count=70)
    words = ["check", "frames", "--data", str(data)]
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code != 0
    advice = refused.output.strip().rpartition("; this would do: ")[2].split()
    assert advice[0] == "--set"
    taken = CliRunner().invoke(main, [*words, *advice])
    assert taken.exit_code == 0, taken.output


def test_stored_numbers_and_thresholds_in_another_unit_are_doubted(tmp_path):
    frames = np.random.default_rng(0).normal(300, 50, (100, 8, 9)).astype(np.int16)
    np.savez(tmp_path / "a.npz", t2m_centi_c=frames)
    words = ["check", "frames", "--data", str(tmp_path / "a.npz"), "--set", "windows.past=4", "--set", "windows.ahead=3"]
    said = CliRunner().invoke(main, [*words, "--set", "output.thresholds=[7,1e4]"]).output
    assert "t2m_centi_c: the name says 'centi'" in said
    assert "--set series.scale=0.01 --set series.unit=UNIT" in said
    assert "output.thresholds: 7: 100% of the values reach it" in said
    assert "output.thresholds: 10000: no value reaches it" in said
    scaled = CliRunner().invoke(main, [*words, "--set", "series.scale=.01", "--set", "output.thresholds=[3]"]).output
    assert "the name says" not in scaled
    assert "output.thresholds" not in scaled
