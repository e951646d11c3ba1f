"""What stands beside a list of candidates: pictures of the best, the scans around them, windows to learn from."""

from __future__ import annotations

import io
import math
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from wavefold.core.errors import UserError
from wavefold.core.files import write_whole
from wavefold.core.process import is_main_process
from wavefold.data.dataset import Floats
from wavefold.domains.radio.candidates import Candidate
from wavefold.domains.radio.found import Found, window_at
from wavefold.domains.radio.observation import Observation, cut_windows, filled, write_scan
from wavefold.domains.radio.picture import Axes, Track, draw_cadence

Log = Callable[[str], None]

PICTURES = 50
SHOWN = 100  # candidates of an observation with a picture on the page
_WINDOW = 256  # channels of a window to learn from, as the samples of `cadence` have
_NARROWEST = 128  # channels of a picture
_OURS = re.compile(r"\d\d_\d+\.\d{6}MHz\.png")  # file names of pictures; no other file is deleted


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


def show_candidates(
    folder: Path,
    found: Found,
    candidates: Sequence[Candidate],
    observation: Observation,
    *,
    show: Callable[[str, bytes], None],
    warn: Log = print,
) -> None:
    """Give the pictures of the best candidates to `show`, and save windows around them to learn from.

    The folder is a data set in the contest's layout, but for its labels: train/<first letter>/<id>.npy, float16 (6, time,
    channel), each panel scaled as samples are.
    """
    width = min(_WINDOW, observation.shape[2])
    for number, candidate in enumerate(candidates[:SHOWN]):
        first = window_at(float(found.lines.channel[number]), observation.shape[2], width)
        window = cut_windows(filled(observation.read(first, first + width)), np.zeros(1, np.int64), width)[0]
        write_whole(folder / "train" / candidate.id[0] / f"{candidate.id}.npy", partial(_save, window))
        content = io.BytesIO()
        try:
            _draw(content, number, found, candidate, observation)
        except UserError as error:
            warn(f"no pictures: {error}")
            return
        show(candidate.id, content.getvalue())


def _save(window: Floats, stream: IO[bytes]) -> None:
    np.save(stream, window.astype(np.float16), allow_pickle=False)


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


def _draw(target: Path | IO[bytes], number: int, found: Found, candidate: Candidate, observation: Observation) -> None:
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
        target,
        observation.read(first, first + width),
        title,
        axes=_axes(observation, candidate),
        track=track,
        centre=track.column,
        on=observation.on,
    )


def _part_of(number: int, found: Found, observation: Observation) -> tuple[int, int]:
    """The first channel and the number of channels that show a candidate's line in all scans."""
    lines, clock = found.lines, found.clock
    crossed = abs(float(lines.drift[number])) * (clock.starts[-1] + clock.rows - clock.starts[0])
    width = min(observation.shape[2], max(_NARROWEST, math.ceil(1.3 * crossed)))
    return window_at(float(lines.channel[number]), observation.shape[2], width), width


def _axes(observation: Observation, candidate: Candidate) -> Axes:
    header, day = observation.header, 86400.0
    return Axes(
        step=header.foff * 1e6,
        seconds=header.tsamp,
        starts=[(scan.header.tstart - header.tstart) * day for scan in observation.scans],
        across=f"Hz from {candidate.frequency_mhz:.6f} MHz",
        down="seconds from the start of the first scan",
    )
