"""Optuna's side of a search: it proposes values, is told what they gave, and remembers both in a journal file."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from wavefold.core.errors import UserError
from wavefold.core.random import key as make_key
from wavefold.core.registry import optional
from wavefold.recipe import Range

optuna = optional("optuna", "tune")

Ranges = Mapping[str, Range | list[object]]


class _Trial(Protocol):
    """A trial of Optuna's."""

    number: int
    user_attrs: Mapping[str, object]

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        """Propose a number."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """Propose a whole number."""

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        """Propose one of some words."""

    def set_user_attr(self, key: str, value: object) -> None:
        """Remember a value."""

    def report(self, value: float, step: int) -> None:
        """Tell a value on the way."""

    def should_prune(self) -> bool:
        """Whether the trial is behind most others at the same step."""


@dataclass(frozen=True)
class Proposal:
    """Values to try, by key of the recipe, and the name of the folder to try them in."""

    trial: _Trial
    number: int
    values: dict[str, object]
    folder: str


class Study:
    """A search that goes on where it stopped. what: digest of recipe, ranges and data, which must stay the same.

    A trial that was running when a search was killed is marked as failed, and its values are tried again in its folder.
    """

    def __init__(self, journal: Path, ranges: Ranges, *, what: str, higher_is_better: bool, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        backend = optuna.storages.journal.JournalFileBackend(str(journal))
        storage = optuna.storages.JournalStorage(backend)
        self._ranges, self._lock = ranges, threading.RLock()
        self._study = optuna.create_study(
            storage=storage,
            study_name="wavefold",
            direction="maximize" if higher_is_better else "minimize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
            load_if_exists=True,
        )
        before = self._study.user_attrs.get("what", what)
        if before != what:
            raise UserError(f"{journal.parent}: holds a search with another recipe, ranges or data; choose another --out")
        self._study.set_user_attr("what", what)
        self._sampler(make_key(seed, len(self._study.trials)) & 0x7FFFFFFF)
        self._revive()

    def _sampler(self, seed: int) -> None:
        self._study.sampler = optuna.samplers.TPESampler(seed=seed)

    def _revive(self) -> None:
        for trial in self._study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            if trial.params:
                self._study.enqueue_trial(trial.params, user_attrs={"folder": trial.user_attrs["folder"]})

    @property
    def finished(self) -> int:
        """Number of trials that ended, pruned ones too."""
        states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
        return len(self._study.get_trials(states=states, deepcopy=False))

    def ask(self) -> Proposal:
        """Propose values to try."""
        with self._lock:
            trial: _Trial = self._study.ask()
            folder = str(trial.user_attrs.get("folder", f"trial{trial.number}"))
            trial.set_user_attr("folder", folder)
            values = {name: _suggested(trial, name, given) for name, given in self._ranges.items()}
            return Proposal(trial, trial.number, values, folder)

    def hopeless(self, proposal: Proposal, step: int, value: float) -> bool:
        """Take a value on the way, the step-th one; returns whether the trial is behind most others there."""
        with self._lock:
            proposal.trial.report(value, step)
            return bool(proposal.trial.should_prune())

    def end(self, proposal: Proposal, value: float | None, *, pruned: bool = False) -> None:
        """Take a trial's value; None if it failed or was pruned."""
        states = optuna.trial.TrialState
        state = states.PRUNED if pruned else states.FAIL if value is None else states.COMPLETE
        with self._lock:
            self._study.tell(proposal.number, value, state=state)

    def best(self) -> tuple[str, float, dict[str, object]] | None:
        """The folder of the best finished trial, its value and what it tried; None if there is none."""
        done = self._study.get_trials(states=(optuna.trial.TrialState.COMPLETE,), deepcopy=False)
        if not done:
            return None
        best = self._study.best_trial
        return str(best.user_attrs["folder"]), float(best.value), {name: _plain(v) for name, v in best.params.items()}


def _suggested(trial: _Trial, name: str, given: Range | list[object]) -> object:
    if not isinstance(given, Range):
        return _plain(trial.suggest_categorical(name, [json.dumps(value) for value in given]))
    if isinstance(given.low, int) and isinstance(given.high, int):
        return trial.suggest_int(name, given.low, given.high, step=int(given.step or 1), log=given.log)
    return trial.suggest_float(name, given.low, given.high, step=given.step, log=given.log)


def _plain(value: object) -> object:
    """A value of a list, which Optuna keeps as JSON text, or a number."""
    return json.loads(value) if isinstance(value, str) else value
