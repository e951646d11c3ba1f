"""SimVP: a fully convolutional net that forecasts all later frames at once from the past frames stacked as channels.

Source: SimVP (Gao et al. 2022), the gated spatio-temporal attention of its second version (Tan et al. 2022) and the related
TAU (2023), reimplemented.
Differences: any number of later frames (a 1 x 1 map from all past to all later frames) and any frame size; frames are
folded 2 x 2 on entry, where the sources convolve at full size; no norm in the encoder and decoder, and a norm over channels
only in the translator, so that forecasts keep a sample's level and do not depend on the train or eval mode, the rest of the
batch or the frame size.

Legend: N samples, C channels, P past frames, A ahead frames, K targets, E width of a frame's features, H hidden channels,
R x W the frame, f x g half of it (folded), r x c the translator's rows x columns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavefold.core.distributed import drawn_for_rows
from wavefold.core.errors import UserError
from wavefold.models.first_forecast import (
    Activation,
    FirstForecast,
    Start,
    answer,
    need_known,
    need_one_of,
    need_share,
    need_targets,
    quiet,
    to_multiple,
)
from wavefold.models.layers import need_least

_DILATION = 3  # dilation of the second depthwise convolution, as in VAN and SimVP


class SimVP(nn.Module):
    """Encodes each past frame, translates all of them to all later frames, and decodes each with the encoder's fine features.

    width: channels per frame; hidden and depth: channels and blocks of the translator; kernel: width in cells of its attention
    (9, 15, 21, 27, ...); downsample: factor by which its rows and columns are coarser; drop_path: fraction of samples that skip
    the last block in training, smaller for earlier ones. The defaults train on 10 to 10 frames of 64 x 64 in about 45 ms per
    sequence and step on one CPU thread; for long training, use width=64, hidden=256, depth=8.
    """

    def __init__(
        self,
        channels: int,
        targets: int,
        past: int,
        ahead: int,
        *,
        width: int = 32,
        depth: int = 4,
        hidden: int = 128,
        downsample: int = 4,
        kernel: int = 21,
        drop_path: float = 0.0,
        activation: Activation = "linear",
        start: Start = "none",
    ) -> None:
        super().__init__()
        need_least("simvp", 1, past=past, ahead=ahead, width=width, depth=depth, hidden=hidden)
        need_targets("simvp", channels, targets)
        need_one_of("simvp", "downsample", downsample, (1, 2, 4, 8))
        need_share("simvp", "drop_path", drop_path)
        need_known("simvp", start, activation)
        self.targets, self.ahead, self.downsample, self.start = targets, ahead, downsample, start
        self.activation = activation
        self.encoder = Encoder(channels, width, downsample)
        blocks = [Attention(hidden, kernel, drop_path * (place + 1) / depth) for place in range(depth)]
        self.translator = nn.Sequential(nn.Linear(past * width, hidden), *blocks, nn.Linear(hidden, ahead * width))
        self.decoder = Decoder(width, targets, past, ahead, downsample)
        quiet(self.decoder.head, start)
        self.first = FirstForecast(start, targets, ahead)

    def forward(self, past: Tensor) -> Tensor:
        rows, columns = past.shape[3:]
        whole = to_multiple(past, self.downsample)
        fine, coarse = self.encoder(whole.transpose(1, 2).flatten(0, 1))  # (N P, E, f, g), (N P, E, r, c)
        stacked = coarse.unflatten(0, (past.shape[0], -1)).permute(0, 3, 4, 1, 2).flatten(3)  # (N, r, c, P E)
        later = self.translator(stacked).unflatten(3, (self.ahead, -1)).permute(0, 3, 4, 1, 2)  # (N, A, E, r, c)
        change = self.decoder(later.flatten(0, 1), fine).unflatten(0, (-1, self.ahead)).transpose(1, 2)
        change = change[..., :rows, :columns]  # (N, K, A, R, W)
        return answer(change, self.first(past), self.activation)


class Encoder(nn.Module):
    """Maps frames (M, C, R, W) to fine features (M, E, f, g) and coarse ones (M, E, r, c)."""

    def __init__(self, channels: int, width: int, downsample: int) -> None:
        super().__init__()
        self.fold = min(downsample, 2)
        self.enter = nn.Conv2d(channels * self.fold**2, width, 3, padding=1)
        strides = [2] * _halvings(downsample) + [1]
        self.down = nn.ModuleList(nn.Conv2d(width, width, 3, stride, 1) for stride in strides)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        folded = F.pixel_unshuffle(frames, self.fold).contiguous(memory_format=torch.channels_last)
        fine = coarse = F.silu(self.enter(folded))
        for convolution in self.down:
            coarse = F.silu(convolution(coarse))
        return fine, coarse


class Decoder(nn.Module):
    """Maps coarse features of later frames (N A, E, r, c) and fine ones of past frames (N P, E, f, g) to (N A, K, R, W).

    Each later frame uses a learned mixture of the past frames' fine features, initially those of the last frame alone.
    """

    def __init__(self, width: int, targets: int, past: int, ahead: int, downsample: int) -> None:
        super().__init__()
        self.fold = min(downsample, 2)
        self.up = nn.ModuleList(nn.Conv2d(width, 4 * width, 3, padding=1) for _ in range(_halvings(downsample)))
        self.shares = nn.Parameter(F.one_hot(torch.full((ahead,), past - 1), past).float())  # (A, P)
        self.join = nn.Conv2d(width, width, 3, padding=1)
        self.head = nn.Conv2d(width, targets * self.fold**2, 3, padding=1)

    def forward(self, later: Tensor, fine: Tensor) -> Tensor:
        x = later.contiguous(memory_format=torch.channels_last)
        for convolution in self.up:
            x = F.silu(F.pixel_shuffle(convolution(x), 2))
        x = F.silu(self.join(x + self._shared(fine)))
        return F.pixel_shuffle(self.head(x), self.fold)

    def _shared(self, fine: Tensor) -> Tensor:
        rows = fine.permute(0, 2, 3, 1)  # (N P, f, g, E), in memory order
        seen = rows.reshape(-1, self.shares.shape[1], rows[0].numel())  # (N, P, f g E)
        mixed = torch.bmm(self.shares.expand(seen.shape[0], -1, -1), seen)  # (N, A, f g E)
        return mixed.reshape(-1, *rows.shape[1:]).permute(0, 3, 1, 2)


class Attention(nn.Module):
    """A translator block, (N, r, c, H) to the same shape: gated large-kernel attention, then a feed-forward net per cell.

    The large kernel is a small depthwise convolution and a dilated one: 5 x 5, and 7 x 7 of every third cell, span 21 + 2.
    """

    def __init__(self, hidden: int, kernel: int, drop_path: float) -> None:
        super().__init__()
        taps = kernel // _DILATION
        if kernel % _DILATION or taps % 2 == 0 or kernel < 9:
            raise UserError(f"simvp: kernel {kernel} is not supported; use an odd multiple of 3 from 9 up: 9, 15, 21, 27, ...")
        self.drop_path = drop_path
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(2))
        self.enter, self.leave = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.near = nn.Conv2d(hidden, hidden, 2 * _DILATION - 1, padding=_DILATION - 1, groups=hidden)
        self.far = nn.Conv2d(hidden, hidden, taps, padding=taps // 2, groups=hidden)
        self.gate = nn.Linear(hidden, 2 * hidden)
        self.wide, self.narrow = nn.Linear(hidden, 2 * hidden), nn.Linear(2 * hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._kept(self._attend(self.norms[0](x)))
        return x + self._kept(self.narrow(F.silu(self.wide(self.norms[1](x)))))

    def _attend(self, x: Tensor) -> Tensor:
        reached = spread(self.far, self.near(F.silu(self.enter(x)).permute(0, 3, 1, 2)), _DILATION)
        value, gate = self.gate(reached.permute(0, 2, 3, 1)).chunk(2, 3)
        left: Tensor = self.leave(value * gate.sigmoid())
        return left

    def _kept(self, change: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0:
            return change
        keep = 1 - self.drop_path
        kept = drawn_for_rows(lambda rows: torch.empty(rows, 1, 1, 1, device=change.device).bernoulli_(keep), len(change))
        return change * kept / max(keep, 1e-6)


def spread(convolution: nn.Conv2d, x: Tensor, dilation: int) -> Tensor:
    """Apply a same-padded convolution to every `dilation`-th cell of x (N, H, r, c).

    This equals a dilated convolution and is over twice as fast on a CPU: the cells of each remainder form a small frame.
    """
    count, hidden, rows, columns = x.shape
    whole = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, -columns % dilation, 0, -rows % dilation))
    high, long = whole.shape[1] // dilation, whole.shape[2] // dilation
    parts = whole.reshape(count, high, dilation, long, dilation, hidden).permute(0, 2, 4, 1, 3, 5)
    out: Tensor = convolution(parts.reshape(-1, high, long, hidden).permute(0, 3, 1, 2))
    parts = out.permute(0, 2, 3, 1).reshape(count, dilation, dilation, high, long, hidden).permute(0, 3, 1, 4, 2, 5)
    return parts.reshape(whole.shape)[:, :rows, :columns].permute(0, 3, 1, 2)


def _halvings(downsample: int) -> int:
    """Number of halvings of rows and columns after the first fold."""
    return max(downsample // 2, 1).bit_length() - 1
