"""The verbs of wavefold: check, train, predict, score, look, report, export, serve, simulate. Read this file first.

Each verb calls the recipe's task: `tasks/samples` for labelled samples, `tasks/frames` for time series of frames.
A task reads the data, splits them, fits every fold, evaluates and saves; pages, ONNX files and the server use what it saved.
Recipes refer to parts by short names; `core/registry.py` builds them from tables that domains and other packages fill.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavefold.core.errors import UserError, plural
from wavefold.core.files import NO_ROOM
from wavefold.core.interrupt import stop_on_signals
from wavefold.core.outputs import PAGES, check_fresh, check_output, folder_beside
from wavefold.core.process import is_main_process
from wavefold.core.registry import later
from wavefold.core.run import RunFolder, lock_folder
from wavefold.data.dataset import Dataset
from wavefold.data.in_memory import Data, is_frame, is_path, write_data
from wavefold.data.lazy import Lazy
from wavefold.data.pack import Packed
from wavefold.data.pack import pack as pack_samples
from wavefold.data.read_samples import How
from wavefold.data.sources import files_read
from wavefold.data.table_files import check_suffix
from wavefold.domains.base import Candidate, all_domains, domain_of
from wavefold.recipe import Recipe
from wavefold.reports.candidates_page import write_candidates_page
from wavefold.reports.page import write_page
from wavefold.reports.score_table import score_rows

if TYPE_CHECKING:
    from wavefold.cluster import client as leader
    from wavefold.cluster import connection as clusters
    from wavefold.cluster import each as on_workers
    from wavefold.core import device, distributed
    from wavefold.serving import app as server
    from wavefold.tasks import base as tasks
    from wavefold.tasks import units as fitting
    from wavefold.tasks.base import Predicted, Scored, Training, Unit
    from wavefold.tasks.samples import inference
    from wavefold.tuning import trials as tuning
else:  # what imports torch, which takes a second and 200 MB: a verb loads what it uses
    leader, clusters = later("wavefold.cluster.client"), later("wavefold.cluster.connection")
    on_workers = later("wavefold.cluster.each")
    server, tuning = later("wavefold.serving.app"), later("wavefold.tuning.trials")
    device, distributed = later("wavefold.core.device"), later("wavefold.core.distributed")
    tasks, fitting = later("wavefold.tasks.base"), later("wavefold.tasks.units")
    inference = later("wavefold.tasks.samples.inference")

__all__ = [
    "Run",
    "check",
    "describe_nets",
    "describe_scores",
    "export",
    "fit",
    "is_scan",
    "look",
    "open_run",
    "pack",
    "predict",
    "predict_file",
    "report",
    "resolve",
    "score",
    "search",
    "serve",
    "simulate",
    "train",
    "tune",
    "units",
]

Log = Callable[[str], None]


class Run(RunFolder):
    """A finished training run: its folder and scores, with methods to use it.

    `metadata` holds the contents of run.json, `scores` those of scores.json (`core/records.py`).
    """

    def predict(
        self, data: Data, out: str | Path = "", *, size: int = 512, skip_bad: bool = False, warn: Log = print
    ) -> Predicted:
        """Predict every sample of a path, a data frame or an array, or forecast the frames that follow; see `predict`."""
        return predict(self, data, out=out, size=size, skip_bad=skip_bad, warn=warn)

    def predict_file(
        self, source: str | Path, out: str | Path, *, size: int = 512, skip_bad: bool = False, warn: Log = print
    ) -> int:
        """Predict every sample of a source into a file, in parts if it is large; see `predict_file`."""
        return predict_file(self, source, out=out, size=size, skip_bad=skip_bad, warn=warn)

    def score(
        self,
        data: Data,
        labels: ArrayLike | None = None,
        *,
        size: int = 512,
        skip_bad: bool = False,
        warn: Log = print,
        by: Sequence[str] = (),
    ) -> Scored:
        """Score on other labelled data, or on other frames; see `score`."""
        return score(self, data, labels=labels, size=size, skip_bad=skip_bad, warn=warn, by=by)

    def report(self, out: str | Path = "", *, data: str = "", warn: Log = print) -> Path:
        """Write a page about the run; see `report`."""
        return report(self, out=Path(out) if out else None, data=data, warn=warn)

    def export(self, out: str | Path = "model.onnx", *, member: int | None = None, log: Log = print) -> Path:
        """Write the run as one ONNX file; see `export`."""
        return export(self, out=Path(out), member=member, log=log)

    def serve(self, *, host: str = "127.0.0.1", port: int = 8000, log: Log = print) -> None:
        """Serve predictions over HTTP until stopped."""
        serve(self, host=host, port=port, log=log)

    def __str__(self) -> str:
        return describe_scores(self)

    def _repr_html_(self) -> str:
        """The scores as a notebook table: ensemble, members and baselines with intervals."""
        head, rows = score_rows(self.scores)
        cells = [f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows]
        title = f"{self.metadata.recipe}, n = {self.scores.n:,}, {self.folder}"
        columns = "".join(f"<th>{escape(name)}</th>" for name in head)
        return f"<table><caption>{escape(title)}</caption><tr>{columns}</tr>{''.join(cells)}</table>"


def open_run(folder: str | Path) -> Run:
    """Open an existing run; UserError if the folder is not one."""
    run = Run(Path(folder))
    _ = run.metadata
    return run


def resolve(
    recipe: Recipe | str | Path,
    *,
    quick: bool = False,
    overrides: Mapping[str, object] | None = None,
    skip_bad: bool = False,
) -> Recipe:
    """Load a recipe by name or TOML file, apply its [quick] values if asked, then the overrides: {"stage.*.epochs": 5}."""
    found = recipe if isinstance(recipe, Recipe) else Recipe.load(str(recipe))
    found = found.quickly() if quick else found
    return found.with_({**(overrides or {}), **({"data.skip_bad": True} if skip_bad else {})})


def check(recipe: Recipe | str | Path, data: str | Path = "") -> list[str]:
    """Raise UserError for the first problem with a recipe or its data; otherwise return lines that describe the data."""
    recipe = resolve(recipe)
    task = tasks.task_of(recipe)
    task.check_recipe(recipe)
    return task.describe_data(recipe, str(data)) if data else []


def describe_nets(recipe: Recipe) -> str:
    """Describe the layers of each net with output shapes and parameter counts, for the recipe's own shape."""
    return tasks.task_of(recipe).describe_nets(recipe)


@stop_on_signals()
def train(
    recipe: Recipe | str | Path,
    data: Data = "",
    *,
    out: str | Path = "",
    labels: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    quick: bool = False,
    overrides: Mapping[str, object] | None = None,
    fresh: bool = False,
    skip_bad: bool = False,
    cluster: str = "",
    prepare: bool = False,
    log: Log = print,
) -> Run:
    """Train a recipe on labelled data, or on simulated data if none are given, and score it on held-out samples.

    recipe: a name, a TOML file or a Recipe. data: a path; a pandas or polars frame; an array (sample, position) or (sample,
    channel, position) with one of `labels` per sample; for forecasts an xarray object or an array (time, row, column). The run
    keeps a copy of data passed in memory. labels: an array (sample,) of classes, (sample, target) of numbers or (sample, label)
    of 0 and 1; or the name of a column, or of several of a frame. groups: an array, or the name of a column. out: the run's
    folder, runs/RECIPE or runs/RECIPE-quick by default. fresh: delete the run in that folder first. Repeating the call resumes
    where the last one
    stopped and gives bit-identical results. If only combination or evaluation changed, the trained members are reused.
    cluster: where members are fitted, each fold's by themselves: local:4 for processes here, or a Dask scheduler's address or
    .json file; with the same number of threads results are the same bits. prepare: only read and split the data and prepare
    every fold, so that `fit` can fit each unit elsewhere; the call without it then scores.
    """
    chosen = resolve(recipe, quick=quick, overrides={**_named(data, labels, groups), **(overrides or {})}, skip_bad=skip_bad)
    chosen = _with_matrix(chosen, labels).with_({"tune": {}})
    chosen = chosen if is_path(data) else chosen.with_({"data.layout": "auto"})
    folder = Path(out or Path("runs") / (f"{chosen.name}-quick" if quick else chosen.name))
    if cluster and prepare:
        raise UserError("--prepare: is for units that are fitted one by one; leave out --cluster")
    with clusters.connected(cluster) if cluster else nullcontext() as found:
        return _train(chosen, data, folder, (labels, groups), fresh=fresh, log=log, fit=partial(_fit, found, prepare))


_Named = tuple[ArrayLike | None, ArrayLike | None]  # labels and groups: arrays, or names of columns


_Fit = Callable[["Training", str, Log], bool]  # of a source; whether everything is fitted


def _train(recipe: Recipe, data: Data, out: Path, words: _Named, *, fresh: bool, log: Log, fit: _Fit) -> Run:
    check(recipe)
    device.make_deterministic()
    path = str(data) if is_path(data) else ""
    if fresh:
        check_fresh(out, [Path(s).expanduser() for s in (path, *_named_in(recipe)) if s])
    if fresh and path:
        check(recipe, path)  # report problems with the data before deleting the old run
    task = tasks.task_of(recipe)
    with (
        _disk_errors(out, "no partial file was left; fix this and repeat the same command to resume"),
        lock_folder(out, fresh=fresh),
    ):
        begun = (out / "fold0").exists()
        with distributed.main_process_first():
            source = _source(recipe, data, out, words, log)
            with _unkept(None if is_path(data) else Path(source), out):
                training = task.begin(recipe, source, RunFolder(out), simulated=is_path(data) and not path)
        if not (out / "scores.json").exists():
            if is_main_process() and begun:
                log(f"{out}: resuming where the last training stopped")
            training.keep_parts()
            if not fit(training, source, log):
                return Run(out)
            training.evaluate()
    if is_main_process():
        log(describe_scores(RunFolder(out)))
    return Run(out)


def _fit(cluster: clusters.Cluster | None, prepare: bool, training: Training, source: str, log: Log) -> bool:
    """Fit the units of a training here or on a cluster, or only prepare its folds; returns whether all units are fitted."""
    if cluster:
        leader.fit_on(cluster, training, source, log)
    elif prepare:
        for fold in dict.fromkeys(unit.fold for unit in training.units):
            training.prepare(fold)
        folder, count = training.run.folder, len(training.units)
        log(f"{folder}: {plural(count, 'unit')} to fit, each by `wavefold unit {folder} NUMBER`, from 0 to {count - 1}")
        return False
    else:
        fitting.fit_units(training)
    return True


@stop_on_signals()
def fit(run: RunFolder, name: str, *, data: str = "", log: Log = print) -> Path:
    """Fit one unit of a run that `train(prepare=True)`, or any training, has begun; returns the unit's folder.

    name: fold0/member1, or its number in the order of `units`. data: the run's data, if they were moved. Resumes where it
    stopped; a unit that is done stays as it is. UserError if another process is fitting it.
    """
    unit, source = fitting.find_unit(units(run), name), data or run.source
    if unit.done:
        log(f"{unit.name}: is fitted already")
        return unit.folder
    with _disk_errors(unit.folder, "no partial file was left; fix this and repeat the same command to resume"):
        fitting.fit_alone(run, source, unit)
    log(f"{unit.name}: fitted, in {unit.folder}")
    return unit.folder


def units(run: RunFolder) -> list[Unit]:
    """The units of a run: its members in every fold, and the baselines that are fitted."""
    return fitting.units_of(run)


@stop_on_signals()
def tune(
    recipe: Recipe | str | Path,
    data: str | Path,
    *,
    out: str | Path = "",
    minutes: float | None = None,
    trials: int = 30,
    quick: bool = False,
    overrides: Mapping[str, object] | None = None,
    skip_bad: bool = False,
    cluster: str = "",
    log: Log = print,
) -> Path:
    """Search the ranges of a recipe's [tune]; returns the file of the best recipe, which `train` takes.

    data: a path. Each trial is a run in the folder `out`, by default runs/RECIPE-tune; the validation part chooses, the test
    part is not scored. minutes, trials: when to end, whichever comes first. cluster: as in `train`; one trial for each worker.
    Repeating the call goes on where the last one stopped.
    """
    chosen = resolve(recipe, quick=quick, overrides=overrides, skip_bad=skip_bad)
    check(chosen)
    tuning.check_ranges(chosen)
    device.make_deterministic()
    folder = Path(out or Path("runs") / f"{chosen.name}-tune")
    with (
        clusters.connected(cluster) if cluster else nullcontext() as found,
        _disk_errors(folder, "no partial file was left; fix this and repeat the same command to resume"),
    ):
        return tuning.tune_recipe(tuning.Plan(chosen, str(data), folder, trials, minutes, found, log))


def _source(recipe: Recipe, data: Data, out: Path, words: _Named, log: Log) -> str:
    """The path of the data: as given, simulated into the run's folder, or a copy there of data passed in memory."""
    if is_path(data):
        return str(data) or _simulated(out / "simulated", recipe, log)
    with tempfile.TemporaryDirectory(dir=out, prefix=".data.", suffix=".part") as folder:
        groups = None if isinstance(words[1], str) else words[1]
        made = write_data(data, Path(folder), _columns(recipe, data, words[0]), groups, series=tasks.task_of(recipe).series)
        kept = out / made.name
        if kept.exists() and kept.read_bytes() != made.read_bytes():
            raise UserError(f"{out}: holds a run of other data; pass fresh=True to replace it, or choose another out")
        if is_main_process():
            os.replace(made, kept)
    return str(kept)


@contextmanager
def _unkept(copy: Path | None, out: Path) -> Iterator[None]:
    """Remove the copy of data in memory if no run begins with it, so that corrected data are not taken for other data."""
    try:
        yield
    except BaseException:
        if copy is not None and is_main_process() and not (out / "run.json").exists():
            copy.unlink(missing_ok=True)
        raise


def _named(data: Data, labels: ArrayLike | None, groups: ArrayLike | None) -> dict[str, object]:
    """The overrides for labels and groups that are names of columns, or for an array of groups."""
    named: dict[str, object] = {"data.label": labels} if isinstance(labels, str) else {}
    if columns := _column_names(data, labels):
        named = {"data.targets": columns}
    if isinstance(groups, str):
        return {**named, "split.group": groups}
    return named if groups is None else {**named, "split.group": "group"}


def _column_names(data: Data, labels: ArrayLike | None) -> list[str]:
    """The labels, if they are the names of several columns of a frame; else none."""
    names = [name for name in labels if isinstance(name, str)] if isinstance(labels, list | tuple) else []
    return names if is_frame(data) and isinstance(labels, list | tuple) and len(names) == len(labels) else []


def _with_matrix(recipe: Recipe, labels: ArrayLike | None) -> Recipe:
    """The recipe for labels that are an array: each of its columns becomes a column of the data."""
    if labels is None or isinstance(labels, str) or np.ndim(labels) < 2:
        return recipe
    return recipe.with_({"data.targets": list(tasks.task_of(recipe).columns_of(recipe, labels))})


def _columns(recipe: Recipe, data: Data, labels: ArrayLike | None) -> dict[str, ArrayLike]:
    """The columns of labels that are an array; none if they are names."""
    if labels is None or isinstance(labels, str) or _column_names(data, labels):
        return {}
    return tasks.task_of(recipe).columns_of(recipe, labels)


@contextmanager
def _as_path(recipe: Recipe, data: Data, labels: ArrayLike | None = None) -> Iterator[str]:
    """The path of the data; data passed in memory are written to a temporary folder."""
    if is_path(data):
        yield str(data)
        return
    with tempfile.TemporaryDirectory(prefix="wavefold-") as folder:
        yield str(write_data(data, Path(folder), _columns(recipe, data, labels), series=tasks.task_of(recipe).series))


def look(recipe: Recipe | str | Path, source: str, *, out: Path) -> Path:
    """Write a page that describes the data before any training: counts, classes, statistics, samples, defects."""
    recipe = resolve(recipe)
    check(recipe)
    _check_page(out)
    _check_out(out, [source, recipe.data.test])
    page = tasks.task_of(recipe).explore(recipe, source)
    with _disk_errors(out, "no partial file was left"):
        write_page(out, page)
    return out


def report(run: RunFolder, *, out: Path | None = None, data: str = "", warn: Log = print) -> Path:
    """Write a page about a run: scores, learning curves, errors, explanations, limits, how to reproduce it.

    out: by default report.html in the run's folder. data: path of the run's data, if they were moved. warn: receives a line
    if the page has no samples because the data are missing.
    """
    recipe, target = tasks.recipe_of(run), out or run.folder / "report.html"
    _ = run.scores
    _check_page(target)
    _check_out(target, [data or run.source], run)
    page = tasks.task_of(recipe).report(run, recipe, data, warn)
    with _disk_errors(target, "no partial file was left"):
        write_page(target, page)
    return target


def _check_page(out: Path) -> None:
    """Raise UserError, before any work, if the page's name does not end in .html or is a folder."""
    if out.suffix.lower() not in PAGES:
        raise UserError(f"{out}: a page is an .html file; choose one with --out")
    if out.is_dir():
        raise UserError(f"{out}: is a folder; choose a file with --out")


def _check_out(out: str | Path, sources: Sequence[str], run: RunFolder | None = None) -> None:
    """Raise UserError, before any work, if the output is an input file, a file of the run or its training data."""
    if out == "-":
        return
    trained_on = [run.source, *_named_in(tasks.recipe_of(run))] if run else []
    read = [file for source in (*sources, *trained_on) if source for file in files_read(source)]
    check_output(out, [*(Path(s).expanduser() for s in sources if s), *read], run.folder if run else None)


def _named_in(recipe: Recipe) -> list[str]:
    """The files and folders that the recipe itself names; '' for each one not named."""
    return [recipe.data.test, recipe.data.backgrounds, recipe.data.digits]


def export(run: RunFolder, *, out: Path, member: int | None = None, log: Log = print) -> Path:
    """Export a run as one ONNX file, from raw samples to predictions or from raw frames to forecast frames.

    The file is checked against torch on real samples before it gets its final name. member: export only this one.
    """
    recipe, _ = tasks.recipe_of(run), run.scores
    _check_out(out, [run.source], run)
    with _disk_errors(out, "no partial file was left"):
        log(tasks.task_of(recipe).export(run, recipe, out, member=member, log=log))
    return out


def serve(run: RunFolder, *, host: str, port: int, log: Log = print) -> None:
    """Serve a run's predictions over HTTP until stopped."""
    server.check_server()
    recipe, _ = tasks.recipe_of(run), run.scores
    server.run_server(server.new_app(tasks.task_of(recipe).served(run, recipe, log=log), server.Limits()), host, port, log=log)


def predict(
    run: RunFolder, data: Data, *, out: str | Path = "", size: int = 512, skip_bad: bool = False, warn: Log = print
) -> Predicted:
    """Predict every sample of a source, in order, or forecast the frames after the end of every segment.

    data: as in `train`, without labels; in a folder, its only test file is used, or else its training file. out: a file for the
    predictions, "-" for standard output, "" for none. size: batch size. skip_bad: skip samples that cannot be read. warn:
    receives a line for each skipped sample. Returns the task's predictions (`Predictions`, `Forecasts`).
    """
    recipe, _ = _recipe_for(run, data, skip_bad), run.scores
    task, target, source = tasks.task_of(recipe), str(out), str(data) if is_path(data) else ""
    if target:
        task.check_target(target)
        _check_out(target, [source], run)
    with _as_path(recipe, data) as path:
        predictions = task.predict(run, recipe, path, size=size, warn=warn)
    if target:
        with _disk_errors(Path(target), "no partial file was left"):
            predictions.write(target)
    return predictions


def predict_file(
    run: RunFolder, source: str | Path, *, out: str | Path, size: int = 512, skip_bad: bool = False, warn: Log = print
) -> int:
    """Predict every sample of a source into a file; returns how many. Arguments and file are those of `predict`.

    A large source is predicted part by part, so that memory does not grow with its rows: the parts lie in the folder
    OUT.parts until all are there, and the same call goes on after a kill. A spreadsheet or an .npz is still made in memory.
    """
    recipe, _ = _recipe_for(run, source, skip_bad), run.scores
    task, target = tasks.task_of(recipe), str(out)
    task.check_target(target)
    _check_out(target, [str(source)], run)
    with _disk_errors(Path(target), "no partial file was left; repeat the same command to go on"):
        return task.predict_file(run, recipe, str(source), target, size=size, warn=warn)


def _recipe_for(run: RunFolder, data: Data, skip_bad: bool) -> Recipe:
    """A run's recipe for other data; UserError if its task has no samples to skip."""
    recipe = tasks.recipe_of(run)
    if skip_bad and tasks.task_of(recipe).series:
        raise UserError("--skip-bad: applies only to labelled samples; frames may have missing cells without it")
    return recipe.with_({"data.skip_bad": skip_bad, **({} if is_path(data) else {"data.layout": "auto"})})


@stop_on_signals()
def search(
    run: RunFolder | None,
    scans: Sequence[str],
    *,
    out: str,
    page: str | Path = "",
    size: int = 512,
    cluster: str = "",
    warn: Log = print,
    **how: object,
) -> Sequence[Candidate]:
    """Search the six scans of a cadence, filterbank files in time order, for lines; writes them to `out`, best first.

    run: is asked for its probability that a line is a needle, which stands beside it; None to search without. warn: receives
    lines on what was taken as ON and OFF, on what was searched, on scans that do not share one clock. how: drift (Hz/s, 4),
    false_alarms (candidates of noise to expect at most, .1), threshold (minimum probability, 0), on (source name of the ON
    scans), pictures and cutouts (in folders `<stem of out>_pictures` and so on), mask (a CSV of frequencies to leave out),
    product (of several polarisations, "1" for the first, and so on, or "sum" for the first two), ignore_names (search although
    source names contradict the order of the scans). More than six scans, or a pattern: every cadence among them. page: an .html
    file to look through the candidates, with pictures, and to say which are needles; the folder `<stem of out>_windows` then
    holds windows to learn from. cluster: as in `train`; its workers search parts of the scans. The same call goes on where the
    last one stopped.
    """
    check_suffix(out)
    _check_out(out, scans, run)
    pictures = dict[str, bytes]()
    if page:
        _check_page(Path(page))
        _check_out(page, scans, run)
        if out == "-":
            raise UserError(f"{page}: a page needs files beside the candidates; give --out a file name")
        how["show"] = pictures.__setitem__
    searching = _searching(run, size)
    with (
        _disk_errors(Path(out), "repeat the same command to go on"),
        clusters.connected(cluster) if cluster else nullcontext() as found,
    ):
        if found:
            scans, how["each"] = [str(Path(scan).expanduser().absolute()) for scan in scans], on_workers.EachOn(found, warn)
        rows = searching(scans, out=out, warn=warn, **how)
        if page:
            write_candidates_page(page, rows, pictures, out=out, labels=folder_beside(out, "windows") / "train_labels.csv")
    return rows


def _searching(run: RunFolder | None, size: int) -> Callable[..., Sequence[Candidate]]:
    """The search of an installed domain, or of a run's, with the run's probabilities."""
    if run is None:
        searching = next((domain.search for domain in all_domains().values() if domain.search), None)
        if searching is None:
            raise UserError("no installed domain searches scans")
        return partial(searching, None, None)
    domain, metadata = domain_of(tasks.recipe_of(run).data.simulator), run.metadata
    if domain.search is None:
        raise UserError(f"{run.folder}: a run of {domain.words.sample[1]} takes one file or folder, not scans")
    _ = run.scores

    def predict_windows(windows: Lazy) -> NDArray[np.float64]:
        ids = np.arange(len(windows)).astype(np.str_)
        return inference.predictions_for(run, Dataset(windows, ids, classes=metadata.classes, source="windows"), size)[:, -1]

    members = [member.model_dump() for member in tasks.recipe_of(run).member]
    return partial(domain.search, predict_windows, metadata, members=members)


def is_scan(path: str) -> bool:
    """Whether a file is a scan, several of which a domain searches together."""
    return any(domain.searches is not None and domain.searches(path) for domain in all_domains().values())


def score(
    run: RunFolder,
    data: Data,
    *,
    labels: ArrayLike | None = None,
    size: int = 512,
    skip_bad: bool = False,
    warn: Log = print,
    by: Sequence[str] = (),
) -> Scored:
    """Score a run on labelled data or on frames: the recipe's metric with a 95 % interval, and the other applicable ones.

    data, labels: as in `train`. by: columns of the source; samples are also scored separately for each value. skip_bad: skip
    samples that cannot be read. warn: receives a line for each skipped sample, and one if the run was trained on samples of the
    source.
    """
    recipe, _ = _recipe_for(run, data, skip_bad), run.scores
    task = tasks.task_of(recipe)
    if by and task.series:
        raise UserError("--by: applies only to labelled samples; forecasts are scored by lead time")
    with _as_path(recipe, data, labels) as path:
        return task.score(run, recipe, path, size=size, warn=warn, by=by)


def simulate(recipe: Recipe | str | Path, folder: str | Path, *, count: int, seed: int = 0) -> Path:
    """Write simulated samples in the file layout of the recipe's real data; returns the file."""
    recipe, folder = resolve(recipe), Path(folder)
    check(recipe)
    with _disk_errors(folder, "no partial file was left"):
        return tasks.task_of(recipe).simulate(recipe, folder, count=count, seed=seed)


def pack(
    source: str,
    folder: str | Path,
    *,
    recipe: Recipe | str | Path | None = None,
    workers: int = 0,
    skip_bad: bool = False,
    warn: Log = print,
) -> Packed:
    """Write the samples of a source as training maps them, or add them to a folder that holds some; resumes when repeated.

    The folder then is a source like any other, and gives the same runs to the bit. recipe: how the source is read, and which of
    its columns are targets or groups, if it does not go without saying. workers: processes, 0 for one per processor. skip_bad:
    leave out samples that cannot be read. warn: receives the reader's notes, and a line for each sample left out.
    """
    if recipe is None:
        run = partial(pack_samples, source, how=How(skip_bad=skip_bad))
    else:
        chosen = resolve(recipe, skip_bad=skip_bad)
        check(chosen)
        run = partial(tasks.task_of(chosen).pack, chosen, source)
    with _disk_errors(Path(folder), "repeat the same command to go on"):
        packed = run(folder=Path(folder), workers=workers)
    for note in packed.notes:
        warn(f"{source}: {note}")
    for name, why in packed.left_out:
        warn(f"left out {name}: {why}")
    return packed


def describe_scores(run: RunFolder) -> str:
    """Format the scores of a run as a table: the ensemble, its members, the baselines."""
    return f"{run.metadata.recipe}: {tasks.task_of(tasks.recipe_of(run)).table(run.scores)}\nrun: {run.folder}"


def _simulated(folder: Path, recipe: Recipe, log: Log) -> str:
    """Simulate samples into the run's own folder, in the layout of real data; done once, atomically."""
    if not folder.exists() and is_main_process():
        log(f"no --data: simulating {plural(recipe.data.count, 'sample')} into {folder}")
        part = folder.with_name(".simulated.part")
        shutil.rmtree(part, ignore_errors=True)  # left by a killed process
        simulate(recipe, part, count=recipe.data.count, seed=recipe.seed)
        os.replace(part, folder)
    return str(folder)


@contextmanager
def _disk_errors(folder: Path, rest: str) -> Iterator[None]:
    """Report a full or read-only disk as one line with advice."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.errno not in NO_ROOM:
            raise
        raise UserError(f"{error.filename or folder}: {os.strerror(error.errno)}; {rest}") from None
