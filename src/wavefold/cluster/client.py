"""The leader of a training on a cluster: hands its units to Dask's scheduler, watches them, and tries failed ones again.

The leader holds the run's lock; each unit locks its own folder. A unit whose worker dies goes to another one, which goes on
from the unit's checkpoint. Errors are one line, and whatever happens, what is fitted so far stays in the run's folder.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from wavefold.cluster.connection import POLL, RESUME, RETRIES, Cluster, first_line, wait_for_workers, wrong_versions
from wavefold.cluster.dask import Future, distributed
from wavefold.cluster.worker import Order, Outcome, problem_of, run_unit, stop
from wavefold.core import version
from wavefold.core.device import thread_counts
from wavefold.core.errors import UserError, plural
from wavefold.core.interrupt import Interrupted, signals_wait, stop_if_asked
from wavefold.core.progress import Progress
from wavefold.tasks.base import Training, Unit
from wavefold.tasks.units import PREPARE, work_of

Log = Callable[[str], None]

_ARRIVALS = 2.0  # seconds between looks for workers that have joined
_GRACE = 60.0  # seconds for units to save their state when they are asked to stop
_SHARED = 60.0  # seconds after which a shared disk shows what another machine wrote: NFS keeps what it knows for so long


def fit_on(
    cluster: Cluster,
    training: Training,
    source: str,
    log: Log,
    *,
    units: Sequence[Unit] = (),
    watch: Callable[[], None] | None = None,
) -> None:
    """Fit every unit of a training that is not done, or only the given ones, on a cluster's workers. source: path of its data.

    watch: called in place of a line of progress; may raise to end. log: receives a line while no worker is there, and for each
    that cannot take part. UserError if a unit fails for good, or if a worker that is there at the start cannot take part;
    Interrupted on a signal. Units then save their state.
    """
    todo = [unit for unit in units or training.units if not unit.done]
    if todo:
        order = _order(training, source)
        order.mark.touch()
        try:
            _Leader(cluster, training, order, log, watch).fit(todo)
        finally:
            order.mark.unlink(missing_ok=True)


def _order(training: Training, source: str) -> Order:
    path, info = Path(source).expanduser().absolute(), training.run.metadata
    return Order(
        run=str(training.run.folder.absolute()),
        source=str(path) if path.exists() else source,
        is_file=path.exists(),
        version=version.__version__,
        recipe=info.identity.recipe,
        data=info.identity.data,
        threads=dict(info.threads) or thread_counts(),
        token=f"leader-{uuid.uuid4().hex[:12]}",
    )


class _Leader:
    """The units of one training on a cluster: handed over, watched, tried again."""

    def __init__(self, cluster: Cluster, training: Training, order: Order, log: Log, watch: Callable[[], None] | None) -> None:
        self._watch = watch or self._show
        self._cluster, self._client, self._name = cluster, cluster.client, cluster.name
        self._training, self._order, self._log = training, order, log
        self._done = {unit.name for unit in training.units if unit.done}
        self._known: dict[str, str] = {}  # worker's address -> why it cannot take part, "" if it can
        self._looked = 0.0
        self._flying: dict[str, Future] = {}
        self._only: dict[str, set[str]] = {}  # task -> the workers that may take it, if not all
        self._sent = 0  # tasks
        self._waiting: dict[int, list[Unit]] = {}  # fold that is being prepared -> its units
        self._failed: dict[str, int] = {}  # unit -> how often
        self._running: dict[str, tuple[int, str]] = {}  # unit -> samples done, what it is doing
        self._skipped: dict[str, int] = {}
        units = training.units
        self._work = {unit.name: work_of(training, unit) for unit in units}
        self._progress = Progress("training", max(1, sum(self._work.values())), "samples")

    def fit(self, todo: list[Unit]) -> None:
        """Fit these units; returns once all are done."""
        self._units = {unit.name: unit for unit in todo}
        self._progress.skip(sum(self._work[name] for name in self._done))
        self._client.subscribe_topic(self._order.token, self._hear)
        try:
            with self._progress, signals_wait():
                self._meet_workers()
                self._begin(todo)
                while self._flying:
                    stop_if_asked()
                    self._look()
                    time.sleep(POLL)
        except BaseException as error:
            still = self._halt()
            if isinstance(error, Interrupted) and still:
                raise Interrupted(error.number, saved=False) from None
            raise
        finally:
            with suppress(Exception):  # the scheduler may be gone
                self._client.unsubscribe_topic(self._order.token)

    def _begin(self, todo: list[Unit]) -> None:
        for fold in dict.fromkeys(unit.fold for unit in todo):
            units = [unit for unit in todo if unit.fold == fold]
            if (self._training.run.folder / f"fold{fold}" / "prepare.npz").exists():
                self._submit_all(units)
            else:
                self._waiting[fold] = units
                self._submit(f"fold{fold}/{PREPARE}")

    def _submit_all(self, units: list[Unit]) -> None:
        for unit in units:
            self._submit(unit.name)

    def _submit(self, name: str, workers: Sequence[str] = ()) -> None:
        """Hand a task to the scheduler. workers: the only ones that may take it, if any are named."""
        self._sent += 1
        only = {"workers": list(workers)} if workers else {}
        key = f"{name}-{self._order.token}-{self._sent}"
        self._only[name] = set(workers)
        self._flying[name] = self._client.submit(run_unit, self._order, name, key=key, pure=False, retries=RETRIES, **only)

    def _free(self, name: str) -> None:
        """Hand a task over anew if the only workers that may take it are gone."""
        if self._only[name] and not self._only[name] & self._client.nthreads().keys():
            self._client.cancel([self._flying[name]])
            self._submit(name)

    def _look(self) -> None:
        """Look once at every task, and now and then for new workers."""
        if time.monotonic() - self._looked > _ARRIVALS:
            self._check_new(lambda worker, problem: self._log(f"worker {worker} {problem}; its units go to others"))
            for name in self._flying:
                self._free(name)
        for name, future in list(self._flying.items()):
            if future.status != "pending":
                del self._flying[name]
                self._running.pop(name, None)
                self._end(name, future)
        self._watch()

    def _end(self, name: str, future: Future) -> None:
        """Take what came of a task: go on, try again, or raise its error."""
        if future.status in ("cancelled", "lost"):
            raise UserError(f"{self._name}: the scheduler is gone; what is fitted is saved: {RESUME}")
        if future.status == "error":
            raise self._error_of(name, future.exception())
        outcome = future.result()
        if not isinstance(outcome, Outcome):
            raise TypeError(f"{name}: a worker answered {outcome!r}")
        if outcome.problem:
            self._known[outcome.worker] = outcome.problem
            self._again(name, outcome.worker, UserError(f"worker {outcome.worker} {outcome.problem}"))
        elif outcome.error is not None:
            self._again(name, outcome.worker, outcome.error)
        elif not outcome.folder:
            raise UserError(f"{name}: was stopped on worker {outcome.worker}; {RESUME}")
        else:
            self._check_there(name, outcome)

    def _check_there(self, name: str, outcome: Outcome) -> None:
        """Wait until what a worker wrote is seen here; a fold's units follow once it is prepared."""
        fold, _, what = name.partition("/")
        path = self._units[name].folder / self._units[name].mark if what != PREPARE else Path(outcome.folder) / "prepare.npz"
        until = time.monotonic() + _SHARED
        while not path.exists():
            if time.monotonic() > until:
                raise UserError(f"worker {outcome.worker} has written {path}, but it is not seen here: the disk is not shared")
            stop_if_asked()
            time.sleep(POLL)
        if what != PREPARE:
            self._done.add(name)
        else:
            self._submit_all(self._waiting.pop(int(fold.removeprefix("fold"))))

    def _again(self, name: str, worker: str, error: UserError | OSError) -> None:
        """Hand a failed unit to another worker if there is one; raise its error when it has failed too often."""
        self._failed[name] = self._failed.get(name, 0) + 1
        if isinstance(error, OSError) and self._failed[name] > RETRIES:
            why = error.strerror or first_line(error)
            raise UserError(f"worker {worker}: {error.filename or self._folder_of(name)}: {why}; mend this, then {RESUME}")
        if self._failed[name] > RETRIES or (isinstance(error, UserError) and not self._known.get(worker)):
            raise error
        others = [address for address in self._client.nthreads() if address != worker and not self._known.get(address)]
        self._submit(name, others)

    def _folder_of(self, name: str) -> Path:
        return self._units[name].folder if name in self._units else self._training.run.folder / name.partition("/")[0]

    def _error_of(self, name: str, error: BaseException) -> BaseException:
        if isinstance(error, distributed.KilledWorker):
            return UserError(f"{name}: the workers that fitted it died one after another, perhaps for memory; {RESUME}")
        if isinstance(error, ImportError):
            return UserError(f"{name}: a worker cannot import wavefold ({first_line(error)}); install it there; {RESUME}")
        return error

    def _meet_workers(self) -> None:
        """Wait for the first worker; UserError if any that is there cannot take part."""
        wait_for_workers(self._cluster, self._log)
        self._check_new(_refuse)

    def _check_new(self, tell: Callable[[str, str], None]) -> None:
        """Check the workers that have joined since the last time; `tell` gets each one's address and problem."""
        self._looked = time.monotonic()
        threads = self._client.nthreads()
        new = [address for address in threads if address not in self._known]
        if not new:
            return
        found = wrong_versions(self._client, new)
        well = [address for address in new if not found[address]]
        answers = self._client.run(problem_of, self._order, workers=well, on_error="return") if well else {}
        found |= {address: _words(answer) for address, answer in answers.items()}
        for address in new:
            many = f"has {threads[address]} threads, but fits one unit at a time; start it with --nthreads 1"
            self._known[address] = found[address] or (many if threads[address] > 1 else "")
            if self._known[address]:
                tell(address, self._known[address])

    def _hear(self, event: tuple[float, object]) -> None:
        """Take a message of a worker on its unit's progress."""
        if isinstance(message := event[1], Mapping):
            name = str(message["unit"])
            self._running[name] = int(message["done"]), str(message["note"])
            self._skipped[name] = int(message["skipped"])

    def _show(self) -> None:
        """Show all units in one line of progress."""
        running = {name: value for name, value in dict(self._running).items() if name in self._flying}
        finished = sum(self._work[name] for name in self._done)
        for name in list(self._skipped):
            self._progress.skip(self._skipped.pop(name))
        note = f"{len(self._done)} of {plural(len(self._training.units), 'unit')} done, {len(running)} running"
        last = next(reversed(running.values()), (0, ""))[1]
        self._progress.update(finished + sum(value for value, _ in running.values()), f"{note}: {last}" if last else note)

    def _halt(self) -> int:
        """Ask every unit to save its state and stop; returns how many had not when time was up."""
        with suppress(Exception):  # the scheduler may be gone
            self._client.run(stop, self._order.token, on_error="return")
            until = time.monotonic() + _GRACE
            while any(future.status == "pending" for future in self._flying.values()) and time.monotonic() < until:
                time.sleep(POLL)
        left = [future for future in self._flying.values() if future.status == "pending"]
        with suppress(Exception):
            self._client.cancel(left)
        return len(left)


def _refuse(worker: str, problem: str) -> None:
    raise UserError(f"worker {worker} {problem}")


def _words(answer: object) -> str:
    return (
        answer
        if isinstance(answer, str)
        else f"cannot take part ({first_line(answer)})"
        if isinstance(answer, BaseException)
        else ""
    )
