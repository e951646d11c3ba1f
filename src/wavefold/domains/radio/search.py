"""Search of a full observation: classify sliding windows over all coarse channels, merge detections, draw candidates."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavefold.core.errors import DataError, UserError, plural
from wavefold.core.process import is_main_process
from wavefold.core.progress import Progress
from wavefold.core.records import RunInfo
from wavefold.data.dataset import Floats, Ints
from wavefold.data.lazy import Lazy, row_blocks
from wavefold.domains.radio.cadence import ON, PANELS
from wavefold.domains.radio.candidates import Candidate, write_candidates
from wavefold.domains.radio.dedoppler import MOST
from wavefold.domains.radio.needles import STEEPEST
from wavefold.domains.radio.observation import Observation, cut_windows, finite_windows, open_observation, window_starts
from wavefold.domains.radio.one_clock import Line, on_off_lines
from wavefold.domains.radio.picture import Axes, Track, draw_cadence
from wavefold.domains.radio.pointing import sources_note

Predict = Callable[[Lazy], NDArray[np.float64]]  # windows (window, 6, time, frequency) -> (window,) probabilities of a needle
Log = Callable[[str], None]

_BEYOND = 1.2  # factor in S/N by which a line steeper than those searched must be better
_WIDE = 2.0  # fine channels per row beyond which no steeper lines are tried
_NEAR = 4  # maximum distance between two tracks of one line, in fine channels
PICTURES = 50
_OURS = re.compile(r"\d\d_\d+\.\d{6}MHz\.png")  # file names of pictures; no other file is deleted


@dataclass(frozen=True)
class Found:
    """A window with a detected needle, and its track in fine channels of the file and rows of the observation's clock."""

    score: float
    snr: float
    channel: float  # at the first row of the first panel
    drift: float  # fine channels per row
    coarse: int
    windows: int = 1
    everywhere: bool = False  # whether it belongs to a line that is in OFF as well
    at_limit: bool = False  # whether its drift is at or beyond the steepest that the run was made to find


def search_scans(
    predict: Predict,
    metadata: RunInfo,
    scans: Sequence[str],
    *,
    out: str,
    threshold: float = 0.5,
    warn: Log = print,
    members: Sequence[Mapping[str, object]] = (),
    product: str = "",
    ignore_names: bool = False,
) -> list[Candidate]:
    """Search six scans, given as files in time order; write candidates to `out`, with pictures of the best ones beside it.

    predict: the run's probability of a needle in each given window. metadata: the run's shape and classes. out: "-" is
    standard output, without pictures. warn: receives a line for each limitation of the search. members: the run's, as in its
    recipe. product: of several polarisations, "1" for the first, and so on, or "sum". ignore_names: search although the source
    names of the scans contradict their order.
    """
    observation = open_observation(scans, product=product, ignore_names=ignore_names)
    steepest = steepest_of(members)
    found = search_observation(predict, metadata, observation, threshold=threshold, warn=warn, steepest=steepest)
    candidates = candidates_of(found, observation)
    write_candidates(out, candidates)
    if out != "-":
        draw_candidates(pictures_folder(out), found, observation, metadata.shape[2], warn=warn)
    return candidates


def search_observation(
    predict: Predict,
    metadata: RunInfo,
    observation: Observation,
    *,
    threshold: float = 0.5,
    warn: Log = print,
    steepest: float = STEEPEST,
) -> list[Found]:
    """Find all needles in an observation with a run; returns merged detections, the best first.

    predict: the run's probability of a needle in each given window. metadata: the run's shape and classes. steepest: the
    largest drift in fine channels per row that the run finds, in either direction; half a channel, as in the simulator, is
    0.08 Hz/s for rows of 18 s and channels of 2.8 Hz. threshold: minimum probability of a window. warn: receives lines on
    what was taken as ON and OFF, on that limit and the lines that reach it, on scans that are not on one clock, and on windows
    with non-finite values, which are skipped.
    """
    shape = check_scans(metadata, observation)
    warn(sources_note(observation.scans))
    for note in dict.fromkeys(scan.note for scan in observation.scans if scan.note):
        warn(note)
    most = "half a fine channel" if steepest == STEEPEST else f"{steepest:g} fine channels"
    wider = "; a run trained with member dedoppler and drift=8 searches wider" if steepest == STEEPEST else ""
    warn(f"searching drift rates of up to {abs(observation.drift(steepest)):.3g} Hz/s ({most} per row){wider}")
    if not observation.on_one_clock:
        warn(
            "according to tstart, scans overlap or are far apart; they are searched as if contiguous, so drift and frequency "
            "of a line hold within one scan and not over the gaps"
        )
    lines = find_lines(observation, shape[2], predict, threshold=threshold, warn=warn, steepest=steepest)
    found = merge(lines, observation.starts, shape[1])
    if others := sum(one.everywhere for one in found):
        were = ("line that is in OFF scans as well was", "lines that are in OFF scans as well were")
        warn(f"{plural(others, *were)} left out")
        found = [one for one in found if not one.everywhere]
    if steep := sum(one.at_limit for one in found):
        wider = f'; train with a member {{model="dedoppler", drift={min(4 * steepest, MOST):g}}} to search wider'
        more = wider if steepest < MOST else ""
        lines_are = plural(steep, "line is", "lines are")
        warn(f"{lines_are} at or beyond the steepest drift searched (at_limit is 1), where others are missed{more}")
    return found


def steepest_of(members: Sequence[Mapping[str, object]]) -> float:
    """The largest drift, in fine channels per row, that a run's members find: `drift` of dedoppler, else the simulator's."""
    drifts = [float(drift) for member in members if isinstance(drift := member.get("drift"), int | float)]
    return max(drifts, default=STEEPEST)


def check_scans(metadata: RunInfo, observation: Observation) -> tuple[int, int, int]:
    """The window shape a run was trained on; UserError if it is not a cadence shape or does not fit the scans."""
    shape, name = metadata.shape, observation.scans[0].path.name
    if len(shape) != 3 or shape[0] != PANELS or len(metadata.classes) != 2:
        kind = f"{' x '.join(map(str, shape))} values in {len(metadata.classes)} classes"
        raise UserError(
            f"{name}: searching six scans needs a run trained on cadences with two classes; this run was trained on {kind}"
        )
    _, rows, channels = observation.shape
    if rows != shape[1]:
        raise UserError(
            f"{name} has {rows} row{'s' if rows != 1 else ''}, but the run was trained on {shape[1]}; "
            f"simulate and train with --set data.shape=[{PANELS},{rows},{shape[2]}]"
        )
    if channels < shape[2]:
        raise DataError(
            f"{name} has {channels:,} channel{'s' if channels != 1 else ''}; the run needs windows of {shape[2]} channels"
        )
    return shape[0], shape[1], shape[2]


def find_lines(
    observation: Observation,
    width: int,
    predict: Predict,
    *,
    threshold: float = 0.5,
    warn: Log = print,
    steepest: float = STEEPEST,
) -> Iterator[Found]:
    """Yield a track for each window of `width` fine channels to which `predict` gives at least `threshold`, in channel order.

    steepest: as for `search_observation`. Each coarse channel is read once, and only one is in memory at a time.
    """
    every = [window_starts(channels, width) for channels in observation.coarse_channels]
    starts, total, done, lost = observation.starts, sum(map(len, every)), 0, 0
    with Progress("searching", total, "windows") as progress:
        for number, firsts in enumerate(every):
            first, last = int(firsts[0]), int(firsts[-1]) + width
            notify = partial(_notify, progress, done)
            # no other reference to its power, so that only one coarse channel is in memory
            lost += yield from _lines_in(
                _Stretch(number, first, width, observation.read(first, last), starts, steepest),
                firsts,
                predict,
                threshold,
                notify,
            )
            done += len(firsts)
            progress.update(done)
    if lost:
        warn(f"{lost:,} of {total:,} windows {'were' if lost != 1 else 'was'} skipped because of values that are not finite")


def merge(found: Iterable[Found], starts: Sequence[int], rows: int) -> list[Found]:
    """Merge detections of the same line: the best first, each with the number of windows in which it was found.

    Two tracks are the same line if they stay within a few channels of each other throughout one ON panel, since a window may
    contain only part of a line. starts: the clock row at which each panel begins; rows: number of rows in a panel.
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
    """Convert tracks to physical units: MHz at the start of the first ON scan, and Hz/s."""
    return [
        Candidate(
            frequency_mhz=observation.frequency(one.channel),
            drift_hz_s=observation.drift(one.drift) + 0.0,  # no -0
            snr=one.snr,
            score=one.score,
            coarse_channel=one.coarse,
            start_channel=min(max(round(one.channel), 0), observation.shape[2] - 1),
            windows=one.windows,
            at_limit=int(one.at_limit),
        )
        for one in found
    ]


def pictures_folder(out: str | Path) -> Path:
    """The folder for pictures of a candidate file: `<stem>_pictures` beside it."""
    return Path(out).with_name(f"{Path(out).stem}_pictures")


def draw_candidates(folder: Path, found: Sequence[Found], observation: Observation, width: int, *, warn: Log = print) -> int:
    """Draw the best candidates into a folder, replacing pictures of an earlier search; returns the number of pictures.

    warn: receives a line if the plotting package is missing, in which case no pictures are drawn.
    """
    for path in folder.glob("*MHz.png") if is_main_process() else ():
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
    """The power of one coarse channel, from which windows are cut."""

    coarse: int
    origin: int  # its first fine channel
    width: int  # width of a window
    panels: Floats  # (panel, time, channel)
    starts: Sequence[int]  # the clock row at which each panel begins
    steepest: float  # fine channels per row

    def windows(self, firsts: Ints) -> Floats:
        """Windows (window, panel, time, width) by their first fine channels."""
        return cut_windows(self.panels, firsts - self.origin, self.width)


def _lines_in(
    stretch: _Stretch, firsts: Ints, predict: Predict, threshold: float, notify: Callable[[int], None]
) -> Generator[Found, None, int]:
    """Yield tracks of one coarse channel; returns the number of windows with non-finite values. firsts: of all its windows."""
    whole = firsts[finite_windows(stretch.panels, firsts - stretch.origin, stretch.width)]
    shape = (*stretch.panels.shape[:2], stretch.width)

    def load(some: Ints) -> Floats:
        notify(int(np.searchsorted(firsts, some[0])))
        return stretch.windows(some)

    scores = predict(Lazy(load, whole, shape)) if len(whole) else np.empty(0)
    shown = scores >= threshold
    firsts_shown, scores = whole[shown], scores[shown]
    for block in row_blocks(len(scores), values=math.prod(shape)):
        yield from _tracks(stretch, firsts_shown[block], scores[block])
    return len(firsts) - len(whole)


def _notify(progress: Progress, before: int, done: int) -> None:
    progress.update(before + done)


def _tracks(stretch: _Stretch, firsts: Ints, scores: NDArray[np.float64]) -> Iterator[Found]:
    """Yield the track of each window. firsts: (window,) first fine channels."""
    windows = torch.from_numpy(stretch.windows(firsts))
    lines = _lines_of(windows, stretch.starts, stretch.steepest)
    last = stretch.starts[-1] + stretch.panels.shape[1] - 1
    edge = stretch.steepest - 1 / last  # within a column, from the first row to the last, of the steepest
    strongest = on_off_lines(windows, stretch.starts, steepest=2 * stretch.steepest, against=())
    everywhere = (strongest.off > strongest.snr / 2) & _same(lines, strongest, stretch.starts, stretch.panels.shape[1])
    columns = (firsts, scores, lines.column, lines.drift, lines.snr, everywhere)
    for first, score, column, drift, snr, too in zip(*(values.tolist() for values in columns), strict=True):
        yield Found(score, snr, first + column, drift, stretch.coarse, everywhere=too, at_limit=abs(drift) >= edge)


def _same(one: Line, other: Line, starts: Sequence[int], rows: int) -> Tensor:
    """Which lines (window,) stay near those of `other` throughout one ON panel."""
    ends = torch.tensor([[starts[panel], starts[panel] + rows - 1] for panel in ON])
    apart = (one.column - other.column)[:, None, None] + (one.drift - other.drift)[:, None, None] * ends
    return (apart.abs() <= _NEAR).all(2).any(1)


def _lines_of(windows: Tensor, starts: Sequence[int], steepest: float) -> Line:
    """The line of each window (window, 6, time, width), within the drifts searched; of twice as many if that fits far better.

    A line steeper than those searched crosses each panel partly along one of them, elsewhere in each.
    """
    within = on_off_lines(windows, starts, steepest=steepest)
    if steepest > _WIDE:
        return within
    beyond = on_off_lines(windows, starts, steepest=2 * steepest)
    better = beyond.snr > _BEYOND * within.snr
    return Line(*(torch.where(better, there, here) for there, here in zip(astuple(beyond), astuple(within), strict=True)))


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
