"""What a search of an observation has found, in channels and rows, and the same in MHz and Hz/s."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wavefold.domains.radio.candidates import Candidate
from wavefold.domains.radio.line_search import Clock, Doubles, Lines, Noise
from wavefold.domains.radio.observation import Observation


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

    def take(self, index: NDArray[np.int64]) -> Found:
        """Some of the lines."""
        return replace(self, lines=self.lines.take(index), rates=self.rates[index], at_limit=self.at_limit[index])


def frequencies(lines: Lines, clock: Clock, observation: Observation) -> Doubles:
    """MHz of lines (K,) at the start of the first scan."""
    begun = np.where(lines.width > 1, 0.5, 0.0)  # a wide line is one that moves while a row lasts: its middle is at the row's
    header = observation.header
    made: Doubles = header.fch1 + header.foff * (lines.channel + lines.drift * (clock.starts[0] - begun))
    return made


def window_at(channel: float, channels: int, width: int) -> int:
    """The first channel of a window of `width` channels around a channel."""
    return min(max(round(float(channel) - width / 2), 0), channels - width)


def candidates_of(found: Found, observation: Observation) -> list[Candidate]:
    """Lines in physical units: MHz at the start of the first scan, and Hz/s."""
    lines, on = found.lines, list(found.clock.on)
    megahertz = frequencies(lines, found.clock, observation)
    starts = (megahertz - observation.header.fch1) / observation.header.foff
    coarse = np.array([channels.start for channels in observation.coarse_channels])
    made = []
    first = observation.scans[0].path
    for k in range(len(lines)):
        drift = observation.drift(float(lines.drift[k])) + 0.0  # no -0
        nearest = min(max(round(float(starts[k])), 0), observation.shape[2] - 1)
        made.append(
            Candidate(
                frequency_mhz=float(megahertz[k]),
                drift_hz_s=drift,
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
                first_scan=first.name,
                id=f"{first.stem}_{megahertz[k]:.6f}_{drift:+.4f}",
            )
        )
    return made
