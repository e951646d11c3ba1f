"""A run: one folder that holds everything of one training, and whose it is.

docs/words.md lists its files. Whatever stands there under its final name is whole; scores.json comes last.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavefold.base.errors import UserError
from wavefold.base.files import write_json, write_text
from wavefold.base.process import leads

LIMITED = ", of which data.limit takes "  # between the path and the number, in what a run calls its source

# of a run's identity and of the digests in it: a number higher where runs from before can't go on, whatever the version
RUN_FORMAT = 1

# what a run may hold, so that --fresh deletes nothing else
_OURS = re.compile(
    r"recipe\.toml|run\.json|splits\.csv|left_out\.csv|seen\.npy|scores\.json|ensemble\.npz|held_out\.(csv|npz)|report\.html|served\.onnx|submission.*\.csv|simulated|pictures|fold\d+|"
    r"\.lock|\..*\.part"
)


@dataclass(frozen=True)
class Run:
    """The folder of one training."""

    folder: Path

    @property
    def facts(self) -> dict[str, Any]:
        """What run.json says: recipe, data, classes, shape, versions, command; UserError where it is not a run's."""
        try:
            facts: dict[str, Any] = json.loads((self.folder / "run.json").read_text())
            facts["identity"]
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{self.folder}: is not a run; `wavefold train` makes one") from None
        return facts

    @property
    def scores(self) -> dict[str, Any]:
        """What scores.json says; UserError while the training is not done."""
        path = self.folder / "scores.json"
        if not path.exists():
            raise UserError(f"{self.folder}: the training is not done; run its command again and it goes on")
        try:
            scores: dict[str, Any] = json.loads(path.read_text())
            scores["metric"]
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{path}: is damaged; delete it, and the training's command judges the run again") from None
        return scores

    @property
    def source(self) -> str:
        """Where its data lay, or its own simulated ones."""
        facts = self.facts
        return str(self.folder / "simulated") if facts["simulated"] else str(facts["source"]).partition(LIMITED)[0]

    @property
    def mark(self) -> str:
        """What tells a run that is done, as it was trained and judged, from every other: SHA-256."""
        told = json.dumps([self.facts["identity"], self.scores.get("judged")], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

    @property
    def recipe_text(self) -> str:
        """The resolved recipe, as TOML."""
        return (self.folder / "recipe.toml").read_text()

    def member(self, fold: int, number: int | str, model: str) -> Path:
        """The folder of one member in one fold."""
        return self.folder / f"fold{fold}" / f"{number}-{model}"


def open_run(folder: Path) -> Run:
    """A run that is there; UserError where the folder is none."""
    run = Run(folder)
    _ = run.facts
    return run


@contextmanager
def hold_folder(folder: Path, *, fresh: bool) -> Iterator[None]:
    """Hold a run's folder for this training; where it shall be fresh, the run in it is deleted and nothing else is.

    What a killed training left half is swept. UserError where another training is at work, or where the folder is
    somebody's else: it holds visible files and no run.
    """
    if not leads():
        yield
        return
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; name a folder with --out")
    names = sorted(e.name for e in folder.iterdir() if not e.name.startswith(".")) if folder.exists() else []
    foreign = [n for n in names if n == "run.json" or not _OURS.fullmatch(n)]  # a run.json of ours makes it a run
    if foreign and not _is_run(folder):
        raise UserError(f"{folder}: holds '{foreign[0]}' and no run; name another folder with --out")
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: another process is training there; wait for it or name another --out") from None
        ours = [e for e in folder.iterdir() if _OURS.fullmatch(e.name) and e.name != ".lock"]
        for path in ours if fresh else list(folder.rglob(".*.part")):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        try:
            yield
        finally:
            if [e.name for e in folder.iterdir()] == [".lock"]:  # what was wrong was said before anything was kept
                shutil.rmtree(folder)


def _is_run(folder: Path) -> bool:
    try:
        return bool(Run(folder).facts)
    except UserError:
        return False


def _check_format(folder: Path, identity: Mapping[str, Any]) -> None:
    """UserError for a run that another format of ours made: what its identity holds cannot be compared."""
    found = identity.get("format", 0)  # 0: from before formats had numbers
    if found != RUN_FORMAT:
        which = "a later" if found > RUN_FORMAT else "an earlier"
        raise UserError(
            f"{folder}: was made by {which} format of wavefold, {found} where this one is {RUN_FORMAT}; "
            "add --fresh to replace it, or name another --out"
        )


def start_run(folder: Path, facts: Mapping[str, Any], recipe: str, judged: str) -> Run:
    """A new run, or the same run again; UserError where the folder holds a run of something else.

    facts: what run.json shall say; its "identity" decides whether a run that is there is this one. judged: what scores
    depend on beside the members; scores of anything else are dropped, and the members stay.
    """
    run = Run(folder)
    if (folder / "run.json").is_file():
        there, here = run.facts["identity"], facts["identity"]
        _check_format(folder, there)
        for name in here:
            if there.get(name) != here[name]:
                raise UserError(f"{folder}: holds a run of another {name}; add --fresh to replace it, or name another --out")
    else:
        write_json(folder / "run.json", facts)
    if leads() and (folder / "scores.json").exists() and run.scores.get("judged") != judged:
        (folder / "scores.json").unlink()
    write_text(folder / "recipe.toml", recipe)
    return run
