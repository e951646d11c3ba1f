"""A whole observation searched: windows slid over every coarse channel, asked of a run, what it says merged and pictured."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wavefold.base.blocks import row_blocks
from wavefold.base.cadence import ON, PANELS
from wavefold.base.dataset import Dataset, Floats, Ints
from wavefold.base.errors import DataError, UserError
from wavefold.base.lazy import Lazy
from wavefold.base.needles import STEEPEST
from wavefold.base.process import leads
from wavefold.base.progress import Progress
from wavefold.base.runs import Run
from wavefold.data.observation import Observation, cut_windows, finite_windows, window_starts
from wavefold.models.one_clock import on_off_lines
from wavefold.output.cadence_picture import Axes, Track, draw_cadence
from wavefold.output.candidates import Candidate
from wavefold.story.asking import probabilities_for

Ask = Callable[[Lazy], NDArray[np.float64]]  # windows (window, 6, time, frequency) -> (window,) probabilities of a needle
Say = Callable[[str], None]

_NEAR = 4  # fine channels that two tracks of one line may differ by
PICTURES = 50
_OURS = re.compile(r"\d\d_\d+\.\d{6}MHz\.png")  # names of pictures, so that nothing else is deleted


@dataclass(frozen=True)
class Found:
    """A window that shows a needle, and its track in fine channels of the file and rows of the observation's clock."""

    score: float
    snr: float
    channel: float  # at the first row of the first panel
    drift: float  # fine channels a row
    coarse: int
    windows: int = 1


def search_observation(
    run: Run, observation: Observation, *, threshold: float = 0.5, size: int = 512, warn: Say = print
) -> list[Found]:
    """All needles that a run finds in an observation, merged, the best first.

    Lines may drift by up to half a fine channel a row either way, as the simulator's needles do: of rows of 18 s and channels
    of 2.8 Hz that is 0.08 Hz/s. threshold: the least probability of a window. size: windows a net is asked at a time. warn:
    takes a line for that limit, for scans that are not on one clock, and for windows with values that are not finite, which
    are passed over.
    """
    shape = check_scans(run.facts, observation)
    warn(f"lines of up to {abs(observation.drift(STEEPEST)):.3g} Hz/s are looked for, half a fine channel a row")
    if not observation.on_one_clock:
        warn("by their tstart the scans overlap or lie more than a scan apart: they are searched as if each followed at once")
    classes = tuple(run.facts["classes"])

    def ask(windows: Lazy) -> NDArray[np.float64]:
        dataset = Dataset(windows, np.arange(len(windows)).astype(np.str_), classes=classes, source="windows")
        return probabilities_for(run, dataset, size)[:, -1]

    return merge(find_lines(observation, shape[2], ask, threshold=threshold, warn=warn), observation.starts, shape[1])


def check_scans(facts: Mapping[str, Any], observation: Observation) -> tuple[int, int, int]:
    """The shape of the windows that a run was trained on; UserError where it is no cadence's or the scans cannot give it."""
    shape, name = facts["shape"], observation.scans[0].path.name
    if len(shape) != 3 or shape[0] != PANELS or len(facts["classes"]) != 2:
        kind = f"{' x '.join(map(str, shape))} values in {len(facts['classes'])} classes"
        raise UserError(
            f"{name}: six scans are searched by a run of cadences, with and without a needle; this one is of {kind}"
        )
    _, rows, channels = observation.shape
    if rows != shape[1]:
        raise UserError(
            f"{name} has {rows} rows; the run learned from {shape[1]}: "
            f"simulate and train with --set data.shape=[{PANELS},{rows},{shape[2]}]"
        )
    if channels < shape[2]:
        raise DataError(f"{name} has {channels:,} channels, fewer than the {shape[2]} of a window that the run learned from")
    return shape[0], shape[1], shape[2]


def find_lines(observation: Observation, width: int, ask: Ask, *, threshold: float = 0.5, warn: Say = print) -> Iterator[Found]:
    """A track for each window of `width` fine channels that `ask` gives at least `threshold`, in the order of the channels.

    Each coarse channel is read once, and only one is held.
    """
    every = [window_starts(channels, width) for channels in observation.coarse_channels]
    starts, total, done, lost = observation.starts, sum(map(len, every)), 0, 0
    with Progress("searching", total, "windows") as progress:
        for number, firsts in enumerate(every):
            first, last = int(firsts[0]), int(firsts[-1]) + width
            tell = partial(_tell, progress, done)
            # its power is named nowhere else, so that only one coarse channel is held
            lost += yield from _lines_in(
                _Stretch(number, first, width, observation.read(first, last), starts), firsts, ask, threshold, tell
            )
            done += len(firsts)
            progress.update(done)
    if lost:
        warn(f"{lost:,} of {total:,} windows hold values that are not finite and were not searched")


def merge(found: Iterable[Found], starts: Sequence[int], rows: int) -> list[Found]:
    """One of each line: the best first, each counting the windows whose tracks are the same line.

    Two tracks are one where they lie within a few channels of each other all through one ON panel: a window that holds a part
    of a line sees it only there. starts: the row of the clock at which each panel begins; rows: of a panel.
    """
    ends = np.array([[starts[panel], starts[panel] + rows - 1] for panel in ON], np.float64)
    kept: list[Found] = []
    places = np.empty((0, *ends.shape))
    for one in sorted(found, key=lambda f: (-f.score, -f.snr, f.channel, f.drift)):
        place = one.channel + one.drift * ends  # (ON panel, end)
        same = np.any(np.all(np.abs(places - place) <= _NEAR, axis=2), axis=1)
        if same.any():
            best = int(np.argmax(same))
            kept[best] = replace(kept[best], windows=kept[best].windows + 1)
        else:
            kept.append(one)
            places = np.concatenate([places, place[None]])
    return kept


def candidates_of(found: Sequence[Found], observation: Observation) -> list[Candidate]:
    """Tracks in the units of the sky: MHz at the start of the first ON scan, Hz/s."""
    return [
        Candidate(
            frequency_mhz=observation.frequency(one.channel),
            drift_hz_s=observation.drift(one.drift) + 0.0,  # no -0
            snr=one.snr,
            score=one.score,
            coarse_channel=one.coarse,
            start_channel=min(max(round(one.channel), 0), observation.shape[2] - 1),
            windows=one.windows,
        )
        for one in found
    ]


def pictures_folder(out: str | Path) -> Path:
    """Where the pictures of a file of candidates go: `<stem>_pictures` beside it."""
    return Path(out).with_name(f"{Path(out).stem}_pictures")


def draw_candidates(folder: Path, found: Sequence[Found], observation: Observation, width: int, *, warn: Say = print) -> int:
    """Write a picture of each of the best candidates into a folder, less an earlier search's; returns how many there are.

    warn: takes a line where the package that draws is missing; candidates are worth having without pictures.
    """
    for path in folder.glob("*MHz.png") if leads() else ():
        if _OURS.fullmatch(path.name):
            path.unlink()
    some = list(zip(found, candidates_of(found, observation), strict=True))[:PICTURES]
    for rank, (one, candidate) in enumerate(some, 1):
        try:
            _draw(folder / f"{rank:02d}_{candidate.frequency_mhz:.6f}MHz.png", one, candidate, observation, width)
        except UserError as error:
            warn(f"no pictures: {error}")
            return 0
    return len(some)


def _draw(path: Path, one: Found, candidate: Candidate, observation: Observation, width: int) -> None:
    first, panels = _stretch(one, observation, width)
    title = (
        f"{candidate.frequency_mhz:.6f} MHz   {candidate.drift_hz_s:+.4f} Hz/s   "
        f"S/N {candidate.snr:.1f}   score {candidate.score:.3f}"
    )
    track = Track(one.channel - first, one.drift, observation.starts)
    draw_cadence(path, panels, title, axes=_axes(observation, candidate), track=track, centre=track.column)


@dataclass(frozen=True)
class _Stretch:
    """The power of one coarse channel, of which windows are cut."""

    coarse: int
    origin: int  # its first fine channel
    width: int  # of a window
    panels: Floats  # (panel, time, channel)
    starts: Sequence[int]  # the row of the clock at which each panel begins

    def windows(self, firsts: Ints) -> Floats:
        """Windows (window, panel, time, width) by their first fine channels."""
        return cut_windows(self.panels, firsts - self.origin, self.width)


def _lines_in(
    stretch: _Stretch, firsts: Ints, ask: Ask, threshold: float, tell: Callable[[int], None]
) -> Generator[Found, None, int]:
    """The tracks of the windows of one coarse channel; returns how many windows are not finite. firsts: of all its windows."""
    whole = firsts[finite_windows(stretch.panels, firsts - stretch.origin, stretch.width)]
    shape = (*stretch.panels.shape[:2], stretch.width)

    def load(some: Ints) -> Floats:
        tell(int(np.searchsorted(firsts, some[0])))
        return stretch.windows(some)

    scores = ask(Lazy(load, whole, shape)) if len(whole) else np.empty(0)
    shown = scores >= threshold
    firsts_shown, scores = whole[shown], scores[shown]
    for block in row_blocks(len(scores), values=math.prod(shape)):
        yield from _tracks(stretch, firsts_shown[block], scores[block])
    return len(firsts) - len(whole)


def _tell(progress: Progress, before: int, done: int) -> None:
    progress.update(before + done)


def _tracks(stretch: _Stretch, firsts: Ints, scores: NDArray[np.float64]) -> Iterator[Found]:
    """The track of each of some windows. firsts: (window,) their first fine channels."""
    lines = on_off_lines(torch.from_numpy(stretch.windows(firsts)), stretch.starts)
    facts = (firsts.tolist(), scores.tolist(), lines.column.tolist(), lines.drift.tolist(), lines.snr.tolist())
    for first, score, column, drift, snr in zip(*facts, strict=True):
        yield Found(score, snr, first + column, drift, stretch.coarse)


def _stretch(one: Found, observation: Observation, width: int) -> tuple[int, Floats]:
    """The first channel and the power around the middle of a track, as wide as a window: (panel, time, channel)."""
    _, rows, channels = observation.shape
    middle = one.channel + one.drift * (observation.starts[-1] + rows) / 2
    first = min(max(round(middle - width / 2), 0), channels - width)
    return first, observation.read(first, first + width)


def _axes(observation: Observation, candidate: Candidate) -> Axes:
    header, day = observation.header, 86400.0
    return Axes(
        step=header.foff * 1e6,
        seconds=header.tsamp,
        starts=[(scan.header.tstart - header.tstart) * day for scan in observation.scans],
        across=f"Hz from {candidate.frequency_mhz:.6f} MHz",
        down="seconds from the start of the first scan",
    )
