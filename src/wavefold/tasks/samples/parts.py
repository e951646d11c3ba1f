"""Prediction of millions: a source in numbered parts, each predicted into a file of its own, then joined into one.

The parts lie in a folder beside the output until they are joined. A part counts once its record is there, so a killed call goes
on after the parts that are whole. `predict_part` predicts one part alone, as a process elsewhere may. Memory is that of two
parts, and of 24 bytes a row while ids are compared.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from wavefold.core import version
from wavefold.core.errors import DataError, UserError
from wavefold.core.files import write_json, write_text, write_whole
from wavefold.core.locks import LOCK, held
from wavefold.core.progress import Progress
from wavefold.core.run import RunFolder
from wavefold.data.cache import fingerprint
from wavefold.data.dataset import Dataset
from wavefold.data.distinct import first_repeat, id_hashes
from wavefold.data.lazy import let_go, part_of, read_ahead, rows_of_part, values_of
from wavefold.data.read_samples import in_parts, part_table
from wavefold.data.text_parts import Span, merged_left_out, merged_notes, opened
from wavefold.recipe import Recipe
from wavefold.tasks.samples.evaluate import decision_of
from wavefold.tasks.samples.inference import Members
from wavefold.tasks.samples.predictions import Predictions, write_joined, write_predictions
from wavefold.tasks.samples.reading import how_of, read_like, read_part_like, warn_of
from wavefold.tasks.samples.target import target_of

PART = 16 << 20  # bytes of signals in a part, as float32
_PLAN = "plan.json"
_OURS = re.compile(r"\d{5,}\.(npz|json)|plan\.json|\.lock|\..*\.part")

Log = Callable[[str], None]
_Range = tuple[int, int, int, int]


class Plan(BaseModel):
    """plan.json: what is predicted, by which run, and in which parts."""

    model_config = ConfigDict(frozen=True)

    run: str  # digest of the run
    wavefold: str  # version
    source: str
    fingerprint: str  # of the source's files, or the digest of its samples
    skip_bad: bool
    rows: int  # in a text file, those that cannot be read included
    size: int = 0  # rows of a part; 0 for a text file
    spans: tuple[_Range, ...] = ()  # of a text file: first byte, byte after the last, first line, and rows above

    @property
    def count(self) -> int:
        """The number of parts."""
        return len(self.spans) if self.spans else -(-self.rows // self.size)

    def ends(self) -> list[int]:
        """The rows up to the end of each part."""
        above = [span[3] for span in self.spans] or [number * self.size for number in range(self.count)]
        return [*above[1:], self.rows]


class PartRecord(BaseModel):
    """The record of one part's predictions."""

    model_config = ConfigDict(frozen=True)

    rows: int
    sha256: str
    integral: dict[str, bool]  # name of a column -> whether it holds whole numbers only
    notes: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()


def predict_to_file(run: RunFolder, recipe: Recipe, source: str, out: str, *, size: int, warn: Log) -> int:
    """Predict every sample of a source into a file, in parts if it is large; returns how many. size: batch size."""
    opening = _open(run, recipe, source)
    if isinstance(opening, Dataset):
        warn_of(opening, warn)
        predictions = _Predictor(run, recipe, size).of(opening)
        write_predictions(out, predictions)
        return len(predictions)
    with _folder(out) as folder:
        try:
            _keep(opening.plan, folder)
            _predict(opening, _Predictor(run, recipe, size), folder, range(opening.plan.count))
            return join_parts(run, recipe, source, folder, out, warn=warn)
        except DataError:  # its parts are of no use with another source
            _remove(folder)
            raise


def plan_parts(run: RunFolder, recipe: Recipe, source: str, folder: Path) -> Plan | None:
    """Plan the prediction of a source in parts that will lie in a folder; those of the same plan stay, others are removed.

    None if the source is so small that it is best predicted at once. Any process may then predict any part, and one joins them.
    """
    opening = _open(run, recipe, source)
    if isinstance(opening, Dataset):
        return None
    _keep(opening.plan, folder)
    return opening.plan


def predict_part(run: RunFolder, recipe: Recipe, source: str, folder: Path, number: int, *, size: int = 512) -> None:
    """Predict one part of a plan in a folder, unless it is there; UserError if the source is not the planned one."""
    opening = _open(run, recipe, source, read_plan(folder))
    if isinstance(opening, Dataset) or opening.plan != read_plan(folder):
        raise UserError(f"{folder}: was planned for another {source}; repeat the command that planned it")
    _predict(opening, _Predictor(run, recipe, size), folder, [number])


def join_parts(run: RunFolder, recipe: Recipe, source: str, folder: Path, out: str, *, warn: Log) -> int:
    """Join the parts of a plan into one file, as if the source had been predicted at once; returns the number of rows.

    The folder is removed. DataError if an id is there twice. warn: receives notes, and a line for each sample left out.
    """
    plan, names = read_plan(folder), run.metadata.classes
    records = [_record(folder, number) for number in range(plan.count)]
    rows = sum(record.rows for record in records)
    notes, left_out = merged_notes([r.notes for r in records]), merged_left_out(r.left_out for r in records)
    if not rows:
        raise DataError(f"{Path(source).name}: none of its {plan.rows:,} rows can be read; the first error: {left_out[0][1]}")
    integral = {name: all(record.integral.get(name, True) for record in records) for r in records for name in r.integral}

    def parts() -> Iterator[Predictions]:
        for number, record in enumerate(records):
            arrays = _arrays(folder, number, record)
            made = target_of(recipe).predictions(recipe, arrays["ids"].astype(np.str_), names, *_values(arrays))
            yield replace(made, integral=integral)

    if plan.spans:
        _check_distinct(recipe, plan, folder, records)
    for note in notes:
        warn(f"{source}: {note}")
    for name, why in left_out:
        warn(f"left out {name}: {why}")
    write_joined(out, parts)
    _remove(folder)
    return rows


def _values(arrays: Mapping[str, NDArray[np.generic]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.asarray(arrays["probabilities"], np.float64), np.asarray(arrays["decided"], np.float64)


def _open(run: RunFolder, recipe: Recipe, source: str, plan: Plan | None = None) -> _TextSource | _RowSource | Dataset:
    """Open a source to predict: all its samples if they are few. plan: one that it must still have, which spares a scan."""
    how = how_of(recipe)
    found = how.find(source)
    named = {"group": how.group, "apart": list(how.apart), "label": how.label_column}
    mark = fingerprint(found, {"layout": found.layout, **named})
    known = {"run": run.digest, "wavefold": version.__version__, "source": source, "skip_bad": recipe.data.skip_bad}

    def planned(mark: str, rows: int, **ways: object) -> Plan:
        return Plan.model_validate({**known, "fingerprint": mark, "rows": rows, **ways})

    if plan is not None and plan.spans and plan == plan.model_copy(update={**known, "fingerprint": mark}):
        return _TextSource(run, recipe, plan, found.path)
    text = in_parts(found, how, labels=False, size=PART)
    if text is not None:
        spans = tuple((s.start, s.end, s.line, s.row) for s in text.spans)
        return _TextSource(run, recipe, planned(mark, text.rows, spans=spans), found.path)
    dataset = read_like(recipe, source, run.metadata)
    size = rows_of_part(values_of(dataset.signals), PART)
    if len(dataset) <= size:
        return dataset
    return _RowSource(dataset, planned(dataset.digest, len(dataset), size=size))


# sources


class _TextSource:
    """A large text file: each part is parsed by itself."""

    def __init__(self, run: RunFolder, recipe: Recipe, plan: Plan, path: Path) -> None:
        self.plan, self._run, self._recipe, self._path = plan, run, recipe, path

    @contextmanager
    def reading(self) -> Iterator[Callable[[int], Dataset]]:
        """A function from a part's number to its samples."""
        info = self._run.metadata
        with opened(self._path) as part:
            yield lambda number: read_part_like(self._recipe, self.plan.source, info, part(Span(*self.plan.spans[number])))


class _RowSource:
    """A source that was read: mapped, on demand, or in memory."""

    def __init__(self, dataset: Dataset, plan: Plan) -> None:
        self.plan, self._dataset = plan, dataset

    @contextmanager
    def reading(self) -> Iterator[Callable[[int], Dataset]]:
        """A function from a part's number to its samples; notes and what was left out come with the first part."""

        def rows(number: int) -> slice:
            return slice(number * self.plan.size, (number + 1) * self.plan.size)

        def take(number: int) -> Dataset:
            if number > 1:  # the part before is being predicted
                let_go(part_of(self._dataset.signals, rows(number - 2)))
            some = self._dataset.take(rows(number))
            return replace(some, notes=(), left_out=()) if number else some

        yield take


# parts


class _Predictor:
    """A run's members, loaded once for all parts."""

    def __init__(self, run: RunFolder, recipe: Recipe, size: int) -> None:
        self._recipe, self._names = recipe, run.metadata.classes
        self._members, self._decision = Members(run, recipe, size), decision_of(run, recipe)

    def of(self, dataset: Dataset) -> Predictions:
        """Predictions of samples."""
        values = self._members.of_all(dataset.signals)
        decided = self._decision.apply(values) if len(values) else values
        return target_of(self._recipe).predictions(self._recipe, dataset.ids, self._names, values, decided)


def _predict(source: _TextSource | _RowSource, predictor: _Predictor, folder: Path, numbers: Sequence[int]) -> None:
    """Predict the parts that are not there yet; the next one is read while one is predicted."""
    plan, ends = source.plan, [0, *source.plan.ends()]
    todo = [number for number in numbers if not _is_there(folder, number)]
    with Progress(f"predicting {Path(plan.source).name}", plan.rows, "samples") as progress, source.reading() as read:
        done = plan.rows - sum(ends[number + 1] - ends[number] for number in todo)
        progress.skip(done)
        with closing(read_ahead(read, todo)) as coming:
            for number, dataset in coming:
                _write(folder, number, dataset, predictor.of(dataset))
                done += ends[number + 1] - ends[number]
                progress.update(done)


def _write(folder: Path, number: int, dataset: Dataset, predictions: Predictions) -> None:
    """Write the predictions of a part, its record last."""
    content = io.BytesIO()
    np.savez(content, ids=predictions.ids, probabilities=predictions.probabilities, decided=predictions.decided)
    write_whole(_paths(folder, number)[0], lambda stream: stream.write(content.getbuffer()))
    record = PartRecord(
        rows=len(predictions),
        sha256=hashlib.sha256(content.getbuffer()).hexdigest(),
        integral=predictions.whole_numbers(),
        notes=dataset.notes,
        left_out=dataset.left_out,
    )
    write_json(_paths(folder, number)[1], record.model_dump(mode="json"))


def _paths(folder: Path, number: int) -> tuple[Path, Path]:
    return folder / f"{number:05d}.npz", folder / f"{number:05d}.json"


def _is_there(folder: Path, number: int) -> bool:
    try:
        _arrays(folder, number, _record(folder, number))
    except UserError:
        return False
    return True


def _record(folder: Path, number: int) -> PartRecord:
    path = _paths(folder, number)[1]
    try:
        return PartRecord.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        raise UserError(f"{path}: is missing or damaged; repeat the command, which predicts this part again") from None


def _arrays(folder: Path, number: int, record: PartRecord) -> dict[str, NDArray[np.generic]]:
    """The arrays of a part; UserError if they are not those that were written."""
    path = _paths(folder, number)[0]
    data = path.read_bytes() if path.exists() else b""
    if hashlib.sha256(data).hexdigest() != record.sha256:
        raise UserError(f"{path}: is missing or damaged; repeat the command, which predicts this part again")
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _check_distinct(recipe: Recipe, plan: Plan, folder: Path, records: Sequence[PartRecord]) -> None:
    """Raise DataError, in the words of the readers, for an id that is in two parts of a text file."""
    starts = np.cumsum([0, *(record.rows for record in records)])
    hashes = np.empty(starts[-1], np.uint64)
    for number, record in enumerate(records):
        hashes[starts[number] : starts[number + 1]] = id_hashes(_ids(folder, number, record))

    def place(row: int) -> tuple[int, int]:
        number = int(np.searchsorted(starts, row, side="right")) - 1
        return number, row - int(starts[number])

    def ids_at(rows: NDArray[np.int64]) -> NDArray[np.str_]:
        places = (place(row) for row in rows.tolist())
        return np.array([_ids(folder, number, records[number])[at] for number, at in places], np.str_)

    repeat = first_repeat(hashes, ids_at)
    if repeat is not None:
        how = how_of(recipe)
        found = how.find(plan.source)
        with opened(found.path) as part:
            tables = [part_table(found, how, part(Span(*plan.spans[place(row)[0]])), labels=False) for row in repeat]
        again, first = (int(table.lines[place(row)[1]]) for table, row in zip(tables, repeat, strict=True))
        word = str(ids_at(np.array(repeat[:1]))[0])
        raise DataError(f"{found.path.name} line {again}: id {word!r} is already in line {first}")


def _ids(folder: Path, number: int, record: PartRecord) -> NDArray[np.str_]:
    return _arrays(folder, number, record)["ids"].astype(np.str_)


# the folder


@contextmanager
def _folder(out: str) -> Iterator[Path]:
    """The folder of an output's parts, locked; a temporary one for standard output."""
    if out == "-":
        with tempfile.TemporaryDirectory(prefix="wavefold-") as made:
            yield Path(made)
        return
    folder = Path(f"{out}.parts")
    foreign = sorted(e.name for e in folder.iterdir() if not _OURS.fullmatch(e.name)) if folder.is_dir() else []
    if foreign or folder.is_file():
        what = f"contains '{foreign[0]}'" if foreign else "is a file"
        raise UserError(f"{folder}: {what}, but parts of predictions are to be kept there; rename it, or choose another --out")
    with held(folder, f"{out}: another process is predicting into it; wait for it, or choose another --out", tidy=True):
        yield folder


def _keep(plan: Plan, folder: Path) -> None:
    """Write the plan; parts of another one are removed."""
    with suppress(UserError):
        if read_plan(folder) == plan:
            return
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name) and path.name != LOCK:
            path.unlink()
    write_text(folder / _PLAN, plan.model_dump_json() + "\n")


def read_plan(folder: Path) -> Plan:
    """The plan in a folder; UserError if there is none."""
    try:
        return Plan.model_validate_json((folder / _PLAN).read_bytes())
    except (OSError, ValueError):
        raise UserError(f"{folder}: holds no plan of a prediction; repeat the command that planned it") from None


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
