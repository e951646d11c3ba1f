"""Reads damaged files of every layout and counts what comes of it: nothing but a UserError, no hang, nothing over 2 GB.

Run: python benchmarks/fuzz.py [--count 20000] [--seconds S] [--seed 0] [--only LAYOUT ...] [--keep FOLDER]
Sources are those of tests/valid_sources.py, and a scan of each kind. Each case damages one file of one (cut off, bits flipped,
bytes inserted, blocks swapped, a header's field overwritten) and is known by seed, layout and number. Cases are read in child
processes, fifty in each, which end after 20 s for a case, and may take 2 GB more than they start with. The first traceback of
each place, with the damaged file, is kept. Exits with 1 after any error, hang or lack of memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from valid_sources import FRAMES, SAMPLES, files_in, frames_of, mutated
from wavefold.core.errors import UserError
from wavefold.data import read, read_series
from wavefold.domains.radio.filterbank import Header
from wavefold.domains.radio.observation import open_scan, write_scan

TOGETHER = 50  # cases in a child process: forking one takes about as long as reading a case
LONGEST = 20.0  # s that a case may take
ROOM = 2 << 30  # bytes that a child may take beyond those of its start
KINDS = ("read", "refused", "errors", "hangs", "over memory")


@dataclass(frozen=True)
class Target:
    """A layout to damage: write a valid source into a folder that is not there, and read it."""

    write: Callable[[Path], Path]  # -> the path to read
    read: Callable[[Path, bool], object]  # (path, skip_bad)


def targets() -> dict[str, Target]:
    """Every source of samples and of frames, and scans."""
    found = {}
    for name, source in SAMPLES.items():
        options = {"layout": source.layout or name, "cache": False, **source.options}
        found[name] = Target(
            lambda folder, source=source: source.write(folder, source.samples()),
            lambda path, skip, options=options: read(path, skip_bad=skip, **options).signals[:],
        )
    for name, frames in FRAMES.items():
        found[f"frames: {name}"] = Target(
            lambda folder, frames=frames: frames.write(folder, frames_of()),
            lambda path, _, name=name, frames=frames: read_series(path, frames.reading, layout=frames.layout or name).frames[:],
        )
    return found | {f"scan: {end}": Target(partial(scan, end=end), read_scan) for end in ("fil", "h5")}


def scan(folder: Path, end: str) -> Path:
    """A small scan."""
    power = np.random.default_rng(0).uniform(0, 250, (4, 60)).astype(np.float32)
    folder.mkdir(parents=True)
    write_scan(folder / f"scan.{end}", power, Header(8400.0, -2.8e-6, 18.25, 59000.0, "HIP1"))
    return folder / f"scan.{end}"


def read_scan(path: Path, _: bool) -> object:
    opened = open_scan(path)
    return opened.read(0, min(opened.shape[1], 1 << 16))


def one(target: Target, folder: Path, path: Path, name: str, number: int, seed: int, keep: Path) -> str:
    """Damage one file, read and mend it; returns the kind, and after a blank the place of an error."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), number])
    files = files_in(folder)
    file = files[int(rng.integers(len(files)))]
    whole = file.read_bytes()
    damage = mutated(whole, lambda n: int(rng.integers(n)))
    file.write_bytes(damage)
    try:
        target.read(path, bool(rng.integers(2)))
    except UserError as error:
        return "refused" if len(str(error).splitlines()) == 1 else "errors of-more-than-one-line"
    except MemoryError:
        return f"over~memory {kept(keep, name, number, file.name, damage)}"
    except BaseException:
        return f"errors {kept(keep, name, number, file.name, damage)}"
    finally:
        file.write_bytes(whole)
    return "read"


def kept(keep: Path, name: str, number: int, file: str, damage: bytes) -> str:
    """The place of the error being handled; its first traceback, and the file, are written into the folder `keep`."""
    words = traceback.format_exc()
    frames = [
        f for f in traceback.extract_tb(sys.exc_info()[2]) if "/wavefold/" in f.filename and "site-packages" not in f.filename
    ]
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "elsewhere"
    kind = sys.exc_info()[0]
    error = kind.__name__ if kind else ""
    base = keep / f"{name}-{error}-{place}".replace(": ", "-").replace(":", "-").replace(" ", "-")
    if not base.exists():
        base.mkdir(parents=True)
        (base / "traceback.txt").write_text(f"layout {name}, case {number}, file {file}\n{words}")
        (base / file).write_bytes(damage)
    return f"{error}@{place}"


def child(target: Target, name: str, numbers: range, seed: int, keep: Path, answers: int) -> None:
    """Read the cases of `numbers`; writes a line before and after each."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, size + ROOM))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as made, open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        folder = Path(made) / "src"
        path = target.write(folder)
        for number in numbers:
            os.write(answers, f"{number} begun\n".encode())
            os.write(answers, f"{number} {one(target, folder, path, name, number, seed, keep)}\n".encode())


def cases(target: Target, name: str, numbers: range, seed: int, keep: Path) -> Iterator[tuple[int, str]]:
    """Yield each case's number with its result; a child that hangs or dies is replaced from the next case on."""
    while numbers:
        ours, theirs = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                child(target, name, numbers[:TOGETHER], seed, keep, theirs)
            except BaseException:  # of the writer, or of what was to be told
                traceback.print_exc()
                os._exit(3)
            os._exit(0)
        os.close(theirs)
        begun, why = numbers[0] - 1, ""
        for number, result in told(ours, pid):
            if result == "begun":
                begun = number
            else:
                why, begun = "", number
                yield number, result
                numbers = range(number + 1, numbers.stop)
        _, status = os.waitpid(pid, 0)
        os.close(ours)
        if os.WIFSIGNALED(status):
            ended = signal.Signals(os.WTERMSIG(status))
            why = "hangs" if ended == signal.SIGKILL else f"errors {ended.name}@child"
            yield begun, why
            numbers = range(begun + 1, numbers.stop)
        elif os.WEXITSTATUS(status):
            raise SystemExit(f"{name}: the child process ended with {os.WEXITSTATUS(status)}")


def told(pipe: int, pid: int) -> Iterator[tuple[int, str]]:
    """Yield the lines of a child; it is killed if there is none for too long."""
    text = b""
    while True:
        ready, _, _ = select.select([pipe], [], [], LONGEST)
        if not ready:
            os.kill(pid, signal.SIGKILL)
            return
        more = os.read(pipe, 1 << 16)
        if not more:
            return
        *lines, text = (text + more).split(b"\n")
        for line in lines:
            number, result = line.decode().split(" ", 1)
            yield int(number), result


def row(name: str, counts: Counter[str]) -> str:
    return f"{name:<22}{counts.total():>8}" + "".join(f"{counts[kind]:>13}" for kind in KINDS)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--count", type=int, default=20_000, help="cases over all layouts")
    words.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long, in equal parts a layout")
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--only", nargs="+", help="layouts, as the table names them")
    words.add_argument("--keep", type=Path, help="folder of first tracebacks [a new temporary one]")
    given = words.parse_args()
    chosen = {name: target for name, target in targets().items() if not given.only or name in given.only}
    keep = given.keep or Path(tempfile.mkdtemp(prefix="fuzz-"))
    each = -(-given.count // len(chosen))
    total, places = Counter[str](), dict[str, Counter[str]]()
    warnings.simplefilter("ignore")
    print(f"{'layout':<22}{'tried':>8}" + "".join(f"{kind:>13}" for kind in KINDS))
    for name, target in chosen.items():
        with tempfile.TemporaryDirectory() as made:  # what a reader imports, it imports once
            target.read(target.write(Path(made) / "src"), False)
        counts, found, begun = Counter[str](), Counter[str](), time.monotonic()
        for number, result in cases(target, name, range(each), given.seed, keep):
            kind, _, place = result.partition(" ")
            counts[kind.replace("~", " ")] += 1
            if kind not in ("read", "refused"):
                found[f"{kind.replace('~', ' ')} {place or f'case {number}'}"] += 1
            if time.monotonic() - begun > given.seconds / len(chosen):
                break
        took = time.monotonic() - begun
        print(
            f"{name:<22}{counts.total():>8}" + "".join(f"{counts[kind]:>13}" for kind in KINDS) + f"{took:>10.1f}", flush=True
        )
        total += counts
        places |= {name: found} if found else {}
    print(row("all", total))
    for name, found in places.items():
        for place, times in found.most_common():
            print(f"{name}: {place}: {times} times")
    if places:
        print(f"first tracebacks: {keep}")
    elif not given.keep:
        shutil.rmtree(keep)
    sys.exit(1 if places else 0)


if __name__ == "__main__":
    main()
