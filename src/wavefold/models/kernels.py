"""Kernel features and a linear head: a strong classifier without a neural net, fitted in seconds.

Sources: Dempster, Schmidt and Webb 2021, "MiniRocket": 84 fixed kernels of nine taps at several dilations; a feature is the
share of positions where a kernel's output exceeds a bias. Dempster, Schmidt and Webb 2023, "Hydra": kernels compete in
groups; a feature is the share of positions where a kernel's output is the highest of its group, or the lowest. Differences:
the kernels of MiniRocket compete, in twelve groups of seven, so that one convolution serves both; where all seven outputs are
the same, none wins; wins are counted, not weighted; with several channels, kernels that share two taps share a random subset.

The features are counted by Numba where it is installed (the extra `fast`), or by NumPy, with the same bits.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor, nn

from wavefold.core.compiled import has_numba
from wavefold.core.errors import UserError
from wavefold.core.files import write_json, write_whole
from wavefold.core.registry import later
from wavefold.data.dataset import Floats, Ints
from wavefold.models.kernel_net import KernelNet
from wavefold.models.layers import need_least, need_length
from wavefold.models.linear import LinearHead, fit_linear, stratified
from wavefold.models.ridge_classes import fit_ridge_classes

kernel_counts = later("wavefold.models.kernel_counts")

_TAPS = 9
_KERNELS = tuple(combinations(range(_TAPS), 3))  # the taps of weight 2; the other six have weight -1
_RIVALS = 7  # kernels in a group: neighbours in the order above, which share taps
_PAIRS = tuple(combinations(range(_TAPS - 1), 2))
_PAIR_OF = tuple(_PAIRS.index(kernel[:2]) for kernel in _KERNELS)  # kernels that share their first two taps share channels
_MOST_DILATIONS = 32
_GOLDEN = (math.sqrt(5) + 1) / 2  # its multiples modulo 1 are spread evenly and select the quantiles used as biases
_BATCH = 256  # samples per block of NumPy: fewer, and its calls take longer than their work
_COMPILED_BATCH = 16  # samples per block of Numba, which counts row by row: so that threads end together
_WORTH = 1e9  # comparisons that take NumPy as long as it takes to import Numba and its kept machine code
_ROWS = 2048  # samples per block when predicting: 6,636 features take 54 MB, whatever the size of the data
_RIDGE = 2000  # samples up to which ridge regression is the better head, and the faster one
_BYTE = 255  # maximum count of a byte


class KernelFeatures:
    """Shares of positions where a kernel exceeds a bias, and with `wins` where it is the highest of its group, or the lowest.

    The shares come first, by dilation, kernel and bias: `count` of them, rounded down to a multiple of 84. Then come 168 square
    roots of shares for each of some dilations, a factor of 2 or more apart: for each kernel its wins by the highest output, and
    by the lowest. The same follows for the differences of neighbouring positions.
    """

    def __init__(self, count: int = 4998, *, wins: bool = True) -> None:
        need_least("kernels", len(_KERNELS), features=count)
        self.count, self.wins = count, wins
        self.dilations: list[int] = []
        self.subsets: list[list[tuple[int, ...]]] = []  # by dilation, by pair of taps: the channels that are summed
        self.biases: list[Floats] = []  # by dilation: (kernel, bias)
        self._drawn: tuple[NDArray[np.generic], ...] | None = None  # all of it, as Numba's function takes it

    def fit(self, signals: Floats, rng: Generator) -> KernelFeatures:
        """Draw channels, and biases from the outputs of training signals (sample, channel, position)."""
        _, channels, length = signals.shape
        need_length("kernels", length, _TAPS)
        spread = _spread(self.count, length)
        self.dilations = [dilation for dilation, _ in spread]
        self.subsets = [[_subset(channels, rng) for _ in _PAIRS] for _ in spread]
        self.biases, self._drawn, first = [], None, 0
        for number, (_, count) in enumerate(spread):
            chosen = rng.integers(len(signals), size=len(_KERNELS))
            shares = (np.arange(first, first + len(_KERNELS) * count).reshape(len(_KERNELS), count) * _GOLDEN) % 1
            self.biases.append(self._draw(signals[chosen], number, shares))
            first += shares.size
        return self

    def apply(self, signals: Floats) -> Floats:
        """Features (sample, feature) in 0 to 1 of signals (sample, channel, position)."""
        shares, wins = self.shares, 2 * len(_KERNELS) * len(self.competing)
        features = np.empty((len(signals), shares + 2 * wins), np.float32)
        compiled = self._compiled(signals)
        block = _COMPILED_BATCH if compiled else _BATCH

        def fill(start: int) -> None:
            rows = slice(start, start + block)
            if compiled:
                compiled(np.ascontiguousarray(signals[rows], np.float32), features[rows])
            else:
                columns, own = _columns(signals[rows]), np.split(features[rows], [shares, shares + wins], 1)
                self._count(columns, own[0])
                self._compete(columns, own[1])
                self._compete(np.diff(columns, axis=1), own[2])

        threads = min(torch.get_num_threads(), -(-len(signals) // block))
        if threads < 2:
            for start in range(0, len(signals), block):
                fill(start)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(fill, range(0, len(signals), block)))
        return features

    @property
    def shares(self) -> int:
        """The number of features that are shares above a bias; wins follow."""
        return sum(b.size for b in self.biases)

    @property
    def competing(self) -> list[int]:
        """The numbers of the dilations whose kernels compete: each at least twice the one before."""
        chosen: list[int] = []
        for number, dilation in enumerate(self.dilations if self.wins else ()):
            if not chosen or dilation >= 2 * self.dilations[chosen[-1]]:
                chosen.append(number)
        return chosen

    def _compiled(self, signals: Floats) -> Callable[[Floats, Floats], None] | None:
        """Numba's function that fills features, if it is installed and worth its import."""
        if not has_numba() or (signals.size * self.count < _WORTH and "numba" not in sys.modules):
            return None
        if self._drawn is None:
            self._drawn = self._as_arrays(signals.shape[1])
        drawn = self._drawn

        def fill(rows: Floats, features: Floats) -> None:
            kernel_counts.count_rows(rows, *drawn, features)

        return fill

    def _as_arrays(self, channels: int) -> tuple[NDArray[np.generic], ...]:
        """What was drawn, as Numba's function takes it."""
        sets = [list(dict.fromkeys(pairs)) for pairs in self.subsets]
        members = np.zeros((len(sets), max(map(len, sets)), channels), np.bool_)
        for number, chosen in enumerate(sets):
            for place, subset in enumerate(chosen):
                members[number, place, list(subset)] = True
        set_of = np.array(
            [[chosen.index(pairs[p]) for p in _PAIR_OF] for chosen, pairs in zip(sets, self.subsets, strict=True)]
        )
        starts = np.cumsum([0, *(b.size for b in self.biases)])
        biases = np.concatenate([b.ravel() for b in self.biases])
        competing = np.isin(np.arange(len(sets)), self.competing)
        return np.array(_KERNELS), members, set_of, np.array(self.dilations), starts, biases, competing

    def _draw(self, signals: Floats, number: int, shares: NDArray[np.floating]) -> Floats:
        """Biases (kernel, bias): quantiles of each kernel's output on its own training signal. signals: one for each kernel."""
        dilation, length = self.dilations[number], signals.shape[2]
        edge, kernels = _TAPS // 2 * dilation, np.arange(len(_KERNELS))
        padded = np.zeros((len(_KERNELS), length + 2 * edge), np.float32)
        for signal, row, pair in zip(signals, padded, _PAIR_OF, strict=True):
            row[edge : edge + length] = signal[list(self.subsets[number][pair])].sum(0)
        shifts = np.stack([padded[:, tap * dilation : tap * dilation + length] for tap in range(_TAPS)])
        total = shifts[0].copy()
        for shift in shifts[1:]:
            total += shift
        first, second, third = (3 * shifts[taps, kernels] for taps in np.array(_KERNELS).T)
        outputs = np.sort(first + second - total + third, axis=1)
        places = shares * (length - 1)
        below = places.astype(np.int64)
        low, high = (np.take_along_axis(outputs, np.minimum(at, length - 1), 1) for at in (below, below + 1))
        return np.asarray(low + (high - low) * (places - below), np.float32)

    def _count(self, columns: Floats, shares: Floats) -> None:
        """Fill shares (sample, feature) of positions above each bias."""
        feature = 0
        for number, (dilation, biases) in enumerate(zip(self.dilations, self.biases, strict=True)):
            edge = _TAPS // 2 * dilation
            for first, outputs in self._outputs(columns, number):
                for kernel, output in enumerate(outputs, first):
                    inner = output if (number + kernel) % 2 == 0 else output[edge : len(output) - edge]
                    for bias in biases[kernel]:
                        shares[:, feature] = _share(np.greater(inner, bias))
                        feature += 1

    def _compete(self, columns: Floats, wins: Floats) -> None:
        """Fill wins (sample, feature): square roots of the shares of positions where a kernel beats its group."""
        won = 0
        for number in self.competing:
            for _, outputs in self._outputs(columns, number):
                high, low = outputs.max(0), outputs.min(0)
                flat = high == low
                high[flat] = low[flat] = np.nan  # equal to nothing, so that no kernel wins
                for output in outputs:
                    wins[:, won], wins[:, won + 1] = (np.sqrt(_share(np.equal(output, best))) for best in (high, low))
                    won += 2

    def _outputs(self, columns: Floats, number: int) -> Iterator[tuple[int, Floats]]:
        """Yield each group's first kernel and outputs (kernel, position, sample), which the next group overwrites."""
        dilation, length = self.dilations[number], columns.shape[1]
        edge = _TAPS // 2 * dilation
        padded = np.pad(columns, ((0, 0), (edge, edge), (0, 0)))
        sums: dict[tuple[int, ...], tuple[list[Floats], Floats]] = {}
        outputs = np.empty((_RIVALS, *columns.shape[1:]), np.float32)
        for first in range(0, len(_KERNELS), _RIVALS):
            for kernel, output in enumerate(outputs, first):
                subset, (i, j, k) = self.subsets[number][_PAIR_OF[kernel]], _KERNELS[kernel]
                if subset not in sums:
                    sums[subset] = _shifted(padded[list(subset)].sum(0), dilation, length)
                tripled, total = sums[subset]
                np.add(tripled[i], tripled[j], out=output)
                output -= total
                output += tripled[k]
            yield first, outputs


class Head(Protocol):
    """What is fitted on features: it predicts, and is kept as tensors."""

    def tensors(self) -> dict[str, Tensor]:
        """The tensors to save with safetensors."""
        ...

    def module(self) -> nn.Module:
        """A torch module from features (N, feature) to answers (N, answer) float64."""
        ...

    @classmethod
    def from_tensors(cls, kept: dict[str, Tensor]) -> Self:
        """Rebuild the head from what `tensors` returned."""
        ...


_Head = TypeVar("_Head", bound=Head)


class KernelMember(Generic[_Head]):
    """What members on kernel features share: features, blocks of rows, files and the torch module. A subclass fits the head."""

    head_type: type[_Head]  # of every member of a subclass

    def __init__(self, *, seed: int, features: int = 4998, wins: bool = True, rows: int | None = 20000) -> None:
        if rows is not None:
            need_least("kernels", 1, rows=rows)
        self.seed, self.rows = seed, rows
        self.features = KernelFeatures(features, wins=wins)
        self.head: _Head | None = None  # once fitted
        self.shape: tuple[int, ...] = ()  # (channel, position) of the training signals

    def save(self, folder: Path) -> None:
        """Write weights and biases to kernels.safetensors and the rest to kernels.json."""
        if self.head is None:
            raise UserError("kernels: not fitted yet, so there is nothing to save; call fit first")
        tensors = self.head.tensors()
        tensors |= {f"biases.{n}": torch.from_numpy(b) for n, b in enumerate(self.features.biases)}
        write_whole(folder / "kernels.safetensors", lambda stream: stream.write(save(tensors)))
        chosen = {"seed": self.seed, "features": self.features.count, "wins": self.features.wins, "rows": self.rows}
        drawn = {"shape": self.shape, "dilations": self.features.dilations, "subsets": self.features.subsets}
        write_json(folder / "kernels.json", chosen | drawn)

    def module(self, shape: Sequence[int]) -> nn.Module:
        """The member in torch: signals (N, channel, position) to its float64 answers (N, answer). shape: of one sample."""
        self._check(shape)
        drawn = self.features
        subsets = [[pairs[pair] for pair in _PAIR_OF] for pairs in drawn.subsets]
        parts = list(zip(drawn.dilations, subsets, drawn.biases, strict=True))
        net = KernelNet(self.shape, _KERNELS, parts, competing=drawn.competing, rivals=_RIVALS)
        return nn.Sequential(net, self._fitted().module())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The member that `save` wrote."""
        kept = json.loads((folder / "kernels.json").read_text())
        tensors = load_file(folder / "kernels.safetensors")
        made = cls(seed=kept["seed"], features=kept["features"], wins=kept.get("wins", False), rows=kept["rows"])
        made.shape, made.head = tuple(kept["shape"]), made.head_type.from_tensors(tensors)
        made.features.dilations = kept["dilations"]
        made.features.subsets = [[tuple(subset) for subset in pairs] for pairs in kept["subsets"]]
        made.features.biases = [tensors[f"biases.{n}"].numpy() for n in range(len(kept["dilations"]))]
        return made

    def _draw(self, signals: Floats, rng: Generator) -> Floats:
        """The features (sample, feature) of training signals, after drawing kernels for them."""
        self.shape = signals.shape[1:]
        return self.features.fit(signals, rng).apply(signals)

    def _in_blocks(self, signals: Floats) -> Iterator[Floats]:
        """Yield the features of `signals` block by block; one empty block if there are none."""
        self._check(signals.shape[1:])
        for start in range(0, max(len(signals), 1), _ROWS):
            yield self.features.apply(signals[start : start + _ROWS])

    def _fitted(self) -> _Head:
        if self.head is None:
            raise UserError("kernels: not fitted yet; call fit first")
        return self.head

    def _check(self, shape: Sequence[int]) -> None:
        self._fitted()
        if tuple(shape) != self.shape:
            raise UserError(f"kernels: got signals of shape {tuple(shape)}, but it was fitted on {self.shape}")


class KernelClassifier(KernelMember[LinearHead]):
    """Kernel features and a linear head, fitted in one step; deterministic for a given seed.

    The head is ridge regression on up to 2,000 samples and multinomial logistic regression on more, as figures in
    docs/decisions.md advise. Its probabilities are calibrated on the training samples: no sample need be held back.
    """

    head_type = LinearHead
    calibrated = True

    def fit(self, signals: Floats, labels: Ints, classes: int, weights: Floats | None = None) -> Self:
        """Fit on signals (sample, channel, position), or on a stratified subset of about `rows` if there are more.

        weights: of the samples in the head's loss, (sample,).
        """
        rng = np.random.default_rng(self.seed)
        if self.rows is not None and len(labels) > self.rows:
            kept = stratified(labels, self.rows, rng)
            signals, labels, weights = signals[kept], labels[kept], None if weights is None else weights[kept]
        features = self._draw(signals, rng)
        if len(labels) <= _RIDGE:
            self.head = fit_ridge_classes(features, labels, classes, weights, second=self.features.shares)
        else:
            self.head = fit_linear(features, labels, classes, rng, weights)
        return self

    def probabilities(self, signals: Floats) -> NDArray[np.float64]:
        """Class probabilities (sample, class) of signals (sample, channel, position)."""
        head = self._fitted()
        return np.concatenate([head.probabilities(features) for features in self._in_blocks(signals)])


def _spread(count: int, length: int) -> list[tuple[int, int]]:
    """Dilations, evenly spaced in logarithm from 1 until nine taps span the signal, each with its biases per kernel."""
    each = count // len(_KERNELS)
    number = min(each, _MOST_DILATIONS)
    reach = math.log2((length - 1) / (_TAPS - 1))
    dilations, counts = np.unique(np.logspace(0, reach, number, base=2).astype(int), return_counts=True)
    counts = (counts * (each / number)).astype(int)
    counts[: each - counts.sum()] += 1  # the remainder from rounding goes to the shortest dilations
    return [(int(d), int(c)) for d, c in zip(dilations, counts, strict=True)]


def _subset(channels: int, rng: Generator) -> tuple[int, ...]:
    size = int(2 ** rng.uniform(0, math.log2(min(channels, _TAPS) + 1)))  # small sets are more likely, as in the source
    return tuple(sorted(int(c) for c in rng.choice(channels, size, replace=False)))


def compile_counts() -> None:
    """Load Numba, if it is installed, before the first features: for a process that answers many small batches."""
    if has_numba():
        _ = kernel_counts.count_rows


def _columns(signals: Floats) -> Floats:
    return np.ascontiguousarray(np.transpose(signals, (1, 2, 0)), np.float32)  # (channel, position, sample)


def _shifted(padded: Floats, dilation: int, length: int) -> tuple[list[Floats], Floats]:
    """Three times each of the nine shifts of (position, sample), and the sum of the shifts themselves."""
    tripled = 3 * padded
    taps = [slice(tap * dilation, tap * dilation + length) for tap in range(_TAPS)]
    total = padded[taps[0]].copy()
    for tap in taps[1:]:
        total += padded[tap]
    return [tripled[tap] for tap in taps], total


def _share(where: NDArray[np.bool_]) -> Floats:
    """The share of positions that are true for each sample, counted in bytes, of which 32 are added at a time."""
    marks = where.view(np.uint8)
    parts = [np.add.reduce(marks[n : n + _BYTE], 0, dtype=np.uint8) for n in range(0, len(marks), _BYTE)]
    counted = parts[0].astype(np.float32)
    for part in parts[1:]:
        counted += part
    return np.asarray(counted / np.float32(len(where)), np.float32)
