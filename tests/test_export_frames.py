"""A run of frames as one ONNX file: every net, every step of scaling, and what is said where it cannot be."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wavefold.core.errors import UserError
from wavefold.core.run import RunFolder
from wavefold.models.forecast_baselines import BASELINES
from wavefold.models.forecasters import FORECASTERS
from wavefold.recipe import Recipe
from wavefold.tasks.frames.export import export_forecaster, forecaster_module
from wavefold.tasks.frames.inference import Forecaster, forecasts_of
from wavefold.tasks.frames.reading import read_frames
from wavefold.tasks.frames.run import begin_frames
from wavefold.tasks.units import fit_units
from wavefold.transforms.frame_scale import FRAME_TRANSFORMS

pytest.importorskip("onnxruntime")
from wavefold.export.onnx import OnnxModel

PAST, AHEAD = 3, 2
WRITES = "wavefold.export.verified.write_onnx"
SMALL = {
    "blend": {"blurs": [1.0]},
    "conv_lstm": {"hidden": 4, "depth": 1, "activation": "linear"},
    "refine": {"width": 4, "depth": 1},
    "roll_out": {"hidden": 4, "depth": 1},
    "simvp": {"width": 4, "hidden": 8, "depth": 1, "kernel": 9},
}
OPTIONS: dict[str, dict[str, object]] = {"clip": {"low": 5.0, "high": 40.0}, "anomaly": {"period": 6.0}}
CASES = [(name, OPTIONS.get(name, {})) for name in FRAME_TRANSFORMS] + [
    ("standardise", {"per": "cell"}),
    ("min_max", {"low": 0.0, "high": 40.0, "clip": True}),
    ("log1p", {"scale": 0.1}),
    ("anomaly", {"period": 6.0, "smooth": 1}),
]


def said_by(frames: np.ndarray, path: Path, clock: np.ndarray | None = None) -> np.ndarray:
    return OnnxModel(path).predict(frames) if clock is None else OnnxModel(path).predict(frames, clock)


def kept(folder: Path, count: int = 60) -> Path:
    """Hourly frames of 9 x 10 cells and two channels that wander; one cell never has a value, one frame half of its own."""
    steps = np.random.default_rng(0).normal(size=(count, 9, 10, 2))
    frames = 50 + steps.cumsum(axis=0).astype(np.float32)
    frames[:, 2, 3, :] = frames[20, :5] = np.nan
    times = np.datetime64("2020-01-01", "s") + np.arange(count) * np.timedelta64(3600, "s")
    names = {"channels": np.array(["warmth", "rain"]), "unit": np.array("K"), "time": times}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "frames.npz", frames=frames, **names)
    return folder / "frames.npz"


def trained(folder: Path, members: list[dict[str, object]], prepare: list[dict[str, object]], **more: object) -> RunFolder:
    changes = {
        "windows": {"past": PAST, "ahead": AHEAD},
        "member": members,
        "prepare": prepare,
        "series.targets": ["rain"],
        "output.pictures": False,
        "split.way": "time",
        "combine.by": "mean",
    }
    stage = {"loss": "mse", "epochs": 1, "learning_rate": 1e-3, "schedule": "constant", "optimiser": "adamw", "best": "mse"}
    recipe = Recipe.load("frames").with_({**changes, "stage": [stage], **more})
    training = begin_frames(recipe, str(kept(folder)), RunFolder(folder / "run"), simulated=False)
    training.keep_parts()
    fit_units(training)
    training.evaluate()
    return training.run


@pytest.fixture(scope="module")
def every_net(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with a member of every net."""
    members: list[dict[str, object]] = [{"model": name, **SMALL.get(name, {})} for name in FORECASTERS]
    return trained(tmp_path_factory.mktemp("every"), members, [{"step": "standardise"}])


@pytest.fixture(scope="module")
def with_clock(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, Path, list[str]]:
    """A run of two members by anomalies, weighed 1 to 3; its file, and what was said."""
    folder, said = tmp_path_factory.mktemp("clock"), list[str]()
    members: list[dict[str, object]] = [{"model": "blend", "blurs": [1.0]}, {"model": "blend", "blurs": [2.0], "weight": 3.0}]
    prepare: list[dict[str, object]] = [{"step": "anomaly"}, {"step": "standardise", "per": "cell"}]
    run = trained(folder, members, prepare)
    said.append(export_forecaster(run, folder / "model.onnx", log=said.append).line())
    return run, folder / "model.onnx", said


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_step_in_torch_is_the_step(name: str, options: dict[str, object]) -> None:
    frames = np.random.default_rng(0).uniform(1, 60, (24, 2, 3, 4)).astype(np.float32)
    frames[3, 0, 1, 1] = frames[5, 1] = np.nan
    step, clock = FRAME_TRANSFORMS[name](**options), np.arange(24.0) * 3600
    step = FRAME_TRANSFORMS[name](**{**options, **({"period": 6 * 3600.0} if name == "anomaly" else {})})
    step.fit(frames, clock, 3600.0)
    module = step.module()
    requested, seconds = torch.from_numpy(frames.swapaxes(0, 1).copy())[None], torch.from_numpy(clock)[None]  # one sample
    scaled = module(requested, seconds)[0].numpy().swapaxes(0, 1)
    np.testing.assert_allclose(scaled, step.apply(frames, clock), rtol=1e-6, atol=1e-6)  # NaN where it has NaN
    back = module.undo(requested[:, :1] / 60, seconds)[0].numpy().swapaxes(0, 1)  # of the first channel alone
    np.testing.assert_allclose(back, step.undo(frames[:, :1] / 60, clock), rtol=1e-6, atol=1e-6)
    assert module.needs_clock == (name == "anomaly")


def test_what_a_step_refuses_is_no_value_in_torch() -> None:
    frames = torch.tensor([-1.0, 0.0, float("nan")]).view(1, 1, 1, 1, 3)
    made = FRAME_TRANSFORMS["log1p"]().module()(frames, torch.empty(0, 0))
    assert made.isnan().flatten().tolist() == [True, False, True]


@pytest.mark.parametrize("number", range(len(FORECASTERS)), ids=list(FORECASTERS))
def test_every_net_is_written_and_agrees(every_net: RunFolder, number: int, tmp_path: Path) -> None:
    made = export_forecaster(every_net, tmp_path / "model.onnx", member=number, log=lambda line: None)
    assert made.largest_difference < 1e-5
    assert " real window" in made.compared
    model = OnnxModel(made.path)
    assert (model.inputs, model.outputs) == (["frames"], ["forecast"])
    frames = np.random.default_rng(1).normal(50, 3, (3, 2, PAST, 9, 10)).astype(np.float32)
    answers = model.predict(frames)
    assert answers.shape == (3, 1, AHEAD, 9, 10)
    np.testing.assert_allclose(answers[1:2], model.predict(frames[1:2]), rtol=1e-5)  # alone as in company


def test_the_ensemble_s_file_forecasts_what_the_run_does(with_clock: tuple[RunFolder, Path, list[str]]) -> None:
    run, path, said = with_clock
    recipe = Recipe.from_toml(run.recipe_text, "recipe.toml")
    series, targets = read_frames(recipe, run.metadata.source)
    expected = forecasts_of(Forecaster(run, recipe, targets), series)
    frames = series.frames[-PAST:].swapaxes(0, 1)[None]
    clock = series.times[-1] + 3600.0 * np.arange(1 - PAST, AHEAD + 1)
    found = said_by(frames, path, clock[None])
    np.testing.assert_allclose(found, expected.frames, rtol=1e-5)
    assert np.isnan(found[0, 0, :, 2, 3]).all()  # never seen
    assert np.isfinite(found).sum() == AHEAD * (9 * 10 - 1)
    another = said_by(frames, path, clock[None] + 3 * 3600)
    assert np.nanmax(np.abs(another - found)) > 0.1  # another hour of the day is another forecast
    assert len(said) == 1
    assert "to" in said[0]


def test_the_file_says_what_it_is(with_clock: tuple[RunFolder, Path, list[str]]) -> None:
    run, path, _ = with_clock
    fields = OnnxModel(path).metadata
    lists = {
        name: json.loads(fields[name]) for name in ("channels", "targets", "past", "ahead", "step", "shape", "n", "interval")
    }
    assert run.scores.blocks < 3
    assert lists.pop("interval") == [None, None]
    assert lists.pop("n") == run.scores.n
    assert lists == {
        **{"channels": ["rain", "warmth"], "targets": ["rain"], "shape": [2, 9, 10]},
        **{"past": PAST, "ahead": AHEAD, "step": 3600.0},
    }
    assert (fields["unit"], fields["metric"], fields["recipe"]) == ("K", "mse", "frames")
    assert json.loads(fields["scaling"]) == [{"step": "anomaly"}, {"step": "standardise", "per": "cell"}]
    assert set(json.loads(fields["baselines"])) == {row.name for row in run.scores.baselines}
    assert fields["clock"].startswith("seconds since 1970-01-01 UTC")


def test_a_moved_source_is_said_and_simulated(
    with_clock: tuple[RunFolder, Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, path, _ = with_clock
    monkeypatch.setattr(WRITES, lambda made, *args, **more: shutil.copy(path, made))  # what it would write again
    folder, said = tmp_path / "run", list[str]()
    shutil.copytree(run.folder, folder)
    metadata = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**metadata, "source": str(tmp_path / "gone.npz")}))
    made = export_forecaster(RunFolder(folder), tmp_path / "model.onnx", log=said.append)
    assert " simulated window" in made.compared
    assert said[0].startswith(f"{tmp_path / 'gone.npz'}: no such file or folder; verifying on simulated frames")


def test_what_cannot_be_written_leaves_no_file(with_clock: tuple[RunFolder, Path, list[str]], tmp_path: Path) -> None:
    run, _, _ = with_clock
    with pytest.raises(UserError, match=r"--member 2: no such member; the run has members 0, 1"):
        export_forecaster(run, tmp_path / "model.onnx", member=2)
    with pytest.raises(UserError, match=r"ends in \.onnx"):
        export_forecaster(run, tmp_path / "model.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_differs_is_not_kept(
    with_clock: tuple[RunFolder, Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, path, _ = with_clock
    monkeypatch.setattr(WRITES, lambda made, *args, **more: shutil.copy(path, made))
    with pytest.raises(RuntimeError, match=r"standard deviations of the frames, expected 1e-05 at most"):
        export_forecaster(run, tmp_path / "model.onnx", member=0, log=lambda line: None)
    assert list(tmp_path.iterdir()) == []


def test_a_blend_is_written_with_its_baselines_and_the_frames_of_a_cycle(tmp_path: Path) -> None:
    """Yesterday's hour is best: the file takes 25 frames, of which the first may be missing."""
    daily = 50 + 10 * np.sin(np.arange(120) / 12 * np.pi)[:, None, None, None] * np.ones((1, 9, 10, 2))
    frames = (daily + np.random.default_rng(0).normal(size=daily.shape).cumsum(axis=0) / 4).astype(np.float32)
    times = np.datetime64("2020-01-01", "s") + np.arange(120) * np.timedelta64(3600, "s")
    np.savez(tmp_path / "frames.npz", frames=frames, time=times)
    changes = {
        "windows": {"past": PAST, "ahead": AHEAD},
        "member": [{"model": "blend", "blurs": [1.0]}],
        "output.pictures": False,
        "split.cuts": 2,
        "stage.*.epochs": 1,
        "output.baselines": ["auto", "advection"],
    }
    recipe, source = Recipe.load("frames").with_(changes), str(tmp_path / "frames.npz")
    training = begin_frames(recipe, source, RunFolder(tmp_path / "run"), simulated=False)
    training.keep_parts()
    fit_units(training)
    training.evaluate()
    recipe = Recipe.from_toml(training.run.recipe_text, "recipe.toml")
    blend = Forecaster(training.run, recipe, 2).blend
    names = ("0 blend", *(name for name in BASELINES if name != "spectral"))  # as a start it is tested above
    kept = replace(blend, names=names, weights=np.full((len(names), AHEAD, 2), 1 / len(names)))
    kept.save(tmp_path / "run" / "fold1" / "blend.npz")  # so that every baseline has a part in it
    made = export_forecaster(training.run, tmp_path / "model.onnx", log=lambda line: None)
    assert made.largest_difference < 1e-2
    model = OnnxModel(made.path)
    assert json.loads(model.metadata["past"]) == 25
    series, targets = read_frames(recipe, source)
    expected = forecasts_of(Forecaster(training.run, recipe, targets), series).frames
    past = series.frames[-25:].swapaxes(0, 1)[None]
    clock = series.times[-1] + 3600.0 * np.arange(1 - 25, AHEAD + 1)
    np.testing.assert_allclose(model.predict(past, clock[None]), expected, rtol=1e-3)
    short = series.frames[-PAST:]
    few = replace(series, frames=short, times=series.times[-PAST:], starts=np.zeros(1, np.int64))
    expected = forecasts_of(Forecaster(training.run, recipe, targets), few).frames
    past[:, :, :-PAST] = np.nan
    np.testing.assert_allclose(model.predict(past, clock[None]), expected, rtol=1e-3)


def test_motion_is_found_by_one_way_for_all_values() -> None:
    """What an exported net does of the past, all of it at once, is what the search for the latest value does in steps."""
    net = FORECASTERS["blend"](1, 1, 2, 1, start="spectral", blurs=[1.0]).eval()
    past = torch.rand(2, 1, 2, 9, 10, generator=torch.Generator().manual_seed(0))
    traced = torch.export.export(net, (past,), dynamic_shapes=({0: torch.export.Dim("sample")},)).module()
    with torch.no_grad():
        torch.testing.assert_close(traced(past[:1]), net(past[:1]))


def test_the_module_has_a_gradient(with_clock: tuple[RunFolder, Path, list[str]]) -> None:
    run, _, _ = with_clock
    whole = forecaster_module(run, Recipe.from_toml(run.recipe_text, "recipe.toml"))
    frames = torch.full((1, 2, PAST, 9, 10), 50.0, requires_grad=True)
    whole(frames, torch.zeros(1, PAST + AHEAD, dtype=torch.float64)).sum().backward()
    assert frames.grad is not None
    assert frames.grad.abs().sum() > 0
