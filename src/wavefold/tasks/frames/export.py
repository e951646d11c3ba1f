"""Export a forecasting run as one ONNX file, from frames in their own unit to forecasts in that unit.

Input "frames" is (sample, channel, past, row, column) float32 with NaN for missing values; a blend with a seasonal forecast
takes more past frames than its nets, at least a cycle, of which the first may be NaN. Input "clock", present only if a part
needs it, is (sample, past + ahead) float64 seconds since 1970-01-01 UTC of past and later frames. Output "forecast" is
(sample, target, ahead, row, column) float32 with NaN in cells without any past value. The number of samples is free; rows
and columns are those of the training frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from wavefold.core import version
from wavefold.core.errors import UserError, listed, plural
from wavefold.core.records import RunInfo
from wavefold.core.run import RunFolder
from wavefold.data.dataset import Floats
from wavefold.data.series import Seconds, Series, Windows, later
from wavefold.export.onnx import OnnxModel, check_onnx, words_of
from wavefold.export.verified import Exported, write_verified
from wavefold.models.baseline_module import BaselineModule
from wavefold.recipe import Recipe
from wavefold.tasks.base import recipe_of
from wavefold.tasks.frames.fit import scaling_of, truth_of
from wavefold.tasks.frames.inference import Forecaster, last_fold, load_forecaster, where_seen
from wavefold.tasks.frames.likeness import read_like_run
from wavefold.tasks.frames.reading import sections, windows_in
from wavefold.training.forecast_set import past_of
from wavefold.transforms.frame_scale import FRAME_TRANSFORMS, FrameModule, FrameTransform

_CLOSE = 1e-5  # largest difference from torch, in standard deviations of the later frames
_CLOSE_CARRIED = 1e-2  # the same for single cells after advection, where rounded positions matter at sharp edges
_ROUNDING = 2  # tolerance in float32 steps of the largest value
_CARRIED = ("advection", "spectral", "spectral_matched")
_MOST_WINDOWS, _VALUES = 8, 1 << 23  # windows to verify a file on; values in all of them


class WholeForecaster(nn.Module):
    """Scaling, members, baselines of a blend and their sum in one module, from raw frames, and the clock, to raw forecasts.

    The axes are those of the file, as above. shares: of the nets, then of the baselines, (part, target or 1, lead or 1). past:
    frames of the nets; whole: of the input; seen: of each baseline.
    """

    shares: Tensor

    def __init__(
        self,
        steps: Sequence[FrameModule],
        nets: Sequence[nn.Module],
        baselines: Sequence[BaselineModule],
        shares: Tensor,
        *,
        past: int,
        whole: int,
        seen: Sequence[int],
        ahead: int,
        targets: int,
    ) -> None:
        super().__init__()
        self.steps, self.nets, self.baselines = list(steps), nn.ModuleList(nets), nn.ModuleList(baselines)
        self._kept = nn.ModuleList(steps)  # to register them as submodules
        self.register_buffer("shares", shares)
        self.past, self.whole, self.seen, self.ahead, self.targets = past, whole, list(seen), ahead, targets

    @property
    def needs_clock(self) -> bool:
        """Whether the input `clock` is needed."""
        return any(part.needs_clock for part in (*self.steps, *self.baselines))

    def forward(self, frames: Tensor, clock: Tensor | None = None) -> Tensor:
        seconds = frames.new_zeros(frames.shape[0], self.whole + self.ahead, dtype=torch.float64) if clock is None else clock
        later, own = seconds[:, self.whole :], frames[:, :, self.whole - self.past :]
        scaled = own
        for step in self.steps:
            scaled = step(scaled, seconds[:, self.whole - self.past : self.whole])
        past = past_of(scaled, self.past)
        predicted = [self._undone(net(past).float(), later) for net in self.nets]
        for baseline, count in zip(self.baselines, self.seen, strict=True):
            predicted.append(baseline(frames[:, :, self.whole - count :], later)[:, : self.targets])
        if len(predicted) > 1:
            each = [one.double() * share[..., None, None] for one, share in zip(predicted, self.shares, strict=True)]
            predicted = [torch.stack(each).sum(0).float()]
        never = own[:, : self.targets].isnan().all(dim=2, keepdim=True)
        return torch.where(never, torch.nan, predicted[0])

    def _undone(self, forecast: Tensor, later: Tensor) -> Tensor:
        for step in reversed(self.steps):
            forecast = step.undo(forecast, later)
        return forecast


def forecaster_module(run: RunFolder, recipe: Recipe, *, member: int | None = None) -> WholeForecaster:
    """Build one forecasting module of a run on the CPU. member: only this one; UserError if there is no such member."""
    metadata, (_, windows) = run.metadata, sections(recipe)
    forecaster = Forecaster(run, recipe, metadata.targets)
    chosen = [name for n, name in enumerate(forecaster.names) if n in _chosen(recipe, member)]
    blend = forecaster.blend if member is None else None
    shares = np.ones((1, 1, 1)) if blend is None else blend.weights.swapaxes(1, 2)
    names = chosen if blend is None else list(blend.names)
    baselines = [forecaster.baselines[name] for name in names if name not in chosen]
    step = metadata.step or 0.0
    whole = WholeForecaster(
        [step.module() for step in _learned_steps(run, recipe)],
        [load_forecaster(run, recipe, forecaster.names.index(name), last_fold(run)) for name in names if name in chosen],
        [baseline.module() for baseline in baselines],
        torch.from_numpy(np.array(shares)),
        past=windows.past,
        whole=windows.past if blend is None else forecaster.past_frames(step),
        seen=[max(windows.past, baseline.past_frames(step)) for baseline in baselines],
        ahead=windows.ahead,
        targets=metadata.targets,
    )
    return whole.eval().requires_grad_(False)


def export_forecaster(
    run: RunFolder, out: str | Path, *, member: int | None = None, log: Callable[[str], object] = print
) -> Exported:
    """Write a run, or one of its members, as one ONNX file, after comparing it with torch.

    The comparison uses windows of the run's own frames, or simulated ones if these are gone, which is reported.
    RuntimeError if a forecast differs by more than 1e-5 of the later frames' standard deviation; with start "advection" or
    "spectral" that limit applies to the root mean square, and 1e-2 to each cell. UserError for a path that does not end in
    .onnx, or a member that does not exist.
    """
    check_onnx(out)
    recipe, metadata = recipe_of(run), run.metadata
    whole = forecaster_module(run, recipe, member=member)
    stored = _metadata(run, recipe, member, whole)
    windows, note = _windows_to_check(run, recipe)
    if note:
        log(note)
    if _is_carried(whole):
        log("exporting the motion-based first forecast takes a minute or more")
    examples, inputs = _examples(metadata, whole)
    answers = Forecaster(run, recipe, metadata.targets)
    name = "ensemble" if member is None or len(recipe.member) == 1 else answers.names[member]
    close = _CLOSE_CARRIED if _is_carried(whole) else _CLOSE

    def compare(model: OnnxModel) -> float:
        return _compared(model, answers, name, windows, close, whole.whole)

    made = write_verified(Path(out), whole, examples, compare, names=(inputs, ["forecast"]), metadata=stored)
    chosen = f"{len(windows)} {'simulated' if note else 'real'} window{'s' if len(windows) != 1 else ''}"
    unit = "standard deviations of the later frames"
    return Exported(Path(out), made[0], unit, chosen, plural(len(whole.nets), "net"), made[1])


def clock_of(windows: Windows, past: int) -> Seconds:
    """Times of `past` past and the later frames of windows in seconds, (sample, past + ahead)."""
    last = windows.series.clock(windows.first + windows.past - 1)
    before = later(last[:, None], windows.series.step or 1.0, np.arange(1 - past, 1))
    return np.concatenate([before, windows.clock()], axis=1)


def _chosen(recipe: Recipe, member: int | None) -> list[int]:
    count = len(recipe.member)
    if member is not None and not 0 <= member < count:
        raise UserError(
            f"--member {member}: no such member; the run has member{'s' if count != 1 else ''} {listed(range(count))}"
        )
    return list(range(count)) if member is None else [member]


def _learned_steps(run: RunFolder, recipe: Recipe) -> list[FrameTransform]:
    """Load the recipe's frame transforms as fitted in the run."""
    return scaling_of(recipe).load(run.folder / f"fold{last_fold(run)}" / "prepare.npz").steps


def _is_carried(whole: nn.Module) -> bool:
    """Whether a part of it extrapolates motion."""
    moved = (getattr(part, "start", getattr(part, "name", "")) for part in whole.modules())
    return any(name in _CARRIED for name in moved)


def _examples(metadata: RunInfo, whole: WholeForecaster) -> tuple[list[Tensor], list[str]]:
    """Two example samples for each input, and the input names."""
    channels, rows, columns = metadata.shape
    frames = torch.zeros(2, channels, whole.whole, rows, columns)
    seconds = torch.zeros(2, whole.whole + whole.ahead, dtype=torch.float64)
    return ([frames, seconds], ["frames", "clock"]) if whole.needs_clock else ([frames], ["frames"])


def _metadata(run: RunFolder, recipe: Recipe, member: int | None, whole: WholeForecaster) -> dict[str, str]:
    """Metadata of the file; lists, numbers and mappings are encoded as JSON."""
    info, scores, (_, windows) = run.metadata, run.scores, sections(recipe)
    alone = member is not None and len(recipe.member) > 1
    row = scores.members[member] if alone and member is not None else scores.score
    value, *ends = row.measure(scores.metric)
    scaling = [{"step": s.step, **s.options} for s in recipe.prepare if s.step in FRAME_TRANSFORMS]
    lists = {
        "channels": list(info.channels),
        "targets": list(info.channels[: info.targets]),
        "shape": list(info.shape),
        "step": info.step,
        "past": whole.whole,
        "ahead": windows.ahead,
        "scaling": scaling,
        "members": [{"model": recipe.member[n].model, "weight": recipe.member[n].weight} for n in _chosen(recipe, member)],
        "blended": len(whole.baselines),
        "score": value,
        "interval": ends,
        "n": scores.n,
        "baselines": {baseline.name: baseline.value(scores.metric) for baseline in scores.baselines},
        "simulated": info.simulated,
    }
    words = {"kind": "frames", "unit": info.unit, "metric": scores.metric, "recipe": info.recipe}
    words |= {"recipe_toml": run.recipe_text, "wavefold": version.__version__, "run": run.digest}
    if whole.needs_clock:
        words["clock"] = "seconds since 1970-01-01 UTC, as in the frames' source; for frames without times, frame number x step"
    return {**words, **{name: words_of(value) for name, value in lists.items()}}


def _windows_to_check(run: RunFolder, recipe: Recipe) -> tuple[Windows, str]:
    """Some windows of the run's frames; if unavailable, simulated ones and a message with the reason."""
    source = run.source
    try:
        if not Path(source).exists():
            raise UserError(f"{source}: no such file or folder")
        series = read_like_run(recipe, source, run.metadata)
        if series.frames.shape[1:] != run.metadata.shape:
            raise UserError(f"{source}: the size of the frames has changed since training")
        return _some_whole(windows_in(recipe, series)), ""
    except UserError as error:
        return _made_up(run, recipe), f"{error}; verifying on simulated frames of the same shape instead"


def _some_whole(windows: Windows) -> Windows:
    """A few evenly spread windows of whole frames."""
    series, first = windows.series, np.unique(windows.first)
    values = windows.length * int(np.prod(series.frames.shape[1:]))
    count = min(len(first), max(2, min(_MOST_WINDOWS, _VALUES // values)))
    first = first[np.linspace(0, len(first) - 1, count).round().astype(np.int64)]
    none = np.zeros(count, np.int64)
    return replace(windows, first=first, top=none, left=none, size=series.size)


def _made_up(run: RunFolder, recipe: Recipe) -> Windows:
    """Windows of random frames, from 0 to 1 after scaling; one cell in a hundred is missing."""
    metadata, (_, wanted), rng = run.metadata, sections(recipe), np.random.default_rng(0)
    count = wanted.past + wanted.ahead + 1
    frames = rng.random((count, *metadata.shape), np.float32)
    clock = np.arange(count, dtype=np.float64) * float(metadata.step or 1.0)
    for step in reversed(_learned_steps(run, recipe)):
        frames = step.undo(frames, clock)
    frames = np.where(rng.random(frames.shape) < 0.01, np.float32(np.nan), frames)
    start, name = np.zeros(1, np.int64), np.array(["simulated"])
    series = Series(frames, start, name, step=metadata.step or 0.0, channels=metadata.channels, unit=metadata.unit)
    first, none = np.arange(2), np.zeros(2, np.int64)
    return Windows(series, first, none, none, wanted.past, wanted.ahead, series.size)


def _compared(model: OnnxModel, forecaster: Forecaster, name: str, windows: Windows, close: float, frames: int) -> float:
    """The largest difference from torch, in standard deviations of the later frames; RuntimeError if too large.

    frames: past frames of the file's input.
    """
    past, clock = windows.before(frames), clock_of(windows, frames)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # TF32 is less precise than 1e-5
        predicted = np.concatenate([answers[name] for _, answers in forecaster.answers(windows, baselines=False)])
    expected = where_seen(predicted, past[:, : forecaster.targets, frames - windows.past :])
    found = np.concatenate(
        [_requested(model, past[some], clock[some]) for some in (slice(1), slice(1, None)) if len(past[some])]
    )
    (off, usual), spread = _differences(found, expected), _spread(truth_of(windows, forecaster.targets))
    least = _ROUNDING * float(np.spacing(np.float32(np.nanmax(np.abs(expected), initial=0))))
    if not (off <= max(close * spread, least) and usual <= max(_CLOSE * spread, least)):
        raise RuntimeError(
            f"ONNX Runtime differs from torch by up to {off / spread:.1e} standard deviations of the frames, expected "
            f"{close:.0e} at most, and by {usual / spread:.1e} in the root mean square, expected {_CLOSE:.0e}; no file was "
            "written. Export one member with --member, or choose another net or start"
        )
    return off / spread


def _requested(model: OnnxModel, frames: Floats, clock: Seconds) -> Floats:
    predicted: Floats = model.predict(frames, clock) if "clock" in model.inputs else model.predict(frames)
    return predicted


def _differences(found: Floats, expected: Floats) -> tuple[float, float]:
    """The largest and the root mean square difference; infinite if missing cells do not match."""
    if not np.array_equal(np.isnan(found), np.isnan(expected)):
        return float("inf"), float("inf")
    off = found.astype(np.float64) - expected
    off = off[np.isfinite(off)]
    return (float(np.abs(off).max()), float(np.sqrt((off**2).mean()))) if len(off) else (0.0, 0.0)


def _spread(truth: Floats) -> float:
    """The standard deviation of the finite values; 1 if they are constant or there are none."""
    there = truth[np.isfinite(truth)].astype(np.float64)
    return float(there.std()) if len(there) and there.std() > 0 else 1.0
