"""Dask distributed, the one engine for several machines, and the few of its methods that are called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from wavefold.core.registry import optional

distributed = optional("distributed", "cluster")
dask = optional("dask", "cluster")


class Future(Protocol):
    """A task that was handed to the scheduler."""

    status: str  # pending, finished, error, lost or cancelled

    def result(self) -> object:
        """What the task returned; raises what it raised."""

    def exception(self) -> BaseException:
        """What the task raised."""

    def cancel(self) -> None:
        """Forget the task; one that runs goes on to its end."""


class Client(Protocol):
    """A connection to a scheduler."""

    status: str

    def submit(self, function: Callable[..., object], *_args: object, **_options: object) -> Future:
        """Hand a task to the scheduler."""

    def run(self, function: Callable[..., object], *_args: object, **_options: object) -> dict[str, object]:
        """Call a function on every worker, beside its tasks; results by the worker's address."""

    def run_on_scheduler(self, function: Callable[..., object], *_args: object) -> object:
        """Call a function on the scheduler."""

    def nthreads(self) -> dict[str, int]:
        """The number of threads of every worker, by address."""

    def subscribe_topic(self, _topic: str, handler: Callable[[tuple[float, object]], None]) -> None:
        """Call the handler with (time, message) for each message under a topic."""

    def unsubscribe_topic(self, _topic: str) -> None:
        """End that."""

    def cancel(self, futures: Sequence[Future]) -> None:
        """Forget tasks."""

    def close(self) -> None:
        """Leave the scheduler."""


class Worker(Protocol):
    """The worker that a task runs on."""

    address: str

    def log_event(self, _topic: str, _msg: object) -> None:
        """Send a message to those who subscribed to a topic."""
