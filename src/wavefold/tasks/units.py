"""The units of a training: fitted in turn, or one by one elsewhere. Each is locked while it is fitted, and done once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from wavefold.core.device import make_deterministic, threads_set
from wavefold.core.errors import UserError, listed, nearest
from wavefold.core.run import RunFolder, lock_unit
from wavefold.tasks.base import Training, Unit, recipe_of, task_of
from wavefold.training.monitor import ProgressView, TrainingMonitor

PREPARE = "prepare"  # fold0/prepare: the transforms and synthetic samples of a fold


def fit_units(training: Training, units: Sequence[Unit] = (), watch: Callable[[], None] = lambda: None) -> None:
    """Fit every unit that is not done, or only the given ones, one after another. watch: called after each epoch."""
    units = units or training.units
    done = {unit.name for unit in units if unit.done}  # asked once, so that several processes agree
    with new_monitor(training, units, watch=watch) as monitor:
        for unit in units:
            monitor.begin(training.samples(unit), title_of(training, unit), unit.folder)
            if unit.name not in done:
                fit_unit(training, unit, monitor)
            monitor.end(earlier=unit.name in done)


def fit_unit(training: Training, unit: Unit, monitor: TrainingMonitor, *, wait: bool = False) -> None:
    """Fit one unit, unless another process has fitted it; UserError if one is at it now. wait: for that process to end."""
    with lock_unit(unit.folder, wait=wait):
        if not unit.done:
            training.fit(unit, monitor)


def fit_alone(run: RunFolder, source: str, unit: Unit) -> None:
    """Fit one unit of a run that was begun, with the run's number of threads. source: path of its data."""
    training = _rejoined(run, source)
    with threads_set(run.metadata.threads), new_monitor(training, [unit]) as monitor:
        monitor.begin(training.samples(unit), title_of(training, unit), unit.folder)
        fit_unit(training, unit, monitor)


def fit_as_ordered(
    run: RunFolder, source: str, name: str, view: ProgressView, threads: Mapping[str, int], session: str
) -> Path:
    """Fit a unit, or prepare a fold, in a worker's process; returns its folder. Waits if another process is at it.

    session: of who gives the orders; in one session the data, and one fold's prepared parts, are read once.
    """
    if session not in _joined:
        _joined.clear()
        _joined[session] = _rejoined(run, source)
    training = _joined[session]
    with threads_set(threads):
        fold, _, what = name.partition("/")
        if what == PREPARE:
            training.prepare(int(fold.removeprefix("fold")))
            return run.folder / fold
        unit = find_unit(training.units, name)
        monitor = new_monitor(training, [unit], view)
        monitor.begin(training.samples(unit), title_of(training, unit), unit.folder)
        fit_unit(training, unit, monitor, wait=True)
        return unit.folder


_joined: dict[str, Training] = {}  # the training of the last session that asked


def _rejoined(run: RunFolder, source: str) -> Training:
    recipe = recipe_of(run)
    if recipe.digest() != run.metadata.identity.recipe:
        raise UserError(f"{run.folder / 'recipe.toml'}: is not the recipe that the run was begun with; restore it")
    make_deterministic()
    return task_of(recipe).rejoin(recipe, source, run)


def units_of(run: RunFolder) -> list[Unit]:
    """The units of a run that was begun: fold after fold, each fold's baselines last."""
    recipe = recipe_of(run)
    return task_of(recipe).units(recipe, run)


def find_unit(units: Sequence[Unit], name: str) -> Unit:
    """The unit of a name, fold0/member1, or of a number from 0 in the order of the list; UserError if there is none."""
    names = [unit.name for unit in units]
    if name.isdecimal() and int(name) < len(units):
        return units[int(name)]
    if name not in names:
        few = listed(names) if len(names) <= 8 else f"{listed(names[:3])}, ..., {names[-1]}"
        raise UserError(f"unit '{name}': not in this run; expected 0 to {len(names) - 1}, or {few}{nearest(name, names)}")
    return units[names.index(name)]


def new_monitor(
    training: Training,
    units: Iterable[Unit],
    view: ProgressView | None = None,
    watch: Callable[[], None] = lambda: None,
) -> TrainingMonitor:
    """The progress listener of some units. view: where progress is shown; a line on standard error by default."""
    epochs = [stage.epochs for stage in training.recipe.stage]
    total = sum(work_of(training, unit) for unit in units)
    return TrainingMonitor(total, epochs, tensorboard=training.recipe.output.tensorboard, view=view, watch=watch)


def work_of(training: Training, unit: Unit) -> int:
    """How many samples a unit processes in all epochs."""
    return training.samples(unit) * sum(stage.epochs for stage in training.recipe.stage)


def title_of(training: Training, unit: Unit) -> str:
    """The unit in the words of the progress line: fold 1 of 5, 0 net1."""
    folds = 1 + max(unit.fold for unit in training.units)
    return f"fold {unit.fold + 1} of {folds}, {unit.number} {unit.member.model}"
