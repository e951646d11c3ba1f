"""Handle requests independently of the web framework: admit, parse, run the model, respond, each within its limit."""

from __future__ import annotations

import asyncio
import logging
import re
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from wavefold.core import version
from wavefold.core.errors import UserError, listed
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
    shown_place,
)
from wavefold.serving.queue import InferenceQueue, QueueClosed
from wavefold.serving.responses import (
    CSV,
    JSON,
    NPY,
    TOLD,
    json_bytes,
    new_predictions,
    npy_bytes,
    prediction_csv,
    prediction_rows,
    preferred,
    rounded,
)

Predict = Callable[..., NDArray[Any]]
Made = TypeVar("Made")
_FILE = "application/octet-stream"
_SMALL = 1 << 16  # bytes or values handled in the event loop: passing them to a thread costs more
_HELD = 4  # memory of all requests together, in bodies of the largest size
_JSON_BYTES = 40  # memory of a number while written as JSON: a Python float and its text
_THREADS = 2  # threads that parse bodies, read files and write responses
_EXPLAINING = 2  # explanations at once
_RETRY = {"Retry-After": "1"}
_NAME = re.compile(r"[\w. ()+,=@#-]{1,200}", re.ASCII)
_log = logging.getLogger("wavefold.serve")


@dataclass(frozen=True)
class ServedModel:
    """A run in the form that the server needs."""

    title: str
    kind: Literal["classes", "frames"]
    metadata: Mapping[str, Any]  # content of GET /model, JSON values
    shape: tuple[int, ...]  # of one sample: (channel, ...), or of past frames (channel, past, row, column)
    predict: Predict  # signals to probabilities (sample, class); past frames and times to (sample, target, ahead, row, column)
    example: Floats  # one sample, of that shape
    classes: tuple[str, ...] = ()
    read: Callable[[Path], InputBatch] | None = None  # reads a file in the system's format; UserError if it is invalid
    suffixes: tuple[str, ...] = ()  # of such files, in lower case; the first is the default
    csv: bool = False  # whether `read` also takes a CSV of samples
    explain: Callable[[Floats, Predict], Floats] | None = None  # from one sample and the model to a map of the same shape
    decide: Callable[[NDArray[Any]], NDArray[Any]] | None = None  # from probabilities to decisions, both (sample, class)
    nan: bool = False  # whether values may be missing
    timed: bool = False  # whether each sample needs the time of its last frame
    targets: tuple[str, ...] = ()  # forecast channels
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


def refuse(refusal: RequestError) -> Reply:
    """Return the response for an invalid request: a one-line error and the name of the field."""
    content = {"error": refusal.error, "field": refusal.at or None}
    return Reply(json_bytes(content), status=refusal.status, headers=refusal.headers)


class RequestHandler:
    """Handles requests: admits and parses them, runs the model and builds the responses."""

    def __init__(self, served: ServedModel, limits: Limits) -> None:
        self.served, self.limits = served, limits
        key = "signals" if served.kind == "classes" else "frames"
        self.form = Form(key, served.shape, limits.rows, nan=served.nan, timed=served.timed)
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

    async def predict(self, request: Any) -> Reply:
        """POST /predict."""
        accept = request.headers.get("accept", "")
        with self._room() as hold:
            requested = await self._requested(request, hold)
            values = await self._answered(requested)
            if self.served.kind == "classes":
                return await self._soon(values.size, self._predictions, requested, values, preferred(accept, (JSON, CSV)))
            kind = preferred(accept, (JSON, NPY))
            hold(values.size * (_JSON_BYTES if kind == JSON else values.itemsize))
            return await self._soon(values.size, self._forecasts, requested, values, kind)

    async def explain(self, request: Any) -> Reply:
        """POST /explain: one sample with its prediction and the contribution of each position."""
        row = _row_number(request)
        with self._room() as hold:
            requested = await self._requested(request, hold)
        if row >= len(requested.ids):
            raise RequestError(
                404,
                f"row: no sample {row}; the body has {len(requested.ids)} sample{'s' if len(requested.ids) != 1 else ''}",
                "row",
            )
        one = requested.signals[row : row + 1]
        values = await self._answered(InputBatch(requested.ids[row : row + 1], one, None))
        explained = await self._map(one)
        message = prediction_rows(
            new_predictions(requested.ids[row : row + 1], self.served.classes, values, self._decided(values))
        )[0]
        drawn = {"signal": rounded(one[0]), "map": None if explained is None else rounded(explained)}
        return Reply(json_bytes({**message, "row": row, "ids": requested.ids, **drawn}))

    async def health(self, request: Any) -> Reply:
        """GET /health."""
        return Reply(json_bytes({"status": "ok", "waiting": self._inside, "version": version.__version__}))

    async def model(self, request: Any) -> Reply:
        """GET /model."""
        own = {"title": self.served.title, "kind": self.served.kind, "suffixes": self.served.suffixes, "csv": self.served.csv}
        return Reply(json_bytes({**own, **self.served.metadata, "limits": asdict(self.limits)}))

    async def example(self, request: Any) -> Reply:
        """GET /example: a body for POST /predict."""
        times = {"times": [0.0]} if self.served.timed else {}
        return Reply(json_bytes({self.form.key: [rounded(self.served.example)], "ids": ["example"], **times}))

    async def axis(self, request: Any) -> Reply:
        """GET /axis: the axis on which the page draws signals."""
        axis = self.served.axis
        values = np.arange(self.served.shape[-1]) if axis is None else axis
        return Reply(json_bytes({"title": self.served.axis_title, "values": values.tolist()}))

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a request; RequestError if there are too many."""
        if self._inside >= self.limits.queue:
            raise RequestError(
                503,
                f"limit of {self._inside:,} request{'s' if self._inside != 1 else ''} at once reached; try again",
                headers=_RETRY,
            )
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def _requested(self, request: Any, hold: Callable[[int], None]) -> InputBatch:
        """Parse the samples of a request; they replace the body in the memory count."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        known = [JSON, *([CSV] if self._takes_csv() else []), NPY, *([_FILE] if self.served.suffixes else [])]
        suffix = _suffix_of(request, self.served.suffixes)
        if kind not in known:
            raise RequestError(415, f"content-type: {kind[:80] or 'none'} is not one of {listed(known)}", "content-type")
        body = await _body(request, self.limits.body, hold)
        requested = await self._soon(_SMALL + 1 if kind == _FILE else len(body), self._read, kind, body, suffix)
        hold(requested.signals.nbytes - len(body))
        if self.served.timed and requested.times is None:
            raise RequestError(
                422, "times: missing, expected the time of each sample's last frame in seconds since 1970-01-01 UTC", "times"
            )
        return requested

    async def _soon(self, size: int, work: Callable[..., Made], *given: Any) -> Made:
        """Return the result of some work: done at once if small, else in a thread while other requests proceed."""
        if size <= _SMALL:
            return work(*given)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *given)

    def _takes_csv(self) -> bool:
        return self.served.kind == "classes"

    def _read(self, kind: str, body: bytes, suffix: str) -> InputBatch:
        if kind == JSON:
            return json_samples(body, self.form)
        if kind == NPY:
            return npy_samples(body, self.form)
        if kind == _FILE:
            return self._of_file(body, suffix)
        if holds_numbers_only(body) or not (self.served.csv and self.served.read):
            return row_samples(body, self.form)
        return self._of_file(body, ".csv")

    def _of_file(self, body: bytes, suffix: str) -> InputBatch:
        """Read the samples of a file in the system's format, written to a new folder under a fixed name."""
        if suffix == ".npy" and self.served.kind == "classes":
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

    async def _answered(self, requested: InputBatch) -> NDArray[Any]:
        """Run the model; RequestError for samples whose prediction is not finite."""
        arrays = (requested.signals,) if self.served.kind == "classes" else (requested.signals, _times_of(requested))
        values = await self._queue.predict(*arrays)
        bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1) if not self.served.nan else np.zeros(len(values), bool)
        if bad.any():
            place = shown_place(self.form.key, int(bad.argmax()))
            raise RequestError(422, f"{place}: too far from the training data, the prediction overflows", place)
        return values

    async def _map(self, sample: Floats) -> Floats | None:
        """The contribution of each position of one sample (1, ...), as (...)."""
        explain = self.served.explain
        if explain is None:
            return None
        if not self._explaining.acquire(blocking=False):
            raise RequestError(503, f"limit of {_EXPLAINING} explanations at once reached; try again", headers=_RETRY)

        end = time.monotonic() + self.limits.seconds

        def predict(signals: Floats) -> NDArray[Any]:
            return self._queue.predict_and_wait(signals, seconds=max(0.0, end - time.monotonic()))

        made = self._explainers.submit(explain, sample[0], predict)
        made.add_done_callback(lambda _: self._explaining.release())  # also if it never started
        return await asyncio.wrap_future(made)

    def _decided(self, values: NDArray[Any]) -> NDArray[Any]:
        return values if self.served.decide is None else self.served.decide(values)

    def _predictions(self, requested: InputBatch, values: NDArray[Any], kind: str) -> Reply:
        predictions = new_predictions(requested.ids, self.served.classes, values, self._decided(values))
        if kind == CSV:
            return Reply(prediction_csv(predictions), f"{CSV}; charset=utf-8")
        return Reply(json_bytes({"predictions": prediction_rows(predictions)}))

    def _forecasts(self, requested: InputBatch, values: NDArray[Any], kind: str) -> Reply:
        if kind == NPY:
            return Reply(npy_bytes(np.asarray(values, np.float32)), NPY)
        rows = [{"id": name, "frames": rounded(one, TOLD)} for name, one in zip(requested.ids, values, strict=True)]
        return Reply(json_bytes({"forecasts": rows, "targets": list(self.served.targets)}))

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


async def in_bounds(handler: RequestHandler, taken: Callable[[Any], Awaitable[Reply]], request: Any) -> Reply:
    """Return the response within the time limit, or an error response."""
    try:
        with handler.admitted():
            async with asyncio.timeout(handler.limits.seconds):
                return await taken(request)
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


_READING = "wavefold.reading"  # in a request's scope while its body arrives


async def _body(request: Any, most: int, hold: Callable[[int], None]) -> bytes:
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


async def _pieces(request: Any) -> AsyncIterator[bytes]:
    """Yield the pieces of a body; RequestError if the client disconnects, although nobody is left to read it."""
    try:
        async for piece in request.stream():
            yield piece
    except Exception:
        raise RequestError(408, "the body is incomplete: the client disconnected", "the body") from None


def _suffix_of(request: Any, suffixes: Sequence[str]) -> str:
    """The suffix of the query's `name`, one of `suffixes`; the rest of the name is ignored."""
    if not suffixes:
        return ""
    names = request.query_params.getlist("name")
    if not names:
        return suffixes[0]
    name = names[-1]
    found = [suffix for suffix in suffixes if name.lower().endswith(suffix) and len(name) > len(suffix)]
    if len(names) > 1 or not found or not _NAME.fullmatch(name):
        raise RequestError(422, f"name: {name[:80]!r} is not a plain file name that ends in one of {listed(suffixes)}", "name")
    return max(found, key=len)


def _row_number(request: Any) -> int:
    words = request.query_params.getlist("row") or ["0"]
    if len(words) > 1 or not re.fullmatch(r"[0-9]{1,7}", words[0]) or int(words[0]) > 1_000_000:
        raise RequestError(422, f"row: {words[-1][:40]!r} is not a sample number, expected 0 or more", "row")
    return int(words[0])


def _times_of(requested: InputBatch) -> NDArray[np.float64]:
    return np.zeros(len(requested.ids)) if requested.times is None else requested.times


def _one_line(error: Exception) -> str:
    words = str(error).strip().splitlines()
    return f"{type(error).__name__}{f': {words[0][:200]}' if words else ''}"
