"""A run: one folder that holds everything of one training, and whose it is.

recipe.toml, run.json, splits.csv, scores.json and a folder a fold with a folder a member below it. Whatever stands there
under its final name is whole.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavefold.base.errors import UserError
from wavefold.base.files import write_json, write_text
from wavefold.base.process import leads


@dataclass(frozen=True)
class Run:
    """The folder of one training."""

    folder: Path

    @property
    def facts(self) -> dict[str, Any]:
        """What run.json says: recipe, data, classes, shape, versions, command."""
        return json.loads((self.folder / "run.json").read_text())  # type: ignore[no-any-return]

    @property
    def scores(self) -> dict[str, Any]:
        """What scores.json says; UserError while the training is not done."""
        path = self.folder / "scores.json"
        if not path.exists():
            raise UserError(f"{self.folder}: the training is not done; run its command again and it goes on")
        return json.loads(path.read_text())  # type: ignore[no-any-return]

    @property
    def recipe_text(self) -> str:
        """The resolved recipe, as TOML."""
        return (self.folder / "recipe.toml").read_text()

    def member(self, fold: int, number: int, model: str) -> Path:
        """The folder of one member in one fold."""
        return self.folder / f"fold{fold}" / f"{number}-{model}"


def open_run(folder: Path) -> Run:
    """A run that is there; UserError where the folder is none."""
    if not (folder / "run.json").is_file():
        raise UserError(f"{folder}: is not a run; `wavefold train` makes one")
    return Run(folder)


def start_run(folder: Path, facts: Mapping[str, Any], recipe: str, fresh: bool) -> Run:
    """A new run, or the same run again; UserError where the folder holds another run or something else.

    facts: what run.json shall say; its "identity" decides whether a run that is there is this one.
    """
    run = Run(folder)
    if (folder / "run.json").is_file():
        if not fresh or not leads():
            _same(run, facts)
            return run
        shutil.rmtree(folder)
    elif folder.exists() and (not folder.is_dir() or any(e.name not in (".lock", "data") for e in folder.iterdir())):
        raise UserError(f"{folder}: holds something that is not a run; name another folder with --out")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "recipe.toml", recipe)
    write_json(folder / "run.json", facts)
    return run


@contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Hold the run for this training: two in one folder would write over each other."""
    if not leads():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: another process is training there; wait for it or name another --out") from None
        yield


def _same(run: Run, facts: Mapping[str, Any]) -> None:
    there, here = run.facts["identity"], facts["identity"]
    for name in here:
        if there.get(name) != here[name]:
            raise UserError(f"{run.folder}: holds a run of another {name}; add --fresh to replace it, or name another --out")
