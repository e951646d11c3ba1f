"""How fast a run is served: clients that ask one after another over kept connections, a row a request and many rows a request.

    python benchmarks/serve.py RUN [--seconds 30] [--clients 32] [--rows 1 64] [--out benchmarks/serve.csv]

The server is a process of its own on 127.0.0.1, and is ended afterwards. A client writes HTTP by hand and sends .npy (frames
that need their time: JSON), so that the numbers are the server's: both share the machine. Prints a line for each number of
rows; --out appends it.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import json
import platform
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np

SERVE = """
import sys
from pathlib import Path
from wavefold.api import open_run
from wavefold.serving.app import new_app, run_server
from wavefold.tasks.base import recipe_of, task_of
log = lambda line: print(line, flush=True)
run = open_run(Path(sys.argv[1]))
recipe = recipe_of(run)
run_server(new_app(task_of(recipe).served(run, recipe, log=log)), "127.0.0.1", 0, log=log)
"""
HEAD = ("run", "engine", "clients", "rows", "seconds", "requests", "errors", "requests/s", "rows/s", "p50 ms", "p99 ms")
MORE = ("machine", "date")
STARTING = 600  # seconds until the server must listen: it writes its ONNX file first


@dataclass
class Told:
    """What clients saw."""

    taken: list[float] = field(default_factory=list)  # seconds of each request that was answered
    errors: Counter[str] = field(default_factory=Counter)


@contextmanager
def served(run: Path) -> Iterator[int]:
    """The port of a server of a run, ended afterwards."""
    command = [sys.executable, "-c", SERVE, str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = next((line for line in process.stdout if line.startswith("listening")), "")
            if not line:
                raise SystemExit("the server did not start")
            yield int(line.split()[2].rpartition(":")[2])
        finally:
            process.terminate()
            process.wait(20)


def answer_of(port: int, path: str) -> dict[str, object]:
    """A GET's JSON."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as response:
        return dict(json.load(response))


def request_of(example: dict[str, object], rows: int) -> bytes:
    """A POST of so many samples as .npy, or as JSON where they need their times, with its head; frames are wanted as .npy."""
    key = next(name for name in ("signals", "frames") if name in example)
    if "times" in example:
        body = json.dumps({key: example[key] * rows, "times": example["times"] * rows}).encode()
        kind = "application/json"
    else:
        stream = io.BytesIO()
        np.save(stream, np.repeat(np.array(example[key], np.float32), rows, axis=0))
        body, kind = stream.getvalue(), "application/x-npy"
    wanted = "Accept: application/x-npy\r\n" if key == "frames" else ""
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\n{wanted}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def ask_on(port: int, request: bytes, until: float, fields: Told) -> None:
    """Ask over one connection until the time is over; every answer but 200 is an error."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while time.monotonic() < until:
            begun = time.monotonic()
            writer.write(request)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = next(int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length:"))
            await reader.readexactly(length)
            if " 200 " in head.split("\r\n")[0]:
                fields.taken.append(time.monotonic() - begun)
            else:
                fields.errors[head.split("\r\n")[0]] += 1
    except (OSError, asyncio.IncompleteReadError) as error:
        fields.errors[type(error).__name__] += 1
    finally:
        writer.close()


async def ask_together(port: int, request: bytes, clients: int, seconds: float) -> tuple[Told, float]:
    """All clients at once; what they saw, and the seconds until the last answer."""
    fields, begun = Told(), time.monotonic()
    await asyncio.gather(*(ask_on(port, request, begun + seconds, fields) for _ in range(clients)))
    return fields, time.monotonic() - begun


def row_of(run: Path, engine: str, clients: int, rows: int, fields: Told, seconds: float) -> dict[str, object]:
    """One line of the table."""
    count, taken = len(fields.taken), np.array(fields.taken or [np.nan]) * 1000
    numbers = (count, sum(fields.errors.values()), round(count / seconds, 1), round(rows * count / seconds, 1))
    spread = (round(float(np.percentile(taken, 50)), 1), round(float(np.percentile(taken, 99)), 1))
    values = (run.name, engine.partition(" (")[0], clients, rows, round(seconds, 1), *numbers, *spread)
    return {**dict(zip(HEAD, values, strict=True)), "machine": platform.machine(), "date": date.today().isoformat()}


def keep(path: Path, rows: list[dict[str, object]]) -> None:
    """Append lines to a table, below a header where it is new."""
    new = not path.exists()
    with open(path, "a", newline="") as stream:
        writer = csv.DictWriter(stream, (*HEAD, *MORE), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Measure a run and print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = []
    with served(options.run) as port:
        example, engine = answer_of(port, "/example"), str(answer_of(port, "/model")["engine"])
        for rows in options.rows:
            request = request_of(example, rows)
            asyncio.run(ask_together(port, request, options.clients, 1.0))  # what is made at the first request is not counted
            fields, seconds = asyncio.run(ask_together(port, request, options.clients, options.seconds))
            lines.append(row_of(options.run, engine, options.clients, rows, fields, seconds))
            print("  ".join(f"{name} {value}" for name, value in lines[-1].items()), dict(fields.errors) or "", flush=True)
        health = answer_of(port, "/health")
        assert health["status"] == "ok", health
    if options.out:
        keep(options.out, lines)


if __name__ == "__main__":
    main()
