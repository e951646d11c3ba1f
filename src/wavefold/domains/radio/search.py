"""Search of an observation: lines that drift through its ON scans and are not in OFF, with the false alarms to expect.

`line_search` finds the lines of a stretch of channels. Here stretches are read one after another, noise is measured on the same
files (ON scans shifted against each other; OFF in the place of ON), and a run, if there is one, is asked for its probability.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError, UserError, plural
from wavefold.core.process import is_main_process
from wavefold.core.progress import Progress
from wavefold.core.records import RunInfo
from wavefold.data.dataset import Floats
from wavefold.data.lazy import Lazy
from wavefold.domains.radio.cadence import ON, PANELS, STEEPEST
from wavefold.domains.radio.candidates import Candidate, write_candidates
from wavefold.domains.radio.line_search import (
    COARSE,
    Clock,
    Doubles,
    Lines,
    Noise,
    apart,
    clock_of,
    find,
    joined,
    noise_of,
    residuals,
    rolled,
    unclipped,
    without,
)
from wavefold.domains.radio.night import cadences_of, expanded, read_mask
from wavefold.domains.radio.observation import Observation, cut_windows, open_observation, write_scan
from wavefold.domains.radio.picture import Axes, Track, draw_cadence
from wavefold.domains.radio.pointing import sources_note

Predict = Callable[[Lazy], NDArray[np.float64]]  # windows (window, 6, time, frequency) -> (window,) probabilities of a needle
Log = Callable[[str], None]

DRIFT = 4.0  # Hz/s, either way
FALSE_ALARMS = 0.1  # an observation
PICTURES = 50
_STRETCH = 1 << 15  # channels searched at a time
_FEW = 200  # drift numbers up to which all channels tell the noise, not one stretch in four, and fewer lines are refined
_MOST = 100_000  # drift numbers that are searched
_FAINTEST = 4.0  # S/N below which nothing is a line
_HITS, _COARSEST = 250, 0.05  # lines of noise of an observation that are refined, and of a channel at most
_REPEATS = 8  # times that the scans of a narrow observation are rolled, at most
_SURE = 5.5  # S/N from which a line is kept out of the noise that is measured
_BEYOND = 1.2  # factor in S/N by which a line beyond the drifts searched must be better
_GLARING = 20.0  # S/N of a line beside which others hide: what crosses a third of it stands out by itself
_AROUND, _LOOKS = 16, 200  # channels beside such a line that are looked at again, and beside how many
_BRIGHT, _EDGES = 8.0, 20  # S/N of lines at the limit for which steeper ones are tried, and how many: the strongest
_SAME = 5e-4  # MHz within which interference of another cadence is the same
_OURS = re.compile(r"\d\d_\d+\.\d{6}MHz\.png")  # file names of pictures; no other file is deleted


@dataclass(frozen=True)
class Found:
    """The lines of an observation, the best first, and what was searched. Channels are counted in the files."""

    lines: Lines
    rates: Doubles  # (K,) false alarms to expect an observation, of their S/N and more
    at_limit: NDArray[np.bool_]  # (K,) whether a drift is at or beyond the steepest that was searched
    clock: Clock
    steepest: float  # channels a row
    least: float  # S/N from which a line is listed
    noise: Noise
    interference: Lines  # those in OFF scans too


def search_scans(
    predict: Predict | None,
    metadata: RunInfo | None,
    scans: Sequence[str],
    *,
    out: str,
    threshold: float = 0.0,
    drift: float = DRIFT,
    false_alarms: float = FALSE_ALARMS,
    on: str = "",
    pictures: bool = False,
    cutouts: bool = False,
    mask: str = "",
    warn: Log = print,
    members: Sequence[Mapping[str, object]] = (),
    product: str = "",
    ignore_names: bool = False,
) -> list[Candidate]:
    """Search six scans, given as files in time order; write candidates to `out`, and on request more beside it.

    More files, or a pattern of their names: every cadence among them, in one list.
    predict, metadata: a run's probability of a needle in each given window, and its shape and classes; None to list lines
    without. out: "-" is standard output, with nothing beside it. threshold: minimum probability. drift: the steepest, in Hz/s,
    either way. false_alarms: candidates of noise to expect at most. on: source name of the ON scans, if they are not the first,
    third and fifth. pictures, cutouts: draw the best, save their scans. mask: a CSV of frequencies to leave out (low_mhz,
    high_mhz). warn: receives a line for each limitation of the search. members: the run's, as in its recipe. product: of
    several polarisations, "1" for the first, and so on, or "sum". ignore_names: search although the source names of the scans
    contradict their order.
    """
    files, masked = expanded(scans), read_mask(mask) if mask else np.zeros((0, 2))
    several = len(files) > PANELS
    cadences = cadences_of(files, product=product, on=on, warn=warn) if several else [files]
    if several:
        warn(f"{plural(len(cadences), 'cadence')} of {len(files)} scans")
    made, shared = list[list[Candidate]](), list[Doubles]()
    for six in cadences:
        observation = open_observation(six, product=product, ignore_names=ignore_names, on=on)
        if metadata is not None:
            check_scans(metadata, observation)
        found = search_observation(observation, drift=drift, false_alarms=false_alarms, warn=warn)
        kept = np.flatnonzero(~_in_ranges(frequencies(found.lines, found.clock, observation), masked))
        if hidden := len(found.lines) - len(kept):
            warn(f"{plural(hidden, 'line')} in the ranges of {mask} left out")
        found = _kept(found, kept)
        candidates = candidates_of(found, observation)
        if predict is not None and metadata is not None:
            scores = scores_of(predict, metadata, found, observation, steepest=steepest_of(members), warn=warn)
            high = [k for k, score in enumerate(scores) if not score < threshold]  # one without a score is kept
            candidates = [replace(candidates[k], score=float(scores[k])) for k in high]
            found = _kept(found, np.array(high, np.int64))
        for wanted, word, save in ((pictures, "pictures", draw_candidates), (cutouts, "cutouts", cut_candidates)):
            if wanted and out != "-":
                folder = folder_beside(out, word) / Path(six[0]).stem if several else folder_beside(out, word)
                save(folder, found, candidates, observation, warn=warn)
        made.append(candidates)
        shared.append(frequencies(found.interference, found.clock, observation))
    rows = [replace(row, also_off=_also_off(row, shared, number)) for number, some in enumerate(made) for row in some]
    rows.sort(key=lambda row: -row.snr)
    write_candidates(out, rows)
    return rows


def frequencies(lines: Lines, clock: Clock, observation: Observation) -> Doubles:
    """MHz of lines (K,) at the start of the first scan."""
    begun = np.where(lines.width > 1, 0.5, 0.0)  # a wide line is one that moves while a row lasts: its middle is at the row's
    header = observation.header
    made: Doubles = header.fch1 + header.foff * (lines.channel + lines.drift * (clock.starts[0] - begun))
    return made


def _in_ranges(values: Doubles, ranges: Doubles) -> NDArray[np.bool_]:
    """Which values (K,) are in one of some ranges (range, 2)."""
    inside = (values[:, None] >= ranges[:, 0]) & (values[:, None] <= ranges[:, 1])
    found: NDArray[np.bool_] = np.asarray(inside.any(axis=1))
    return found


def _also_off(row: Candidate, shared: Sequence[Doubles], own: int) -> int:
    """The number of other cadences with interference within 500 Hz of a candidate."""
    near = (np.abs(some - row.frequency_mhz).min(initial=np.inf) <= _SAME for n, some in enumerate(shared) if n != own)
    return int(sum(near))


def search_observation(
    observation: Observation, *, drift: float = DRIFT, false_alarms: float = FALSE_ALARMS, warn: Log = print
) -> Found:
    """Find all lines in the ON scans of an observation that are not in OFF; the legend is that of `search_scans`."""
    clock, steepest = _clock(observation), drift / abs(observation.drift(1.0))
    if clock.span < 1:
        raise UserError(f"{observation.scans[0].path.name}: one ON scan of one row has no drift; give scans of more rows")
    if steepest * clock.span > _MOST:
        most = _MOST / clock.span * abs(observation.drift(1.0))
        raise UserError(f"--drift {drift:g}: at most {most:.3g} Hz/s can be searched in these scans")
    warn(sources_note(observation.scans, observation.on))
    for note in dict.fromkeys(scan.note for scan in observation.scans if scan.note):
        warn(note)
    if not observation.on_one_clock:
        warn(
            "according to tstart, scans overlap or are far apart; they are searched as if contiguous, so drift and frequency "
            "of a line hold within one scan and not over the gaps"
        )
    parts, of_noise, others, lost, looked = list[Lines](), list[Doubles](), list[Doubles](), 0, 0
    stretches = list(_stretches(observation.shape[2]))
    few = steepest * clock.span <= _FEW
    every, usual = (1, COARSE / 5) if few else (4, COARSE)
    repeats = min(_REPEATS, max(1, _STRETCH // observation.shape[2]))
    coarse = min(_COARSEST, max(usual, _HITS / observation.shape[2]))
    rng = np.random.default_rng(0)
    with Progress("searching", observation.shape[2], "channels") as progress:
        for number, span in enumerate(stretches):
            values, origin, odd = _read(observation, span, clock, steepest)
            inside = slice(span.start - origin, span.stop - origin)
            lost += odd
            lines = _lines(values, clock, steepest, inside, coarse)
            bright = lines.take(lines.snr >= _SURE)
            parts.append(_stated(values, bright, clock).moved(origin))
            if number % every == 0:
                rest = without(values, bright, clock)
                of_noise += [_of_noise(rest, clock, steepest, inside, coarse, rng) for _ in range(repeats)]
                other = find(values, clock.exchanged(), steepest, inside, coarse=coarse)
                other = apart(other, clock.exchanged(), _FAINTEST)
                others.append(other.snr[~other.in_off])
                looked += span.stop - span.start
            progress.update(span.stop)
    noise = noise_of(np.concatenate(of_noise), np.concatenate(others), share=looked / observation.shape[2], repeats=repeats)
    least = max(noise.threshold(false_alarms), _SURE)
    found = _once(joined(parts), clock, least)
    _tell(observation, clock, steepest, false_alarms, noise, least, lost, warn)
    lines = found.take(~found.in_off)
    if hidden := len(found) - len(lines):
        were = ("line that is in OFF scans as well was", "lines that are in OFF scans as well were")
        warn(f"{plural(hidden, *were)} left out")
    at_limit = np.abs(lines.drift) >= steepest - 0.5 / clock.span
    if at_limit.any():
        steep = plural(int(at_limit.sum()), "line is", "lines are")
        warn(
            f"{steep} at or beyond the steepest drift searched (at_limit is 1), where others are missed; widen it with --drift"
        )
    return Found(lines, noise.rate(lines.snr), at_limit, clock, steepest, least, noise, found.take(found.in_off))


def _clock(observation: Observation) -> Clock:
    return clock_of(observation.begins, observation.shape[1], observation.on)


def _stretches(channels: int) -> Iterator[slice]:
    return (slice(first, min(first + _STRETCH, channels)) for first in range(0, channels, _STRETCH))


def _read(observation: Observation, span: slice, clock: Clock, steepest: float) -> tuple[Floats, int, int]:
    """The residuals (P, T, F) of a stretch with room for its lines, its first channel, and how many channels are not finite."""
    reach = math.ceil(2 * steepest * (clock.span / 2 + 1)) + 64
    first, last = max(span.start - reach, 0), min(span.stop + reach, observation.shape[2])
    values = np.empty((observation.shape[0], observation.shape[1], last - first), np.float32)
    odd = np.zeros(last - first, bool)
    for own, scan in zip(values, observation.scans, strict=True):
        power = scan.read(first, last)
        odd |= ~np.isfinite(power).all(axis=0)
        own[:] = residuals(power)
    return values, first, int(odd[span.start - first : span.stop - first].sum())


def _lines(values: Floats, clock: Clock, steepest: float, span: slice, coarse: float) -> Lines:
    """The lines of a stretch, those in OFF too, each once; steeper ones in the place of those at the limit they fit better.

    Near a bright line the best sum of a start channel may be one that crosses it, so there its pixels are taken out for another
    look.
    """
    lines = apart(find(values, clock, steepest, span, coarse=coarse), clock, _FAINTEST)
    edge = np.flatnonzero((np.abs(lines.drift) >= steepest - 0.5 / clock.span) & (lines.snr >= _BRIGHT))[:_EDGES]
    for number in edge.tolist():
        reach, at = math.ceil(steepest * clock.span / 2) + 8, round(float(lines.channel[number]))
        beyond = _near(values, clock, 2 * steepest, slice(at - reach, at + reach + 1), coarse)
        if len(beyond) and beyond.snr.max() > _BEYOND * lines.snr[number]:
            lines = joined([lines, beyond.take(np.array([int(beyond.snr.argmax())]))])
    bright = lines.take(np.flatnonzero(lines.snr >= _GLARING)[:_LOOKS])
    if not len(bright):
        return lines
    rest, more = without(values, bright, clock), [lines]
    for at in np.unique(np.round(bright.channel / _AROUND).astype(np.int64)).tolist():
        near = slice(max((at - 1) * _AROUND, span.start), min((at + 1) * _AROUND, span.stop))
        if near.stop > near.start:  # a line's middle may be beside the stretch
            more.append(_near(rest, clock, steepest, near, coarse))
    return apart(joined(more), clock, _FAINTEST)


def _near(values: Floats, clock: Clock, steepest: float, near: slice, coarse: float) -> Lines:
    """Lines whose middle is at some channels, found in no more values than they need."""
    reach = math.ceil(steepest * (clock.span / 2 + 1)) + 64
    first, last = max(near.start - reach, 0), min(near.stop + reach, values.shape[2])
    inside = slice(max(near.start, 0) - first, min(near.stop, values.shape[2]) - first)
    return find(values[..., first:last], clock, steepest, inside, coarse=coarse).moved(first)


def _stated(values: Floats, lines: Lines, clock: Clock) -> Lines:
    """The lines with the S/N of ON scans that pixels give which are not cut."""
    each, on = lines.each.copy(), list(clock.on)
    each[:, on] = unclipped(values, lines, clock)[:, on]
    return replace(lines, each=each)


def _of_noise(values: Floats, clock: Clock, steepest: float, span: slice, coarse: float, rng: np.random.Generator) -> Doubles:
    """The S/N of lines that ON scans shifted against each other give."""
    shifted = Clock(tuple(clock.starts[panel] for panel in clock.on), clock.rows, tuple(range(len(clock.on))))
    return apart(find(rolled(values, clock, rng), shifted, steepest, span, coarse=coarse), shifted, _FAINTEST).snr


def _once(lines: Lines, clock: Clock, least: float) -> Lines:
    """The lines of all stretches from some S/N on, each once."""
    return apart(lines.take(lines.snr >= least), clock, least)


def _tell(
    observation: Observation, clock: Clock, steepest: float, rate: float, noise: Noise, least: float, lost: int, warn: Log
) -> None:
    hz = abs(observation.drift(steepest))
    warn(
        f"searched drift rates of up to {hz:.3g} Hz/s; listed from S/N {least:.2f}, above which {rate:g} lines of noise are "
        "expected in these scans"
    )
    above = int((noise.others >= noise.bound).sum())
    if above:
        lines = plural(above, "line", "lines")
        warn(
            f"with OFF scans in the place of ON, {lines} of up to S/N {noise.others.max():.1f} would be listed: interference, "
            "of which as many may be among the candidates (false_alarms counts them)"
        )
    if lost:
        warn(
            f"{plural(lost, 'channel has', 'channels have')} values that are not finite, of {observation.shape[2]:,}; "
            "these values count as no signal"
        )


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
            f"simulate and train with --set data.shape=[{PANELS},{rows},{shape[2]}], or search without a run: wavefold search"
        )
    if channels < shape[2]:
        raise DataError(
            f"{name} has {channels:,} channel{'s' if channels != 1 else ''}; the run needs windows of {shape[2]} channels"
        )
    return shape[0], shape[1], shape[2]


def steepest_of(members: Sequence[Mapping[str, object]]) -> float:
    """The largest drift, in channels a row, that a run's members know: `drift` of dedoppler, else the simulator's."""
    drifts = [float(drift) for member in members if isinstance(drift := member.get("drift"), int | float)]
    return max(drifts, default=STEEPEST)


def scores_of(
    predict: Predict,
    metadata: RunInfo,
    found: Found,
    observation: Observation,
    *,
    steepest: float = STEEPEST,
    warn: Log = print,
) -> Doubles:
    """The run's probability of a needle in a window around each line, (K,).

    NaN for lines steeper than the run knows, and for all if ON scans stand elsewhere than in its samples. steepest: channels a
    row.
    """
    scores = np.full(len(found.lines), np.nan)
    if observation.on != ON:
        warn("ON scans are not the first, third and fifth, as in the run's samples: candidates have no score")
        return scores
    known = np.flatnonzero(np.abs(found.lines.drift) <= steepest)
    if steep := len(scores) - len(known):
        of = plural(steep, "line is steeper", "lines are steeper")
        warn(f"{of} than the run knows ({abs(observation.drift(steepest)):.3g} Hz/s), and without a score")
    lines, width = found.lines.take(known), metadata.shape[2]
    firsts = [_stretch(channel, observation.shape[2], width) for channel in lines.channel]

    def load(some: NDArray[np.int64]) -> Floats:
        panels = (observation.read(firsts[k], firsts[k] + width) for k in some.tolist())
        return np.concatenate([cut_windows(_filled(power), np.zeros(1, np.int64), width) for power in panels])

    shape = (*observation.shape[:2], width)
    if len(lines):
        scores[known] = predict(Lazy(load, np.arange(len(lines)), shape))
    return scores


def _filled(power: Floats) -> Floats:
    """Power (panel, time, channel) with each panel's mean for values that are not finite."""
    there = np.isfinite(power)
    means = np.where(there, power, 0).sum(axis=(1, 2), keepdims=True) / np.maximum(there.sum(axis=(1, 2), keepdims=True), 1)
    return np.where(there, power, means).astype(np.float32)


def candidates_of(found: Found, observation: Observation) -> list[Candidate]:
    """Lines in physical units: MHz at the start of the first scan, and Hz/s."""
    lines, on = found.lines, list(found.clock.on)
    megahertz = frequencies(lines, found.clock, observation)
    starts = (megahertz - observation.header.fch1) / observation.header.foff
    coarse = np.array([channels.start for channels in observation.coarse_channels])
    made = []
    for k in range(len(lines)):
        nearest = min(max(round(float(starts[k])), 0), observation.shape[2] - 1)
        made.append(
            Candidate(
                frequency_mhz=float(megahertz[k]),
                drift_hz_s=observation.drift(float(lines.drift[k])) + 0.0,  # no -0
                snr=float(lines.each[k, on].sum()) / math.sqrt(len(on)),
                false_alarms=float(found.rates[k]),
                score=math.nan,
                **{f"snr_scan{panel + 1}": float(value) for panel, value in enumerate(lines.each[k])},
                width_hz=float(lines.width[k]) * abs(observation.header.foff) * 1e6,
                coarse_channel=int(np.searchsorted(coarse, nearest, side="right")) - 1,
                start_channel=nearest,
                at_limit=int(found.at_limit[k]),
                searched_hz_s=abs(observation.drift(found.steepest)),
                least_snr=found.least,
                also_off=0,
                source=observation.scans[found.clock.on[0]].header.source_name,
                first_scan=observation.scans[0].path.name,
            )
        )
    return made


def _kept(found: Found, index: NDArray[np.int64]) -> Found:
    return Found(
        found.lines.take(index),
        found.rates[index],
        found.at_limit[index],
        found.clock,
        found.steepest,
        found.least,
        found.noise,
        found.interference,
    )


def folder_beside(out: str | Path, what: str) -> Path:
    """The folder for pictures or cutouts of a candidate file: `<stem>_pictures` beside it."""
    return Path(out).with_name(f"{Path(out).stem}_{what}")


def cut_candidates(
    folder: Path, found: Found, candidates: Sequence[Candidate], observation: Observation, *, warn: Log = print
) -> int:
    """Save the scans around the best candidates as .fil, six in a folder for each, in the place of an earlier search's."""
    for path in folder.glob("*MHz") if is_main_process() else ():
        if _OURS.fullmatch(f"{path.name}.png"):
            shutil.rmtree(path)
    for number, candidate in enumerate(candidates[:PICTURES]):
        first, width = _part_of(number, found, observation)
        own = folder / f"{number + 1:02d}_{candidate.frequency_mhz:.6f}MHz"
        for scan in observation.scans:
            start = scan.frequency(first)
            header = replace(scan.header, fch1=start, bits=32, signed=False, products=1)
            write_scan(own / f"{scan.path.stem}.fil", scan.read(first, first + width), header)
    return min(len(candidates), PICTURES)


def draw_candidates(
    folder: Path, found: Found, candidates: Sequence[Candidate], observation: Observation, *, warn: Log = print
) -> int:
    """Draw the best candidates into a folder, replacing pictures of an earlier search; returns the number of pictures.

    warn: receives a line if the plotting package is missing, in which case no pictures are drawn.
    """
    for path in folder.glob("*MHz.png") if is_main_process() else ():
        if _OURS.fullmatch(path.name):
            path.unlink()
    some = candidates[:PICTURES]
    for number, candidate in enumerate(some):
        try:
            _draw(folder / f"{number + 1:02d}_{candidate.frequency_mhz:.6f}MHz.png", number, found, candidate, observation)
        except UserError as error:
            warn(f"no pictures: {error}")
            return 0
    return len(some)


def _draw(path: Path, number: int, found: Found, candidate: Candidate, observation: Observation) -> None:
    lines, clock = found.lines, found.clock
    channel, drift = float(lines.channel[number]), float(lines.drift[number])
    first, width = _part_of(number, found, observation)
    title = (
        f"{candidate.frequency_mhz:.6f} MHz   {candidate.drift_hz_s:+.4f} Hz/s   "
        f"S/N {candidate.snr:.1f}   {candidate.false_alarms:.1g} false alarms"
    )
    starts = [start - clock.starts[0] for start in clock.starts]
    track = Track(channel + drift * clock.starts[0] - first, drift, starts)
    draw_cadence(
        path,
        observation.read(first, first + width),
        title,
        axes=_axes(observation, candidate),
        track=track,
        centre=track.column,
        on=observation.on,
    )


_NARROWEST = 128  # channels of a picture


def _part_of(number: int, found: Found, observation: Observation) -> tuple[int, int]:
    """The first channel and the number of channels that show a candidate's line in all scans."""
    lines, clock = found.lines, found.clock
    crossed = abs(float(lines.drift[number])) * (clock.starts[-1] + clock.rows - clock.starts[0])
    width = min(observation.shape[2], max(_NARROWEST, math.ceil(1.3 * crossed)))
    return _stretch(float(lines.channel[number]), observation.shape[2], width), width


def _stretch(channel: float, channels: int, width: int) -> int:
    """The first channel of a window around a channel."""
    return min(max(round(float(channel) - width / 2), 0), channels - width)


def _axes(observation: Observation, candidate: Candidate) -> Axes:
    header, day = observation.header, 86400.0
    return Axes(
        step=header.foff * 1e6,
        seconds=header.tsamp,
        starts=[(scan.header.tstart - header.tstart) * day for scan in observation.scans],
        across=f"Hz from {candidate.frequency_mhz:.6f} MHz",
        down="seconds from the start of the first scan",
    )
