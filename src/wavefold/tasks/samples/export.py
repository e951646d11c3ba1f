"""Export a run as one ONNX file, from raw signals to predictions, verified against torch before the file is created."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wavefold.core import version
from wavefold.core.errors import UserError
from wavefold.core.records import RunInfo
from wavefold.core.registry import pick
from wavefold.core.run import RunFolder
from wavefold.data import SIMULATORS, test_files
from wavefold.data.dataset import Dataset, Floats
from wavefold.export.onnx import OnnxModel, check_onnx, words_of
from wavefold.export.verified import Exported, write_verified
from wavefold.models import MODELS
from wavefold.recipe import Recipe
from wavefold.tasks.base import recipe_of
from wavefold.tasks.samples.ensemble_module import ensemble_module
from wavefold.tasks.samples.inference import predictions_for
from wavefold.tasks.samples.reading import read_like
from wavefold.tasks.samples.target import target_of

Log = Callable[[str], None]
Values = NDArray[np.floating]

_CLOSE = 1e-5  # largest allowed difference from torch in a probability
_ROWS = 512  # compared at most
_ODD = 1, 7  # further batch sizes: the result must not depend on the batch


def export_run(run: RunFolder, out: str | Path, *, member: int | None = None, log: Log = print) -> Exported:
    """Write a run as one ONNX file: `signals` (sample, channel, ...) float32 to `probabilities` (sample, class) float32.

    A task that does not predict probabilities names its output otherwise. The file includes preparation, all folds,
    combination and calibration; for a single member (its number in the recipe), only preparation and folds. It is written once
    ONNX Runtime matches torch to 1e-5 of the task's scale on up to 512 rows of the run's source, or on simulated rows if the
    source is gone, which is reported through `log`. UserError if they do not match, or if a member cannot be exported.
    """
    check_onnx(out)
    recipe, info = recipe_of(run), run.metadata
    target = target_of(recipe)
    net = ensemble_module(run, recipe, members=None if member is None else [member])
    signals, real = _rows(recipe, info, run.source, log)
    expected = predictions_for(run, Dataset(signals, np.arange(len(signals)).astype(np.str_)), member=member)

    def compare(model: OnnxModel) -> float:
        difference = _difference(model, signals, expected, target.scale_of(expected))
        if not difference <= _CLOSE:
            raise UserError(
                f"{out}: ONNX Runtime differs from torch by {difference:.1e} in {target.difference_words}, more than "
                f"{_CLOSE:.0e}: no file was written; export members one by one with --member to find the cause"
            )
        return difference

    example, names = torch.from_numpy(signals[:1].repeat(2, axis=0)), (["signals"], [target.output])
    made = write_verified(Path(out), net, [example], compare, names=names, metadata=_metadata(run, recipe, member))
    rows = f"{len(signals)} {'real' if real else 'simulated'} row{'s' if len(signals) != 1 else ''}"
    return Exported(Path(out), made[0], target.difference_unit, rows, _contents(recipe, info, member), made[1])


def _rows(recipe: Recipe, info: RunInfo, source: str, log: Log) -> tuple[Floats, bool]:
    """Up to 512 samples (sample, channel, ...), from the test file, the source or the simulator; and whether they are real."""
    try:
        tests = test_files(source)
        dataset = read_like(recipe, str(tests[0]) if tests else source, info)
        return _some(dataset), not info.simulated
    except (UserError, OSError) as error:
        make = pick(SIMULATORS, recipe.data.simulator, "data.simulator")
        log(f"{source}: cannot be read again ({error}); comparing on simulated samples instead")
        return _some(make(64, recipe.seed, shape=info.shape, classes=target_of(recipe).classes_of(info.classes))), False


def _some(dataset: Dataset) -> Floats:
    """At most 512 samples, spread evenly over a dataset."""
    index = np.unique(np.linspace(0, len(dataset) - 1, min(_ROWS, len(dataset))).astype(np.int64))
    return np.ascontiguousarray(dataset.take(index).signals[:], np.float32)


def _difference(model: OnnxModel, signals: Floats, expected: Values, scale: Values) -> float:
    """The largest difference in units of `scale`, over batches of all rows, of one row and of an odd number of rows."""
    answers = [model.predict(signals), *(model.predict(signals[:few]) for few in _ODD)]
    return max(float((np.abs(answer - expected[: len(answer)]) / scale).max()) for answer in answers)


def _contents(recipe: Recipe, info: RunInfo, member: int | None) -> str:
    """Describe the contents of the file in words."""
    chosen = [recipe.member[n].model for n in (range(len(recipe.member)) if member is None else [member])]
    nets = sum(model in MODELS for model in chosen)
    parts = [f"{nets} net{'s' * (nets > 1)}"] if nets else []
    parts += [_WORDS.get(model, model) for model in chosen if model not in MODELS]
    folds = info.folds
    return f"{_joined(parts)}, {folds} fold{'s' * (folds > 1)}"


_WORDS = {"kernels": "kernel features", "dedoppler": "the drift search", "logistic": "logistic regression"}


def _joined(words: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


def _metadata(run: RunFolder, recipe: Recipe, member: int | None) -> dict[str, str]:
    """Metadata of the file; lists are encoded as JSON."""
    info, scores = run.metadata, run.scores
    fields = {
        "title": f"wavefold {recipe.name}",
        "task": recipe.kind,
        "wavefold": version.__version__,
        "recipe": recipe.toml(),
        "classes": words_of(list(info.classes)),
        "shape": words_of(list(info.shape)),
        "unit": info.unit,
        "axis": words_of(None if info.axis is None else list(info.axis)),
        "folds": str(info.folds),
        "decision": recipe.combine.decide,
        "simulated": words_of(info.simulated),
        "run": run.digest,
        **({"units": words_of(list(info.units))} if info.units else {}),
    }
    if member is not None:
        return fields | {"member": f"{member} {recipe.member[member].model}, before combination and calibration"}
    value, low, high = scores.score.measure(recipe.output.metric)
    score = {"value": value, "interval": [low, high], "n": scores.n, "per": scores.per}
    beside = {row.name: row.value(recipe.output.metric) for row in scores.baselines}
    return fields | {"metric": recipe.output.metric, "score": words_of(score), "baselines": words_of(beside)}
