"""What a run keeps as JSON, as typed objects: run.json (RunInfo) and scores.json (Scores).

Keys that later versions add are kept; keys that earlier versions lacked have defaults. `format` counts changes that older
readers would misread.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue

SCORES_FORMAT = 2  # 1: before scores named their task

Triple = tuple[float | None, float | None, float | None]  # value, low and high end; None where undefined


class Measure(NamedTuple):
    """A metric's value and the ends of its 95 % interval; NaN where undefined or not computed."""

    value: float
    low: float = math.nan
    high: float = math.nan


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)

    def as_json(self) -> dict[str, JsonValue]:
        """Plain values, with the names of the file, None for NaN; keys that were not given are left out."""
        made: dict[str, JsonValue] = json.loads(self.model_dump_json(by_alias=True, exclude_unset=True))
        return made


class Identity(_Record):
    """What makes two runs the same: digests of recipe and data, and the number of RUN_FORMAT."""

    recipe: str
    data: str
    format: int = 0  # 0: from before formats had numbers
    wavefold: str = ""  # where runs of format 0 have the version


class RunInfo(_Record):
    """run.json: identity, data, command and environment of one training."""

    recipe: str  # its name
    identity: Identity
    source: str
    simulated: bool
    samples: int  # samples, or windows of frames
    shape: tuple[int, ...]  # of a sample (channel, ...), or of a frame (channel, row, column)
    unit: str = ""
    folds: int = 1
    command: tuple[str, ...] = ()
    wavefold: str = ""  # versions
    python: str = ""
    torch: str = ""
    numpy: str = ""
    machine: str = ""
    threads: Mapping[str, int] = {}  # of torch and of the libraries' pools; units that others fit use as many
    axis: tuple[float, ...] | None = None  # at 33 positions
    grid: tuple[float, ...] | None = None  # first, last, step
    attrs: Mapping[str, str] = {}  # what the source states of all signals or frames: signal, values' unit, clock
    positions: tuple[str, ...] = ()  # names of a sample's positions, if they are columns of a table
    left_out: int = 0  # samples
    classes: tuple[str, ...] = ()  # names of classes, of labels, or of numbers to predict
    units: tuple[str, ...] = ()  # of the numbers to predict
    frames: int = 0
    channels: tuple[str, ...] = ()  # the channels to forecast come first
    targets: int = 0  # number of channels to forecast
    step: float | None = None  # seconds
    timed: bool = True  # whether the frames have times
    rows: tuple[float, ...] | None = None  # coordinates of the frames' rows, such as latitudes; None if unknown
    columns: tuple[float, ...] | None = None
    up: str = ""  # name and unit of the rows' coordinates
    across: str = ""
    range: float = 0.0  # of the target channels in the training part

    @property
    def version(self) -> str:
        """The version of wavefold that made the run."""
        return self.wavefold or self.identity.wavefold


class ScoreRow(_Record):
    """The metrics of one predictor: a metric is a number, or value and interval; ScoreRow.of makes one."""

    name: str = ""
    by: str = ""  # of an alternative ensemble: combiner, calibration, decision
    calibrate: str = ""
    decide: str = ""
    fold: int = 0  # of one fold's scores, with their number of samples
    n: int = 0
    f1_by_class: tuple[float, ...] = Field((), alias="f1-by-class")
    by_lead: Mapping[str, tuple[float | None, ...]] = Field({}, alias="by-lead")
    interval_by_lead: tuple[tuple[float | None, float | None], ...] = Field((), alias="interval-by-lead")
    difference: tuple[Triple, ...] = ()  # of the ensemble from this baseline, by lead
    skill: tuple[Triple, ...] = ()
    differences: Mapping[str, Triple] = {}  # metric -> of the ensemble from this baseline, with its interval

    @classmethod
    def of(cls, row: Mapping[str, object], **more: object) -> Self:
        """A row from metrics by name, with fields such as `name`."""
        return cls.model_validate({**more, **row})

    @property
    def measures(self) -> dict[str, Measure]:
        """Every metric of the row by name."""
        return {name: _measure(value) for name, value in (self.model_extra or {}).items()}

    def measure(self, metric: str) -> Measure:
        """A metric's value and interval; NaN if the row does not have it."""
        return _measure((self.model_extra or {}).get(metric))

    def value(self, metric: str) -> float:
        """A metric's value; NaN if it is undefined."""
        return self.measure(metric).value

    def with_interval(self) -> list[str]:
        """The names of the metrics that have an interval."""
        return [name for name, value in (self.model_extra or {}).items() if isinstance(value, list | tuple)]

    def compared(self, metric: str) -> Measure:
        """The difference of the ensemble from this baseline by a metric; NaN if it was not computed."""
        return _measure(self.differences.get(metric))


class Scores(_Record):
    """scores.json: how the ensemble, its members and the baselines do on the test part."""

    format: int = 1
    task: str = ""
    metric: str  # the recipe's
    standing: str = ""  # a line: how the ensemble stands to the best baseline
    per: int = 0  # rows for which a summed metric is quoted
    n: int  # samples, or windows
    rows: int = 0  # more than n if folds are repeated
    learned_from: int = 0
    score: ScoreRow
    choices: tuple[ScoreRow, ...] = ()
    members: tuple[ScoreRow, ...] = ()
    baselines: tuple[ScoreRow, ...] = ()
    notes: tuple[str, ...] = ()
    folds: tuple[ScoreRow, ...] = ()
    units: Mapping[str, str] = {}  # metric -> unit, where it has one
    seconds: float | None = None
    judged: str = ""  # digest of all that the scores depend on besides the members
    higher_is_better: bool | None = None
    unit: str = ""  # of the frames
    blocks: int = 0  # of time
    leads: int = 0
    step: float | None = None  # seconds


def _measure(value: float | Sequence[float | None] | None) -> Measure:
    given = [math.nan if v is None else float(v) for v in (value if isinstance(value, Sequence) else [value])]
    return Measure(*given[:3])
