"""The drift search as features of a net: the best score of straight lines through all six panels, by range of drifts.

The scores are those of `dedoppler`, of cadences that the net has cleaned in its own way.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavefold.core.compiled import has_numba
from wavefold.domains.radio.cadence import PANELS, STEEPEST
from wavefold.domains.radio.dedoppler import drift_scores, line_scales, on_and_off, together
from wavefold.domains.radio.drift_lines import line_drifts
from wavefold.domains.radio.drift_net import DriftSums, TrackScores

_RANGES = 21  # of drifts, at most
_CLIP = 6.0  # residual sigma at which pixels are clipped: one burst is not a line


def range_count(rows: int) -> int:
    """The number of ranges of drifts, about as wide each."""
    count = len(line_drifts(rows, STEEPEST))
    return -(-count // _width(count))


def straight_scores(cadences: Tensor) -> Tensor:
    """Scores (N, 1 + range), 0 or more, of the best straight line: of all drifts, and of each range of drifts.

    cadences: (N, 6, T, F) in residual standard deviations. Compiled where Numba is installed and no gradient and no export is
    wanted, else by torch, with the same result.
    """
    clipped = cadences.clamp(-_CLIP, _CLIP)
    rows, columns = cadences.shape[2:]
    plain = not (clipped.requires_grad and torch.is_grad_enabled()) and not torch.compiler.is_exporting()
    if plain and has_numba() and not cadences.is_cuda:
        best = drift_scores(clipped, STEEPEST)[0].amax(2)  # (N, D)
        each = _width(best.shape[1])
        padded = F.pad(best, (0, -best.shape[1] % each), value=-torch.inf)
        parts = padded.view(len(best), -1, each).amax(2)
    else:
        parts = _scorer(rows, columns, str(cadences.device))(clipped).t()
    parts = parts.clamp(min=0)
    return torch.cat([parts.amax(1, keepdim=True), parts], 1)


def _width(drifts: int) -> int:
    """Drifts in a range."""
    return -(-drifts // _RANGES)


def prepare_export(rows: int, columns: int) -> None:
    """Make the tables that `straight_scores` is exported with: they cannot be made while torch traces it."""
    _scorer(rows, columns, "cpu")


@lru_cache(maxsize=4)
def _scorer(rows: int, columns: int, device: str) -> nn.Module:
    with torch.inference_mode(False), torch.device("cpu"):  # kept for calls that want a gradient too
        return _Scorer(rows, columns).to(device)


class _Scorer(nn.Module):
    """The same by torch alone: cadences (N, 6, T, F) to (range, N)."""

    scales: Tensor

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        drifts = line_drifts(rows, STEEPEST)
        scales, places = line_scales(rows, columns, STEEPEST)
        self.columns = columns
        self.sums = DriftSums(rows, columns, drifts)
        self.register_buffer("scales", torch.from_numpy(scales)[:, :, None, None], persistent=False)
        self.scores = TrackScores(columns, places.tolist(), _width(len(drifts)), on_and_off=on_and_off, together=together)

    def forward(self, cadences: Tensor) -> Tensor:
        rows = cadences.permute(2, 3, 1, 0).flatten(2).flatten(0, 1)  # (T F, 6 N)
        snr = self.sums(rows).view(-1, self.columns, PANELS, cadences.shape[0]) * self.scales
        best: Tensor = self.scores(snr)
        return best
