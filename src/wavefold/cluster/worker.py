"""What a worker does: check that it can take part in a training, fit one unit, stop when it is asked to.

Only names and paths travel; data, checkpoints and results stay on the disk that all machines share. The scheduler imports
this file too, so it loads torch only where a unit is fitted.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wavefold.cluster.dask import Worker, distributed
from wavefold.core import version
from wavefold.core.errors import UserError
from wavefold.core.interrupt import Interrupted, stop_on_request
from wavefold.core.registry import later
from wavefold.core.run import RunFolder

_EVERY = 1.0  # seconds between messages on a unit's progress

_units = later("wavefold.tasks.units")


@dataclass(frozen=True)
class Order:
    """What a worker must know to fit units of a run: plain values."""

    run: str  # absolute path of its folder
    source: str  # absolute path of its data, or a remote source's name
    is_file: bool  # whether the source is a path
    version: str  # of wavefold
    recipe: str  # digest
    data: str  # digest
    threads: Mapping[str, int]
    token: str  # of this session of the leader

    @property
    def mark(self) -> Path:
        """An empty file of the leader in the run's folder, by which a worker knows that it is the leader's own folder."""
        return Path(self.run) / f".{self.token}.part"


@dataclass(frozen=True)
class Outcome:
    """How a unit ended on a worker: its folder, an error, or neither if it was stopped."""

    worker: str  # address
    folder: str = ""
    error: UserError | OSError | None = None
    problem: str = ""  # why the worker cannot take part


def problem_of(order: Order) -> str:
    """Why this worker cannot fit units of a run, as "has ..."; "" if it can."""
    if version.__version__ != order.version:
        return f"has wavefold {version.__version__} instead of {order.version}; install that version there"
    if not order.mark.exists():
        return f"does not see the run's folder {order.run}; it must be on a disk that all share, under the same path"
    if order.is_file and not Path(order.source).exists():
        return f"does not see the data {order.source}; they must be on a disk that all share, under the same path"
    identity = RunFolder(Path(order.run)).metadata.identity
    if (identity.recipe, identity.data) != (order.recipe, order.data):
        return f"sees another run in {order.run}; it must be on a disk that all share, under the same path"
    own = order.mark.with_name(f".{order.token}.{os.getpid()}.part")
    try:
        own.touch()
        own.unlink()
    except OSError as error:
        return f"cannot write into {order.run} ({error.strerror}); let its user write there"
    return ""


_one_at_a_time = threading.Lock()  # torch has one generator of random numbers in a process
_stopped: set[str] = set()  # tokens of sessions whose leader has asked to stop
_running: dict[str, Callable[[], None]] = {}  # token -> asks its unit to stop


def stop(token: str) -> None:
    """Ask the unit that is being fitted for a leader to save its state and stop, and let no other begin."""
    _stopped.add(token)
    for ask in [ask for running, ask in _running.items() if running == token]:
        ask()


def run_unit(order: Order, name: str) -> Outcome:
    """Fit a unit of a run, fold0/member1, or prepare a fold, fold0/prepare; waits if another process is at it."""
    worker: Worker = distributed.get_worker()
    with _one_at_a_time, stop_on_request() as ask:
        _running[order.token] = ask
        try:
            if order.token in _stopped:
                return Outcome(worker.address)
            if problem := problem_of(order):
                return Outcome(worker.address, problem=problem)
            folder = _units.fit_as_ordered(
                RunFolder(Path(order.run)), order.source, name, _Messages(order.token, name, worker), order.threads, order.token
            )
            return Outcome(worker.address, str(folder))
        except Interrupted:
            return Outcome(worker.address)
        except (UserError, OSError) as error:
            return Outcome(worker.address, error=error)
        finally:
            del _running[order.token]


class _Messages:
    """Sends a unit's progress to the leader, at most once a second."""

    def __init__(self, token: str, name: str, worker: Worker) -> None:
        self._token, self._name, self._worker = token, name, worker
        self._last, self._skipped = 0.0, 0

    def update(self, done: int, note: str = "") -> None:
        """Send the samples done and what is being done."""
        if time.monotonic() - self._last >= _EVERY:
            self._last = time.monotonic()
            self._worker.log_event(self._token, {"unit": self._name, "done": done, "skipped": self._skipped, "note": note})

    def skip(self, more: int) -> None:
        """Count samples that an earlier session has processed."""
        self._skipped += more
