"""A function of many numbers on a cluster's workers: what it gives comes back in order, whoever dies on the way."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Generic, TypeVar

from wavefold.cluster.connection import POLL, RESUME, RETRIES, Cluster, wait_for_workers, wrong_versions
from wavefold.cluster.dask import Future, distributed
from wavefold.core.errors import UserError
from wavefold.core.interrupt import stop_if_asked

T = TypeVar("T")

_AHEAD = 4  # calls handed over for each worker, so that none waits for the leader


class EachOn(Generic[T]):
    """Calls a function of every number on a cluster, as `map` does here. The function and what it gives must be picklable."""

    def __init__(self, cluster: Cluster, log: Callable[[str], None]) -> None:
        self._cluster, self._log = cluster, log

    def __call__(self, function: Callable[[int], T], numbers: Iterable[int], /) -> Iterator[T]:
        """Yield what the function gives; UserError if a worker has another wavefold or calls fail for good."""
        client, flying = self._cluster.client, deque[tuple[int, Future]]()
        wait_for_workers(self._cluster, self._log)
        for worker, problem in wrong_versions(client, list(client.nthreads())).items():
            if problem:
                raise UserError(f"worker {worker} {problem}")
        todo = iter(numbers)
        try:
            while True:
                most = _AHEAD * max(1, len(client.nthreads()))
                while len(flying) < most and (number := next(todo, None)) is not None:
                    flying.append((number, client.submit(function, number, pure=False, retries=RETRIES)))
                if not flying:
                    return
                number, future = flying.popleft()
                yield self._result(number, future)
        finally:
            with suppress(Exception):  # the scheduler may be gone
                client.cancel([future for _, future in flying])

    def _result(self, number: int, future: Future) -> T:
        while future.status == "pending":
            stop_if_asked()
            time.sleep(POLL)
        if future.status in ("cancelled", "lost"):
            raise UserError(f"{self._cluster.name}: the scheduler is gone; {RESUME}")
        if future.status == "error":
            error = future.exception()
            if isinstance(error, distributed.KilledWorker):
                raise UserError(f"part {number}: the workers that had it died one after another, perhaps for memory; {RESUME}")
            raise error
        made: T = future.result()  # type: ignore[assignment]  # what the function has returned
        return made
