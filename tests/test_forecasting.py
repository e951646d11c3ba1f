"""The story of frames, end to end: learned from the past alone, judged in the frames' own unit, said before it is too late."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.io import netcdf_file

from wavefold import api
from wavefold.cli import main
from wavefold.core.errors import DataError, UserError
from wavefold.core.records import Scores
from wavefold.core.run import RunFolder
from wavefold.domains.maps import arrays
from wavefold.evaluation.standing import standing, standing_kind
from wavefold.models.forecasters import FORECASTERS
from wavefold.recipe import Recipe
from wavefold.reports.score_table import lead_table, score_rows
from wavefold.tasks.base import recipe_of
from wavefold.tasks.frames.evaluate import evaluate_windows, evaluation_notes
from wavefold.tasks.frames.fit import new_baseline
from wavefold.tasks.frames.inference import Forecaster
from wavefold.tasks.frames.reading import read_frames, windows_in
from wavefold.transforms import frame_scaling

SMALL = {
    "windows": {"past": 4, "ahead": 2},
    "member.*.width": 4,
    "member.*.hidden": 8,
    "member.*.kernel": 9,
    "stage.*.epochs": 1,
    "output.pictures": False,
    "split.way": "time",
    "combine.by": "mean",
}
AUTO = {"output.baselines": ["auto"]}
TIMED = ["persistence", "mean", "climatology", "damped_anomaly", "seasonal_naive", "seasonal_change", "pca_ridge"]
STILL = {
    "stage.*.learning_rate": 1e-12,
    "stage.*.schedule": "constant",
    "stage.*.weight_decay": 0.0,
}  # a net that learns nothing


def small(**more):
    return Recipe.load("frames").quickly().with_({**SMALL, **more})


def still(**more):
    return small(**STILL, **more)


def quiet(line):
    pass


def train(recipe, data, out, fresh=False, log=quiet) -> RunFolder:
    return api.train(recipe, data=str(data), out=out, fresh=fresh, log=log)


def run(*words: object):
    return CliRunner().invoke(main, [str(w) for w in words])


def keep(folder: Path, frames: object, name: str = "frames.npz", **beside: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / name, frames=np.asarray(frames, np.float32), **beside)
    return folder / name


def counting(count: int, size: Sequence[int] = (16, 16)) -> np.ndarray:
    """Frames that hold their own number in every cell."""
    return np.broadcast_to(np.arange(count, dtype=np.float32).reshape(-1, *(1 for _ in size)), (count, *size)).copy()


def wandering(count: int, channels: int = 1, seed: int = 0, size: tuple[int, int] = (16, 16)) -> np.ndarray:
    """Frames (time, row, column, channel) that change a little at each step."""
    steps = np.random.default_rng(seed).normal(size=(count, *size, channels))
    return steps.cumsum(axis=0).astype(np.float32)


def hours(count: int, begin: str = "2020-01-01") -> np.ndarray:
    return np.datetime64(begin, "s") + np.arange(count) * np.timedelta64(3600, "s")


def learned(folder: Path) -> dict[str, bytes]:
    """The bytes of all that a run learned and said."""
    names = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.suffix in (".safetensors", ".npz", ".csv", ".jsonl"))
    found = {str(name): (folder / name).read_bytes() for name in names}
    scores = json.loads((folder / "scores.json").read_text())
    return {**found, "scores": json.dumps({k: v for k, v in scores.items() if k != "seconds"}).encode()}


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[RunFolder, Path]:
    """A run of three channels with times, two of them to forecast, that has learned a little."""
    folder = tmp_path_factory.mktemp("frames")
    names = {"channels": np.array(["wind", "warmth", "rain"]), "unit": np.array("K"), "time": hours(120)}
    data = keep(folder, wandering(120, 3), **names)
    recipe = small(**AUTO, **{"series.targets": ["rain", "wind"], "output.thresholds": [0.0, 1e9]})
    return train(recipe, data, folder / "run"), data


@pytest.mark.parametrize("name", ["frames", "frames_next"])
def test_quick_ends_with_scores_and_pictures_and_again_does_nothing(name, tmp_path):
    words = ["train", name, "--quick", "--out", tmp_path / "run", "--set", "data.count=12", "--set", "stage.*.epochs=1"]
    first = run(*words)
    assert first.exit_code == 0, first.output
    assert "persistence (baseline)" in first.output
    assert "simulated frames: the scores may not hold for real data" in first.output
    scores = api.open_run(tmp_path / "run").scores
    ahead = {"frames": 6, "frames_next": 1}[name]
    assert len(scores.score.by_lead["mse"]) == scores.leads == ahead
    assert [b.name for b in scores.baselines] == ["persistence", "mean"]
    there = {p.name for p in (tmp_path / "run" / "pictures").iterdir()}
    assert there == {*("forecast.png", "forecast.gif", "errors.png", "spectrum.png"), *("mse.png", "rmse.png", "ssim.png")}
    parts = [row["part"] for row in rows_of(tmp_path / "run" / "splits.csv")]
    assert {part: parts.count(part) for part in parts} == {"train": 8, "validation": 2, "test": 2}
    stamp = (tmp_path / "run" / "scores.json").stat().st_mtime_ns
    again = run(*words)
    assert again.exit_code == 0
    assert (tmp_path / "run" / "scores.json").stat().st_mtime_ns == stamp
    assert "a run whose recipe differs" in run(*words, "--set", "seed=5").output


class Killed(BaseException):
    """What a test ends a training with, as no handler expects it."""


def killed_at(monkeypatch, count: int) -> None:
    """Die just before the so-manieth file takes its final name."""
    real, left = os.replace, [count]

    def dying(source, target):
        left[0] -= 1
        if not left[0]:
            raise Killed
        real(source, target)

    monkeypatch.setattr(os, "replace", dying)


TINY: dict[str, dict[str, object]] = {  # of nets whose own defaults take longer
    "simvp": {"width": 4, "hidden": 8, "kernel": 9, "depth": 1, "drop_path": 0.5, "start": "last"},
    "roll_out": {"hidden": 4, "depth": 1},
    "conv_lstm": {"hidden": 4, "depth": 1, "head": "last", "activation": "linear"},
}


@pytest.mark.parametrize("net", FORECASTERS)
def test_killed_at_any_step_a_run_ends_with_the_same_bits(net, tmp_path, monkeypatch):
    data = keep(tmp_path, wandering(60))
    member = {"model": net, **TINY.get(net, {})}
    windows = {"past": 4, "ahead": 2, "crop": [8, 8], "crop_stride": [8, 4], "anywhere": True, "stride": 4}
    recipe = small(
        windows=windows,
        member=[member, {**member, "weight": 2.0}],
        prepare=[{"step": "standardise", "per": "cell"}, {"step": "mirror"}],
        **{"stage.*.epochs": 2, "stage.*.average": 0.5, "batches.save_every": 0.0, "batches.size": 20},
    )
    whole = train(recipe, data, tmp_path / "whole")
    assert [m.name for m in whole.scores.members] == [f"0 {net}", f"1 {net}"]
    assert len((whole.member(0, 0, net) / "metrics.jsonl").read_text().splitlines()) == 2
    out, said = tmp_path / "killed", []
    for count in (2, 6, 9, 5, 14, 3):
        with monkeypatch.context() as patch:
            killed_at(patch, count)
            with pytest.raises(Killed):
                train(recipe, data, out)
    train(recipe, data, out, log=said.append)
    assert "resuming where the last training stopped" in said[0]
    assert learned(out) == learned(whole.folder)
    assert not list(out.rglob("state*.pt"))
    assert not list(out.rglob("*.part"))


def test_score_of_the_test_parts_frames_is_what_training_said(trained, tmp_path):
    folder, data = trained
    split = rows_of(folder.folder / "splits.csv")
    begin = min(int(row["frame"]) for row in split if row["part"] == "test")
    with np.load(data) as kept:
        beside = {name: kept[name] for name in ("channels", "unit")}
        tested = keep(tmp_path, kept["frames"][begin:], time=kept["time"][begin:], **beside)
    result = run("score", folder.folder, tested, "--json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""  # nothing of it was learned from
    found = json.loads(result.stdout, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert list(found) == ["metric", "unit", "value", "interval", "n", "others", "step", "by_lead", "standing", "baselines"]
    assert found["standing"].startswith(("better than ", "not better than "))
    scores = folder.scores
    assert found["metric"] == "mse"
    assert found["n"] == scores.n == sum(row["part"] == "test" for row in split)
    assert found["value"] == pytest.approx(scores.score.value("mse"), rel=1e-6)
    assert found["unit"] == "K^2"
    assert found["interval"] == pytest.approx(scores.score.measure("mse")[1:], rel=1e-6)  # of three blocks of time
    assert found["by_lead"]["rmse"] == pytest.approx(scores.score.by_lead["rmse"], rel=1e-6)
    assert found["step"] == 3600
    assert found["others"]["csi"] == found["others"]["csi-0"]
    assert found["others"]["bias-1e+09"] is None  # no cell is ever so high
    assert list(found["baselines"]) == TIMED
    assert list(found["baselines"]["mean"]["differences"]) == list(scores.score.measures)
    difference = found["value"] - found["baselines"]["mean"]["value"]
    value, low, high = found["baselines"]["mean"]["differences"]["mse"]
    assert low < value < high
    assert value == pytest.approx(difference)
    assert found["baselines"]["mean"]["value"] == pytest.approx(scores.baselines[1].value("mse"))
    assert found["baselines"]["mean"]["by_lead"] == pytest.approx(scores.baselines[1].by_lead["mse"])
    assert scores.baselines[0].skill[0][0] == pytest.approx(
        1 - scores.score.by_lead["mse"][0] / scores.baselines[0].by_lead["mse"][0]
    )
    plain = run("score", folder.folder, data)
    assert "of these 120 frames were used for training or validation" in plain.stderr
    assert "persistence (baseline)" in plain.stdout


def test_digits_of_ones_own_are_moved(tmp_path):
    images = np.full((5, 28, 28), 255, np.uint8)
    np.savez(tmp_path / "mine.npz", images=images)
    words = [
        "--count",
        2,
        "--set",
        "data.simulator=digits",
        "--set",
        "data.shape=[1,64,64]",
        "--set",
        f"data.digits={tmp_path / 'mine.npz'}",
    ]
    result = run("simulate", "frames", tmp_path / "made", *words)
    assert result.exit_code == 0, result.output
    with np.load(tmp_path / "made" / "frames.npz") as made:
        lit = (made["frames"][0, 0] > 0.5).sum()
    assert 28 * 28 <= lit <= 2 * 28 * 28  # two full squares, which may overlap


def test_forecasts_do_not_depend_on_how_many_are_asked_at_a_time(tmp_path):
    folder = train(small(), keep(tmp_path, wandering(60)), tmp_path / "run")
    several = keep(tmp_path, np.stack([wandering(9) for _ in range(3)]), name="several.npz")
    one, all_at_once = (api.predict(folder, str(several), out=str(tmp_path / f"{n}.npz"), size=n) for n in (1, 512))
    np.testing.assert_allclose(one.frames, all_at_once.frames, atol=1e-5)


def test_recipes_of_classifiers_refuse_what_is_of_forecasts():
    with pytest.raises(UserError, match=r"output\.thresholds: applies only to forecasting recipes"):
        api.check(Recipe.load("heartbeat").with_({"output.thresholds": [7.0]}))


def test_predict_writes_each_form_of_the_frames_to_come(trained, tmp_path):
    folder, data = trained
    for suffix in ("npz", "csv", "nc", "gif"):
        result = run("predict", folder.folder, data, "--out", tmp_path / f"next.{suffix}")
        assert result.exit_code == 0, result.output
        assert "1 prediction" in result.output
    with np.load(tmp_path / "next.npz") as made:
        frames = made["frames"]
        assert frames.shape == (1, 2, 2, 16, 16)
        assert made["channels"].tolist() == ["rain", "wind"]
        assert str(made["unit"]) == "K"
        assert made["time"].tolist() == [[*(hours(122)[120:].tolist())]]
    rows = rows_of(tmp_path / "next.csv")
    assert len(rows) == frames.size
    assert [row["lead"] for row in rows[:: 16 * 16]] == ["1", "2", "1", "2"]
    assert float(rows[-1]["value"]) == pytest.approx(float(frames[0, 1, 1, -1, -1]), rel=1e-5)
    with netcdf_file(tmp_path / "next.nc", mmap=False) as grid:
        np.testing.assert_array_equal(grid.variables["wind"][:], frames[0, 1])
        assert grid.variables["wind"].units == b"K"
    assert (tmp_path / "next.gif").read_bytes()[:3] == b"GIF"
    with np.load(data) as kept:
        last = kept["frames"][-1].transpose(2, 0, 1)[[2, 0]]
    assert np.abs(frames[0, :, 0] - last).mean() < 2  # of values that reach 20: goes on from the last frame, of those channels
    refused = run("predict", folder.folder, data, "--out", tmp_path / "next.doc")
    assert refused.exit_code == 2
    assert ".npz" in refused.output


def test_channels_to_forecast_come_first_and_the_others_are_shown(trained):
    folder, data = trained
    assert folder.metadata.channels == ("rain", "wind", "warmth")
    assert folder.metadata.targets == 2
    recipe = recipe_of(folder)
    series, targets = read_frames(recipe, str(data))
    with np.load(data) as kept:
        np.testing.assert_array_equal(series.frames, kept["frames"].transpose(0, 3, 1, 2)[:, [2, 0, 1]])
    predict = Forecaster(folder, recipe, targets)
    windows = windows_in(recipe, series).take(slice(0, 3))
    before = np.concatenate([said for _, said in predict.forecast(windows)])
    moved = series.frames.copy()
    moved[:, 2] += 3 * np.random.default_rng(0).normal(size=moved[:, 2].shape).astype(np.float32)
    after = np.concatenate([said for _, said in predict.forecast(windows.of(series.with_frames(moved)))])
    assert before.shape == (3, 2, 2, 16, 16)
    assert not np.array_equal(before, after)


def test_later_frames_have_no_say_in_a_forecast(trained):
    folder, data = trained
    recipe = recipe_of(folder)
    series, targets = read_frames(recipe, str(data))
    predict = Forecaster(folder, recipe, targets)
    windows = windows_in(recipe, series).take(np.array([20]))
    later = series.frames.copy()
    later[24:] = 1e6
    (_, here), (_, there) = (next(predict.answers(windows.of(series.with_frames(frames)))) for frames in (series.frames, later))
    assert list(here) == ["ensemble", *TIMED]
    for name, said in here.items():
        np.testing.assert_array_equal(said, there[name])
    earlier = series.frames.copy()
    earlier[23] += 1
    (_, other) = next(predict.answers(windows.of(series.with_frames(earlier))))
    assert not np.array_equal(other["ensemble"], here["ensemble"])


def test_test_frames_change_nothing_that_is_learned(trained, tmp_path):
    folder, data = trained
    begin = min(int(row["frame"]) for row in rows_of(folder.folder / "splits.csv") if row["part"] == "test")
    with np.load(data) as kept:
        arrays = dict(kept)
    arrays["frames"][begin:] *= -7
    other = train(recipe_of(folder), keep(tmp_path, **arrays), tmp_path / "run")
    for name in ("prepare.npz", "baselines.npz", "0-simvp/weights.safetensors", "0-simvp/metrics.jsonl"):
        assert (other.folder / "fold0" / name).read_bytes() == (folder.folder / "fold0" / name).read_bytes(), name
    assert other.scores.score.value("mse") != folder.scores.score.value("mse")
    assert other.metadata.range == folder.metadata.range


@pytest.mark.parametrize("crop", [[], [8, 8]])
def test_forecasts_are_in_the_frames_own_unit(crop, tmp_path):
    cells = np.random.default_rng(0).normal(size=(16, 16)) * 20
    data = keep(tmp_path, 300 + cells + 0.5 * wandering(60)[..., 0])
    windows = {"past": 4, "ahead": 2, "crop": crop}
    recipe = still(prepare=[{"step": "standardise", "per": "cell"}], windows=windows, **{"output.metric": "mae"})
    made = train(recipe, data, tmp_path / "run")
    scores = made.scores
    assert scores.score.value("mae") == pytest.approx(scores.baselines[0].value("mae"), rel=0.2)  # persistence, nearly
    assert scores.score.value("mae") < 1
    assert scores.n == 4 * (4 if crop else 1)
    with np.load(data) as kept:
        last = kept["frames"][-1]
    forecasts = api.predict(made, str(data), out=str(tmp_path / "next.npz"))
    np.testing.assert_allclose(forecasts.frames, np.broadcast_to(last, (1, 1, 2, 16, 16)), atol=1)


@pytest.mark.parametrize("crop", [[], [8, 8]])
def test_a_cycle_that_is_taken_off_comes_back_at_the_forecasts_time(crop, tmp_path):
    cells = np.random.default_rng(0).normal(size=(16, 16)) * 20
    turn = np.sin(2 * np.pi * (np.arange(72)[:, None, None] / 6 + np.arange(16)[:, None] / 16))  # 6 hours, shifted by row
    data = keep(tmp_path, 300 + cells + 10 * turn, time=hours(72))
    steps = [{"step": "anomaly", "period": 21600.0}, {"step": "standardise", "per": "cell"}]
    output = {"output.baselines": ["persistence", "climatology"], "output.period": 21600.0, "output.metric": "mae"}
    made = train(still(prepare=steps, windows={"past": 4, "ahead": 3, "crop": crop}, **output), data, tmp_path / "run")
    scores = made.scores
    persistence, climatology = scores.baselines
    assert scores.score.value("mae") < 0.1
    assert climatology.value("mae") < 1e-3
    assert persistence.value("mae") > 5
    assert climatology.skill != persistence.skill
    forecasts = api.predict(made, str(data), out=str(tmp_path / "next.npz"))
    with np.load(data) as kept:
        np.testing.assert_allclose(forecasts.frames[0, 0], kept["frames"][[66, 67, 68]], atol=0.5)  # the same phases


def test_past_and_truth_are_the_right_frames(tmp_path):
    data = keep(tmp_path, counting(60))
    made = train(still(prepare=[], **{"output.metric": "mae"}), data, tmp_path / "run")
    persistence, mean = made.scores.baselines
    assert persistence.by_lead["mae"] == (1, 2)
    assert mean.by_lead["mae"] == (2.5, 3.5)
    assert persistence.by_lead["mse"] == (1, 4)
    np.testing.assert_allclose(made.scores.score.by_lead["mae"], [1, 2], rtol=0.5)
    many = np.stack([counting(9) + begin for begin in (0, 100, 200)])[..., None]  # (sequence, time, row, column, channel)
    forecasts = api.predict(made, str(keep(tmp_path / "many", many)), out=str(tmp_path / "x.npz"))
    assert len(forecasts) == 3
    np.testing.assert_allclose(forecasts.frames.mean(axis=(1, 2, 3, 4)), [8, 108, 208], rtol=0.1)
    short = keep(tmp_path / "short", counting(4))  # enough to forecast from, too few to score
    assert len(api.predict(made, str(short), out=str(tmp_path / "y.npz"))) == 1
    with pytest.raises(DataError, match="a window needs 6"):
        api.score(made, str(short))
    with pytest.raises(DataError, match="longest segment without a gap has 3 frames; a forecast needs 4"):
        api.predict(made, str(keep(tmp_path / "shorter", counting(3))), out=str(tmp_path / "y.npz"))


def test_cells_without_a_value_are_in_no_score(tmp_path):
    frames = counting(60)
    frames[:, :4, :5] = np.nan  # never
    frames[np.random.default_rng(0).random(frames.shape) < 0.2] = np.nan  # now and then
    data = keep(tmp_path, frames)
    made = train(small(**{"output.metric": "mae", "output.pictures": True}), data, tmp_path / "run")
    scores = made.scores
    assert any(
        note.endswith("of the cells in the test part's later frames are missing; they are excluded from the scores")
        for note in scores.notes
    )
    persistence = scores.baselines[0].by_lead["mae"]
    assert 1 <= persistence[0] < 1.5  # a cell without a value has its latest one
    assert np.isfinite(scores.score.by_lead["mse"]).all()
    assert scores.score.value("mae-sum") < scores.score.value("mae") * (256 - 20) * 0.9
    history = [json.loads(line) for line in (made.member(0, 0, "simvp") / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite(history[0]["loss"])
    assert (made.folder / "pictures" / "forecast.png").exists()
    said = run("check", "frames", "--data", data, "--set", "windows.past=4", "--set", "windows.ahead=2").output
    assert "of the cells missing" in said
    whole = api.predict(made, str(data), out=str(tmp_path / "next.npz"))
    assert np.isnan(whole.frames[..., :4, :5]).all()  # no value ever: none is made up
    assert np.isfinite(whole.frames[..., 4:, :]).all()


def test_frames_to_learn_from_without_a_value_are_told(tmp_path):
    frames = wandering(60)
    frames[:40] = np.nan
    with pytest.raises(DataError, match="the target channels have no values"):
        train(small(), keep(tmp_path, frames), tmp_path / "run")
    assert not (tmp_path / "run").exists()


SOURCE = {
    "frames": {"loss": "bce", "learning_rate": 1.0, "optimiser": "adadelta", "epochs": 1, "best": "mse"},
    "frames_next": {"loss": "dssim", "learning_rate": 1.0, "optimiser": "adadelta", "epochs": 1, "best": "ssim"},
}


@pytest.mark.parametrize("name", SOURCE)
def test_the_sources_own_builds_train(name, tmp_path):
    net = {"member": [{"model": "conv_lstm", "hidden": 4}], "prepare": [{"step": "min_max"}], "stage": [SOURCE[name]]}
    recipe = Recipe.load(name).quickly().with_({**net, "output.pictures": False, "data.count": 12})
    made = api.train(recipe, out=tmp_path / "run", log=quiet)
    assert 0 < made.scores.score.value("mse") < 1
    forecasts = api.predict(made, str(made.folder / "simulated" / "frames.npz"), out=str(tmp_path / "x.npz"))
    assert forecasts.frames.shape == (12, len(made.metadata.channels), made.scores.leads, 16, 16)
    assert 0 <= forecasts.frames.min() <= forecasts.frames.max() <= 1


def test_frames_that_do_not_fit_in_memory_are_learned_from_alike(tmp_path, monkeypatch):
    np.save(tmp_path / "frames.npy", wandering(60)[..., 0])
    windows = {"past": 4, "ahead": 2, "crop": [8, 8], "anywhere": True}
    recipe = small(windows=windows, prepare=[{"step": "standardise", "per": "cell"}, {"step": "mirror"}])
    whole = train(recipe, tmp_path / "frames.npy", tmp_path / "whole")
    monkeypatch.setattr(arrays, "LARGE", 1000)
    again = train(recipe, tmp_path / "frames.npy", tmp_path / "again")
    assert learned(again.folder) == learned(whole.folder)
    shown = [api.predict(made, str(tmp_path / "frames.npy"), out=str(tmp_path / "x.npz")).frames for made in (whole, again)]
    np.testing.assert_array_equal(*shown)


def test_no_window_crosses_a_gap(tmp_path):
    times = np.concatenate([hours(30), hours(41, "2020-03-01")])
    data = keep(tmp_path, wandering(71), time=times)
    said = run("check", "frames", "--data", data, "--set", "windows.past=4", "--set", "windows.ahead=2").output
    assert "71 frames of 16 x 16 in 2 segments without gaps, 2020-01-01 00:00 to 2020-03-02 16:00, a frame every 1 h" in said
    assert "1 gap in time" in said
    assert "61 windows of 4 past and 2 later frames of 16 x 16" in said
    made = train(small(**{"output.baselines": ["persistence"]}), data, tmp_path / "run")
    first = [int(row["frame"]) for row in rows_of(made.folder / "splits.csv")]
    assert not {25, 26, 27, 28, 29} & set(first)
    assert any("1 gap in time" in note for note in made.scores.notes)
    forecasts = api.predict(made, str(data), out=str(tmp_path / "x.npz"))
    assert forecasts.times[:, 0].tolist() == [hours(31)[-1].tolist(), hours(42, "2020-03-01")[-1].tolist()]


def test_a_run_without_a_test_part_says_whom_it_flatters(tmp_path):
    made = train(small(**{"split.test": 0.0}), keep(tmp_path, wandering(50)), tmp_path / "run")
    assert any(
        note.startswith("no test part: scores are optimistic, since these windows chose the weights")
        for note in made.scores.notes
    )
    parts = {row["part"] for row in rows_of(made.folder / "splits.csv")}
    assert parts == {"train", "validation"}
    with pytest.raises(UserError, match="the test and validation parts are both empty"):
        train(small(**{"split.test": 0.0, "split.validation": 0.0}), keep(tmp_path / "b", wandering(50)), tmp_path / "none")
    assert not (tmp_path / "none").exists()  # said before anything is fitted


def test_another_measure_uses_the_members_that_are_there(tmp_path):
    data = keep(tmp_path, wandering(60))
    made = train(small(), data, tmp_path / "run")
    weights = made.member(0, 0, "simvp") / "weights.safetensors"
    before, stamp = made.scores.score, weights.stat().st_mtime_ns
    more = {"output.metric": "ssim", "output.range": 1000.0, "output.thresholds": [0.0], "output.baselines": ["mean"]}
    train(small(**more), data, tmp_path / "run")
    after = made.scores
    assert weights.stat().st_mtime_ns == stamp
    assert after.metric == "ssim"
    assert after.score.value("mse") == before.value("mse")
    assert after.score.value("ssim") > before.value("ssim") + 0.01  # of a larger range, the same errors are smaller ones
    assert "csi" in after.score.measures
    assert [b.name for b in after.baselines] == ["mean"]
    train(small(), data, tmp_path / "run")
    assert made.scores.score == before


def test_fresh_leaves_nothing_of_the_run_before(tmp_path):
    data, seed = keep(tmp_path, wandering(60)), {"seed": 3}
    train(small(**{"output.pictures": True}), data, tmp_path / "run")
    made = train(small(**seed), data, tmp_path / "run", fresh=True)
    assert not list((made.folder / "pictures").rglob("*"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["series.variable=frame"], ["'frame'", "frames"]),
        (["series.targets=['channel-4']"], ["series.targets", "'channel-4'", "channel-1, channel-2, channel-3"]),
        (["series.channels=['chanel-1']"], ["'chanel-1'", "did you mean 'channel-1'"]),
        (["windows.past=50"], ["40 frames", "a window needs 52"]),
        (["windows.past=10", "windows.ahead=10"], ["split: no window fits"]),
        (["windows.crop=[20,8]"], ["windows.crop", "20 x 8", "16 x 16"]),
        (["output.baselines=['climatology']"], ["climatology", "86400 seconds", "a known time step"]),
        (["data.layout=grd"], ["data.layout", "did you mean 'grid'"]),
    ],
)
def test_wrong_data_are_told_before_anything_is_fitted(changes, words, tmp_path):
    data = keep(tmp_path, wandering(40, 3), other=np.arange(3))
    settings = [w for c in ["windows.past=4", "windows.ahead=2", *changes] for w in ("--set", c)]
    for command in (["check", "frames", "--data", data], ["train", "frames", "--data", data, "--out", tmp_path / "run"]):
        result = run(*command, *settings)
        assert result.exit_code == 2, result.output
        assert len(result.output.strip().splitlines()) == 1
        for word in words:
            assert word in result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("output.metric=msse", ["output.metric", "did you mean 'mse'"]),
        ("output.metric=csi", ["output.metric", "'csi'"]),
        ("data.digits=mnist.npz", ["data.digits", "data.simulator=digits"]),
        ("combine.threshold=0.3", ["combine.threshold", "labelled samples"]),
        ("output.submission=target", ["output.submission", "labelled samples"]),
        (
            "output.metric=csi-9",
            ["output.metric", "no metric 'csi-9'; available csi metrics: none", "output.thresholds=[7,20]"],
        ),
        ("stage.0.best=accuracy", ["stage.0.best", "'accuracy'"]),
        ("stage.0.loss=dsim", ["stage.0.loss", "did you mean 'dssim'"]),
        ("stage.0.delta=1.0", ["stage.0.delta", "no such option"]),
        ("stage.*.epochs=0", ["stage.0.epochs"]),
        ("stage.0.optimiser=sgd", ["stage.0.optimiser", "adamw"]),
        ("member.0.model=simpv", ["member.0.model", "did you mean 'simvp'"]),
        ("member.0.widht=8", ["member.0.widht", "did you mean 'width'"]),
        ("member.0.past=8", ["member.0.past", "no such option"]),
        ("member.0.kernel=10", ["kernel 10"]),
        ("member.0.flips=['time']", ["member.0.flips", "cadences"]),
        ("prepare=[{step='standardize'}]", ["prepare.0.step", "did you mean 'standardise'"]),
        ("prepare=[{step='mirror'},{step='standardise'}]", ["prepare.1", "must come before"]),
        ("prepare=[{step='mirror',colums=false}]", ["prepare.0.colums", "did you mean 'columns'"]),
        ("prepare=[{step='smote'}]", ["prepare.0.step", "'smote'"]),
        ("output.baselines=['persistance']", ["output.baselines.0", "did you mean 'persistence'"]),
        ("output.baseline=logistic", ["output.baseline", "output.baselines"]),
        ("windows.crop=[8]", ["windows.crop"]),
        ("windows.crop_stride=[8,8]", ["windows.crop_stride", "needs windows.crop"]),
        ("windows.past=0", ["windows.past", "greater than or equal to 1"]),
        ("windows.ahed=2", ["windows.ahed", "did you mean 'ahead'"]),
        ("series.target=['a']", ["series.target", "did you mean 'targets'"]),
        ("split.way=kfold", ["split.way", "'kfold'", "time"]),
        ("split.tets=0.1", ["split.tets", "did you mean 'test'"]),
        ("split.group=auto", ["split.group"]),
        ("combine.by=vote", ["combine.by", "mean"]),
        ("batches.fractions=equal", ["batches.fractions"]),
        ("data.simulator=square", ["data.simulator", "did you mean 'squares'"]),
        ("data.shape=[40,40]", ["data.shape", "channels, rows and columns"]),
        ("data.limit=5", ["data.limit"]),
        ("data.skip_bad=true", ["data.skip_bad"]),
        ("output.per=100", ["output.per"]),
        ("output.range=inf", ["output.range", "finite"]),
        ("windows.anywhere=true", ["windows.anywhere", "needs windows.crop"]),
        ("stage.0.best=sharpness", ["stage.0.best", "best at 1"]),
    ],
)
def test_a_mistyped_recipe_of_frames_is_named(change, words):
    result = run("check", "frames", "--set", change)
    assert result.exit_code == 2, result.output
    assert len(result.output.strip().splitlines()) == 1
    for word in words:
        assert word in result.output, result.output


def test_a_run_is_asked_for_the_channels_it_knows(trained, tmp_path):
    folder, _ = trained
    for channels in (["rain", "wind"], ["rain", "wind", "warmth", "fog"], ["rain", "wind", "snow"]):
        other = keep(tmp_path / channels[-1], wandering(20, len(channels)), channels=np.array(channels))
        for words in (["score", folder.folder, other], ["predict", folder.folder, other, "--out", tmp_path / "x.npz"]):
            result = run(*words)
            assert result.exit_code == 2, result.output
            assert "the run was trained on rain, wind, warmth" in result.output
    made = train(small(), keep(tmp_path / "one", wandering(60)), tmp_path / "run")  # which forecasts all that it is shown
    result = run("score", made.folder, keep(tmp_path / "two", wandering(20, 2)))
    assert result.exit_code == 2, result.output
    assert "channels are channel-1, channel-2; the run was trained on" in result.output
    assert not list(tmp_path.glob("x.*"))
    cut = run("score", folder.folder, tmp_path, "--by", "station")
    assert cut.exit_code == 2
    assert "--by" in cut.output


def test_another_frame_size_is_forecast_unless_cells_were_learned(trained, tmp_path):
    folder, _ = trained
    names = np.array(["wind", "warmth", "rain"])
    wide = keep(tmp_path, wandering(20, 3, size=(9, 21)), channels=names)
    assert api.predict(folder, str(wide), out=str(tmp_path / "x.npz")).frames.shape == (1, 2, 2, 9, 21)
    assert api.score(folder, str(wide), warn=quiet).as_json()["n"] == 15
    by_cell = train(
        small(prepare=[{"step": "standardise", "per": "cell"}]), keep(tmp_path / "b", wandering(60)), tmp_path / "run"
    )
    with pytest.raises(UserError, match="9 x 21 cells; it was fitted cell by cell on frames of 16 x 16"):
        api.predict(by_cell, str(keep(tmp_path / "c", wandering(20, size=(9, 21)))), out=str(tmp_path / "x.npz"))


def test_check_and_show_say_what_there_is(trained):
    folder, data = trained
    changes = ("windows.past=4", "windows.ahead=2", "series.targets=['rain','wind']", "split.cuts=1")
    settings = [word for change in changes for word in ("--set", change)]
    lines = run("check", "frames", "--data", data, *settings).output.splitlines()
    assert (
        lines[0] == "120 frames of 16 x 16 in 1 segment without gaps, 2020-01-01 00:00 to 2020-01-05 23:00, a frame every 1 h"
    )
    assert lines[1] == "channels: rain, wind, warmth; to forecast: rain, wind; unit: K"
    assert lines[2].startswith("values from -")
    assert lines[3] == "115 windows of 4 past and 2 later frames of 16 x 16"
    counts = {
        part: sum(r["part"] == part for r in rows_of(folder.folder / "splits.csv")) for part in ("train", "validation", "test")
    }
    assert lines[4] == (
        f"split by time: {counts['train']} training, {counts['validation']} validation and {counts['test']} test windows"
    )
    assert lines[5] == f"baselines: {', '.join(TIMED)}"
    assert lines[6] == "note: fewer than 10 blocks of time (3): intervals are wide, by the jackknife and Student's t"
    assert lines[-1] == "frames: no problems found"
    layers = run("show", "frames", "--model", "--set", "data.shape=[2,16,16]").output
    assert layers.startswith("member 0: simvp, 20 to 20 frames of 2 x 16 x 16\n")
    assert layers.rstrip().endswith("parameters")
    shown = run("show", "frames_next").output
    assert Recipe.from_toml(shown, "shown") == Recipe.load("frames_next")


def test_simulate_writes_what_train_reads_and_events_become_frames(tmp_path):
    made = run(
        "simulate", "frames", tmp_path / "films", "--count", 3, "--set", "windows.ahead=4", "--set", "data.shape=[2,12,12]"
    )
    assert made.exit_code == 0, made.output
    with np.load(tmp_path / "films" / "frames.npz") as kept:
        assert kept["frames"].shape == (3, 24, 12, 12, 2)
    rng = np.random.default_rng(0)
    days = np.repeat(np.arange(60), 20)
    where = rng.random((len(days), 2))
    kinds = rng.choice(["theft", "fire"], len(days))
    lines = [
        f"{np.datetime64('2020-01-01') + int(day)},{x:.4f},{y:.4f},{kind}"
        for day, (x, y), kind in zip(days, where, kinds, strict=True)
    ]
    (tmp_path / "crimes.csv").write_text("date,x,y,kind\n" + "\n".join(lines) + "\n")
    table = {"box": [0.0, 1.0, 0.0, 1.0], "cells": [8, 8]}
    recipe = small(**{"series.events": table, "series.targets": ["theft"], "data.shape": [2, 8, 8]})
    made = train(recipe, tmp_path / "crimes.csv", tmp_path / "run")
    assert made.metadata.channels == ("theft", "fire")
    assert made.metadata.targets == 1
    series, _ = read_frames(recipe, str(tmp_path / "crimes.csv"))
    assert series.frames[:, 0].sum() == (kinds == "theft").sum()


def test_a_recipe_of_frames_needs_windows_and_one_of_samples_needs_classes(tmp_path):
    text = Recipe.load("frames").toml()
    mine = tmp_path / "mine.toml"
    mine.write_text(text.replace("[windows]", "[window]"))
    result = run("check", mine)
    assert result.exit_code == 2
    assert "did you mean 'windows'" in result.output or "no such key" in result.output
    tree = Recipe.load("frames").tree()
    tree.pop("windows")
    with pytest.raises(UserError, match=r"windows: must be set if there is a \[series\]"):
        Recipe.checked(tree, "mine")
    tree.pop("series")
    with pytest.raises(UserError, match=r"must name two or more classes; a forecasting recipe has a \[windows\] section"):
        api.check(Recipe.checked({**tree, "quick": {}}, "mine"))
    with pytest.raises(UserError, match=r"heartbeat: data\.classes: must name two or more"):
        api.check(Recipe.load("heartbeat").with_({"data.classes": []}))


def test_the_parts_of_time_are_a_window_apart(trained):
    folder, _ = trained
    used: dict[str, set[int]] = {}
    for row in rows_of(folder.folder / "splits.csv"):
        used.setdefault(row["part"], set()).update(range(int(row["frame"]), int(row["frame"]) + 6))
    assert min(used["validation"]) - max(used["train"]) > 6
    assert min(used["test"]) - max(used["validation"]) > 6
    assert max(used["test"]) == 119


def test_ssim_is_of_the_recipes_range_and_else_of_the_channels_to_forecast(tmp_path):
    frames = wandering(60, 2) * np.array([1.0, 1e5], np.float32)
    data = keep(tmp_path, frames, channels=np.array(["rain", "pressure"]))
    of_rain = {"series.targets": ["rain"]}
    made = train(small(**of_rain), data, tmp_path / "run")
    assert made.metadata.range <= np.ptp(frames[..., 0])
    made = train(
        small(**of_rain, **{"output.range": 500.0, "split.validation": 0.0, "split.test": 0.9, "split.gap": 0}),
        data,
        tmp_path / "b",
    )
    test = keep(tmp_path, frames[6:], name="test.npz", channels=np.array(["rain", "pressure"]))
    again = api.score(made, str(test), warn=quiet).as_json()
    assert again["others"]["ssim"] == pytest.approx(made.scores.score.value("ssim"), rel=1e-6)


def test_a_cycle_is_learned_whole_from_a_part_of_the_frames(tmp_path, monkeypatch):
    daily = np.arange(401, dtype=np.float32) % 24
    data = keep(tmp_path, np.broadcast_to(daily[:, None, None], (401, 16, 16)), time=hours(401))
    half = 135  # of the frames to learn from, which spread evenly were every second hour
    monkeypatch.setattr(frame_scaling, "_IN_MEMORY", 16 * 16 * 4 * half)
    made = train(small(**{"output.baselines": ["climatology"]}), data, tmp_path / "run")
    assert made.scores.baselines[0].value("mse") == pytest.approx(0, abs=1e-6)


def test_a_test_part_without_a_value_is_told_before_any_training(tmp_path):
    frames = wandering(60)
    frames[50:] = np.nan
    with pytest.raises(DataError, match="test windows have no values"):
        train(small(), keep(tmp_path, frames), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_net_that_runs_away_is_told(tmp_path):
    wild = {"stage.*.learning_rate": 1e30, "stage.*.schedule": "constant", "stage.*.epochs": 2}
    with pytest.raises(UserError, match=r"no longer finite; lower stage\.\*\.learning_rate"):
        train(small(**wild), keep(tmp_path, wandering(60)), tmp_path / "run")


def test_months_are_forecast_by_the_calendar(tmp_path):
    months = (np.datetime64("2000-01", "M") + np.arange(120)).astype("datetime64[s]")
    yearly = np.broadcast_to((np.arange(120) % 12)[:, None, None], (120, 16, 16))
    year, whole = 31556952.0, {"prepare": [{"step": "anomaly", "period": 31556952.0}], "windows": {"past": 12, "ahead": 24}}
    cut = {"split.gap": 0, "split.validation": 0.0, "split.test": 0.4, "output.period": year}
    data = keep(tmp_path, yearly, time=months)
    made = train(still(**whole, **cut, **{"output.baselines": ["climatology"]}), data, tmp_path / "run")
    assert made.scores.baselines[0].value("mse") == pytest.approx(0, abs=1e-6)
    later = api.predict(made, str(data), out=str(tmp_path / "x.npz"))
    assert later.times[0].tolist() == (np.datetime64("2010-01", "M") + np.arange(24)).astype("datetime64[s]").tolist()
    np.testing.assert_allclose(later.frames[0, 0, :, 0, 0], np.arange(24) % 12, atol=0.2)


def test_fresh_data_that_cannot_be_learned_from_leave_the_run_that_is_there(tmp_path):
    made = train(small(), keep(tmp_path, wandering(60)), tmp_path / "run")
    frames = wandering(60)
    frames[:50] = np.nan
    empty = keep(tmp_path, frames, name="empty.npz")
    with pytest.raises(DataError, match="have no value"):
        train(small(), empty, made.folder, fresh=True)
    assert made.scores.n
    assert run("score", made.folder, empty, "--skip-bad").output.count("--skip-bad") == 1


def test_frames_of_one_value_are_not_taken_for_known_ones(tmp_path):
    def rain(seed):
        frames = wandering(60, seed=seed)
        frames[::4] = 0.0  # dry
        return keep(tmp_path, frames, name=f"{seed}.npz")

    made, fields = train(small(), rain(0), tmp_path / "run"), list[str]()
    api.score(made, str(rain(1)), warn=fields.append)
    assert fields == []
    api.score(made, str(rain(0)), warn=fields.append)
    assert len(fields) == 1
    assert "were used for training or validation" in fields[0]


class Constant:
    """A forecaster that says the same number in every cell, beside real persistence and mean."""

    targets = 1

    def __init__(self, recipe: Recipe, value: float) -> None:
        self.recipe, self.value = recipe, value

    def answers(self, windows):
        past, ahead = windows.values()[:, :, : windows.past], windows.clock()
        beside = {name: new_baseline(name, self.recipe).forecast(past, ahead) for name in self.recipe.output.baselines}
        yield slice(0, len(windows)), {"ensemble": np.full_like(windows.values()[:, :, windows.past :], self.value), **beside}


def scores_of(folder: Path, frames: np.ndarray, value: float, **changes: object) -> Scores:
    """Scores, as read from scores.json, of a constant forecast of maps in K."""
    recipe = small(**changes)
    series, _ = read_frames(recipe, str(keep(folder, frames, unit=np.array("K"))))
    results = evaluate_windows(Constant(recipe, value), windows_in(recipe, series), 4.0).results()
    return Scores.model_validate_json(json.dumps({**results.as_json(), "notes": evaluation_notes(results)}, allow_nan=False))


def spikes(count: int) -> np.ndarray:
    """Maps of 0 with 4 in one cell of twenty: the last map is often right, and where it is wrong, very wrong."""
    return 4.0 * (np.random.default_rng(0).random((count, 16, 16)) < 0.05)


def test_what_persistence_wins_is_said_beside_what_it_loses(tmp_path):
    scores = scores_of(tmp_path, spikes(90), 0.4)
    persistence, mean = scores.baselines
    assert persistence.compared("mse").high < 0 < persistence.compared("mae").low
    line = scores.standing
    assert line.startswith("better than mean by mse (difference -0.")
    assert " K^2 [-0." in line
    assert "; loses to persistence by mae" in line
    assert line.endswith("; to mean by mae")
    assert standing_kind(scores.standing) == "good"
    lines = lead_table(scores).splitlines()
    assert lines[0] == line
    table = {row.split("  ")[0]: row.split()[-3:] for row in lines}
    for name in scores.score.by_lead:  # every metric, of the ensemble and of each baseline
        unit = {"mse": " (K^2)", "mse-sum": " (K^2)", "mae": " (K)", "rmse": " (K)", "mae-sum": " (K)", "psnr": " (dB)"}
        shown = [row.value(name) for row in (scores.score, persistence, mean)]
        assert table[name + unit.get(name, "")] == [f"{value:.4g}" for value in shown], name


def test_an_ensemble_no_better_than_a_baseline_is_said_first(tmp_path):
    scores = scores_of(tmp_path, wandering(90)[..., 0], 0.0, **{"output.metric": "ssim"})
    assert standing_kind(scores.standing) == "warning"
    assert lead_table(scores).startswith("not better than persistence by ssim (difference -0.")
    assert "; loses to persistence by mse, mae, psnr" in lead_table(scores).splitlines()[0]
    assert lead_table(
        scores_of(tmp_path, spikes(90), 0.0, **{"output.baselines": ["mean"], "output.metric": "mae"})
    ).startswith("better than mean by mae (difference -0.")
    alone = scores_of(tmp_path, wandering(90)[..., 0], 0.0, **{"output.baselines": []})
    assert alone.standing == ""
    assert lead_table(alone).startswith("not compared with any baseline\n")
    old = [row.model_copy(update={"differences": {}}) for row in scores.baselines]  # of an earlier version
    assert standing("ssim", old, {"ssim": True}, {}) == ""
    small_frames = scores_of(tmp_path, spikes(90)[:, :6, :6], 0.0, **{"output.metric": "ssim"})
    assert lead_table(small_frames).startswith("not compared with any baseline\n")
    assert "ssim                      –" in lead_table(small_frames)


@pytest.mark.parametrize(("frames", "blocks"), [(17, 2), (18, 3), (59, 9), (60, 10)])
def test_two_blocks_of_time_give_no_interval_and_three_a_wide_one(frames, blocks, tmp_path):
    for crop in ([], [8, 8]):  # crops of one time are no independent units
        scores = scores_of(tmp_path, spikes(frames), 0.2, windows={"past": 4, "ahead": 2, "crop": crop})
        assert scores.blocks == blocks
        row, text, few = scores.baselines[0], lead_table(scores), blocks < 3
        found = [scores.score.measure("mse"), row.measure("mse"), *row.differences.values(), *row.difference, *row.skill]
        found += [(0.0, *ends) for ends in scores.score.interval_by_lead]
        assert all((np.isnan(np.array(ends[1:], float)).all()) == few for ends in found if ends[0] is not None)
        assert ("[" in text) != few
        assert standing_kind(scores.standing) == ("plain" if few else "good")
        assert ("; too few independent blocks for an interval)" in text.splitlines()[0]) == few
        assert ("note: fewer than 10 blocks of time (2): no interval is given" in text) == few
        assert ("): intervals are wide, by the jackknife and Student's t" in text) == (3 <= blocks < 10)
        assert ("[" in "".join(cells[1] for cells in score_rows(scores)[1])) != few


@pytest.mark.parametrize(
    ("step", "change", "period"),
    [
        ("1 h", {}, 86400.0),
        ("1 h", {"output.period": 43200.0}, 43200.0),
        ("1 D", {}, 31556952.0),
        ("7 D", {}, 31556952.0),
        ("1 D", {"output.period": 604800.0}, 604800.0),
        ("5 h", {}, None),
        ("1 h", {"output.baselines": []}, None),
        ("1 h", {"output.baselines": ["persistence"]}, None),
        ("", {}, None),
    ],
)
def test_climatology_is_a_baseline_where_times_are_known(step, change, period, tmp_path):
    number, _, unit = step.partition(" ")
    times = {"time": np.datetime64("2020-01-01", "s") + np.arange(70) * np.timedelta64(int(number), unit)} if step else {}
    data = keep(tmp_path, wandering(70), **times)
    recipe = small(**{**AUTO, **change})
    expected = change.get("output.baselines", ["persistence", "mean"])
    if period:
        expected = [name for name in TIMED if not name.startswith("seasonal") or 2 * period <= 70 * 3600 or "D" in step]
        if 2 * period > 70 * int(number) * 86400 and unit == "D":
            expected = [name for name in expected if not name.startswith("seasonal")]
    elif step and not change:
        expected = [*expected, "pca_ridge"]
    settings = ["--set", "windows.past=4", "--set", "windows.ahead=2", "--set", "split.cuts=1"]
    for key, value in change.items():
        settings += ["--set", f"{key}={json.dumps(value)}"]
    said = run("check", "frames", "--data", data, *settings).output
    assert f"baselines: {', '.join(expected) or 'none'}\n" in said
    assert ("no climatology among the baselines: climatology.period: 86400 seconds" in said) == (step == "5 h")
    made = train(recipe, data, tmp_path / "run")
    assert [row.name for row in made.scores.baselines] == expected
    assert any(note.startswith("no climatology") for note in made.scores.notes) == (step == "5 h")
    if period:
        assert recipe_of(made).output.period == period
    assert list(api.score(made, str(data), warn=quiet).as_json()["baselines"]) == expected
    before = (made.folder / "scores.json").stat().st_mtime_ns
    train(recipe, data, tmp_path / "run")
    assert (made.folder / "scores.json").stat().st_mtime_ns == before


def test_frames_that_climatology_cannot_forecast_are_scored_without_it(trained, tmp_path):
    folder, _ = trained
    names = {"channels": np.array(["wind", "warmth", "rain"]), "unit": np.array("K")}
    whole = ["climatology", "damped_anomaly", "pca_ridge"]
    for frames, why, unfit in (
        (wandering(40, 3, seed=1, size=(9, 21)), "these frames have 9 x 21 cells, those of the run 16 x 16", whole),
        (wandering(20, 3, seed=1), "these frames have no times", TIMED[2:]),
    ):
        said: list[str] = []
        times = {"time": hours(len(frames))} if unfit is whole else {}
        found = api.score(folder, str(keep(tmp_path, frames, **names, **times)), warn=said.append).as_json()
        assert list(found["baselines"]) == [name for name in TIMED if name not in unfit]
        assert said == [f"not compared with {', '.join(unfit)}: {why}"]


def test_hourly_temperature_is_compared_with_the_hour_of_the_day(real, tmp_path):
    data = real("era5_uk_t2m/era5_uk_t2m.npz")
    series = {"variable": "t2m_centi_c", "scale": 0.01, "unit": "degC"}
    changes = {**AUTO, "split.test": 0.2, "output.metric": "rmse"}
    recipe = small(series=series, windows={"past": 6, "ahead": 3, "stride": 3}, **changes)
    made = train(recipe, data, tmp_path / "run")
    scores = made.scores
    parts = {"train": [], "test": []}
    for row in rows_of(made.folder / "splits.csv"):
        parts.get(row["part"], []).append(int(row["frame"]))
    with np.load(data) as kept:
        celsius, hour = kept["t2m_centi_c"] * 0.01, kept["hours_since_1970"] % 24
    known = np.unique(np.add.outer(parts["train"], np.arange(9)))
    later = np.add.outer(parts["test"], 6 + np.arange(3)).ravel()
    usual = np.stack([celsius[known][hour[known] == h].mean(axis=0) for h in range(24)])
    climatology = scores.baselines[2]
    assert climatology.name == "climatology"
    expected = np.sqrt(((celsius[later] - usual[hour[later]]) ** 2).mean())
    assert climatology.value("rmse") == pytest.approx(expected, rel=1e-5)
    assert scores.blocks >= 10
    low, high = climatology.compared("rmse")[1:]
    assert low < scores.score.value("rmse") - climatology.value("rmse") < high < 0
    lines = api.describe_scores(made).splitlines()
    assert lines[0].startswith("frames: not better than damped_anomaly by rmse (difference 0.")  # a small net, briefly trained
    assert " degC [0." in lines[0]
    assert any(line.startswith("mse (degC^2) ") for line in lines)
