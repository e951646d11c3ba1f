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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from jinja2 import Environment, PackageLoader

from wavefold.core import version
from wavefold.core.errors import UserError
from wavefold.core.registry import optional
from wavefold.plots.plot import plotly_script
from wavefold.serving.handlers import Limits, Reply, RequestHandler, ServedModel, in_bounds, refuse
from wavefold.serving.openapi import description_of_explain, description_of_get, description_of_predict
from wavefold.serving.parsers import RequestError

__all__ = ["Limits", "ServedModel", "check_server", "new_app", "run_server"]

fastapi = optional("fastapi", extra="serve")
uvicorn = optional("uvicorn", extra="serve")

Taken = Callable[[Any], Awaitable[Reply]]  # request handler

_CONNECTIONS = 2048  # open at once
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


def new_app(served: ServedModel, limits: Limits | None = None) -> Any:
    """Return the FastAPI application of a run: POST /predict, /explain; GET /, /health, /model, /example, /openapi.json."""
    handler = RequestHandler(served, limits or Limits())

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        handler.open()
        yield
        await asyncio.to_thread(handler.close)

    about = f"{served.title}. At most {_limit_words(handler.limits)}."
    plain = {"docs_url": None, "redoc_url": None, "lifespan": lifespan}  # those pages load scripts from other sites
    app = fastapi.FastAPI(title=f"Wavefold: {served.title}", version=version.__version__, description=about, **plain)
    for status in (404, 405):
        app.add_exception_handler(status, _not_there)
    _add_routes(app, handler)
    return app


def check_server() -> None:
    """Raise UserError, before any preparation, if a package is missing."""
    _ = fastapi.FastAPI, uvicorn.Server


def run_server(app: Any, host: str, port: int, *, log: Callable[[str], None]) -> None:
    """Serve until interrupted, then shut down cleanly. port: 0 picks a free one. UserError if the port is unavailable."""
    with _listening(host, port) as door:
        bounds = {"limit_concurrency": _CONNECTIONS, "timeout_keep_alive": 30, "timeout_graceful_shutdown": 5}
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, **bounds))
        log(f"listening on {_address(door)} (Ctrl-C stops the server)")
        with suppress(KeyboardInterrupt):
            server.run(sockets=[door])
    log("server stopped")


def _add_routes(app: Any, handler: RequestHandler) -> None:
    _route(app, "/predict", _within(handler, handler.predict), "POST", **description_of_predict(handler.served, handler.form))
    if handler.served.kind == "classes":
        _route(
            app, "/explain", _within(handler, handler.explain), "POST", **description_of_explain(handler.served, handler.form)
        )
    _route(app, "/health", handler.health, **description_of_get("Server status"))
    _route(app, "/model", handler.model, **description_of_get("The model's inputs, outputs and scores"))
    _route(app, "/example", handler.example, **description_of_get("An example body for POST /predict"))
    for path, taken in {"/": _page_of(handler), "/plotly.js": _script, "/axis": handler.axis}.items():
        _route(app, path, taken, include_in_schema=False)


def _within(handler: RequestHandler, taken: Taken) -> Taken:
    async def bounded(request: Any) -> Reply:
        return await in_bounds(handler, taken, request)

    return bounded


def _route(app: Any, path: str, taken: Taken, method: str = "GET", **described: Any) -> None:
    async def endpoint(request: Any) -> Any:
        return _response(await taken(request))

    endpoint.__annotations__ = {"request": fastapi.Request}  # FastAPI injects by type, and may be missing at import
    plain = {"response_class": fastapi.Response, "response_model": None, "operation_id": path.strip("/") or "page"}
    app.add_api_route(path, endpoint, methods=[method], **plain, **described)


def _response(reply: Reply) -> Any:
    return fastapi.Response(reply.content, reply.status, headers={**_SAFE, **reply.headers}, media_type=reply.kind)


async def _not_there(request: Any, error: Any) -> Any:
    """The response for an unknown path or method."""
    line = f"{request.method} {request.url.path[:80]}: {error.detail}"
    return _response(refuse(RequestError(error.status_code, line, headers=error.headers)))


def _page_of(handler: RequestHandler) -> Taken:
    """GET /: the page to drop a file on."""
    template = Environment(loader=PackageLoader("wavefold.serving"), autoescape=True).get_template("serve.html")

    async def page(request: Any) -> Reply:
        nonce = secrets.token_urlsafe(16)
        text = template.render(served=handler.served, form=handler.form, limits=handler.limits, nonce=nonce)
        headers = {"Content-Security-Policy": _PAGE_POLICY.format(nonce=nonce), "Cache-Control": "no-store"}
        return Reply(text.encode(), "text/html; charset=utf-8", headers=headers)

    return page


async def _script(request: Any) -> Reply:
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
