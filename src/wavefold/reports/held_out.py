"""The saved predictions of a run for its test parts."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import UserError
from wavefold.core.run import RunFolder
from wavefold.data.dataset import Ints, Strings

Values = NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """Predictions of the ensemble and its members for the test parts, one row per sample and repeat.

    P is the number of columns of a prediction: classes, labels, or twice the numbers to predict.
    """

    ids: Strings  # (row,)
    rows: Ints  # (row,) index of the sample
    fold: Ints  # (row,)
    labels: NDArray[Any]  # (row,) class numbers, or (row, output)
    probabilities: Values  # (row, P)
    members: Values  # (member, row, P)
    decided: Values | None = None  # (row, P), if the decision was fitted

    @classmethod
    def of(cls, run: RunFolder) -> HeldOut:
        """Read the saved predictions of a run; UserError if they are missing or damaged."""
        path = run.folder / "held_out.npz"
        if not path.exists():
            raise UserError(
                f"{run.folder}: held_out.npz is missing; delete scores.json in the run and train again to evaluate it anew"
            )
        try:
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as kept:
                names = [name for name in cls.__dataclass_fields__ if name in kept or name != "decided"]
                return cls(**{name: kept[name] for name in names})
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            raise UserError(
                f"{path}: the file is damaged; delete scores.json in the run and train again to evaluate it anew"
            ) from None

    def once(self) -> HeldOut:
        """Keep the first row of each sample; with repeated folds, intervals would count the others as independent samples."""
        first = np.unique(self.rows, return_index=True)[1]
        first.sort()
        kept = {name: getattr(self, name)[first] for name in ("ids", "rows", "fold", "labels", "probabilities")}
        decided = None if self.decided is None else self.decided[first]
        return replace(self, **kept, members=self.members[:, first], decided=decided)
