"""What the values of frames speak against: codes for missing values taken as numbers, stored numbers without a unit, ..."""

from __future__ import annotations

import re

import numpy as np

from wavefold.data.lazy import Floats
from wavefold.data.missing_codes import codes_in
from wavefold.data.series import Series
from wavefold.recipe import Recipe
from wavefold.tasks.frames.reading import sections

_LOOKED = 16  # frames searched
_ROUNDING = 1e-5  # relative, of a float32 value
_MOSTLY = 0.5  # share of missing cells that is noted


def doubts(recipe: Recipe, series: Series) -> list[str]:
    """Notes on values that may be codes for missing values, and on frames that are mostly missing, with the option to set."""
    some = np.unique(np.linspace(0, len(series) - 1, min(len(series), _LOOKED)).round().astype(np.int64))
    frames, lines = series.frames[some], list[str]()
    codes: list[float] = []
    for c, channel in enumerate(series.channels):
        held = frames[:, c][np.isfinite(frames[:, c])].astype(np.float64)
        for value, share in codes_in(held):
            codes.append(_stored(value, recipe))
            many = f"{channel}: {share:.1%} of the values are {value:g}"
            lines.append(f"{many}, far from all others; this may be a missing-value code.")
    if codes:
        known = [*sections(recipe)[0].missing, *dict.fromkeys(codes)]
        lines.append(f"If so, add --set series.missing=[{','.join(_shortest(code) for code in known)}]")
    missing = float(np.isnan(frames).mean())
    if missing > _MOSTLY:
        why = "check the source's fill value and series.missing; cells without past values get no forecast"
        lines.append(f"{missing:.1%} of the cells are missing (in {len(some)} frames checked): {why}")
    return [*lines, *_unit_doubts(recipe, series), *_threshold_doubts(recipe, frames[np.isfinite(frames)])]


def _unit_doubts(recipe: Recipe, series: Series) -> list[str]:
    """A note if a channel's name speaks of a scale, such as centi, but values are taken as they are stored."""
    options = sections(recipe)[0]
    if options.scale != 1 or series.unit:
        return []
    for channel in series.channels:
        for word, factor in _SCALES.items():
            if word in re.split(r"[^a-z]+", channel.lower()):
                return [
                    f"{channel}: the name says '{word}', but values are taken as they are stored and have no unit; "
                    f"set --set series.scale={factor:g} --set series.unit=UNIT"
                ]
    return []


_SCALES = {"deci": 0.1, "tenth": 0.1, "tenths": 0.1, "twentieth": 0.05, "centi": 0.01, "hundredth": 0.01, "hundredths": 0.01}
_SCALES |= {"milli": 0.001, "thousandth": 0.001, "thousandths": 0.001}


def _threshold_doubts(recipe: Recipe, values: Floats) -> list[str]:
    """Notes on thresholds that nearly all values, or none, reach: they may be in another unit."""
    lines = []
    for threshold in recipe.output.thresholds:
        share = float((values >= threshold).mean()) if values.size else 0.5
        if share > _NEARLY or share == 0:
            many = "no value reaches it" if share == 0 else f"{share:.0%} of the values reach it"
            lines.append(
                f"output.thresholds: {threshold:g}: {many}; thresholds are in the frames' unit, after series.scale and offset"
            )
    return lines


_NEARLY = 0.95


def _stored(value: float, recipe: Recipe) -> float:
    """The value before series.scale and series.offset, to which series.missing applies."""
    options = sections(recipe)[0]
    code = (value - options.offset) / options.scale
    return float(round(code)) if abs(code - round(code)) < _ROUNDING * max(1, abs(code)) else code


def _shortest(code: float) -> str:
    """The shortest text of a number of single precision, which is also that of the stored number."""
    return f"{code:.0f}" if abs(code) < 2**24 and code == round(code) else str(np.float32(code))
