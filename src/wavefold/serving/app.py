"""Serve a model over HTTP with FastAPI and uvicorn: predictions, an explanation, and a page to drop a file on.

Every limit is a value of `Limits`: bytes and samples per body, requests at once, seconds per response. Exceeding one gives 413
or 503, an error in a request 422 with the name of the field; none of these stops the server. Uploaded files are written under
a name chosen by the server into a folder that is deleted after the response.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Annotated

from jinja2 import Environment, PackageLoader
from pydantic import BaseModel

from wavefold.core import version
from wavefold.core.errors import UserError
from wavefold.core.registry import optional
from wavefold.plots.plot import plotly_script
from wavefold.serving.handlers import FILE, Limits, Reply, RequestHandler, ServedModel, Taken, body_types, in_bounds, refuse
from wavefold.serving.parsers import RequestError, refusal_of
from wavefold.serving.responses import CSV, JSON, NPY, rounded
from wavefold.serving.schemas import Query, Refusal, answer_model, explanation_model, query_model

__all__ = ["Limits", "ServedModel", "check_server", "new_app", "run_server"]

if TYPE_CHECKING:
    import fastapi.exceptions
    import uvicorn
    from starlette.exceptions import HTTPException
else:
    fastapi = optional("fastapi", extra="serve")
    uvicorn = optional("uvicorn", extra="serve")

_CONNECTIONS = 2048  # open at once
_SHOWN = 400  # most values in an example: a longer one would dominate the document
_RETRY = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}
_TEXT = {"schema": {"type": "string"}}
_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"  # plotly writes its styles inline
)


def new_app(served: ServedModel, limits: Limits | None = None) -> fastapi.FastAPI:
    """Return the FastAPI application of a run: POST /predict, /explain; GET /, /health, /model, /example, /openapi.json."""
    handler = RequestHandler(served, limits or Limits())

    @asynccontextmanager
    async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
        handler.open()
        yield
        await asyncio.to_thread(handler.close)

    about = f"{served.title}. At most {_limit_words(handler.limits)}."
    app = fastapi.FastAPI(
        title=f"Wavefold: {served.title}",
        version=version.__version__,
        description=about,
        docs_url=None,  # this page and the next load scripts from other sites
        redoc_url=None,
        lifespan=lifespan,
        exception_handlers={fastapi.exceptions.RequestValidationError: _bad_query, 404: _not_there, 405: _not_there},
    )
    _add_routes(app, handler)
    return app


def check_server() -> None:
    """Raise UserError, before any preparation, if a package is missing."""
    _ = fastapi.FastAPI, uvicorn.Server


def run_server(app: fastapi.FastAPI, host: str, port: int, *, log: Callable[[str], None]) -> None:
    """Serve until interrupted, then shut down cleanly. port: 0 picks a free one. UserError if the port is unavailable."""
    with _listening(host, port) as door:
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=5,
        )
        server = uvicorn.Server(config)
        log(f"listening on {_address(door)} (Ctrl-C stops the server)")
        with suppress(KeyboardInterrupt):
            server.run(sockets=[door])
    log("server stopped")


def _add_routes(app: fastapi.FastAPI, handler: RequestHandler) -> None:
    served = handler.served
    answer = answer_model(served.name, served.row)
    others = {kind: {CSV: _TEXT, NPY: _binary("The array of all samples.")}[kind] for kind in served.offers if kind != JSON}
    words = f"A sample has {handler.form.words} values. Concurrent requests are run as one batch."
    _post(app, "/predict", handler, handler.predict, "Predict samples", words, answer, content=others)
    if served.explain:
        words = "The answer for a sample, and how much each part of the sample supports it."
        _post(app, "/explain", handler, handler.explain, "Explain one sample", words, explanation_model(served.row))
    _get(app, "/health", handler.health, "Server status")
    _get(app, "/model", handler.model, "The model's inputs, outputs and scores")
    _get(app, "/example", handler.example, "An example body for POST /predict")
    for path, taken in {"/": _page_of(handler), "/plotly.js": _script, "/axis": handler.axis}.items():
        _get(app, path, taken)


def _get(app: fastapi.FastAPI, path: str, taken: Callable[[], Awaitable[Reply]], summary: str = "") -> None:
    """Add a GET; without a summary it is for the page only, and not documented."""

    async def endpoint() -> fastapi.Response:
        return _response(await taken())

    name, shown = path.strip("/") or "page", bool(summary)
    app.add_api_route(
        path, endpoint, summary=summary, include_in_schema=shown, response_model=dict[str, object], operation_id=name
    )


def _post(
    app: fastapi.FastAPI,
    path: str,
    handler: RequestHandler,
    taken: Taken,
    summary: str,
    words: str,
    answer: type[BaseModel],
    content: Mapping[str, object] | None = None,
) -> None:
    """Add a POST of samples; the handler parses its body, within limits, and FastAPI its query.

    content: the answer's content types other than JSON.
    """
    explained = path == "/explain"
    statuses = [*([404] if explained else []), 408, 413, 415, 422, 500]
    refused: dict[int | str, dict[str, object]] = {status: {"model": Refusal} for status in statuses}

    async def endpoint(request: fastapi.Request, query: Query) -> fastapi.Response:
        return _response(await in_bounds(handler, taken, request, query))

    query = query_model(handler.served.suffixes, rows=explained)
    endpoint.__annotations__ = {"request": fastapi.Request, "query": Annotated[query, fastapi.Query()]}
    app.add_api_route(
        path,
        endpoint,
        methods=["POST"],
        summary=summary,
        description=words,
        operation_id=path.strip("/"),
        response_model=answer,
        openapi_extra={"requestBody": {"required": True, "content": _bodies(handler)}},
        responses={200: {"content": content or {}}, **refused, 503: {"model": Refusal, "headers": _RETRY}},
    )


def _bodies(handler: RequestHandler) -> dict[str, object]:
    """The accepted bodies by content type, as OpenAPI describes them, with an example of those that can be short."""
    served, form, example = handler.served, handler.form, handler.served.example
    json: dict[str, object] = {"schema": form.model.model_json_schema()}
    rows: dict[str, object] = {**_TEXT}
    if example.size <= _SHOWN:
        times = {"times": [0.0]} if served.timed else {}
        json["examples"] = {"one": {"value": {form.key: [rounded(example)], "ids": ["mine"], **times}}}
        rows["examples"] = {"one": {"value": ",".join(f"{v:.4g}" for v in example.ravel()) + "\n"}}
    arrays = _binary(f"A .npy array of one sample of {form.words} numbers, or of several.")
    files = _binary(f"A file in the system's own format; its name ends in {', '.join(served.suffixes)}.")
    return {kind: {JSON: json, CSV: rows, NPY: arrays, FILE: files}[kind] for kind in body_types(served)}


def _binary(description: str) -> dict[str, object]:
    return {"schema": {"type": "string", "format": "binary", "description": description}}


def _response(reply: Reply) -> fastapi.Response:
    return fastapi.Response(reply.content, reply.status, headers={**_SAFE, **reply.headers}, media_type=reply.kind)


async def _bad_query(request: fastapi.Request, error: fastapi.exceptions.RequestValidationError) -> fastapi.Response:
    """The response for a query that its model does not accept."""
    first = error.errors()[0]
    return _response(refuse(refusal_of(first["loc"][1:], first["msg"], first["input"])))


async def _not_there(request: fastapi.Request, error: HTTPException) -> fastapi.Response:
    """The response for an unknown path or method."""
    line = f"{request.method} {request.url.path[:80]}: {error.detail}"
    return _response(refuse(RequestError(error.status_code, line, headers=error.headers)))


def _page_of(handler: RequestHandler) -> Callable[[], Awaitable[Reply]]:
    """GET /: the page to drop a file on."""
    template = Environment(loader=PackageLoader("wavefold.serving"), autoescape=True).get_template("serve.html")

    async def page() -> Reply:
        nonce = secrets.token_urlsafe(16)
        text = template.render(served=handler.served, form=handler.form, limits=handler.limits, nonce=nonce)
        headers = {"Content-Security-Policy": _PAGE_POLICY.format(nonce=nonce), "Cache-Control": "no-store"}
        return Reply(text.encode(), "text/html; charset=utf-8", headers=headers)

    return page


async def _script() -> Reply:
    """GET /plotly.js, served from the plotly package."""
    return Reply(plotly_script().encode(), "text/javascript; charset=utf-8", headers={"Cache-Control": "max-age=86400"})


def _limit_words(limits: Limits) -> str:
    return (
        f"{limits.body / 1e6:,.0f} MB and {limits.rows:,} samples per request, {limits.queue:,} requests at once, "
        f"{limits.seconds:g} s per response"
    )


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Open a listening socket; UserError if the host or port cannot be used."""
    if not 0 <= port < 1 << 16:
        raise UserError(f"port {port}: not a valid port; expected 1 to 65535, or 0 for a free one")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError):
        raise UserError(f"{host}: not a name or address of this machine; expected one such as 127.0.0.1 or 0.0.0.0") from None
    with socket.socket(family, kind, protocol) as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # after a server that has just stopped
        try:
            door.bind(address)
            door.listen(1024)
        except OSError as error:
            why = _WHY.get(error.errno or 0, error.strerror)
            raise UserError(f"port {port} on {host}: {why}; choose another with --port") from None
        yield door


_WHY = {errno.EADDRINUSE: "in use by another program", errno.EACCES: "permission denied"}


def _address(door: socket.socket) -> str:
    host, port = door.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
