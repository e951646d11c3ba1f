"""Search of an observation: lines that drift through its ON scans and are not in OFF, with the false alarms to expect.

`line_search` finds the lines of a stretch of channels. Here stretches are read one after another, noise is measured on the same
files (ON scans shifted against each other; OFF in the place of ON), and a run, if there is one, is asked for its probability.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import DataError, UserError, plural
from wavefold.core.interrupt import signals_wait
from wavefold.core.outputs import folder_beside
from wavefold.core.progress import Progress
from wavefold.core.records import RunInfo
from wavefold.data.dataset import Floats
from wavefold.data.lazy import Lazy
from wavefold.domains.radio.cadence import ON, PANELS, STEEPEST
from wavefold.domains.radio.candidate_files import cut_candidates, draw_candidates, show_candidates
from wavefold.domains.radio.candidates import Candidate, write_candidates
from wavefold.domains.radio.found import Found, candidates_of, frequencies, window_at
from wavefold.domains.radio.line_search import Clock, Doubles, Lines, Noise, apart, clock_of, noise_of
from wavefold.domains.radio.night import cadences_of, expanded, read_mask
from wavefold.domains.radio.observation import Observation, cut_windows, filled, open_observation
from wavefold.domains.radio.pointing import sources_note
from wavefold.domains.radio.search_state import SearchState, kept_beside, key_of, state_in
from wavefold.domains.radio.stretch import SURE, Searched, Sweep, search_stretch, sweep_of

Predict = Callable[[Lazy], NDArray[np.float64]]  # windows (window, 6, time, frequency) -> (window,) probabilities of a needle
Log = Callable[[str], None]
Show = Callable[[str, bytes], None]  # a candidate's id, and its picture

DRIFT = 4.0  # Hz/s, either way
FALSE_ALARMS = 0.1  # an observation
_MOST = 100_000  # drift numbers that are searched
_SAME = 5e-4  # MHz within which interference of another cadence is the same


class Each(Protocol):
    """Calls a function of every number, in order, here or elsewhere, as `map` does."""

    def __call__(self, function: Callable[[int], Searched], numbers: Iterable[int], /) -> Iterable[Searched]: ...


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
    show: Show | None = None,
    each: Each = map,
) -> list[Candidate]:
    """Search six scans, given as files in time order; write candidates to `out`, and on request more beside it.

    More files, or a pattern of their names: every cadence among them, in one list.
    predict, metadata: a run's probability of a needle in each given window, and its shape and classes; None to list lines
    without. out: "-" is standard output, with nothing beside it. threshold: minimum probability. drift: the steepest, in Hz/s,
    either way. false_alarms: candidates of noise to expect at most. on: source name of the ON scans, if they are not the first,
    third and fifth. pictures, cutouts: draw the best, save their scans. mask: a CSV of frequencies to leave out (low_mhz,
    high_mhz). warn: receives a line for each limitation of the search. members: the run's, as in its recipe. product: of
    several polarisations, "1" for the first, and so on, or "sum". ignore_names: search although the source names of the scans
    contradict their order. show: receives the pictures of the best candidates, and windows around them are saved for training.
    each: searches the stretches of channels. What was searched is kept in the folder OUT.parts until all is, and the same call
    goes on there.
    """
    files, masked = expanded(scans), read_mask(mask) if mask else np.zeros((0, 2))
    several = len(files) > PANELS
    cadences = cadences_of(files, product=product, on=on, warn=warn) if several else [files]
    if several:
        warn(f"{plural(len(cadences), 'cadence')} of {len(files)} scans")
    made, shared = list[list[Candidate]](), list[Doubles]()
    with kept_beside(out) as folder:
        for number, six in enumerate(cadences):
            observation = open_observation(six, product=product, ignore_names=ignore_names, on=on)
            if metadata is not None:
                check_scans(metadata, observation)
            state = state_in(folder, number, key_of(six, drift=drift, product=product, on=on))
            found = search_observation(observation, drift=drift, false_alarms=false_alarms, warn=warn, each=each, state=state)
            kept = np.flatnonzero(~_in_ranges(frequencies(found.lines, found.clock, observation), masked))
            if hidden := len(found.lines) - len(kept):
                warn(f"{plural(hidden, 'line')} in the ranges of {mask} left out")
            found = found.take(kept)
            candidates = candidates_of(found, observation)
            if predict is not None and metadata is not None:
                scores = scores_of(predict, metadata, found, observation, steepest=steepest_of(members), warn=warn)
                high = [k for k, score in enumerate(scores) if not score < threshold]  # one without a score is kept
                candidates = [replace(candidates[k], score=float(scores[k])) for k in high]
                found = found.take(np.array(high, np.int64))
            for wanted, word, save in ((pictures, "pictures", draw_candidates), (cutouts, "cutouts", cut_candidates)):
                if wanted and out != "-":
                    beside = folder_beside(out, word)
                    save(beside / Path(six[0]).stem if several else beside, found, candidates, observation, warn=warn)
            if show is not None:
                show_candidates(folder_beside(out, "windows"), found, candidates, observation, show=show, warn=warn)
            made.append(candidates)
            shared.append(frequencies(found.interference, found.clock, observation))
        rows = [replace(row, also_off=_also_off(row, shared, number)) for number, some in enumerate(made) for row in some]
        rows.sort(key=lambda row: -row.snr)
        write_candidates(out, rows)
    return rows


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
    observation: Observation,
    *,
    drift: float = DRIFT,
    false_alarms: float = FALSE_ALARMS,
    warn: Log = print,
    each: Each = map,
    state: SearchState | None = None,
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
    sweep = sweep_of(observation, clock, steepest)
    whole = _swept(sweep, each, state or SearchState())
    noise = noise_of(whole.noise, whole.others, share=whole.looked / observation.shape[2], repeats=sweep.repeats)
    least = max(noise.threshold(false_alarms), SURE)
    found = _once(whole.lines, clock, least)
    _tell(observation, clock, steepest, false_alarms, noise, least, whole.lost, warn)
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


def _swept(sweep: Sweep, each: Each, state: SearchState) -> Searched:
    """Search all stretches, from where the state stands."""
    channels, begun = sweep.observation.shape[2], state.begin(sweep.clock)
    with Progress("searching", channels, "channels") as progress, signals_wait():
        progress.skip(sweep.stretches.step * begun)
        for part in each(partial(search_stretch, sweep), range(begun, len(sweep.stretches))):
            state.add(part)
            progress.update(min(sweep.stretches.step * state.done, channels))
        state.keep()
    return state.found


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
    firsts = [window_at(channel, observation.shape[2], width) for channel in lines.channel]

    def load(some: NDArray[np.int64]) -> Floats:
        panels = (observation.read(firsts[k], firsts[k] + width) for k in some.tolist())
        return np.concatenate([cut_windows(filled(power), np.zeros(1, np.int64), width) for power in panels])

    shape = (*observation.shape[:2], width)
    if len(lines):
        scores[known] = predict(Lazy(load, np.arange(len(lines)), shape))
    return scores
