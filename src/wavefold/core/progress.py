"""A one-line progress report: task, percentage, rate and time left."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

from wavefold.core.process import is_main_process

_PLAIN_EVERY = 15.0  # seconds between lines if standard error is not a terminal, where lines cannot be rewritten
_LIVE_EVERY = 0.2


class Progress:
    """A progress line on standard error for a task of known length: `with Progress("reading", 100, "rows") as p`."""

    def __init__(self, what: str, total: int, unit: str, stream: TextIO | None = None) -> None:
        self.what, self.total, self.unit = what, total, unit
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._start = self._last = time.monotonic()
        self._from = 0
        self._width = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()

    def skip(self, more: int) -> None:
        """Count `more` as done before this session, so that it does not raise this session's rate."""
        self._from += more

    def update(self, done: int, note: str = "") -> None:
        """Report progress; prints at most five times a second on a terminal, otherwise every 15 seconds."""
        now = time.monotonic()
        if not is_main_process() or now - self._last < (_LIVE_EVERY if self._live else _PLAIN_EVERY):
            return
        self._last = now
        line = self.line(done, now - self._start, note)
        if self._live:
            self._stream.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def line(self, done: int, seconds: float, note: str = "") -> str:
        """The text of the line after `seconds` of work."""
        rate = (done - self._from) / seconds if seconds > 0 else 0.0
        left = f"{clock((self.total - done) / rate)} left" if rate > 0 else "time left unknown"
        if done >= self.total:  # remaining work such as a classifier's fit is not counted in these units
            left = "almost done"
        share = 100 * done / self.total if self.total else 100.0
        return f"{self.what}  {share:3.0f} %  {rate:,.0f} {self.unit}/s  {left}" + (f"  {note}" if note else "")


def clock(seconds: float) -> str:
    """Format a duration: 42 s, 3 min 10 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
