"""Predicted numbers as they are written to files and sent by the server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from wavefold.tasks.samples.predictions import Predictions, csv_of_columns


@dataclass(frozen=True)
class NumberPredictions(Predictions):
    """Predicted numbers: `probabilities` and `decided` are (sample, 2 T), T means and then T standard deviations."""

    per_name: ClassVar[int] = 2

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """Return id, each number and its standard deviation, <name>_spread, each (sample,)."""
        names = [*self.classes, *(f"{name}_spread" for name in self.classes)]
        return {"id": self.ids, **dict(zip(names, self.probabilities.T, strict=True))}

    def csv_rows(self) -> Iterator[Sequence[object]]:
        """Every column under a header."""
        return csv_of_columns(self)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """ids, names, values and spreads, the last two (sample, T)."""
        values, spreads = np.split(self.probabilities, 2, axis=1)
        names = {"ids": np.asarray(self.ids, np.str_), "names": np.array(self.classes, np.str_)}
        return {**names, "values": values, "spreads": spreads}

    def messages(self) -> list[dict[str, object]]:
        """For each sample id, values and standard deviations by name."""
        values, spreads = (self.by_name(part) for part in np.split(self.probabilities, 2, axis=1))
        return [{"id": i, "values": v, "spreads": s} for i, v, s in zip(self.ids.tolist(), values, spreads, strict=True)]
