"""A net for cadences that a laptop can train: it tracks lines through each panel, then compares ON with OFF.

This is an original design. Prior knowledge about needles is built in; the rest is learned (about 0.2 M parameters):
1. Panels in residual standard deviations, minus the frequency profiles that the OFF panels share: carriers, bandpass, DC
   spike. A needle is in no OFF panel, so it is not removed.
2. Line sums: every panel, in blocks of 16 rows, summed along lines of 17 slopes.
3. Search, if asked for: the score of the best straight line through all six panels, ON against OFF, for each range of drifts.
   The net's answer begins as this score, so that it need only learn where it is wrong.
4. Tracks: the best sum along a path from block to block, forwards and backwards, which may begin anywhere; bent tracks may
   change slope and position, straight ones may not. This is track-before-detect by dynamic programming (Barniv 1985).
5. Net: the six panels in a row, marked ON or OFF, pass through four convolutions; then each panel's maxima, ON against OFF.
Steps 1 to 4 have no parameters and no gradient.

Legend: N cadences, 6 panels, B = 6 N panels, T rows, F columns, S stretches, J slopes, M marks along a panel, C channels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavefold.core.distributed import whole
from wavefold.core.errors import UserError
from wavefold.core.onnx_ops import eigh, orthonormal
from wavefold.data.dataset import Floats
from wavefold.domains.radio.cadence import OFF, ON, PANELS, STEEPEST
from wavefold.domains.radio.needles import residual
from wavefold.domains.radio.straight import prepare_export, range_count, straight_scores
from wavefold.models.layers import drop, need_least, one_logit

_STRETCH = 16  # rows per short line sum
_SLOPES = 17
_MARKS = 3  # positions along a panel at which tracks are read
_POOL = 4  # columns per max pool
_PROFILES = 8  # maximum number of frequency profiles removed
_TURNS = 3  # subspace iterations to find them
_EDGE = 1.1, 1.5  # profile power, relative to white noise's largest, where removal starts and where it is complete
_CLIP = -5.0, 8.0  # range in residual sigma to which pixels are clipped: more is no evidence of a line
_SEARCHED = 3.0, 1.8  # slope and middle of the answer over the logarithm of the search's score, before it is trained
_FAINTEST = 0.1  # scores of the search are raised to this before the logarithm
_BENT, _STRAIGHT = 1.8, 1.2  # cost of a step along a track, in S/N of a stretch, so that noise does not add up


class OnOff(nn.Module):
    """Tracks lines through each panel and compares ON with OFF. signals: (N, 6, T, F); for two classes logits are (0, z)."""

    def __init__(
        self,
        channels: int,
        rows: int,
        columns: int,
        classes: int,
        *,
        width: int = 32,
        dropout: float = 0.3,
        search: bool = False,
    ) -> None:
        super().__init__()
        need_least("on_off", 1, width=width)
        if channels != PANELS or min(rows, columns) < 2 * _POOL:
            least = f"{PANELS} panels of {2 * _POOL} rows and columns or more"
            raise UserError(f"on_off: expected {least}; got {channels} of {rows} x {columns}")
        self.tracks = Tracker(rows, columns, search=search)
        block, marked = 2 * width, self.tracks.kinds + 1
        self.features = nn.Sequential(
            _block(marked, width, (3, 5), narrow=True),
            _block(width, width * 3 // 2, (3, 5), narrow=True),
            _block(width * 3 // 2, block, (3, 3), narrow=True),
            _block(block, block, (5, 3), narrow=False),
        )
        peaks = _COMPARISONS * self.tracks.peaks + (1 + range_count(rows) if search else 0)
        self.norm = nn.BatchNorm1d(peaks)
        hidden, scores = 3 * width, 1 if classes == 2 else classes
        self.head = nn.Sequential(
            nn.Linear(4 * block + peaks, hidden), nn.ReLU(), drop("on_off", dropout), nn.Linear(hidden, scores)
        )
        # slope and middle of the search's part in the answer
        self.searched = nn.Parameter(torch.tensor(_SEARCHED)) if search and classes == 2 else None

    def forward(self, signals: Tensor) -> Tensor:
        """Logits (N, classes) of signals (N, 6, T, F)."""
        return self.answer(*self.front(signals))

    def front(self, signals: Tensor) -> tuple[Tensor, Tensor]:
        """The steps without parameters: maps (N, C, 6 M, F / pool) and compared peaks of signals (N, 6, T, F).

        Gradients are tracked only if the signals require them.
        """
        with torch.set_grad_enabled(signals.requires_grad):
            maps, peaks, straight = self.tracks(signals)
            logs = straight.clamp(min=_FAINTEST).log()
            return maps, torch.cat([_compared(peaks), logs], 1)

    def answer(self, maps: Tensor, compared: Tensor) -> Tensor:
        """Logits (N, classes) from the output of `front`."""
        seen: Tensor = self.features(maps.contiguous(memory_format=torch.channels_last))
        best = seen.view(*seen.shape[:2], PANELS, -1).amax(3)  # (N, C, 6): a panel's rows and columns are contiguous
        on, off = best[:, :, list(ON)], best[:, :, list(OFF)]
        held = torch.cat([on.amax(2), on.mean(2), off.amax(2), off.mean(2), self._normed(compared)], 1)
        made = self.head(held)
        if self.searched is not None:  # the logarithm of the search's best score stands first after the comparisons
            made = made + self.searched[0] * (compared[:, -self.tracks.ranges, None] - self.searched[1])
        return one_logit(made)

    def _normed(self, compared: Tensor) -> Tensor:
        if self.training and whole(len(compared)) == 1:  # a single sample has no variance
            norm = self.norm
            return F.batch_norm(compared, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        normed: Tensor = self.norm(compared)
        return normed


class Tracker(nn.Module):
    """Maps cadences to track strengths: at several positions along each panel, and the strongest for each slope."""

    starts: Tensor
    lines: Tensor
    forth: Tensor
    back: Tensor

    def __init__(self, rows: int, columns: int, *, search: bool = False) -> None:
        super().__init__()
        self.ranges = 1 + range_count(rows) if search else 0
        self.size = rows, columns
        self.stretch = min(_STRETCH, rows)
        self.count = rows // self.stretch
        marks = min(_MARKS, self.count)
        self.marks = [round((mark + 1) * self.count / marks) - 1 for mark in range(marks)]  # the last is a panel's end
        slopes = [STEEPEST * (2 * number / (_SLOPES - 1) - 1) for number in range(_SLOPES)]  # bins per row
        self.reach = round(STEEPEST * self.stretch)
        shifts = torch.tensor([round(slope * self.stretch) for slope in slopes])  # columns from stretch to stretch
        place = torch.arange(columns) + self.reach
        self.register_buffer("starts", _starts(columns), persistent=False)
        self.register_buffer("lines", line_kernels(self.stretch, torch.tensor(slopes)), persistent=False)
        self.register_buffer("forth", place - shifts[:, None], persistent=False)  # (J, F) column of a track one stretch earlier
        self.register_buffer("back", place + shifts[:, None], persistent=False)
        self.kinds, self.peaks = 4 * _SLOPES, 2 * _SLOPES  # bent and straight, forwards and backwards

    def forward(self, signals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps (N, 4 J + 1, 6 M, F / pool), the last channel 1 in ON and -1 in OFF; peaks (N, 6, 2 J); the search's scores."""
        clean = unstructured(signals, self.starts)
        straight = straight_scores(clean) if self.ranges else clean.new_zeros(signals.shape[0], 0)
        sums = self.sums(clean)
        found, peaks = [], []
        for bends in (True, False):
            forwards = self.follow(sums, self.forth, bends)
            backwards = self.follow(sums.flip(0), self.back, bends).flip(0)
            peaks.append(forwards.amax((0, 3)))
            found += [forwards[self.marks], backwards[[self.count - 1 - mark for mark in self.marks[::-1]]]]  # (M, B, J, F)
        strength = F.max_pool2d(torch.cat(found, 2).permute(1, 2, 0, 3), (1, _POOL))  # (B, 4 J, M, F / pool)
        together = torch.cat(peaks, 1).view(signals.shape[0], PANELS, -1)  # len() would fix the batch size of an exported file
        return self._in_a_row(strength), together, straight

    def prepare_export(self) -> None:
        """Make what the search is exported with."""
        if self.ranges:
            prepare_export(*self.size)

    def sums(self, panels: Tensor) -> Tensor:
        """Sums along short lines in units of their noise, (S, B, J, F). panels: (N, 6, T, F), whitened."""
        clipped = panels.clamp(*_CLIP).flatten(0, 1)[:, None]
        sums = F.conv2d(clipped, self.lines, stride=(self.stretch, 1), padding=(0, self.lines.shape[3] // 2))
        return sums.permute(2, 0, 1, 3).contiguous()

    def follow(self, sums: Tensor, before: Tensor, bends: bool) -> Tensor:
        """The best track sum up to each stretch, slope and column, (S, B, J, F). before: (J, F) columns one stretch earlier."""
        index, tracks = before.expand(sums.shape[1], -1, -1), [sums[0]]
        for own in sums[1:]:
            best = _beside(tracks[-1], 2)
            best = _beside(best, 1) if bends else best
            earlier = F.pad(best, (self.reach, self.reach)).gather(2, index)
            tracks.append(own + (earlier - (_BENT if bends else _STRAIGHT)).clamp(min=0))  # or the track begins here
        return torch.stack(tracks)

    def _in_a_row(self, strength: Tensor) -> Tensor:
        """Concatenate panels in time, (N, C + 1, 6 M, F / pool), marked ON or OFF. strength: (B, C, M, F / pool)."""
        _, kinds, marks, columns = strength.shape
        maps = strength.view(-1, PANELS, kinds, marks, columns).transpose(1, 2).flatten(2, 3).clamp(min=0).log1p()
        sign = torch.tensor([1.0 if panel in ON else -1.0 for panel in range(PANELS)], device=maps.device).to(maps.dtype)
        marked = sign.repeat_interleave(marks)[:, None].expand(maps.shape[0], 1, -1, columns)
        return torch.cat([maps, marked], 1)


def unstructured(cadences: Tensor, starts: Tensor) -> Tensor:
    """Remove row means and profiles shared by OFF panels from cadences (N, 6, T, F); result in residual standard deviations.

    Profiles are right singular vectors of all rows of the OFF panels whose power exceeds that of white noise (Marchenko and
    Pastur's edge). starts: (F, profiles), the initial vectors of the iteration.
    """
    count, panels, rows, columns = cadences.shape
    values = cadences / residual(cadences).clamp(min=1e-6)[..., None, None]
    off = values[:, list(OFF)].flatten(1, 2)  # (N, 3 T, F)
    profiles = starts.to(values.dtype).expand(count, -1, -1)
    for _ in range(_TURNS):
        profiles = orthonormal(off.transpose(1, 2) @ (off @ profiles))
    held = off @ profiles
    power, turn = eigh(held.transpose(1, 2) @ held)
    edge = (math.sqrt(off.shape[1]) + math.sqrt(columns)) ** 2
    share = ((power / edge - _EDGE[0]) / (_EDGE[1] - _EDGE[0])).clamp(0, 1)
    profiles = (profiles @ turn) * share.sqrt()[:, None]
    flat = values.flatten(1, 2)
    flat = torch.baddbmm(flat, flat @ profiles, profiles.transpose(1, 2), alpha=-1)
    return (flat - flat.mean(2, keepdim=True)).view(count, panels, rows, columns)


def whitened(cadence: Floats) -> Floats:
    """`unstructured` of one cadence (6, T, F) as an array."""
    with torch.inference_mode():
        clean: Floats = unstructured(torch.from_numpy(cadence)[None], _starts(cadence.shape[2]))[0].numpy()
    return clean


def line_kernels(rows: int, slopes: Tensor) -> Tensor:
    """Kernels (J, 1, rows, columns) of one-bin-wide lines through the centre, which preserve the variance of white noise."""
    half = rows // 4 + 1  # columns on either side reached by slopes of up to half a bin per row
    row = torch.arange(rows) - (rows - 1) / 2
    column = (half + slopes[:, None] * row + 0.5).floor().long()  # (J, rows)
    kernels = torch.zeros(len(slopes), rows, 2 * half + 1)
    kernels.scatter_(2, column[..., None], 1 / math.sqrt(rows))
    return kernels[:, None]


def _starts(columns: int) -> Tensor:
    """Initial vectors of the iteration, (F, profiles): a constant, and fixed noise."""
    starts = torch.randn(columns, min(_PROFILES, columns), generator=torch.Generator().manual_seed(0), device="cpu")
    starts[:, 0] = 1
    return starts.to(torch.empty(0).device)  # on the default device, which may be "meta"


def _beside(values: Tensor, axis: int) -> Tensor:
    """The maximum of each value and its two neighbours along an axis."""
    best, count = values.clone(), values.shape[axis] - 1
    if values.requires_grad:  # writing into `best` is faster but has no gradient
        first, last = values.narrow(axis, 0, 1), values.narrow(axis, count, 1)
        after = torch.cat([values.narrow(axis, 1, count), last], axis)
        return torch.maximum(torch.maximum(values, after), torch.cat([first, values.narrow(axis, 0, count)], axis))
    for low, high in ((0, 1), (1, 0)):
        own = best.narrow(axis, low, count)
        torch.maximum(own, values.narrow(axis, high, count), out=own)
    return best


def _compared(peaks: Tensor) -> Tensor:
    """Compare the strongest tracks of ON and OFF panels, (N, comparison x 2 J), on a signed log scale."""
    on, off = peaks[:, list(ON)], peaks[:, list(OFF)]
    most, least, mean = on.amax(1), on.amin(1), on.mean(1)
    beside, usual = off.amax(1), off.mean(1)
    values = torch.cat([most, least, mean, beside, usual, mean - usual, most - beside, least - beside], 1)
    return values.sign() * values.abs().log1p()


_COMPARISONS = 8  # comparisons of ON with OFF per slope, in `_compared`


def _block(inputs: int, outputs: int, kernel: tuple[int, int], *, narrow: bool) -> nn.Sequential:
    """Convolution over (time, frequency), batch norm, ReLU; narrow: max pooling halves the columns."""
    pad = kernel[0] // 2, kernel[1] // 2
    layers = [nn.Conv2d(inputs, outputs, kernel, padding=pad, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, *([nn.MaxPool2d((1, 2), ceil_mode=True)] if narrow else []))
