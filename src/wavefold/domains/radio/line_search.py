"""Finds lines in the ON scans of an observation: each start channel, drift and width, the ON scans added along one line.

Coarse to fine. First every line is summed to the nearest channel (`track_sums`), in widths of 1, 2, 4, ... channels, as a
steep line crosses several in a row; between two such lines up to half the S/N is lost by width 1, but no more than .3 by
widths 1 and 2 together. Those that stand out are moved by quarters of a channel at both ends. Their OFF scans are summed along
the same line.
The best line then takes its pixels with it, so that what crosses it is not listed again.

Legend: P panels, T rows, F channels, K lines; a unit is the distance of two sums of one width: half of it, or one channel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from wavefold.core.registry import later
from wavefold.data.dataset import Floats, Ints
from wavefold.domains.radio.track_sums import best_drifts, groups, plan_of

ndimage = later("scipy.ndimage")

Doubles = NDArray[np.float64]

WIDEST = 32  # channels of a line, at most
VETO = 5.0  # S/N of a line in one OFF scan from which it is no candidate
VETO_ALL = 4.5  # and in all OFF scans together
_BLOCK = 512  # channels that have one level in a row
_FEW = 64  # of them whose median is the first guess
_MILD = 3.0  # sigma around it beyond which values do not count
_MILD_SHARE = 1.0025  # standard deviation of Gaussian noise over that of noise cut there
_STRUCTURED, _WIDE = 1.5, 31  # sigma of channel means from which there is structure; channels of its median
_CLIP = 10.0  # sigma at which a pixel is clipped: one burst is not a line
COARSE = 1e-2  # lines of noise a channel that the first stage lets through
_ENDS = np.array(list(product((0.0, -0.25, 0.25, -0.5, 0.5, -0.75, 0.75), repeat=2)))  # units by which both ends are moved
_NEAR = np.array(list(product((0.0, -1.0, 1.0, -2.0, 2.0), repeat=2)))  # the same, to look for a line in OFF
_CLIMBS = 8  # times that ends are moved, at most
_BESIDE = 2.0  # channels on either side of a line that belong to it too
_LEAK = 1.0  # channels beside a line in OFF in which power in OFF may be that line's
_CLOSE = 0.5  # the same of a line in OFF, since what leaks from it is in OFF as well
_FITTED, _SPAN = 60, 1.5  # lines of noise to which its rate is fitted, and the range of their S/N
_SCALE, _TRUST = 1.3, 100  # scale of the rate for gamma noise of 51 looks, and how many lines it counts as
_TOGETHER = 256  # lines refined at a time
_MOST = 20_000  # lines of a stretch that are refined: the strongest


@dataclass(frozen=True)
class Clock:
    """When the rows of all scans begin, in rows from the middle of the ON scans' time."""

    starts: tuple[float, ...]  # of each scan's first row
    rows: int
    on: tuple[int, ...]  # numbers of the ON scans

    @property
    def off(self) -> tuple[int, ...]:
        """The numbers of the OFF scans."""
        return tuple(number for number in range(len(self.starts)) if number not in self.on)

    @property
    def span(self) -> float:
        """Rows from the first row of the first ON scan to the last row of the last."""
        return self.starts[self.on[-1]] + self.rows - 1 - self.starts[self.on[0]]

    def at(self, panels: Sequence[int]) -> Doubles:
        """The rows of some scans, (panel, T)."""
        return np.array([self.starts[panel] for panel in panels])[:, None] + np.arange(self.rows)

    def exchanged(self) -> Clock:
        """The same scans, OFF in the place of ON."""
        return replace(self, on=self.off)


def clock_of(starts: Sequence[float], rows: int, on: Sequence[int]) -> Clock:
    """starts: rows from any moment to each scan's first row, not rounded."""
    middle = (starts[on[0]] + starts[on[-1]] + rows - 1) / 2
    return Clock(tuple(start - middle for start in starts), rows, tuple(on))


@dataclass(frozen=True)
class Lines:
    """Lines that stand out, (K,) each; channels are counted in the array that was searched."""

    channel: Doubles  # at the middle of the ON scans' time
    drift: Doubles  # channels a row
    width: Ints  # channels
    snr: Doubles  # of all ON scans together, of pixels cut at 10 sigma
    each: Doubles = field(repr=False)  # (K, P) S/N of each scan; of OFF scans the best beside the line
    in_off: NDArray[np.bool_] = field(repr=False)  # whether it is in OFF scans too
    pixels: Floats = field(repr=False)  # (K, ON scan x T) sums over the width, in sigma
    off_pixels: Floats = field(repr=False)  # (K, OFF scan x T) the same

    def __len__(self) -> int:
        return len(self.channel)

    def moved(self, channels: int) -> Lines:
        """The same lines, so many channels further up."""
        return replace(self, channel=self.channel + channels)

    def take(self, index: Ints | NDArray[np.bool_]) -> Lines:
        """Some of the lines."""
        return Lines(
            channel=self.channel[index],
            drift=self.drift[index],
            width=self.width[index],
            snr=self.snr[index],
            each=self.each[index],
            in_off=self.in_off[index],
            pixels=self.pixels[index],
            off_pixels=self.off_pixels[index],
        )


def no_lines(clock: Clock) -> Lines:
    """None, in arrays that other lines of the same scans can be joined to."""
    on, off = (np.zeros((0, len(panels) * clock.rows), np.float32) for panels in (clock.on, clock.off))
    none, each = np.zeros(0), np.zeros((0, len(clock.starts)))
    return Lines(none, none, np.zeros(0, np.int64), none, each, np.zeros(0, bool), on, off)


def joined(parts: Sequence[Lines]) -> Lines:
    """All lines of several, at least one."""
    return Lines(
        channel=np.concatenate([part.channel for part in parts]),
        drift=np.concatenate([part.drift for part in parts]),
        width=np.concatenate([part.width for part in parts]),
        snr=np.concatenate([part.snr for part in parts]),
        each=np.concatenate([part.each for part in parts]),
        in_off=np.concatenate([part.in_off for part in parts]),
        pixels=np.concatenate([part.pixels for part in parts]),
        off_pixels=np.concatenate([part.off_pixels for part in parts]),
    )


def residuals(power: Floats) -> Floats:
    """Power (T, F) of one scan in sigma of its noise, less each row's level.

    The level is the mean of 512 channels without what stands out, joined by straight lines: a median would leave the noise of
    power, which is skew, with a mean above 0, and many rows and channels of it are added. Constant values and those that are
    not finite become 0.
    """
    rows, channels = power.shape
    power = np.where(np.isfinite(power), power, np.float32(0))
    size = min(_BLOCK, channels)
    count = channels // size
    blocks = power[:, : count * size].reshape(rows, count, size)
    few = blocks[..., :: max(1, size // _FEW)]
    levels = np.median(few, axis=2)  # (T, block)
    spread = np.median(np.abs(few - levels[..., None]).transpose(1, 0, 2).reshape(count, -1), axis=1) * np.float32(1.4826)
    mild = np.clip(blocks, (levels - _MILD * spread)[..., None], (levels + _MILD * spread)[..., None])
    levels = mild.mean(axis=2)
    np.subtract(mild, levels[..., None], out=mild)
    spread = np.sqrt(np.einsum("tbf,tbf->b", mild, mild) / (rows * size)) * np.float32(_MILD_SHARE)
    middles = (size - 1) / 2
    at = np.clip((np.arange(channels) - middles) / size, 0, count - 1)
    below = np.minimum(at.astype(np.int64), max(count - 2, 0))
    above, share = np.minimum(below + 1, count - 1), (at - below).astype(np.float32)
    sigma = spread[below] * (1 - share) + spread[above] * share
    scale = np.where(sigma > 0, 1 / np.where(sigma > 0, sigma, 1), 0).astype(np.float32)
    for row, level in zip(power, levels, strict=True):
        row -= level[below] * (1 - share) + level[above] * share
        row *= scale
    return _without_structure(power)


def _without_structure(values: Floats) -> Floats:
    """Residuals (T, F) less what stays over all rows and is wider than a line, such as a ripple, if there is more than noise.

    It is the median of 31 neighbouring channels' means, so that a line which does not move is kept.
    """
    means = values.clip(-_CLIP, _CLIP).mean(axis=0)
    if np.median(np.abs(means)) * 1.4826 * math.sqrt(len(values)) < _STRUCTURED:
        return values
    values = values - ndimage.median_filter(means, min(_WIDE, len(means) // 4 * 2 + 1), mode="nearest")
    mild = float(np.median(np.abs(values))) * 1.4826 or 1.0
    cut = values.clip(-_MILD * mild, _MILD * mild)
    values -= cut.mean(axis=1, keepdims=True)
    rest: Floats = values / (np.sqrt(np.mean(np.square(cut - cut.mean(axis=1, keepdims=True)))) * np.float32(_MILD_SHARE))
    return rest


@dataclass(frozen=True)
class Width:
    """The sums of one width."""

    width: int  # channels
    unit: int  # channels from one sum to the next
    values: Floats  # (P, T, unit) in sigma; the first sum begins at channel 0

    def channel(self, place: Doubles) -> Doubles:
        """The middle channel of sums."""
        return place * self.unit + (self.width - 1) / 2


def widths_of(values: Floats) -> Iterator[Width]:
    """The residuals (P, T, F), cut at 10 sigma, then their sums of 2, 4, ... neighbouring channels."""
    _, *wider = _sizes(values.shape[2])
    values = values.clip(-_CLIP, _CLIP)
    yield Width(1, 1, values)
    sums = values[..., :-1] + values[..., 1:]
    for width in wider:
        yield Width(width, _unit(width), sums * np.float32(width**-0.5))
        end = (sums.shape[2] - 3) // 2 * 2 + 1
        sums = sums[..., :end:2] + sums[..., 2 : end + 2 : 2]


def find(values: Floats, clock: Clock, steepest: float, span: slice, *, coarse: float = COARSE) -> Lines:
    """Lines in residuals (P, T, F) whose middle is at a channel of `span`, with drifts of up to `steepest` channels a row.

    A line of each width is searched up to that drift, or up to the one at which it crosses 1.4 times its width in a row; of
    width 1 up to `steepest`, as a line may be in one channel of each row. coarse: lines of noise a channel that are refined.
    """
    per_channel = sum(2 * _most(_reach(w, steepest), clock) / _unit(w) for w in _sizes(values.shape[2]))
    least = -NormalDist().inv_cdf(min(0.4, 2 * coarse / max(1.0, per_channel)))
    found = [no_lines(clock)]
    for one in widths_of(values):
        reach = _reach(one.width, steepest) / one.unit
        first, last = -(-span.start // one.unit), -(-span.stop // one.unit)
        place, number = _standing_out(
            one.values[list(clock.on)], clock, reach, slice(first, min(last, one.values.shape[2])), least
        )
        found += [
            _refined(one, clock, place[k : k + _TOGETHER].astype(np.float64), number[k : k + _TOGETHER] / clock.span)
            for k in range(0, len(place), _TOGETHER)
        ]
    return joined(found)


def _sizes(channels: int) -> list[int]:
    """The widths (channels) of lines that are looked for."""
    return [1 << k for k in range(int(math.log2(max(1, min(WIDEST, channels // 8)))) + 1)]


def _unit(width: int) -> int:
    return max(1, width // 2)


def _reach(width: int, steepest: float) -> float:
    """The steepest drift (channels a row) for lines of a width."""
    return steepest if width == 1 else min(steepest, width * math.sqrt(2))


def _most(steepest: float, clock: Clock) -> int:
    """The largest number of a drift; two beyond `steepest`, so that a line there is not the last."""
    return math.ceil(steepest * clock.span) + 2


def _standing_out(rows: Floats, clock: Clock, steepest: float, span: slice, least: float) -> tuple[Ints, Ints]:
    """Places (K,) and drift numbers of sums of S/N `least` and more that are the largest within two places."""
    scans = tuple(clock.starts[panel] for panel in clock.on)
    plans = [plan_of(first, count, 1 / clock.span, scans, clock.rows) for first, count in groups(_most(steepest, clock))]
    pad = max(plan.reach for plan in plans) + 1
    low, high = span.start - pad, span.stop + pad
    inside = rows[..., max(low, 0) : max(0, min(high, rows.shape[2]))]
    padded = np.pad(inside, ((0, 0), (0, 0), (max(-low, 0), high - low - max(-low, 0) - inside.shape[2])))
    best, which = np.full(span.stop - span.start, -np.inf, np.float32), np.zeros(span.stop - span.start, np.int32)
    best_drifts(padded, pad, plans, best, which)
    best *= np.float32((len(scans) * clock.rows) ** -0.5)
    around = np.pad(best, 2, constant_values=-np.inf)
    top = np.maximum.reduce([around[k : k + len(best)] for k in range(5)])
    place = np.flatnonzero((best >= least) & (best >= top))
    if len(place) > _MOST:
        place = np.sort(place[np.argsort(-best[place], kind="stable")[:_MOST]])
    return place + span.start, which[place].astype(np.int64)


def _refined(one: Width, clock: Clock, place: Doubles, drift: Doubles) -> Lines:
    """Lines (K,) with their ends moved to where the ON scans add up best. place: units; drift: units a row."""
    on, off, every = clock.at(clock.on), clock.at(clock.off), np.arange(len(place))
    for _ in range(_CLIMBS):
        starts, drifts = _moved(place, drift, _ENDS, clock)
        along = _along(one.values, clock.on, starts, drifts, on)  # (try, K, panel, T)
        best = along.sum(axis=(2, 3)).argmax(axis=0)
        pixels, place, drift = along[best, every], starts[best, every], drifts[best, every]
        if not best.any():  # the first try moves nothing
            break
    each = np.zeros((len(place), len(clock.starts)))
    each[:, list(clock.on)] = pixels.sum(axis=2) / math.sqrt(clock.rows)
    in_off, beside = np.zeros(len(place), bool), np.zeros((len(place), 0), np.float32)
    if len(off):
        sums = _along(one.values, clock.off, *_moved(place, drift, _NEAR, clock), off)  # (try, K, panel, T)
        each[:, list(clock.off)] = sums.sum(axis=3).max(axis=0) / math.sqrt(clock.rows)
        together = sums.sum(axis=(2, 3)).max(axis=0) / math.sqrt(off.size)
        in_off = (each[:, list(clock.off)].max(axis=1) > VETO) | (together > VETO_ALL)
        beside = sums[0].reshape(len(place), -1)
    return Lines(
        channel=one.channel(place),
        drift=drift * one.unit,
        width=np.full(len(place), one.width),
        snr=pixels.sum(axis=(1, 2)) / math.sqrt(on.size),
        each=each,
        in_off=in_off,
        pixels=pixels.reshape(len(place), -1),
        off_pixels=beside,
    )


def _moved(place: Doubles, drift: Doubles, tries: Doubles, clock: Clock) -> tuple[Doubles, Doubles]:
    """Lines with their ends moved, (try, K) places at the middle, and drifts."""
    return place + tries.mean(axis=1)[:, None], drift + ((tries[:, 1] - tries[:, 0]) / clock.span)[:, None]


def _along(values: Floats, panels: Sequence[int], place: Doubles, drift: Doubles, at: Doubles) -> Floats:
    """Values along lines, (try, K, panel, T); 0 outside. place, drift: (try, K); at: (panel, T) rows of the clock."""
    column = np.floor(place[..., None, None] + drift[..., None, None] * at + 0.5).astype(np.int64)
    there = (column >= 0) & (column < values.shape[2])
    taken = values[np.array(panels)[:, None], np.arange(values.shape[1]), np.where(there, column, 0)]
    return np.where(there, taken, 0)


def apart(lines: Lines, clock: Clock, least: float) -> Lines:
    """The lines that stand by themselves, the best first: without the pixels of better ones, `least` or more of a line is left.

    Lines that are in OFF too take their pixels as well, in OFF scans too: a line that is only beside one of them is not in OFF.
    """
    order = np.lexsort((lines.drift, lines.channel, -lines.snr))
    at, at_off = clock.at(clock.on).ravel(), clock.at(clock.off).ravel()
    kept, in_off = list[int](), lines.in_off.copy()
    columns, beside = (lines.channel[:, None] + lines.drift[:, None] * rows for rows in (at, at_off))
    for number in order.tolist():
        if lines.snr[number] < least:
            break
        if kept:
            widths = (lines.width[kept] + lines.width[number])[:, None] / 2
            reach = widths + np.where(in_off[kept], _CLOSE, _BESIDE)[:, None]
            own = (np.abs(columns[kept] - columns[number]) > reach).all(axis=0)
            if lines.pixels[number][own].sum() / math.sqrt(len(at)) < least:
                continue
            if in_off[number] and (others := [k for k, other in enumerate(kept) if in_off[other]]):
                near, places = widths[others] + _LEAK, [kept[k] for k in others]
                free = (np.abs(columns[places] - columns[number]) > near).all(axis=0)
                away = (np.abs(beside[places] - beside[number]) > near).all(axis=0).reshape(len(clock.off), -1)
                if lines.pixels[number][free].sum() / math.sqrt(len(at)) >= least and away.sum() >= clock.rows / 2:
                    rest = np.where(away, lines.off_pixels[number].reshape(away.shape), 0)
                    high = (rest.sum(axis=1) / np.sqrt(np.maximum(away.sum(axis=1), 1))).max()
                    in_off[number] = high > VETO or rest.sum() / math.sqrt(away.sum()) > VETO_ALL
        kept.append(number)
    index = np.array(kept, np.int64)
    return replace(lines.take(index), in_off=in_off[index])


def unclipped(values: Floats, lines: Lines, clock: Clock) -> Doubles:
    """The S/N of lines in each scan (K, P), of pixels that are not cut."""
    panels = range(len(clock.starts))
    at, made = clock.at(panels), np.zeros((len(lines), len(clock.starts)))
    for width in np.unique(lines.width).tolist():
        some = np.flatnonzero(lines.width == width)
        first = lines.channel[some] - (width - 1) / 2
        for step in range(width):
            along = _along(values, panels, (first + step)[None], lines.drift[some][None], at)[0]
            made[some] += along.sum(axis=2) / math.sqrt(clock.rows * width)
    return made


def without(values: Floats, lines: Lines, clock: Clock) -> Floats:
    """Residuals (P, T, F) with zeros where lines are, and beside them; a copy. OFF scans too of lines that are in OFF."""
    values, all_scans = values.copy(), tuple(range(len(clock.starts)))
    for in_off, width in {(bool(flag), int(width)) for flag, width in zip(lines.in_off, lines.width, strict=True)}:
        some = lines.take((lines.in_off == in_off) & (lines.width == width))
        scans, reach = all_scans if in_off else clock.on, math.ceil(width / 2 + (_CLOSE if in_off else _BESIDE))
        middle = np.floor(some.channel[:, None, None] + some.drift[:, None, None] * clock.at(scans) + 0.5).astype(np.int64)
        columns = middle[..., None] + np.arange(-reach, reach + 1)  # (K, scan, T, reach)
        there = (columns >= 0) & (columns < values.shape[2])
        scan, row = np.array(scans)[:, None, None], np.arange(clock.rows)[:, None]
        values[np.broadcast_to(scan, columns.shape)[there], np.broadcast_to(row, columns.shape)[there], columns[there]] = 0
    return values


def rolled(values: Floats, clock: Clock, rng: np.random.Generator) -> Floats:
    """The ON scans' residuals, each shifted around by another number of channels, so that no line goes on in the next."""
    channels = values.shape[2]
    shifts = rng.integers(channels // 8, channels - channels // 8, len(clock.on))
    return np.stack([np.roll(values[panel], int(shift), axis=1) for panel, shift in zip(clock.on, shifts, strict=True)])


@dataclass(frozen=True)
class Noise:
    """How often noise alone gives a line: from lines of noise at `least` and more, extrapolated as exp(-S/N^2 / (2 scale))."""

    count: float  # lines of noise an observation
    least: float
    scale: float  # 1 for Gaussian noise and every line found
    others: Doubles  # S/N of lines found with OFF in the place of ON
    share: float  # of the observation in which the latter were looked for

    def rate(self, snr: Doubles) -> Doubles:
        """False lines of at least some S/N (K,) to expect of an observation: of noise, and as OFF scans have them."""
        beyond = self.others[self.others >= self.bound]  # others are of noise too, and counted already
        rates: Doubles = self.of_noise(snr) + (beyond[:, None] >= snr).sum(axis=0) / self.share
        return rates

    def of_noise(self, snr: Doubles) -> Doubles:
        """Those of noise alone."""
        rates: Doubles = self.count * np.exp(-np.maximum(snr**2 - self.least**2, 0) / (2 * self.scale))
        return rates

    @property
    def bound(self) -> float:
        """The S/N that noise passes once in a hundred observations."""
        return self.threshold(0.01)

    def threshold(self, rate: float) -> float:
        """The S/N from which no more than `rate` lines of noise are expected."""
        more = max(self.count, 1e-9) / rate
        return math.sqrt(self.least**2 + 2 * self.scale * math.log(more)) if more > 1 else self.least


def noise_of(snr: Doubles, others: Doubles, *, share: float, repeats: int = 1) -> Noise:
    """What lines of noise say. snr: of those in rolled scans; others: with OFF in the place of ON; share: of channels.

    repeats: how often scans were rolled.

    The fit uses the strongest lines but those more than 1.5 above the weakest of them, which may be the sky's. The scale is
    drawn towards that of noise as receivers have it.
    """
    if not len(snr):
        return Noise(0.0, 0.0, _SCALE, others, share)
    least = float(np.sort(snr)[-min(len(snr), max(_FITTED, len(snr) // 4))])
    inside = snr[(snr >= least) & (snr <= least + _SPAN)]
    scale = _truncated_scale((inside**2 - least**2) / 2, ((least + _SPAN) ** 2 - least**2) / 2) if len(inside) > 1 else _SCALE
    scale = (len(inside) * scale + _TRUST * _SCALE) / (len(inside) + _TRUST)
    return Noise(int((snr >= least).sum()) / (share * repeats), least, scale, others, share)


def _truncated_scale(values: Doubles, end: float) -> float:
    """The mean of an exponential distribution of which only values up to `end` were seen; by bisection of the likelihood."""
    mean = float(values.mean())
    low, high = 0.2, 5.0
    for _ in range(60):
        scale = (low + high) / 2
        seen = scale - end / math.expm1(min(end / scale, 700.0))
        low, high = (scale, high) if seen < mean else (low, scale)
    return (low + high) / 2
