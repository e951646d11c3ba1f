"""A connection to a Dask cluster: by name, or of processes that are started here; its workers and their versions."""

from __future__ import annotations

import json
import logging
import os
import pkgutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path

from wavefold.cluster.dask import Client, dask, distributed
from wavefold.core import version
from wavefold.core.errors import UserError
from wavefold.core.interrupt import stop_if_asked
from wavefold.core.logs import logs_from
from wavefold.core.process import process_count, processors

POLL = 0.1  # seconds
RETRIES = 2
RESUME = "repeat the same command to resume"
_ANSWER = 10.0  # seconds for a scheduler to answer
_FORMS = "local:4, tcp://host:8786, tls://host:8786 or a scheduler's .json file"
_VERSION = "wavefold.core.version:__version__"


@dataclass(frozen=True)
class Cluster:
    """A connection to a Dask cluster, and how it was named."""

    client: Client
    name: str


@contextmanager
def connected(name: str) -> Iterator[Cluster]:
    """Connect to a cluster, or start one of local processes; UserError if the name is none or no scheduler answers.

    name: local:N, the scheduler's address, or the .json file that it writes. Local processes end with the block.
    """
    if process_count() > 1:
        raise UserError("--cluster: not with torchrun, whose processes share one training; use one of the two")
    address = _address(name)
    with ExitStack() as stack:
        stack.enter_context(logs_from(logging.CRITICAL, ("distributed", "tornado")))  # the leader says what matters
        target = stack.enter_context(_local(int(address.removeprefix("local:")))) if address.startswith("local:") else address
        try:
            client: Client = distributed.Client(target, timeout=_ANSWER, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise UserError(f"{name}: no Dask scheduler answers there ({first_line(error)}); {_START}") from None
        stack.callback(client.close)
        yield Cluster(client, name)


_START = "start one with `dask scheduler`, or use --cluster local:2"


def first_line(error: BaseException) -> str:
    """The first line of an error, or its type's name."""
    return str(error).partition("\n")[0].strip() or type(error).__name__


def _address(name: str) -> str:
    """The address that a name stands for; UserError if it has no known form, or its file is missing or damaged."""
    if name.startswith("local:"):
        if not name.removeprefix("local:").isdecimal() or int(name.removeprefix("local:")) < 1:
            raise UserError(f"--cluster {name}: expected a number of processes, such as local:4")
        return name
    if name.endswith(".json"):
        try:
            return str(json.loads(Path(name).read_text(encoding="utf-8"))["address"])
        except OSError as error:
            raise UserError(f"{name}: {error.strerror}; `dask scheduler --scheduler-file {name}` writes it") from None
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{name}: names no scheduler; `dask scheduler --scheduler-file {name}` writes it anew") from None
    if "://" not in name:
        raise UserError(f"--cluster {name}: expected {_FORMS}")
    return name


@contextmanager
def _local(count: int) -> Iterator[object]:
    """A scheduler and so many workers on this machine, each a process with this one's environment and one unit at a time."""
    before = dict(os.environ)
    os.environ.setdefault("NUMBA_NUM_THREADS", str(max(1, processors() // count)))
    # Dask would set OMP_NUM_THREADS to 1 here and in the workers, and forbid them processes of their own
    settings = {"distributed.nanny.pre-spawn-environ": {}, "distributed.worker.daemon": False}
    options = {"memory_limit": 0, "silence_logs": logging.CRITICAL, "scheduler_kwargs": {"dashboard_address": "127.0.0.1:0"}}
    with dask.config.set(settings):
        with _ctrl_c_is_ours():
            cluster = distributed.LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=None, **options)
        os.environ.clear()
        os.environ.update(before)
        try:
            yield cluster
        finally:
            cluster.close()


@contextmanager
def _ctrl_c_is_ours() -> Iterator[None]:
    """Keep Ctrl-C from threads that begin in the block and from processes that these start, now or later: workers, which the
    leader asks to stop."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # started later, for the first worker, it would let the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def wait_for_workers(cluster: Cluster, log: Callable[[str], None]) -> None:
    """Wait for the first worker, with a line to `log`; UserError if the scheduler has another wavefold, or none."""
    client, said = cluster.client, False
    while not client.nthreads():
        if not said:
            log(f"{cluster.name}: waiting for a worker; start one with `dask worker {cluster.name} --nthreads 1`")
        said = True
        stop_if_asked()
        time.sleep(POLL)
    try:
        there = client.run_on_scheduler(pkgutil.resolve_name, _VERSION)
    except (ImportError, AttributeError):
        raise UserError(f"{cluster.name}: the scheduler has no wavefold; start it where wavefold is installed") from None
    if there != version.__version__:
        raise UserError(f"{cluster.name}: the scheduler has wavefold {there} instead of {version.__version__}")


def wrong_versions(client: Client, workers: Sequence[str]) -> dict[str, str]:
    """By worker, what is wrong with its wavefold, "" if nothing; asked in a way that needs none there."""
    answers = client.run(pkgutil.resolve_name, _VERSION, workers=list(workers), on_error="return")
    return {worker: _wrong(answers.get(worker), version.__version__) for worker in workers}


def _wrong(answer: object, wanted: str) -> str:
    if isinstance(answer, ImportError | AttributeError):
        return "has no wavefold; install it there"
    if isinstance(answer, str) and answer != wanted:
        return f"has wavefold {answer} instead of {wanted}; install that version there"
    return "" if isinstance(answer, str) else f"does not answer ({answer})"
