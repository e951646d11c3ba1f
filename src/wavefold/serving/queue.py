"""Batch requests for a model: waiting requests are combined, and one thread runs the model."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating]  # (sample, ...)


class QueueClosed(Exception):
    """The server is shutting down."""


@dataclass
class _Waiting:
    arrays: tuple[Values, ...]
    answer: Future[Values] = field(default_factory=Future)

    def __len__(self) -> int:
        return len(self.arrays[0])


class InferenceQueue:
    """Runs a model on all waiting rows, at most `batch` at once; an idle queue adds no delay.

    ask: takes arrays (sample, ...) and returns one array (sample, ...). It runs in a thread of the queue, from the first
    request until `close`.
    """

    def __init__(self, predict: Callable[..., Values], batch: int) -> None:
        self._ask, self._batch = predict, batch
        self._entries: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    async def predict(self, *arrays: Values) -> Values:
        """Return the model output for the rows of one request; a request cancelled while waiting is skipped."""
        futures = self.put(arrays)
        try:
            answers = [await asyncio.wrap_future(future) for future in futures]
        finally:
            for future in futures:
                future.cancel()
        return answers[0] if len(answers) == 1 else np.concatenate(answers)

    def predict_and_wait(self, *arrays: Values, seconds: float) -> Values:
        """Do the same for a caller in a thread; TimeoutError after so many seconds."""
        futures = self.put(arrays)
        try:
            return np.concatenate([future.result(seconds) for future in futures])
        finally:
            for future in futures:
                future.cancel()

    def put(self, arrays: tuple[Values, ...]) -> list[Future[Values]]:
        """Queue the rows of one request, in pieces of `batch`; the first call starts the thread."""
        starts = range(0, len(arrays[0]), self._batch)
        entries = [_Waiting(tuple(array[start : start + self._batch] for array in arrays)) for start in starts]
        with self._changed:
            if self._closed:
                raise QueueClosed
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="wavefold-ask", daemon=True)
                self._thread.start()
            self._entries.extend(entries)
            self._changed.notify()
        return [entry.answer for entry in entries]

    def close(self, seconds: float = 5.0) -> None:
        """Accept no more requests, let the thread finish its current batch, and cancel the waiting requests."""
        with self._changed:
            self._closed = True
            waiting, self._entries = list(self._entries), deque()
            self._changed.notify_all()
        for entry in waiting:
            entry.answer.cancel()
        if self._thread is not None:
            self._thread.join(seconds)

    def _work(self) -> None:
        while entries := self._next():
            running = [entry for entry in entries if entry.answer.set_running_or_notify_cancel()]
            if running:
                self._answer(running)

    def _next(self) -> list[_Waiting]:
        """Take the waiting requests, at most `batch` rows; none once the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._entries or self._closed)
            taken: list[_Waiting] = []
            rows = 0
            while self._entries and (not taken or rows + len(self._entries[0]) <= self._batch):
                taken.append(self._entries.popleft())
                rows += len(taken[-1])
            return taken

    def _answer(self, entries: Sequence[_Waiting]) -> None:
        """Run several requests together; if that fails, each alone, so that a bad sample fails only its own request."""
        try:
            answers = self._together(entries)
        except Exception as error:
            if len(entries) > 1:
                for entry in entries:
                    self._answer([entry])
            else:
                entries[0].answer.set_exception(error)
            return
        for entry, answer in zip(entries, answers, strict=True):
            entry.answer.set_result(answer)

    def _together(self, entries: Sequence[_Waiting]) -> list[Values]:
        columns = zip(*(entry.arrays for entry in entries), strict=True)
        arrays = [parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in columns]
        with np.errstate(all="ignore"):
            answer = self._ask(*arrays)
        ends = np.cumsum([len(entry) for entry in entries])
        if len(answer) != ends[-1]:
            raise ValueError(f"the model returned {len(answer)} of {ends[-1]} samples")
        return np.split(answer, ends[:-1])
