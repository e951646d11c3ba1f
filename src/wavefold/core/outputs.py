"""Files that may not be overwritten: inputs, and the files that make up a run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from wavefold.core.errors import UserError

PAGES = (".html", ".htm")
GENERATOR = '<meta name="generator" content="Wavefold">'  # stands in the head of every page

_OWN = re.compile(
    r"run\.json|recipe\.toml|scores\.json|splits\.csv|left_out\.csv|seen\.npy|ensemble\.npz|held_out\..*|fold\d+|simulated|data\.(npz|csv|nc)|served\.onnx"
)


def check_output(out: str | Path, sources: Iterable[Path], run: Path | None = None) -> None:
    """Raise UserError if an output file is one of the run's own or belongs to a source; '-' is not a file.

    sources: files and folders; a folder includes every file in it, at any depth and through any link. run: the run's folder;
    its reports and predictions do not belong to a source that contains it.
    """
    path = Path(out)
    if str(out) == "-":
        return
    for part in _own_parts(run):
        if _lies_in(path, part) or _belongs(path, part):
            raise UserError(f"{out}: belongs to the run ({part.name}); choose another file with --out")
    for source in sources:
        if _is_same(path, source):
            raise UserError(f"{out}: is the input itself; choose another file with --out")
        if _is_our_page(path):  # no layout reads pages, so an earlier one may be replaced
            continue
        if _belongs(path, source) and not _is_of_run(path, run, source):
            raise UserError(f"{out}: already exists and belongs to the input {source}; choose another file with --out")


def _is_our_page(path: Path) -> bool:
    """Whether a file is a page that look or report has written."""
    if path.suffix.lower() not in PAGES or not path.is_file():
        return False
    with open(path, "rb") as stream:
        return GENERATOR.encode() in stream.read(4096)


def check_fresh(folder: Path, sources: Iterable[Path]) -> None:
    """Raise UserError if a new run's data lie in the folder that --fresh would empty first."""
    for source in sources:
        if _is_same(source, folder) or _lies_in(source, folder):
            raise UserError(f"{source}: lies in the run's folder {folder}, which --fresh empties; choose data outside of it")


def _own_parts(run: Path | None) -> list[Path]:
    return [entry for entry in run.iterdir() if _OWN.fullmatch(entry.name)] if run is not None and run.is_dir() else []


def _is_of_run(path: Path, run: Path | None, source: Path) -> bool:
    """Whether a file lies in a run that itself lies in the source."""
    return run is not None and _lies_in(path, run) and _lies_in(run, source)


def _is_same(path: Path, other: Path) -> bool:
    return path.exists() and other.exists() and path.samefile(other)


def _lies_in(path: Path, folder: Path) -> bool:
    """Whether a path, existing or not, lies below a folder, either as written or after resolving links."""
    above = {*path.absolute().parents, *path.resolve().parents}
    return folder.is_dir() and any(_is_same(parent, folder) for parent in above)


def _belongs(path: Path, source: Path) -> bool:
    """Whether an existing file is the source itself or lies below it."""
    if not path.exists() or not source.is_dir():
        return _is_same(path, source)
    return _lies_in(path, source) or any(_leads_to(entry, path) for entry in _linked(path, source))


def _linked(path: Path, folder: Path) -> Iterator[os.DirEntry[str]]:
    """The files below a folder that may be another name of a file; files that cannot be are skipped."""
    real, several = os.path.realpath(path), path.stat().st_nlink > 1
    return (e for e in _files_below(folder) if several or e.path == real or e.is_symlink())


def _leads_to(entry: os.DirEntry[str], path: Path) -> bool:
    return _is_same(Path(entry.path), path)


def _files_below(folder: Path) -> Iterator[os.DirEntry[str]]:
    """All files, following links to folders, with each folder visited once; unreadable folders are skipped."""
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


def folder_beside(out: str | Path, what: str) -> Path:
    """The folder of what belongs to an output file: `<stem>_pictures` beside it."""
    return Path(out).with_name(f"{Path(out).stem}_{what}")
