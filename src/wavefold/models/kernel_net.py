"""Kernel features as a torch module for export: the same sums in the same order, bit-identical.

The features count outputs above a bias, and biases are themselves outputs for training signals, so a different order of
summation would change some counts.

Legend: N samples, C channels, S sets of channels, T positions, K = 84 kernels, B biases per kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavefold.core.onnx_ops import sequential_sum
from wavefold.data.dataset import Floats

_VALUES = 2**19  # maximum values of one sample that are compared at once

Kernels = Sequence[tuple[int, int, int]]
Drawn = tuple[int, Sequence[tuple[int, ...]], Floats]  # dilation, channels of each kernel, biases (kernel, bias)


class KernelNet(nn.Module):
    """Features (N, feature) of signals (N, C, T): for each dilation, kernel and bias, the share of positions above the bias.

    Then follow, for each competing dilation and kernel, the square roots of the shares of positions where a kernel's output is
    the highest of its group, and the lowest; and the same of the differences of neighbouring positions. kernels: the three taps
    of weight 2. parts: by dilation. competing: numbers of parts. rivals: kernels in each group.
    """

    def __init__(
        self, shape: Sequence[int], kernels: Kernels, parts: Sequence[Drawn], *, competing: Sequence[int], rivals: int
    ) -> None:
        super().__init__()
        shorter = shape[0], shape[1] - 1
        self.shares = nn.ModuleList(_Shares(shape, kernels, part, number) for number, part in enumerate(parts))
        self.wins = nn.ModuleList(_Wins(shape, kernels, parts[number], rivals) for number in competing)
        self.later = nn.ModuleList(_Wins(shorter, kernels, parts[number], rivals) for number in competing)

    def forward(self, signals: Tensor) -> Tensor:
        differences = signals[:, :, 1:] - signals[:, :, :-1]
        shares = [part(signals) for part in self.shares]
        wins = [part(signals) for part in self.wins] + [part(differences) for part in self.later]
        return torch.cat([*shares, *wins], 1)


class _Dilation(nn.Module):
    """The outputs of one dilation's kernels."""

    chosen: Tensor  # (S, C, 1) 1 for channels in the set, else 0
    windows: Tensor  # (9 T,) positions of a padded signal
    first: Tensor  # (K,) index of each kernel's first tap among the nine shifts of all sets
    second: Tensor
    third: Tensor
    subset: Tensor  # (K,) set of each kernel

    def __init__(self, shape: Sequence[int], kernels: Kernels, part: Drawn) -> None:
        super().__init__()
        dilation, subsets, _ = part
        channels, length = shape
        self.length, self.edge = length, 4 * dilation
        sets = list(dict.fromkeys(subsets))
        of_kernel = [sets.index(subset) for subset in subsets]
        chosen = [[[float(channel in members)] for channel in range(channels)] for members in sets]
        taps = [torch.tensor([9 * s + k[n] for s, k in zip(of_kernel, kernels, strict=True)]) for n in range(3)]
        kept = {"chosen": torch.tensor(chosen), "subset": torch.tensor(of_kernel)}
        kept |= {"windows": (torch.arange(9)[:, None] * dilation + torch.arange(length)).flatten()}
        self._keep(kept | {"first": taps[0], "second": taps[1], "third": taps[2]})

    def outputs(self, signals: Tensor) -> Tensor:
        """The kernels' outputs, (N, K, T)."""
        shifts = self._shifts(signals)
        total = sequential_sum(shifts, 2).flatten(1, 2)  # (N, S, T)
        tripled = 3 * shifts.flatten(1, 2)  # (N, 9 S, T)
        base = tripled.index_select(1, self.first) + tripled.index_select(1, self.second) - total.index_select(1, self.subset)
        return base + tripled.index_select(1, self.third)

    def _shifts(self, signals: Tensor) -> Tensor:
        """The nine shifts of each set's sum of channels, (N, S, 9, T)."""
        summed = signals
        if signals.shape[1] > 1:
            summed = sequential_sum(signals[:, None] * self.chosen, 2).flatten(1, 2)  # (N, S, T)
        padded = F.pad(summed, (self.edge, self.edge))
        return padded.index_select(2, self.windows).view(-1, summed.shape[1], 9, self.length)

    def _keep(self, tensors: Mapping[str, Tensor]) -> None:
        for name, value in tensors.items():
            self.register_buffer(name, value, persistent=False)


class _Shares(_Dilation):
    """The shares of positions above the biases of one dilation, ordered by kernel, then bias."""

    looked: Tensor  # (T, 2) positions that are counted: all, or those where no tap is outside the signal
    narrow: Tensor  # (K, 1, 2) 1 for the choice that a kernel uses, else 0
    count: Tensor  # (K, 1) number of counted positions
    biases: Tensor  # (K, B)

    def __init__(self, shape: Sequence[int], kernels: Kernels, part: Drawn, number: int) -> None:
        super().__init__(shape, kernels, part)
        looked = torch.ones(self.length, 2)
        looked[: self.edge, 1] = looked[self.length - self.edge :, 1] = 0
        narrow = (torch.arange(len(kernels)) + number) % 2
        kept = {"looked": looked, "biases": torch.from_numpy(part[2])}
        self._keep(kept | {"narrow": F.one_hot(narrow, 2)[:, None].float(), "count": looked.sum(0)[narrow][:, None]})

    def forward(self, signals: Tensor) -> Tensor:
        output = self.outputs(signals)
        together = max(1, _VALUES // output[0].numel())
        counts = [self._above(output, biases) for biases in torch.split(self.biases, together, 1)]
        return ((torch.cat(counts, 2) if len(counts) > 1 else counts[0]) / self.count).flatten(1)

    def _above(self, output: Tensor, biases: Tensor) -> Tensor:
        """The number of positions where outputs (N, K, T) exceed biases (K, B): (N, K, B)."""
        above = (output[:, :, None] > biases[:, :, None]).to(output.dtype)
        return ((above @ self.looked) * self.narrow).sum(3)  # sums of ones: exact in any order


class _Wins(_Dilation):
    """Square roots of the shares of wins of one dilation: for each kernel, as the highest of its group and as the lowest."""

    def __init__(self, shape: Sequence[int], kernels: Kernels, part: Drawn, rivals: int) -> None:
        super().__init__(shape, kernels, part)
        self.rivals = rivals

    def forward(self, signals: Tensor) -> Tensor:
        output = self.outputs(signals)
        groups = output.view(-1, output.shape[1] // self.rivals, self.rivals, self.length)
        high, low = groups.amax(2, keepdim=True), groups.amin(2, keepdim=True)
        varied = high > low  # where all are the same, none wins
        won = [((groups == best) & varied).to(output.dtype).sum(3).flatten(1) for best in (high, low)]
        shares = torch.stack(won, 2).flatten(1) / self.length
        return shares.double().sqrt().to(output.dtype)  # torch's own root of float32 is not always the nearest number
