"""Trains trial after trial, or several at once on a cluster; the validation part chooses, the test part is never scored."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from wavefold.cluster.client import fit_on
from wavefold.cluster.connection import Cluster
from wavefold.core.errors import UserError, listed, plural
from wavefold.core.files import write_text
from wavefold.core.interrupt import signals_wait, stop_if_asked
from wavefold.core.locks import held
from wavefold.core.run import RunFolder, lock_folder
from wavefold.recipe import Range, Recipe, digest_of
from wavefold.tasks.base import Training, Unit, task_of
from wavefold.tasks.units import fit_units
from wavefold.tuning.study import Proposal, Study

Log = Callable[[str], None]

_SECTIONS = ("prepare", "batches", "member", "stage")  # what members learn by; others say what is tested, and how
_FAILURES = 3  # trials that may fail before one has ended well


class Hopeless(Exception):
    """A trial is behind most others at the same epoch."""


class _TimeIsUp(Exception):
    """The minutes of the search are over."""


def check_ranges(recipe: Recipe) -> None:
    """Raise UserError unless a recipe has ranges to search, all of its members and their training, and both ends are valid."""
    if not recipe.tune:
        raise UserError(
            f"{recipe.name}: the recipe has no [tune]; copy it with `wavefold copy` and add what to search, such as "
            '"stage.*.learning_rate" = {low = 1e-4, high = 1e-2, log = true}'
        )
    for key, given in recipe.tune.items():
        if key.partition(".")[0] not in _SECTIONS:
            raise UserError(f"tune.{key}: cannot be searched; only {listed(_SECTIONS)} can, which leave the test part as it is")
        if not isinstance(given, Range) and not given:
            raise UserError(f"tune.{key}: an empty list; name the values to try")
        for value in (given.low, given.high) if isinstance(given, Range) else given:
            changed = recipe.with_({key: value, "tune": {}})
            task_of(changed).check_recipe(changed)


@dataclass(frozen=True)
class Plan:
    """What a search tries, where, and for how long."""

    recipe: Recipe
    source: str
    folder: Path
    trials: int
    minutes: float | None
    cluster: Cluster | None
    log: Log


def tune_recipe(plan: Plan) -> Path:
    """Search a recipe's ranges; returns the file of the best recipe. Each trial is a run's folder; repeat it to go on."""
    with held(plan.folder, f"{plan.folder}: another process is searching here; wait for it, or choose another --out"):
        search = _Search(plan)
        search.run()
        return search.winner()


class _Search:
    """One search: trials until there are enough, or time is up."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._base = plan, plan.recipe.with_({"tune": {}})
        self._until = math.inf if plan.minutes is None else time.monotonic() + 60 * plan.minutes
        with tempfile.TemporaryDirectory(dir=plan.folder, prefix=".start.", suffix=".part") as folder:
            first = self._begin(self._base, Path(folder))  # so that what is wrong with the data is said before any trial
            identity = first.run.metadata.identity
        self._metric, self._higher = first.choice()
        ranges = plan.recipe.model_dump(include={"tune"})
        self._study = Study(
            plan.folder / "trials.journal",
            plan.recipe.tune,
            what=digest_of([identity.recipe, identity.data, ranges]),
            higher_is_better=self._higher,
            seed=plan.recipe.seed,
        )
        self._failed = 0

    def _begin(self, recipe: Recipe, folder: Path) -> Training:
        training = task_of(recipe).begin(recipe, self._plan.source, RunFolder(folder), simulated=False)
        if len({unit.fold for unit in training.units}) > 1:
            raise UserError(
                f"split.way: '{recipe.split.way}' tests every sample in one of its folds, also those that would choose; "
                "search with a split of one fold, such as --set split.way=holdout"
            )
        training.keep_parts()
        return training

    def run(self) -> None:
        """Run trials, side by side if there is a cluster."""
        with signals_wait():
            if self._plan.cluster is None:
                while self._more(0):
                    self._try(self._study.ask())
                    stop_if_asked()
                return
            self._side_by_side(self._plan.cluster)

    def _more(self, running: int) -> bool:
        return time.monotonic() < self._until and self._study.finished + running < self._plan.trials

    def _side_by_side(self, cluster: Cluster) -> None:
        with ThreadPoolExecutor(64, "trial") as pool:
            running: set[Future[None]] = set()
            while self._more(len(running)) or running:
                stop_if_asked()
                while len(running) < max(1, len(cluster.client.nthreads())) and self._more(len(running)):
                    running.add(pool.submit(self._try, self._study.ask()))
                done, running = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
                try:
                    for one in done:
                        one.result()
                except BaseException:
                    self._until = 0.0  # ends the others, with their states saved
                    raise

    def _try(self, proposal: Proposal) -> None:
        """Run one trial and tell the study what it gave."""
        begun = time.monotonic()
        words = ", ".join(f"{name}={_short(value)}" for name, value in proposal.values.items())
        try:
            value = self._fit(proposal)
        except _TimeIsUp:
            return  # it goes on when the search is started again
        except Hopeless:
            self._study.end(proposal, None, pruned=True)
            self._plan.log(f"trial {proposal.number}: stopped early, behind the others: {words}")
        except UserError as error:
            self._study.end(proposal, None)
            self._failed += 1
            if self._failed >= _FAILURES and self._study.best() is None:
                raise
            self._plan.log(f"trial {proposal.number}: failed ({error}): {words}")
        else:
            self._study.end(proposal, value)
            best = self._study.best()
            so_far = f"best {best[1]:.5g}" if best else ""
            took = time.monotonic() - begun
            self._plan.log(f"trial {proposal.number}: {self._metric} {value:.5g} ({so_far}), {took:.0f} s: {words}")

    def _fit(self, proposal: Proposal) -> float:
        """Fit a trial's members; returns the mean of their validation metrics."""
        folder = self._plan.folder / proposal.folder
        with lock_folder(folder, fresh=False):
            training = self._begin(self._base.with_(proposal.values), folder)
            members = [unit for unit in training.units if isinstance(unit.number, int)]
            watch = _Watch(self._study, proposal, members, self._metric, lambda: time.monotonic() < self._until)
            if self._plan.cluster is None:
                fit_units(training, members, watch)
            else:
                fit_on(self._plan.cluster, training, self._plan.source, self._plan.log, units=members, watch=watch)
            value = sum(training.validated(unit) for unit in members) / len(members)
        if math.isnan(value):
            raise UserError(
                f"{self._metric}: undefined on the validation part; raise split.validation, or choose by another metric"
            )
        return value

    def winner(self) -> Path:
        """Write the best trial's recipe; UserError if no trial has ended."""
        best = self._study.best()
        if best is None:
            raise UserError(f"{self._plan.folder}: no trial has ended; repeat the same command to go on, with more --minutes")
        folder, value, values = best
        where = self._plan.folder / "best.toml"
        ended = plural(self._study.finished, "trial")
        head = f"# {self._base.name}: best of {ended} by {self._metric} on the validation part: {value:.5g}, {folder}\n"
        write_text(where, head + self._base.with_(values).toml())
        self._plan.log(f"{where}: the best of {ended}, {self._metric} {value:.5g} on the validation part")
        return where


class _Watch:
    """Reads the validation metric of each epoch as members write it, and ends a trial that is behind or out of time."""

    def __init__(self, study: Study, proposal: Proposal, members: list[Unit], metric: str, goes_on: Callable[[], bool]) -> None:
        self._study, self._proposal, self._members = study, proposal, members
        self._metric, self._goes_on = metric, goes_on
        self._told = [0] * len(members)  # epochs of each

    def __call__(self) -> None:
        """Tell the study what is new; raises Hopeless or _TimeIsUp."""
        if not self._goes_on():
            raise _TimeIsUp
        for number, unit in enumerate(self._members):
            values = _metrics(unit.folder / "metrics.jsonl", self._metric)
            for epoch, value in enumerate(values[self._told[number] :], self._told[number]):
                if not math.isnan(value) and self._study.hopeless(self._proposal, _EPOCHS * number + epoch, value):
                    raise Hopeless
            self._told[number] = len(values)


_EPOCHS = 100_000  # more than a member has: a step of the study is a member and an epoch of it


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _metrics(path: Path, name: str) -> list[float]:
    """A metric after each epoch; none if nothing is written yet."""
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    except OSError:
        return []
    return [float(line[name]) for line in lines if line.get(name) is not None]
