"""The loop: stages, best weights, early stop, averaging, schedules, and the same bits after a stop at any step."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from wavefold.models.heads import Softmax
from wavefold.training.checkpoint import CheckpointFile, TrainingState
from wavefold.training.loop import OPTIMISERS, SCHEDULES, Stage, fit_stage, predict_all, unfinished
from wavefold.training.losses import LOSSES
from wavefold.training.monitor import TrainingMonitor
from wavefold.training.sampler import ByClass, EachOnce, TrainingSet
from wavefold.transforms import AUGMENTATIONS


class Silent:
    def __init__(self):
        self.history = []

    def step(self, state, steps):
        pass

    def epoch(self, state):
        self.history = list(state.history)


class Stop(Exception):
    pass


class StopAt(Silent):
    """Ends the training after so many steps, as a kill would."""

    def __init__(self, after):
        super().__init__()
        self.left = after

    def step(self, state, steps):
        self.left -= 1
        if not self.left:
            raise Stop


def toy(by_class=False):
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, 3, 90))
    signals = torch.from_numpy(rng.normal(0, 1, (90, 1, 8)).astype(np.float32)) + labels[:, None, None]
    batches = ByClass(labels.numpy(), np.array([0.5, 0.3, 0.2]), 16) if by_class else EachOnce(90, 16)
    return TrainingSet(signals, labels, torch.arange(90), batches, (AUGMENTATIONS["noise"](0.1), AUGMENTATIONS["shift"](1)))


def net():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))


def stage(number=0, **more):
    given = {"loss": LOSSES["cross_entropy"](torch.ones(3)), "epochs": 4, "learning_rate": 1e-2, "key": 5, **more}
    return Stage(number=number, **given)


def loss_on(part):
    def check(model):
        probabilities = predict_all(model, Softmax(), part.signals)
        return {"log-loss": float(-np.log(probabilities[np.arange(90), part.labels.numpy()]).mean())}

    return check


def fit(tmp_path, *stages, watch=None, model=None, check=None, by_class=False):
    part, model, file = toy(by_class), model or net(), CheckpointFile(tmp_path / "state.pt", 0)
    state, watch = file.read(), watch or Silent()
    for one in unfinished(stages, state):
        fit_stage(model, part, check or loss_on(part), one, state, file, watch)
    return state.best_weights, watch.history


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("average", [0.0, 0.5])
def test_each_way_learns_and_stops_at_any_step_for_the_same_bits(tmp_path, optimiser, schedule, average):
    faster = 100 if optimiser == "adadelta" else 1  # its rate is a share of the step it takes by itself, 1 being whole
    more = {"optimiser": optimiser, "schedule": schedule, "average": average, "learning_rate": faster * 0.01}
    stages = (stage(**more), stage(1, **more | {"learning_rate": faster * 1e-3}, loss=LOSSES["l1"](torch.ones(3)), epochs=2))
    whole, history = fit(tmp_path / "whole", *stages)
    assert history[3]["log-loss"] < history[0]["log-loss"] - 0.05
    for after in (1, 5, 13, 24, 31):  # 6 steps an epoch: inside epochs, at their ends, in the second stage
        folder = tmp_path / f"stopped{after}"
        with pytest.raises(Stop):
            fit(folder, *stages, watch=StopAt(after))
        again, resumed = fit(folder, *stages)
        assert same(whole, again), f"stopped after {after} steps"
        assert resumed == history


def test_batches_by_class_and_soft_f1_stop_at_any_step_for_the_same_bits(tmp_path):
    stages = (stage(), stage(1, learning_rate=1e-3, loss=LOSSES["soft_f1"](torch.ones(3)), epochs=2))
    whole, history = fit(tmp_path / "whole", *stages, by_class=True)
    for after in (3, 13, 27, 33):
        folder = tmp_path / f"stopped{after}"
        with pytest.raises(Stop):
            fit(folder, *stages, watch=StopAt(after), by_class=True)
        again, resumed = fit(folder, *stages, by_class=True)
        assert same(whole, again), f"stopped after {after} steps"
        assert resumed == history


def test_each_stage_starts_from_the_best_weights_of_the_one_before(tmp_path):
    first, _ = fit(tmp_path / "first", stage())
    both, history = fit(tmp_path / "both", stage(), stage(1, learning_rate=1e-12, epochs=1))
    moved = max(float((first[n] - both[n]).abs().max()) for n in first if "running" not in n and "num" not in n)
    assert moved < 1e-6
    assert [line["stage"] for line in history] == [0] * 4 + [1]


def test_a_stage_without_epochs_is_left_out(tmp_path):
    alone, _ = fit(tmp_path / "alone", stage(key=6))
    for name, stages in {"after": (stage(key=6), stage(1, epochs=0)), "before": (stage(epochs=0), stage(key=6))}.items():
        best, history = fit(tmp_path / name, *stages)
        assert same(alone, best)
        assert len(history) == 4


def test_the_best_weights_are_kept_not_the_last(tmp_path):
    values = itertools.chain([3.0, 1.0, 2.0, math.nan])
    seen = []

    def check(model):
        seen.append({k: v.clone() for k, v in model.state_dict().items()})
        return {"log-loss": next(values)}

    # a NaN never replaces a number
    best, history = fit(tmp_path, stage(), check=check)
    assert same(best, seen[1])
    assert [line["kept"] for line in history] == [True, True, False, False]


def test_patience_ends_a_stage_early(tmp_path):
    values = iter([1.0, 2.0, 2.0, 2.0, 2.0, 2.0])
    _, history = fit(tmp_path, stage(epochs=6, patience=2), check=lambda model: {"log-loss": next(values)})
    assert len(history) == 3


def test_without_a_validation_part_the_last_weights_stay(tmp_path):
    model = net()
    best, history = fit(tmp_path, stage(epochs=2), model=model, check=lambda m: {})
    assert all(line["kept"] for line in history)
    assert same(best, dict(model.state_dict().items()))


def test_averaged_weights_lie_between(tmp_path):
    plain, _ = fit(tmp_path / "plain", stage(epochs=1))
    averaged, _ = fit(tmp_path / "averaged", stage(epochs=1, average=1.0))
    start = net().state_dict()
    moved = [float((w["1.weight"] - start["1.weight"]).norm()) for w in (plain, averaged)]
    assert 0 < moved[1] < moved[0]


def test_schedules_start_and_end_where_they_say():
    assert {SCHEDULES["constant"](x) for x in (0, 0.5, 1)} == {1.0}
    assert SCHEDULES["cosine"](0.5) == pytest.approx(0.5)
    assert SCHEDULES["cosine"](1) == pytest.approx(0)
    assert SCHEDULES["one_cycle"](0) == pytest.approx(0.04)
    assert SCHEDULES["one_cycle"](0.3) == pytest.approx(1)
    assert SCHEDULES["one_cycle"](1) == pytest.approx(0)


def test_the_rate_is_of_this_sessions_own_work(tmp_path):
    monitor = TrainingMonitor(1600, [4, 0])
    for name in ("fold 1 of 2, 0 net", "fold 1 of 2, 1 net", "fold 2 of 2, 0 net"):  # 1,200 samples of an earlier session
        monitor.begin(100, name, tmp_path)
        monitor.end(earlier=True)
    monitor.begin(100, "fold 2 of 2, 1 net", tmp_path)
    monitor.resume(TrainingState(epoch=1, batch=5), steps=10)  # and 150
    monitor.step(TrainingState(epoch=3, batch=5), steps=10)
    line = monitor._view.line(monitor._done, 10.0)
    assert line == "training   97 %  20 samples/s  2 s left"  # 1,550 of 1,600, 200 of them in these 10 s
