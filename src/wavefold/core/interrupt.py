"""Ctrl-C and SIGTERM during training: the loop saves its state after the current batch, and then stops."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from signal import Handlers
from types import FrameType

from wavefold.core.process import process_count

_ONE = 0.5  # seconds within which a second signal is a repeat of the first: `timeout` and wrappers send it twice
_USUAL: dict[int, Callable[[int, FrameType | None], object] | Handlers] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


class Interrupted(KeyboardInterrupt):
    """A signal stopped the training. saved: whether its state was saved, up to the last batch."""

    def __init__(self, number: int, *, saved: bool) -> None:
        super().__init__(signal.Signals(number).name)
        self.number, self.saved = number, saved


class _Signals:
    """The signal received, and whether it may wait for the state to be saved."""

    def __init__(self) -> None:
        self.waits, self.number, self._came, self._owner = False, 0, 0.0, os.getpid()

    def take(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: the first one waits if it may, the second one stops at once."""
        if os.getpid() != self._owner:  # in a worker process, which inherited the handler
            signal.signal(number, _USUAL[number])
            os.kill(os.getpid(), number)
        elif self.waits and not self.number:
            self.number, self._came = number, time.monotonic()
        elif not self.number or time.monotonic() - self._came > _ONE:
            raise Interrupted(number, saved=False)


_here: _Signals | None = None  # of the training that runs in this process


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Handle SIGINT and SIGTERM as described above, then restore their handlers.

    Does nothing outside the main thread. Of several processes, each ends at SIGTERM with a line. Handlers set by others
    stay, as do ignored signals.
    """
    global _here
    mine = threading.current_thread() is threading.main_thread()
    if mine and process_count() > 1:
        with _last_words():
            yield
        return
    taken = {number: usual for number, usual in _USUAL.items() if mine and signal.getsignal(number) == usual}
    before, signals = _here, _Signals()
    _here = signals if taken else before
    try:
        for number in taken:
            signal.signal(number, signals.take)
        yield
    finally:
        for number, usual in taken.items():
            signal.signal(number, usual)
        _here = before


@contextmanager
def _last_words() -> Iterator[None]:
    """Say why this process ends if a launcher ends it, as torchrun does once another process of the training has ended."""
    line = (
        f"wavefold: one of the {process_count()} processes of this training ended, or all were told to (SIGTERM); "
        "start the same command again to go on from the last saved state\n"
    )

    def say(number: int, frame: FrameType | None) -> None:
        os.write(2, line.encode())
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    usual = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if usual:
        signal.signal(signal.SIGTERM, say)
    try:
        yield
    finally:
        if usual:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def stop_on_request() -> Iterator[Callable[[], None]]:
    """Let another thread stop the training inside the block, by calling what this yields: as a first signal would."""
    global _here
    before, signals = _here, _Signals()

    def ask() -> None:
        signals.number = signal.SIGTERM

    _here = signals
    try:
        yield ask
    finally:
        _here = before


@contextmanager
def signals_wait() -> Iterator[None]:
    """Let a signal wait inside the block, which polls `asked_to_stop` and ends with its state saved."""
    if _here is None:
        yield
        return
    before, _here.waits = _here.waits, True
    try:
        yield
    finally:
        _here.waits = before
    stop_if_asked()


def asked_to_stop() -> bool:
    """Whether a signal is waiting for the state to be saved."""
    return _here is not None and _here.number > 0


def stop_if_asked() -> None:
    """Raise Interrupted if a signal is waiting; call it once the state is saved."""
    if _here is not None and _here.number:
        raise Interrupted(_here.number, saved=True)
