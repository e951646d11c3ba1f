"""What may not be written over: the files of what is read, and those that make a run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from wavefold.core.errors import UserError

PAGES = (".html", ".htm")

_OWN = re.compile(
    r"run\.json|recipe\.toml|scores\.json|splits\.csv|left_out\.csv|seen\.npy|ensemble\.npz|held_out\..*|fold\d+|simulated|data\.(npz|csv|nc)|served\.onnx"
)


def check_output(out: str | Path, sources: Iterable[Path], run: Path | None = None) -> None:
    """UserError where a file to be written is the run's own, or lies on one that belongs to a source; '-' is no file.

    sources: files and folders; to a folder belongs every file in it, at any depth and by any link. run: the run's folder;
    a source around it has no claim to the reports and predictions in it.
    """
    path = Path(out)
    if str(out) == "-":
        return
    for part in _own_parts(run):
        if _lies_in(path, part) or _belongs(path, part):
            raise UserError(f"{out}: is the run's own {part.name}; name another file with --out")
    for source in sources:
        if _is_same(path, source):
            raise UserError(f"{out}: is the input itself; name another file with --out")
        if path.suffix.lower() in PAGES:  # no layout reads pages, so an earlier one may be replaced
            continue
        if _belongs(path, source) and not _is_of_run(path, run, source):
            raise UserError(f"{out}: is there already and belongs to the input {source}; name another file with --out")


def check_fresh(folder: Path, sources: Iterable[Path]) -> None:
    """UserError where what a new run is to learn from lies in the folder that --fresh would empty before."""
    for source in sources:
        if _is_same(source, folder) or _lies_in(source, folder):
            raise UserError(f"{source}: lies in the run's folder {folder}, which --fresh empties; name data outside of it")


def _own_parts(run: Path | None) -> list[Path]:
    return [entry for entry in run.iterdir() if _OWN.fullmatch(entry.name)] if run is not None and run.is_dir() else []


def _is_of_run(path: Path, run: Path | None, source: Path) -> bool:
    """Whether a file lies in a run that itself lies in the source."""
    return run is not None and _lies_in(path, run) and _lies_in(run, source)


def _is_same(path: Path, other: Path) -> bool:
    return path.exists() and other.exists() and path.samefile(other)


def _lies_in(path: Path, folder: Path) -> bool:
    """Whether a path, there or not, stands below a folder, as it is written or where its links lead."""
    above = {*path.absolute().parents, *path.resolve().parents}
    return folder.is_dir() and any(_is_same(parent, folder) for parent in above)


def _belongs(path: Path, source: Path) -> bool:
    """Whether a file that is there is a source's, or a file below it."""
    if not path.exists() or not source.is_dir():
        return _is_same(path, source)
    return _lies_in(path, source) or any(_leads_to(entry, path) for entry in _linked(path, source))


def _linked(path: Path, folder: Path) -> Iterator[os.DirEntry[str]]:
    """The files below a folder that may be another name of a file; of those that cannot none is looked at."""
    real, several = os.path.realpath(path), path.stat().st_nlink > 1
    return (e for e in _files_below(folder) if several or e.path == real or e.is_symlink())


def _leads_to(entry: os.DirEntry[str], path: Path) -> bool:
    return _is_same(Path(entry.path), path)


def _files_below(folder: Path) -> Iterator[os.DirEntry[str]]:
    """All files, through links to folders, each folder once; what may not be listed is passed over."""
    waiting, seen = [str(folder)], set()
    while waiting:
        here = os.path.realpath(waiting.pop())
        if here in seen:
            continue
        seen.add(here)
        with suppress(OSError), os.scandir(here) as entries:
            for entry in entries:
                if entry.is_dir():
                    waiting.append(entry.path)
                else:
                    yield entry
