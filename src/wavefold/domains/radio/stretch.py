"""One stretch of an observation's channels: its lines, and those that noise and OFF scans give.

A search goes from stretch to stretch. What a stretch gives depends on nothing but the scans and its number, so stretches may be
searched in any order, elsewhere, and again after a crash, with the same result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from wavefold.core.registry import later
from wavefold.data.dataset import Floats
from wavefold.domains.radio.cadence import PANELS
from wavefold.domains.radio.line_search import (
    COARSE,
    Clock,
    Doubles,
    Lines,
    apart,
    find,
    joined,
    no_lines,
    residuals,
    rolled,
    unclipped,
    without,
)
from wavefold.domains.radio.observation import Observation, filled

on_off = later("wavefold.domains.radio.on_off")  # needs torch

SURE = 5.5  # S/N from which a line is kept out of the noise that is measured
_STRETCH = 1 << 15  # channels searched at a time
_FEW = 200  # drift numbers up to which all channels tell the noise, not one stretch in four, and fewer lines are refined
_FAINTEST = 4.0  # S/N below which nothing is a line
_HITS, _COARSEST = 250, 0.05  # lines of noise of an observation that are refined, and of a channel at most
_REPEATS, _NARROW = 8, 1 << 16  # times that the scans of a narrow observation are rolled, at most; its channels
_BEYOND = 1.2  # factor in S/N by which a line beyond the drifts searched must be better
_GLARING = 20.0  # S/N of a line beside which others hide: what crosses a third of it stands out by itself
_AROUND, _LOOKS = 16, 200  # channels beside such a line that are looked at again, and beside how many
_LOUDEST = 50.0  # sigma at which pixels of few channels are cut
_BRIGHT, _EDGES = 8.0, 20  # S/N of lines at the limit for which steeper ones are tried, and how many: the strongest


@dataclass(frozen=True)
class Sweep:
    """What is searched: all channels of an observation, in stretches, at drifts of up to `steepest` channels a row."""

    observation: Observation
    clock: Clock
    steepest: float
    every: int  # noise is measured on one stretch of so many
    coarse: float  # lines of noise a channel that are refined
    repeats: int  # times that the scans are rolled to measure noise
    size: int  # channels of a stretch

    @property
    def stretches(self) -> range:
        """The first channels of all stretches."""
        return range(0, self.observation.shape[2], self.size)


@dataclass(frozen=True)
class Searched:
    """What was found in one or several stretches."""

    lines: Lines  # of S/N 5.5 and more; channels are counted in the files
    noise: Doubles  # S/N of lines that ON scans shifted against each other give
    others: Doubles  # S/N of lines with OFF scans in the place of ON
    looked: int  # channels on which these two were measured
    lost: int  # channels with values that are not finite

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All of it by name."""
        lines = {f"lines.{each.name}": getattr(self.lines, each.name) for each in fields(Lines)}
        return {**lines, "noise": self.noise, "others": self.others, "counts": np.array([self.looked, self.lost])}

    @classmethod
    def of_arrays(cls, arrays: dict[str, NDArray[np.generic]]) -> Searched:
        """What `arrays` has given."""
        lines = Lines(**{each.name: arrays[f"lines.{each.name}"] for each in fields(Lines)})  # type: ignore[arg-type]  # by name
        looked, lost = arrays["counts"].tolist()
        return cls(lines, arrays["noise"], arrays["others"], looked, lost)  # type: ignore[arg-type]  # of float64


def sweep_of(observation: Observation, clock: Clock, steepest: float) -> Sweep:
    """How an observation is searched: fewer lines are refined, and noise is measured more often, if there is less to search."""
    few, channels = steepest * clock.span <= _FEW, observation.shape[2]
    every, usual = (1, COARSE / 5) if few else (4, COARSE)
    coarse = min(_COARSEST, max(usual, _HITS / channels))
    return Sweep(observation, clock, steepest, every, coarse, min(_REPEATS, max(1, _NARROW // channels)), _STRETCH)


def none_searched(clock: Clock) -> Searched:
    """Of no stretch."""
    return Searched(no_lines(clock), np.zeros(0), np.zeros(0), 0, 0)


def together(parts: Sequence[Searched]) -> Searched:
    """What was found in all of some, at least one."""
    return Searched(
        joined([part.lines for part in parts]),
        np.concatenate([part.noise for part in parts]),
        np.concatenate([part.others for part in parts]),
        sum(part.looked for part in parts),
        sum(part.lost for part in parts),
    )


def search_stretch(sweep: Sweep, number: int) -> Searched:
    """Search the stretch of a number, counted from 0."""
    clock, steepest, coarse = sweep.clock, sweep.steepest, sweep.coarse
    start = sweep.stretches[number]
    span = slice(start, min(start + sweep.size, sweep.observation.shape[2]))
    values, origin, lost = _read(sweep.observation, span, clock, steepest)
    inside = slice(span.start - origin, span.stop - origin)
    lines = _lines(values, clock, steepest, inside, coarse)
    bright = lines.take(lines.snr >= SURE)
    found = _stated(values, bright, clock).moved(origin)
    if number % sweep.every:
        return Searched(found, np.zeros(0), np.zeros(0), 0, lost)
    rest, rng = without(values, bright, clock), np.random.default_rng([0, number])
    noise = [_of_noise(rest, clock, steepest, inside, coarse, rng) for _ in range(sweep.repeats)]
    other = find(values, clock.exchanged(), steepest, inside, coarse=coarse)
    other = apart(other, clock.exchanged(), _FAINTEST)
    return Searched(found, np.concatenate(noise), other.snr[~other.in_off], span.stop - span.start, lost)


def _read(observation: Observation, span: slice, clock: Clock, steepest: float) -> tuple[Floats, int, int]:
    """The residuals (P, T, F) of a stretch with room for its lines, its first channel, and how many channels are not finite."""
    reach = math.ceil(2 * steepest * (clock.span / 2 + 1)) + 64
    first, last = max(span.start - reach, 0), min(span.stop + reach, observation.shape[2])
    values = np.empty((observation.shape[0], observation.shape[1], last - first), np.float32)
    odd = np.zeros(last - first, bool)
    tall = _is_tall(observation, clock, last - first)
    for own, scan in zip(values, observation.scans, strict=True):
        power = scan.read(first, last)
        odd |= ~np.isfinite(power).all(axis=0)
        own[:] = power if tall else residuals(power)
    if tall:
        values = _without_profiles(values, clock)
    return values, first, int(odd[span.start - first : span.stop - first].sum())


def _is_tall(observation: Observation, clock: Clock, channels: int) -> bool:
    """Whether the OFF scans have more rows than there are channels, so that they tell which profiles rows share."""
    return len(clock.on) == len(clock.off) == PANELS // 2 and len(clock.off) * observation.shape[1] >= channels


def _without_profiles(power: Floats, clock: Clock) -> Floats:
    """Power (P, T, F) in sigma of its white residual, less the frequency profiles that rows of the OFF scans share."""
    order = [panel for pair in zip(clock.on, clock.off, strict=True) for panel in pair]  # ON first, as in a sample
    clean = np.empty_like(power)
    clean[order] = on_off.whitened(filled(power[order]))
    return np.clip(clean, -_LOUDEST, _LOUDEST, out=clean)


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
