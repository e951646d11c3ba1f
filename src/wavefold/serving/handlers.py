"""Handle requests independently of the web framework: admit, parse, run the model, respond, each within its limit."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from wavefold.core import version
from wavefold.core.errors import UserError, listed, plural
from wavefold.data.dataset import Floats
from wavefold.serving.files import check_file
from wavefold.serving.parsers import (
    Form,
    InputBatch,
    RequestError,
    check_sample_shape,
    holds_numbers_only,
    json_samples,
    npy_samples,
    npy_values,
    row_samples,
)
from wavefold.serving.queue import InferenceQueue, QueueClosed, Values
from wavefold.serving.responses import CSV, JSON, NPY, Answer, json_bytes, preferred, rounded
from wavefold.serving.schemas import Query

if TYPE_CHECKING:
    from fastapi import Request

Predict = Callable[..., Values]
Taken = Callable[["Request", Query], Awaitable["Reply"]]
Made = TypeVar("Made")
Given = TypeVarTuple("Given")
FILE = "application/octet-stream"
_SMALL = 1 << 16  # bytes or values handled in the event loop: passing them to a thread costs more
_HELD = 4  # memory of all requests together, in bodies of the largest size
_TEXT_BYTES = 40  # memory of a number while written as text: a Python float and its digits
_THREADS = 2  # threads that parse bodies, read files and write responses
_EXPLAINING = 2  # explanations at once
_RETRY = {"Retry-After": "1"}
_log = logging.getLogger("wavefold.serve")


@dataclass(frozen=True)
class ServedModel:
    """A run in the form that the server needs."""

    title: str
    kind: str  # "classes", "frames" or another word, by which the page draws answers
    key: str  # of the samples in a JSON body
    name: str  # of the rows in a JSON response
    row: type[BaseModel]  # documents one of these rows
    metadata: Mapping[str, object]  # content of GET /model, JSON values
    shape: tuple[int, ...]  # of one sample: (channel, ...), or of past frames (channel, past, row, column)
    predict: Predict  # from signals, and their times if `timed`, to (sample, ...)
    answer: Callable[[InputBatch, Values], Answer]  # from samples and what `predict` says of them
    example: Floats  # one sample, of that shape
    offers: tuple[str, ...] = (JSON,)  # content types that an answer has
    lines: bool = True  # whether a sample may be a line of numbers
    read: Callable[[Path], InputBatch] | None = None  # reads a file in the system's format; UserError if it is invalid
    suffixes: tuple[str, ...] = ()  # of such files, in lower case; the first is the default
    csv: bool = False  # whether `read` also takes a CSV of samples
    npy: bool = False  # whether `read` also takes a .npy file; otherwise it is an array of samples
    explain: Callable[[Floats, Predict], Floats] | None = None  # from one sample and the model to a map of the same shape
    nan: bool = False  # whether values may be missing
    timed: bool = False  # whether each sample needs the time of its last frame
    axis: NDArray[np.float64] | None = None  # (position,)
    axis_title: str = "position"


@dataclass(frozen=True)
class Limits:
    """The limits of the server."""

    body: int = 64 << 20  # bytes per request
    seconds: float = 30.0  # per response
    queue: int = 256  # requests at once
    rows: int = 4096  # samples per request
    batch: int = 512  # samples that the model predicts at once


@dataclass(frozen=True)
class Reply:
    """A response."""

    content: bytes
    kind: str = JSON
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def body_types(served: ServedModel) -> list[str]:
    """Return the content types that a body may have."""
    return [JSON, *([CSV] if served.lines else []), NPY, *([FILE] if served.suffixes else [])]


def refuse(refusal: RequestError) -> Reply:
    """Return the response for an invalid request: a one-line error and the name of the field."""
    content = {"error": refusal.error, "field": refusal.at or None}
    return Reply(json_bytes(content), status=refusal.status, headers=refusal.headers)


class RequestHandler:
    """Handles requests: admits and parses them, runs the model and builds the responses."""

    def __init__(self, served: ServedModel, limits: Limits) -> None:
        self.served, self.limits = served, limits
        self.form = Form(served.key, served.shape, limits.rows, nan=served.nan, timed=served.timed)
        self._explaining = threading.BoundedSemaphore(_EXPLAINING)
        self._inside, self._held = 0, 0
        self.open()

    def open(self) -> None:
        """Create the threads, which start with the first request."""
        self._queue = InferenceQueue(self.served.predict, self.limits.batch)
        self._threads = ThreadPoolExecutor(_THREADS, "wavefold-work")
        self._explainers = ThreadPoolExecutor(_EXPLAINING, "wavefold-explain")

    def close(self) -> None:
        """Stop the threads and cancel waiting requests."""
        self._queue.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._explainers.shutdown(wait=False, cancel_futures=True)

    async def predict(self, request: Request, query: Query) -> Reply:
        """POST /predict."""
        kind = preferred(request.headers.get("accept", ""), self.served.offers)
        with self._room() as hold:
            batch = await self._requested(request, query, hold)
            values = await self._answered(batch)
            hold(values.nbytes if kind == NPY else values.size * _TEXT_BYTES)
            content = await self._soon(values.size, self.served.answer(batch, values).content, kind, self.served.name)
        return Reply(content, f"{CSV}; charset=utf-8" if kind == CSV else kind)

    async def explain(self, request: Request, query: Query) -> Reply:
        """POST /explain: one sample with its prediction and the contribution of each position."""
        with self._room() as hold:
            batch = await self._requested(request, query, hold)
        count, row = len(batch.ids), query.row
        if row >= count:
            raise RequestError(404, f"row: no sample {row}; the body has {plural(count, 'sample')}", "row")
        one = InputBatch(batch.ids[row : row + 1], batch.signals[row : row + 1])
        values = await self._answered(one)
        drawn = {"signal": rounded(one.signals[0]), "map": rounded(await self._map(one.signals[0]))}
        return Reply(json_bytes({**self.served.answer(one, values).rows()[0], "row": row, "ids": batch.ids, **drawn}))

    async def health(self) -> Reply:
        """GET /health."""
        return Reply(json_bytes({"status": "ok", "waiting": self._inside, "version": version.__version__}))

    async def model(self) -> Reply:
        """GET /model."""
        own = {"title": self.served.title, "kind": self.served.kind, "suffixes": self.served.suffixes, "csv": self.served.csv}
        return Reply(json_bytes({**own, **self.served.metadata, "limits": asdict(self.limits)}))

    async def example(self) -> Reply:
        """GET /example: a body for POST /predict."""
        times = {"times": [0.0]} if self.served.timed else {}
        return Reply(json_bytes({self.form.key: [rounded(self.served.example)], "ids": ["example"], **times}))

    async def axis(self) -> Reply:
        """GET /axis: the axis on which the page draws signals."""
        axis = self.served.axis
        values = np.arange(self.served.shape[-1]) if axis is None else axis
        return Reply(json_bytes({"title": self.served.axis_title, "values": values.tolist()}))

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a request; RequestError if there are too many."""
        if self._inside >= self.limits.queue:
            raise RequestError(503, f"limit of {plural(self._inside, 'request')} at once reached; try again", headers=_RETRY)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def _requested(self, request: Request, query: Query, hold: Callable[[int], None]) -> InputBatch:
        """Parse the samples of a request; they replace the body in the memory count."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        known = body_types(self.served)
        if kind not in known:
            raise RequestError(415, f"content-type: {kind[:80] or 'none'} is not one of {listed(known)}", "content-type")
        body = await _body(request, self.limits.body, hold)
        requested = await self._soon(_SMALL + 1 if kind == FILE else len(body), self._read, kind, body, query)
        hold(requested.signals.nbytes - len(body))
        if self.served.timed and requested.times is None:
            raise RequestError(
                422, "times: missing, expected seconds since 1970-01-01 UTC of each sample's last frame", "times"
            )
        return requested

    async def _soon(self, size: int, work: Callable[[*Given], Made], *given: *Given) -> Made:
        """Return the result of some work: done at once if small, else in a thread while other requests proceed."""
        if size <= _SMALL:
            return work(*given)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *given)

    def _read(self, kind: str, body: bytes, query: Query) -> InputBatch:
        if kind == JSON:
            return json_samples(body, self.form)
        if kind == NPY:
            return npy_samples(body, self.form)
        if kind == FILE:
            return self._of_file(body, query.name)
        if holds_numbers_only(body) or not (self.served.csv and self.served.read):
            return row_samples(body, self.form)
        return self._of_file(body, ".csv")

    def _of_file(self, body: bytes, suffix: str) -> InputBatch:
        """Read the samples of a file in the system's format, written to a new folder under a fixed name."""
        if suffix == ".npy" and not self.served.npy:
            return npy_samples(body, self.form)
        if suffix == ".npy":
            npy_values(body)  # checks its header against its length
        check_file(body, suffix, most=_HELD * self.limits.body, members=4 * self.limits.rows)
        read = self.served.read
        assert read is not None
        with tempfile.TemporaryDirectory(prefix="wavefold-") as folder:
            path = Path(folder) / f"sample{suffix}"
            path.write_bytes(body)
            try:
                return check_sample_shape(read(path), self.form, path.name)
            except RequestError:
                raise
            except UserError as error:
                raise RequestError(422, str(error).replace(f"{folder}/", ""), "the body") from None
            except Exception as error:  # from a reader's package, for an invalid file
                _log.info("a %s file could not be read", suffix, exc_info=True)
                raise RequestError(422, f"the body cannot be read as {suffix} ({type(error).__name__})", "the body") from None

    async def _answered(self, requested: InputBatch) -> Values:
        """Run the model; RequestError for samples whose prediction is not finite."""
        times = [requested.times] if self.served.timed and requested.times is not None else []
        values = await self._queue.predict(requested.signals, *times)
        good = np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if not self.served.nan and not good.all():
            place = f"{self.form.key}[{good.argmin()}]"
            raise RequestError(422, f"{place}: too far from the training data, the prediction overflows", place)
        return values

    async def _map(self, sample: Floats) -> Floats:
        """The contribution of each position of one sample (channel, ...)."""
        if not self._explaining.acquire(blocking=False):
            raise RequestError(503, f"limit of {_EXPLAINING} explanations at once reached; try again", headers=_RETRY)

        assert self.served.explain is not None
        end = time.monotonic() + self.limits.seconds

        def predict(signals: Floats) -> Values:
            return self._queue.predict_and_wait(signals, seconds=max(0.0, end - time.monotonic()))

        made = self._explainers.submit(self.served.explain, sample, predict)
        made.add_done_callback(lambda _: self._explaining.release())  # also if it never started
        return await asyncio.wrap_future(made)

    @contextmanager
    def _room(self) -> Iterator[Callable[[int], None]]:
        """Count the bytes that a request holds; RequestError once it, or all requests together, hold too many."""
        mine, most = 0, _HELD * self.limits.body

        def hold(size: int) -> None:
            nonlocal mine
            if mine + size > most:
                raise RequestError(
                    413, f"the request or its response takes more than {most:,} bytes; send fewer samples", "the body"
                )
            if self._held + size > most:
                raise RequestError(503, "other requests fill the memory; try again later", headers=_RETRY)
            mine, self._held = mine + size, self._held + size

        try:
            yield hold
        finally:
            self._held -= mine


async def in_bounds(handler: RequestHandler, taken: Taken, request: Request, query: Query) -> Reply:
    """Return the response within the time limit, or an error response."""
    try:
        _check_once(request)
        with handler.admitted():
            async with asyncio.timeout(handler.limits.seconds):
                return await taken(request, query)
    except RequestError as refusal:
        return refuse(refusal)
    except TimeoutError:
        if request.scope.get(_READING):
            return refuse(RequestError(408, f"the body did not arrive within {handler.limits.seconds:g} s"))
        return refuse(RequestError(503, f"no response within {handler.limits.seconds:g} s; try again", headers=_RETRY))
    except (QueueClosed, asyncio.CancelledError):
        if (task := asyncio.current_task()) and task.cancelling():
            raise
        return refuse(RequestError(503, "the server is shutting down", headers=_RETRY))
    except Exception as error:
        _log.exception("a request failed")
        return refuse(RequestError(500, f"the model failed: {_one_line(error)}"))


def _check_once(request: Request) -> None:
    for name in ("name", "row"):
        if len(request.query_params.getlist(name)) > 1:
            raise RequestError(422, f"{name}: appears more than once", name)


_READING = "wavefold.reading"  # in a request's scope while its body arrives


async def _body(request: Request, most: int, hold: Callable[[int], None]) -> bytes:
    """Read the body of a request; RequestError as soon as it exceeds `most` bytes. hold: called with the size of each piece."""
    message = request.headers.get("content-length", "")
    if message.isascii() and message.isdigit() and int(message[:20]) > most:
        raise RequestError(413, f"the body has {int(message[:20]):,} bytes, expected at most {most:,}", "the body")
    pieces, size = [], 0
    request.scope[_READING] = True
    async for piece in _pieces(request):
        size += len(piece)
        if size > most:
            raise RequestError(413, f"the body has more than {most:,} bytes", "the body")
        hold(len(piece))
        pieces.append(piece)
    request.scope[_READING] = False
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """Yield the pieces of a body; RequestError if the client disconnects, although nobody is left to read it."""
    try:
        async for piece in request.stream():
            yield piece
    except Exception:
        raise RequestError(408, "the body is incomplete: the client disconnected", "the body") from None


def _one_line(error: Exception) -> str:
    words = str(error).strip().splitlines()
    return f"{type(error).__name__}{f': {words[0][:200]}' if words else ''}"
