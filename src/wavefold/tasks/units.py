"""The units of a training, fitted in turn: each is locked while it is fitted, and done once and for all."""

from __future__ import annotations

from collections.abc import Iterable

from wavefold.core.run import lock_unit
from wavefold.tasks.base import Training, Unit
from wavefold.training.monitor import ProgressView, TrainingMonitor


def fit_units(training: Training) -> None:
    """Fit every unit that is not done, one after another."""
    done = {unit.name for unit in training.units if unit.done}  # asked once, so that several processes agree
    with new_monitor(training, training.units) as monitor:
        for unit in training.units:
            monitor.begin(training.samples(unit), title_of(training, unit), unit.folder)
            if unit.name not in done:
                fit_unit(training, unit, monitor)
            monitor.end(earlier=unit.name in done)


def fit_unit(training: Training, unit: Unit, monitor: TrainingMonitor, *, wait: bool = False) -> None:
    """Fit one unit, unless another process has fitted it; UserError if one is at it now. wait: for that process to end."""
    with lock_unit(unit.folder, wait=wait):
        if not unit.done:
            training.fit(unit, monitor)


def new_monitor(training: Training, units: Iterable[Unit], view: ProgressView | None = None) -> TrainingMonitor:
    """The progress listener of some units. view: where progress is shown; a line on standard error by default."""
    epochs = [stage.epochs for stage in training.recipe.stage]
    total = sum(work_of(training, unit) for unit in units)
    return TrainingMonitor(total, epochs, tensorboard=training.recipe.output.tensorboard, view=view)


def work_of(training: Training, unit: Unit) -> int:
    """How many samples a unit processes in all epochs."""
    return training.samples(unit) * sum(stage.epochs for stage in training.recipe.stage)


def title_of(training: Training, unit: Unit) -> str:
    """The unit in the words of the progress line: fold 1 of 5, 0 net1."""
    folds = 1 + max(unit.fold for unit in training.units)
    return f"fold {unit.fold + 1} of {folds}, {unit.number} {unit.member.model}"
