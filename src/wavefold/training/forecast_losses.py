"""Losses for forecasters: the source's cross-entropy and DSSIM, squared and absolute errors, and weighted sums.

Every loss is built from its options and is called with
    forecast   (N, C, T, row, column), the net's output in scaled units; half precision is summed in full precision
    truth      the same shape; NaN cells do not count
and returns one number: the mean over the cells (windows, pairs of neighbours) that count, or 0 if none does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavefold.core.errors import UserError
from wavefold.core.registry import build_part, check_options, pick
from wavefold.evaluation.ssim import Window, check_window, ssim_map


class BinaryCrossEntropy(nn.Module):
    """Cross-entropy of each cell as a probability: the source's loss for its 20-to-20-frame model, after a sigmoid head.

    Forecasts are probabilities, or scores before the sigmoid if logits=True. The truth is clamped to [0, 1], since scaling can
    leave cells outside. Probabilities are kept 1e-7 away from 0 and 1, as in Keras.
    """

    def __init__(self, *, logits: bool = False) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, forecast: Tensor, truth: Tensor) -> Tensor:
        guess, target, known = _cells(forecast, truth)
        target = target.clamp(0.0, 1.0)
        if self.logits:
            return _mean(F.binary_cross_entropy_with_logits(guess, target, reduction="none"), known)
        odds = guess.clamp(_EDGE, 1.0 - _EDGE)
        return _mean(-(target * odds.log() + (1.0 - target) * torch.log1p(-odds)), known)


_EDGE = 1e-7  # keeps the logarithm finite where the head is certain


class SquaredError(nn.Module):
    """Mean squared error."""

    def __init__(self) -> None:  # declares that there are no options; nn.Module's own signature accepts any
        super().__init__()

    def forward(self, forecast: Tensor, truth: Tensor) -> Tensor:
        guess, target, known = _cells(forecast, truth)
        return _mean((guess - target).square(), known)


class AbsoluteError(nn.Module):
    """Mean absolute error."""

    def __init__(self) -> None:  # declares that there are no options; nn.Module's own signature accepts any
        super().__init__()

    def forward(self, forecast: Tensor, truth: Tensor) -> Tensor:
        guess, target, known = _cells(forecast, truth)
        return _mean((guess - target).abs(), known)


class Huber(nn.Module):
    """Half the squared error up to `delta`, in scaled units, and linear beyond it."""

    def __init__(self, *, delta: float = 1.0) -> None:
        super().__init__()
        _check_above("delta", delta, 0.0)
        self.delta = delta

    def forward(self, forecast: Tensor, truth: Tensor) -> Tensor:
        guess, target, known = _cells(forecast, truth)
        return _mean(F.huber_loss(guess, target, reduction="none", delta=self.delta), known)


class DSSIM(nn.Module):
    """(1 - SSIM) / 2 in uniform windows of 3 x 3 by default: the source's loss for its 20-to-1-frame model.

    The source's DSSIMObjective (keras_contrib) uses windows that span all channels and do not overlap; here each channel has a
    window around every cell, so that no cell lies at a window's edge more often than another. size: odd. data_range: of the
    scaled values. sigma: of a Gaussian window.
    """

    def __init__(self, *, size: int = 3, window: Window = "uniform", data_range: float = 1.0, sigma: float = 1.5) -> None:
        super().__init__()
        check_window(data_range=data_range, size=size, sigma=sigma)
        self.size, self.window, self.data_range, self.sigma = size, window, data_range, sigma

    def forward(self, forecast: Tensor, truth: Tensor) -> Tensor:
        values, counted = ssim_map(
            forecast.float(),
            truth.float(),
            data_range=self.data_range,
            window=self.window,
            size=self.size,
            sigma=self.sigma,
        )
        return _mean((1.0 - values) / 2.0, counted)


class GradientDifference(nn.Module):
    """Difference in size between steps from cell to neighbouring cell: | |step of truth| - |step of forecast| | ^ alpha.

    From Mathieu and others 2016, against blur. It ignores constant offsets and the sign of steps: use it in a `sum`.
    """

    def __init__(self, *, alpha: float = 1.0) -> None:
        super().__init__()
        _check_above("alpha", alpha, 1.0, or_equal=True)
        self.alpha = alpha

    def forward(self, forecast: Tensor, truth: Tensor) -> Tensor:
        guess, target, known = _cells(forecast, truth)
        both = [self._steps(guess, target, known, axis) for axis in (-2, -1)]
        total, count = (torch.stack(parts).sum() for parts in zip(*both, strict=True))
        return total / count.clamp(min=1)

    def _steps(self, guess: Tensor, target: Tensor, known: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """Return the sum over pairs of neighbours along an axis, and the number of pairs with known truth."""
        apart = (target.diff(dim=axis).abs() - guess.diff(dim=axis).abs()).abs()
        pairs = known.narrow(axis, 1, known.shape[axis] - 1) & known.narrow(axis, 0, known.shape[axis] - 1)
        return torch.where(pairs, apart if self.alpha == 1.0 else apart**self.alpha, 0.0).sum(), pairs.sum()


class Balanced(nn.Module):
    """Squared and absolute errors weighted by the truth, for rare heavy cells (Shi and others 2017, B-MSE and B-MAE).

    thresholds: ascending, in scaled units of the truth. weights: one below the first threshold, one from each to the next, and
    one from the last on: one more than thresholds. mae_share: share of the absolute error in the loss; the rest is the squared
    error. The mean is over cells, not over weights.
    """

    thresholds: Tensor
    weights: Tensor

    def __init__(self, *, thresholds: tuple[float, ...], weights: tuple[float, ...], mae_share: float = 0.5) -> None:
        super().__init__()
        if not thresholds or any(not a < b for a, b in pairwise(thresholds)):
            raise UserError(f"thresholds: {list(thresholds)} is invalid; expected at least one number, in increasing order")
        if len(weights) != len(thresholds) + 1 or not all(0 <= w < math.inf for w in weights) or not any(weights):
            raise UserError(
                f"weights: {list(weights)} is invalid; expected {len(thresholds) + 1} numbers, 0 or more, not all 0"
            )
        if not 0.0 <= mae_share <= 1.0:
            raise UserError(f"mae_share: {mae_share} is out of range; expected 0 to 1")
        self.mae_share = mae_share
        self.register_buffer("thresholds", torch.tensor(thresholds, dtype=torch.float32), persistent=False)
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32), persistent=False)

    def forward(self, forecast: Tensor, truth: Tensor) -> Tensor:
        guess, target, known = _cells(forecast, truth)
        weight = self.weights[torch.bucketize(target, self.thresholds, right=True)]  # thresholds belong to the interval above
        apart = (guess - target).abs()
        return _mean(weight * ((1.0 - self.mae_share) * apart.square() + self.mae_share * apart), known)


class LossSum(nn.Module):
    """Weighted sum of losses. parts: tables of `loss`, `weight` (default 1) and the loss's own options."""

    def __init__(self, *, parts: tuple[dict[str, object], ...]) -> None:
        super().__init__()
        if not parts:
            raise UserError("parts: must contain at least one loss")
        made = [_part(options, f"parts.{i}") for i, options in enumerate(parts)]
        self.parts, self.weights = nn.ModuleList(loss for loss, _ in made), [weight for _, weight in made]

    def forward(self, forecast: Tensor, truth: Tensor) -> Tensor:
        values = [weight * part(forecast, truth) for weight, part in zip(self.weights, self.parts, strict=True)]
        return torch.stack(values).sum()


FRAME_LOSSES: dict[str, Callable[..., nn.Module]] = {
    "bce": BinaryCrossEntropy,
    "mse": SquaredError,
    "mae": AbsoluteError,
    "huber": Huber,
    "dssim": DSSIM,
    "gradient_difference": GradientDifference,
    "balanced": Balanced,
    "sum": LossSum,
}


def frame_loss(name: str, options: Mapping[str, object], place: str, beside: Collection[str] = ()) -> nn.Module:
    """Build the loss with a short name; errors name the option's place, such as stage.0.parts.1.windoe.

    beside: keys that are valid in the same place but are not options of the loss, for the suggestion.
    """
    check_options(pick(FRAME_LOSSES, name, f"{place}.loss"), options, place, beside=beside)
    try:
        loss: nn.Module = build_part(FRAME_LOSSES, name, options, place)
    except UserError as error:  # the type is right, but the loss does not accept the value
        raise UserError(f"{place}.{error}") from None
    return loss


def _part(options: Mapping[str, object], place: str) -> tuple[nn.Module, float]:
    """Build one loss of a sum; returns it and its weight."""
    if "loss" not in options:
        raise UserError(f"{place}.loss: must be set")
    weight = options.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
        raise UserError(f"{place}.weight: {weight!r} is invalid; expected a number, 0 or more")
    own = {key: value for key, value in options.items() if key not in ("loss", "weight")}
    return frame_loss(str(options["loss"]), own, place, beside=("loss", "weight")), float(weight)


def _cells(forecast: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both as float32, with missing truth set to 0, and a mask of known truth: a NaN would come back through the gradient."""
    if forecast.shape != truth.shape:
        raise UserError(
            f"loss: a forecast of shape {tuple(forecast.shape)} does not match a truth of shape {tuple(truth.shape)}"
        )
    known = ~torch.isnan(truth)
    return forecast.float(), torch.where(known, truth.float(), 0.0), known


def _mean(values: Tensor, known: Tensor) -> Tensor:
    return torch.where(known, values, 0.0).sum() / known.sum().clamp(min=1)


def _check_above(name: str, value: float, bound: float, or_equal: bool = False) -> None:
    if not (bound < value < math.inf or (or_equal and value == bound)):
        raise UserError(f"{name}: {value} is not {'at least' if or_equal else 'above'} {bound:g}")
