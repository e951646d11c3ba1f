"""A run: the folder that holds everything about one training.

docs/words.md lists its files. A file with its final name is complete; scores.json is written last.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from wavefold.core.errors import UserError
from wavefold.core.files import write_json, write_text
from wavefold.core.locks import LOCK, held
from wavefold.core.process import is_main_process
from wavefold.core.records import RunInfo, Scores

LIMITED = ", limited by data.limit to "  # between the path and the number in a run's source
_LIMITED_BEFORE = ", of which data.limit takes "  # the same, in runs of older versions

# part of a run's identity, with its digests; increase it when older runs cannot be resumed, whatever the version
RUN_FORMAT = 2

IN_MEMORY = ("data.npz", "data.csv", "data.nc")  # the run's copy of data passed in memory

# files that belong to a run; --fresh deletes nothing else
_OURS = re.compile(
    r"recipe\.toml|run\.json|splits\.csv|left_out\.csv|seen\.npy|scores\.json|(ensemble|prior|baseline-.*)\.npz|held_out\.(csv|npz)|report\.html|served\.onnx|submission.*\.csv|simulated|data\.(npz|csv|nc)|pictures|fold\d+|"
    r"\.lock|\..*\.part"
)


@dataclass(frozen=True)
class RunFolder:
    """The folder of one training."""

    folder: Path

    @property
    def metadata(self) -> RunInfo:
        """Contents of run.json: recipe, data, classes, shape, versions, command; UserError if it is not a run."""
        try:
            return RunInfo.model_validate_json((self.folder / "run.json").read_bytes())
        except (OSError, ValueError):
            raise UserError(f"{self.folder}: is not a run folder; create one with `wavefold train`") from None

    @property
    def scores(self) -> Scores:
        """Contents of scores.json; UserError if the training is not finished."""
        path = self.folder / "scores.json"
        if not path.exists():
            raise UserError(f"{self.folder}: the training is not finished; repeat its command to resume it")
        try:
            return Scores.model_validate_json(path.read_bytes())
        except (OSError, ValueError):
            raise UserError(f"{path}: is damaged; delete it and repeat the training command to score again") from None

    @property
    def source(self) -> str:
        """Path of the data, or of the run's own simulated samples."""
        metadata = self.metadata
        if metadata.simulated:
            return str(self.folder / "simulated")
        source = metadata.source.partition(LIMITED)[0].partition(_LIMITED_BEFORE)[0]
        own = self.folder / Path(source).name
        return str(own) if own.name in IN_MEMORY and own.exists() else source

    @property
    def digest(self) -> str:
        """SHA-256 that identifies a finished run, as it was trained and evaluated."""
        fields = json.dumps([self.metadata.identity.as_json(), self.scores.judged or None], sort_keys=True)
        return hashlib.sha256(fields.encode()).hexdigest()

    @property
    def recipe_text(self) -> str:
        """The resolved recipe, as TOML."""
        return (self.folder / "recipe.toml").read_text(encoding="utf-8")

    def member(self, fold: int, number: int | str, model: str) -> Path:
        """Folder of one member in one fold."""
        return self.folder / f"fold{fold}" / f"{number}-{model}"


@contextmanager
def lock_folder(folder: Path, *, fresh: bool) -> Iterator[None]:
    """Lock a run's folder for this training; with `fresh`, the run in it is deleted first, and nothing else.

    Partial files of a killed training are removed. UserError if another training is using the folder, or if it contains other
    visible files but no run.
    """
    if not is_main_process():
        yield
        return
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; choose a folder with --out")
    names = sorted(e.name for e in folder.iterdir() if not e.name.startswith(".")) if folder.exists() else []
    foreign = [n for n in names if n == "run.json" or not _OURS.fullmatch(n)]  # a valid run.json makes it a run
    if foreign and not _is_run(folder):
        raise UserError(f"{folder}: is not a run folder, but contains '{foreign[0]}'; choose another folder with --out")
    with held(folder, f"{folder}: another process is training here; wait for it, or choose another --out", tidy=True):
        _sweep(folder, fresh=fresh)
        yield


@contextmanager
def lock_unit(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Lock the folder of a fold or of a member while something is fitted in it, and first delete a killed process's parts.

    wait: until another process has left it; otherwise that is a UserError. Any process may hold such a lock, also while
    another one holds the run's.
    """
    if not is_main_process():
        yield
        return
    busy = f"{folder}: another process is fitting here; wait for it, then repeat the command"
    with held(folder, busy, wait=wait):
        for part in folder.glob(".*.part"):
            part.unlink(missing_ok=True)
        yield


def _sweep(folder: Path, *, fresh: bool) -> None:
    """Delete a killed training's partial files, or all of the run's files if `fresh`; not those that a unit is writing."""
    if fresh:
        for unit in folder.glob("fold*/*/"):
            with lock_unit(unit, wait=False):
                pass
    ours = [e for e in folder.iterdir() if _OURS.fullmatch(e.name) and e.name != LOCK]
    for path in ours if fresh else [p for p in folder.rglob(".*.part") if not _is_fold(p.relative_to(folder).parts[0])]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _is_fold(name: str) -> bool:
    return name.startswith("fold")  # `lock_unit` deletes what is in these


def _is_run(folder: Path) -> bool:
    try:
        return bool(RunFolder(folder).metadata)
    except UserError:
        return False


def _check_format(folder: Path, found: int) -> None:
    """Raise UserError for a run of another format, since identities of different formats cannot be compared."""
    if found != RUN_FORMAT:
        which = "a later" if found > RUN_FORMAT else "an earlier"
        raise UserError(
            f"{folder}: was made by {which} format of wavefold ({found}; this one is {RUN_FORMAT}); "
            "add --fresh to replace it, or choose another --out"
        )


def start_run(folder: Path, metadata: RunInfo, recipe: str, scores_digest: str) -> RunFolder:
    """Create a run, or reopen the same one; UserError if the folder holds a different run.

    metadata: contents of run.json; its identity decides whether an existing run is the same. scores_digest: digest of what
    the scores depend on besides the members; scores with another digest are deleted, and the members kept.
    """
    run = RunFolder(folder)
    if (folder / "run.json").is_file():
        there, here = run.metadata.identity, metadata.identity
        _check_format(folder, there.format)
        for name in ("recipe", "data"):
            if getattr(there, name) != getattr(here, name):
                raise UserError(
                    f"{folder}: holds a run whose {name} differs; add --fresh to replace it, or choose another --out"
                )
    else:
        write_json(folder / "run.json", metadata.as_json())
    if is_main_process() and (folder / "scores.json").exists() and run.scores.judged != scores_digest:
        (folder / "scores.json").unlink()
    write_text(folder / "recipe.toml", recipe)
    return run
