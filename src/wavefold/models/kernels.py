"""Kernel features and a linear head: a strong classifier without a neural net, fitted in seconds.

Source: Dempster, Schmidt and Webb 2021, "MiniRocket": 84 fixed kernels of nine taps at several dilations; each feature is
the fraction of positions where the output exceeds a bias. Differences: an independent implementation on (position, sample)
arrays that counts in bytes; a logistic head with probabilities instead of a ridge classifier; with several channels, kernels
that share two taps share one random channel subset, so that their sums are shared.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
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

from wavefold.core.errors import UserError
from wavefold.core.files import write_json, write_whole
from wavefold.data.dataset import Floats, Ints
from wavefold.models.kernel_net import KernelNet
from wavefold.models.layers import need_least, need_length
from wavefold.models.linear import LinearHead, fit_linear, stratified

_TAPS = 9
_KERNELS = tuple(combinations(range(_TAPS), 3))  # the taps of weight 2; the other six have weight -1
_PAIRS = tuple(combinations(range(_TAPS - 1), 2))  # the first two of them: kernels that share these share their sums
_MOST_DILATIONS = 32
_GOLDEN = (math.sqrt(5) + 1) / 2  # its multiples modulo 1 are spread evenly and select the quantiles used as biases
_BATCH = 256  # samples per block: one array of 205 positions then stays in a core's cache
_ROWS = 2048  # samples per block when predicting: 9,996 features take 82 MB, whatever the size of the data
_BYTE = 255  # maximum count of a byte


class KernelFeatures:
    """Fractions of positions where a kernel's output exceeds a bias; about `count` features, a multiple of 84."""

    def __init__(self, count: int = 9996) -> None:
        need_least("kernels", len(_KERNELS), features=count)
        self.count = count
        self.dilations: list[int] = []
        self.subsets: list[list[tuple[int, ...]]] = []  # by dilation, by pair of taps: the channels that are summed
        self.biases: list[Floats] = []  # by dilation: (kernel, bias)

    def fit(self, signals: Floats, rng: Generator) -> KernelFeatures:
        """Draw channels, and biases from the outputs of training signals (sample, channel, position)."""
        _, channels, length = signals.shape
        need_length("kernels", length, _TAPS)
        spread = _spread(self.count, length)
        self.dilations = [dilation for dilation, _ in spread]
        self.subsets = [[_subset(channels, rng) for _ in _PAIRS] for _ in spread]
        self.biases, first = [], 0
        for number, (_, count) in enumerate(spread):
            chosen = rng.integers(len(signals), size=len(_KERNELS))
            shares = (np.arange(first, first + len(_KERNELS) * count).reshape(len(_KERNELS), count) * _GOLDEN) % 1
            self.biases.append(self._draw(signals[chosen], number, shares))
            first += shares.size
        return self

    def apply(self, signals: Floats) -> Floats:
        """Features (sample, feature) in 0 to 1 of signals (sample, channel, position)."""
        features = np.empty((len(signals), sum(b.size for b in self.biases)), np.float32)
        starts = range(0, len(signals), _BATCH)

        def fill(start: int) -> None:
            self._count(signals[start : start + _BATCH], features[start : start + _BATCH])

        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(fill, starts))
        return features

    def _draw(self, signals: Floats, number: int, shares: NDArray[np.floating]) -> Floats:
        """Biases (kernel, bias): quantiles of each kernel's output on its own training signal."""
        biases = np.empty(shares.shape, np.float32)
        for kernel, output in self._outputs(_columns(signals), number):
            biases[kernel] = np.quantile(output[:, kernel], shares[kernel])
        return biases

    def _count(self, signals: Floats, features: Floats) -> None:
        columns, first = _columns(signals), 0
        for number, (dilation, biases) in enumerate(zip(self.dilations, self.biases, strict=True)):
            edge = _TAPS // 2 * dilation
            for kernel, output in self._outputs(columns, number):
                inner = output if (number + kernel) % 2 == 0 else output[edge : len(output) - edge]
                for bias in biases[kernel]:
                    features[:, first] = _share_above(inner, bias)
                    first += 1

    def _outputs(self, columns: Floats, number: int) -> Iterator[tuple[int, Floats]]:
        """Yield each kernel's number and output (position, sample), in an array that the next kernel overwrites."""
        dilation, length = self.dilations[number], columns.shape[1]
        edge = _TAPS // 2 * dilation
        padded = np.pad(columns, ((0, 0), (edge, edge), (0, 0)))
        sums: dict[tuple[int, ...], tuple[list[Floats], Floats]] = {}
        output, kernel = np.empty(columns.shape[1:], np.float32), 0
        for (i, j), subset in zip(_PAIRS, self.subsets[number], strict=True):
            if subset not in sums:
                sums[subset] = _shifted(padded[list(subset)].sum(0), dilation, length)
            tripled, total = sums[subset]
            base = tripled[i] + tripled[j] - total
            for k in range(j + 1, _TAPS):
                np.add(base, tripled[k], out=output)
                yield kernel, output
                kernel += 1


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

    def __init__(self, *, seed: int, features: int = 9996, rows: int | None = 20000) -> None:
        if rows is not None:
            need_least("kernels", 1, rows=rows)
        self.seed, self.rows = seed, rows
        self.features = KernelFeatures(features)
        self.head: _Head | None = None  # once fitted
        self.shape: tuple[int, ...] = ()  # (channel, position) of the training signals

    def save(self, folder: Path) -> None:
        """Write weights and biases to kernels.safetensors and the rest to kernels.json."""
        if self.head is None:
            raise UserError("kernels: not fitted yet, so there is nothing to save; call fit first")
        tensors = self.head.tensors()
        tensors |= {f"biases.{n}": torch.from_numpy(b) for n, b in enumerate(self.features.biases)}
        write_whole(folder / "kernels.safetensors", lambda stream: stream.write(save(tensors)))
        chosen = {"seed": self.seed, "features": self.features.count, "rows": self.rows, "shape": self.shape}
        drawn = {"dilations": self.features.dilations, "subsets": self.features.subsets}
        write_json(folder / "kernels.json", chosen | drawn)

    def module(self, shape: Sequence[int]) -> nn.Module:
        """The member in torch: signals (N, channel, position) to its float64 answers (N, answer). shape: of one sample."""
        self._check(shape)
        drawn = self.features
        net = KernelNet(self.shape, _KERNELS, dilations=drawn.dilations, subsets=drawn.subsets, biases=drawn.biases)
        return nn.Sequential(net, self._fitted().module())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The member that `save` wrote."""
        kept = json.loads((folder / "kernels.json").read_text())
        tensors = load_file(folder / "kernels.safetensors")
        made = cls(seed=kept["seed"], features=kept["features"], rows=kept["rows"])
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
    """Kernel features and multinomial logistic regression, fitted in one step; deterministic for a given seed."""

    head_type = LinearHead

    def fit(self, signals: Floats, labels: Ints, classes: int) -> Self:
        """Fit on signals (sample, channel, position), or on a stratified subset of about `rows` if there are more."""
        rng = np.random.default_rng(self.seed)
        if self.rows is not None and len(labels) > self.rows:
            kept = stratified(labels, self.rows, rng)
            signals, labels = signals[kept], labels[kept]
        self.head = fit_linear(self._draw(signals, rng), labels, classes, rng)
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


def _share_above(output: Floats, bias: np.float32) -> Floats:
    """The fraction of positions above the bias for each sample, counted in bytes, of which 32 are added at a time."""
    above = np.greater(output, bias).view(np.uint8)
    parts = [np.add.reduce(above[n : n + _BYTE], 0, dtype=np.uint8) for n in range(0, len(above), _BYTE)]
    counted = parts[0].astype(np.float32)
    for part in parts[1:]:
        counted += part
    return np.asarray(counted / np.float32(len(output)), np.float32)
