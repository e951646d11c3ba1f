"""Write the candidates found in an observation, best first, as CSV, a spreadsheet, Parquet or NumPy arrays."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavefold.data.parquet import parquet_bytes
from wavefold.data.table_files import write_form
from wavefold.data.xlsx import xlsx_bytes


@dataclass(frozen=True)
class Candidate:
    """A drifting line in the ON scans of an observation."""

    frequency_mhz: float  # at the start of the first ON scan
    drift_hz_s: float
    snr: float  # of the ON scans together
    false_alarms: float  # lines of noise or interference with this S/N or more that the scans are expected to have
    score: float  # the run's probability of a needle; NaN without a run
    snr_scan1: float  # of the line in each scan, in time order; of OFF scans the best within two channels beside it
    snr_scan2: float
    snr_scan3: float
    snr_scan4: float
    snr_scan5: float
    snr_scan6: float
    width_hz: float  # channels added in each row
    coarse_channel: int  # counted from 0
    start_channel: int  # fine channel of the file nearest to the frequency, counted from 0
    at_limit: int  # 1 if its drift is at or beyond the steepest that was searched
    searched_hz_s: float  # that drift
    least_snr: float  # from which lines are listed
    also_off: int  # other cadences of the same search with interference within 500 Hz
    source: str  # name of the ON scans' source
    first_scan: str  # file
    id: str  # first scan, frequency and drift

    @property
    def label_row(self) -> dict[str, str]:
        """What stands beside a verdict in a CSV of labels. Lines within 10 kHz of one cadence share a background."""
        background = f"{Path(self.first_scan).stem}_{self.frequency_mhz:.2f}"
        told = {"frequency_mhz": f"{self.frequency_mhz:.7f}", "drift_hz_s": f"{self.drift_hz_s:.6f}", "snr": f"{self.snr:.2f}"}
        return {"id": self.id, "background": background, **told}


Columns = Mapping[str, NDArray[np.generic]]


def write_candidates(path: str | Path, candidates: Sequence[Candidate]) -> None:
    """Write candidates atomically in the format given by the path's suffix, or as CSV to standard output if it is "-"."""
    write_form(path, _BYTES, _columns(candidates))


def _columns(candidates: Sequence[Candidate]) -> Columns:
    kinds = {"int": np.int64, "float": np.float64, "str": np.str_}
    return {f.name: np.array([getattr(c, f.name) for c in candidates], kinds[str(f.type)]) for f in fields(Candidate)}


def _csv_bytes(columns: Columns) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    # a fine channel of 2.8 Hz shows in the sixth decimal of a MHz
    forms = {"frequency_mhz": ".7f", "drift_hz_s": ".6f", "score": ".6f", "false_alarms": ".2e", "searched_hz_s": ".6g"}
    written = [[_written(value, forms.get(name, ".2f")) for value in column.tolist()] for name, column in columns.items()]
    writer.writerows(zip(*written, strict=True))
    return text.getvalue().encode()


def _written(value: float | str, form: str) -> str:
    if not isinstance(value, float):
        return str(value)
    return "" if math.isnan(value) else format(value, form)


def _npz_bytes(columns: Columns) -> bytes:
    content = io.BytesIO()
    np.savez(content, **dict(columns))  # type: ignore[arg-type]  # names as keywords
    return content.getvalue()


_BYTES: dict[str, Callable[[Columns], bytes]] = {
    ".csv": _csv_bytes,
    ".xlsx": xlsx_bytes,
    ".parquet": parquet_bytes,
    ".npz": _npz_bytes,
}
