"""Structural similarity of frames (Wang and others 2004), equal to scikit-image's, as a metric and as a loss.

    SSIM = (2 m_a m_b + C1) (2 c_ab + C2) / ((m_a^2 + m_b^2 + C1) (v_a + v_b + C2)),    C1 = (.01 R)^2,  C2 = (.03 R)^2

Legend: m, v, c are means, variances and the covariance in a window around a cell, weighted by a Gaussian or evenly; R is the
data range, which must be given: if it were estimated from a batch, the score would depend on the batch. Only windows that
lie entirely in the frame count, as in scikit-image's mean, and only those without missing truth.

Differences from scikit-image: any number of leading axes; a frame's mean is subtracted before squaring, so that float32
tolerates an offset of 300; gradients are finite on constant frames and next to missing cells.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from wavefold.core.errors import DataError, UserError

Window = Literal["gaussian", "uniform"]


def ssim_map(
    forecast: Tensor,
    truth: Tensor,
    *,
    data_range: float,
    window: Window = "gaussian",
    size: int = 11,
    sigma: float = 1.5,
    sample_covariance: bool = False,
) -> tuple[Tensor, Tensor]:
    """SSIM around each cell whose window lies in the frame, and a mask of those that count.

    Both are (..., row - size + 1, column - size + 1). forecast, truth: (..., row, column); truth NaN is missing: windows that
    contain it are 0 and do not count. data_range: R, in the values' units. size: the window's side, odd. sigma: of the
    Gaussian, in cells. sample_covariance: divide variances by n - 1 for n cells. Wang's and scikit-image's Gaussian window is
    11, 1.5, False; scikit-image's uniform one 7, True. UserError if a frame is smaller than the window.
    """
    check_window(data_range=data_range, size=size, sigma=sigma)
    _check_frames(forecast, truth, size)
    known = ~torch.isnan(truth)
    taps = _gaussian(size, sigma) if window == "gaussian" else [1.0 / size] * size
    frame_a, a = _centred(forecast, known)
    frame_b, b = _centred(truth, known)
    near_a, near_b = _smoothed(a, taps), _smoothed(b, taps)  # a window's mean, minus the frame's
    unbias = size**2 / (size**2 - 1) if sample_covariance else 1.0
    variances = unbias * (_smoothed(a * a + b * b, taps) - (near_a**2 + near_b**2))
    covariance = unbias * (_smoothed(a * b, taps) - near_a * near_b)
    means = (frame_a + near_a) ** 2 + (frame_b + near_b) ** 2 + (0.01 * data_range) ** 2
    apart = (frame_a - frame_b) + (near_a - near_b)
    contrast = (0.03 * data_range) ** 2
    values = (1 - apart**2 / means) * ((2 * covariance + contrast) / (variances + contrast))
    counted = _smoothed((~known).float(), [1.0] * size) < 0.5
    return torch.where(counted, values, 0.0), counted


def mean_ssim(
    forecast: Tensor,
    truth: Tensor,
    *,
    data_range: float,
    window: Window = "gaussian",
    size: int = 11,
    sigma: float = 1.5,
    sample_covariance: bool = False,
) -> Tensor:
    """Mean SSIM of each frame over its windows that count, (...,); NaN if there are none. Arguments as for ssim_map."""
    values, counted = ssim_map(
        forecast,
        truth,
        data_range=data_range,
        window=window,
        size=size,
        sigma=sigma,
        sample_covariance=sample_covariance,
    )
    count = counted.sum(dim=(-2, -1))
    return torch.where(count > 0, values.sum(dim=(-2, -1)) / count.clamp(min=1), math.nan)


def check_window(*, data_range: float, size: int, sigma: float) -> None:
    """Raise UserError unless the data range and the window's size and sigma are valid."""
    if not (math.isfinite(data_range) and data_range > 0):
        raise UserError(f"data_range: {data_range} is invalid; expected a finite number above 0")
    if size < 3 or size % 2 == 0:
        raise UserError(f"size: {size} is invalid; expected an odd number, 3 or more")
    if not (math.isfinite(sigma) and sigma > 0):
        raise UserError(f"sigma: {sigma} is invalid; expected a finite number above 0")


def _check_frames(forecast: Tensor, truth: Tensor, size: int) -> None:
    if forecast.shape != truth.shape or truth.ndim < 2:
        raise DataError(
            f"ssim: a forecast of shape {tuple(forecast.shape)} does not match a truth of shape {tuple(truth.shape)}"
        )
    rows, columns = truth.shape[-2:]
    if min(rows, columns) < size:
        raise UserError(f"ssim: frames of {rows} x {columns} cells are smaller than the window of {size} x {size}")


def _centred(frames: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """A frame's mean over its known cells (..., 1, 1), as a constant, and the frame minus it, with 0 for unknown cells."""
    whole = frames if frames.dtype in (torch.float32, torch.float64) else frames.float()
    total = torch.where(known, whole, 0.0).sum(dim=(-2, -1), keepdim=True)
    mean = (total / known.sum(dim=(-2, -1), keepdim=True).clamp(min=1)).detach()
    return mean, torch.where(known, whole - mean, 0.0)


def _smoothed(values: Tensor, taps: list[float]) -> Tensor:
    """Weighted sums over the last two axes, for windows within the frame. Uses shifts: GPUs may round convolutions to TF32."""
    for axis in (-1, -2):
        places = values.shape[axis] - len(taps) + 1
        total = values.narrow(axis, 0, places) * taps[0]
        for start, tap in enumerate(taps[1:], 1):
            total.add_(values.narrow(axis, start, places), alpha=tap)
        values = total
    return values


def _gaussian(size: int, sigma: float) -> list[float]:
    weights = [math.exp(-0.5 * ((i - size // 2) / sigma) ** 2) for i in range(size)]
    return [w / math.fsum(weights) for w in weights]
