"""Fitted models, independent of device and folder: they can be pickled, copied and used on any machine."""

from __future__ import annotations

import inspect
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from wavefold.core.registry import build_part, pick
from wavefold.data.dataset import Floats, shape_words
from wavefold.estimators.errors import BadValue, need_takes
from wavefold.estimators.trainer import isolated_rng
from wavefold.models import MODELS, prepare_for_prediction
from wavefold.models.forecasters import FORECASTERS
from wavefold.tasks.samples.kinds import AtOnce, Kind, Values
from wavefold.training.loop import predict_all

NetName = str | type[nn.Module]
_SMALL = 64  # maximum values per sample at which float64 costs only some tenths of a millisecond a sample (net4: 3 ms)


class Fitted(Protocol):
    """A fitted model that predicts from prepared signals."""

    def predict(self, signals: Floats, head: nn.Module, device: torch.device) -> Values:
        """Predictions, (sample, P), of signals (sample, channel, ...). head: from what a net returns to them."""


class FittedNet:
    """A net stored as CPU weights and a function that builds it; built on a device at the first prediction there.

    exact: predict small samples in float64, since in float32 the last digits depend on the batch size.
    """

    def __init__(self, make: Callable[[], nn.Module], weights: Mapping[str, torch.Tensor], *, exact: bool = False) -> None:
        self._make, self._exact = make, exact
        self.weights = {name: value.detach().cpu().numpy().copy() for name, value in weights.items()}
        self._built: dict[tuple[torch.device, torch.dtype], nn.Module] = {}

    def on(self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> nn.Module:
        """The net on a device, ready to predict."""
        place = torch.device(device), dtype
        if place not in self._built:
            with isolated_rng():  # new layers draw random weights, though they are overwritten
                self._built[place] = prepare_for_prediction(self.as_taught()).to(*place)
        return self._built[place]

    def as_taught(self) -> nn.Module:
        """A new net on the CPU with these weights, ready to train."""
        with isolated_rng():
            net = self._make()
        net.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in self.weights.items()})
        return net

    def predict(self, signals: Floats, head: nn.Module, device: torch.device) -> Values:
        """Predictions, (sample, P), of signals (sample, channel, ...). head: from what the net returns to them."""
        dtype = torch.float64 if self._exact and math.prod(signals.shape[1:]) <= _SMALL else torch.float32
        return predict_all(self.on(device, dtype), head, torch.from_numpy(signals).to(dtype))

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_built": {}}


class FittedAtOnce:
    """A model that was fitted in one step; pickled as its short name and the files that it writes itself."""

    def __init__(self, name: str, model: AtOnce, kind: Kind) -> None:
        self.name, self.model, self.kind = name, model, kind

    def predict(self, signals: Floats, head: nn.Module, device: torch.device) -> Values:
        """Predictions, (sample, P), of signals (sample, channel, ...); the model needs no head and chooses its own device."""
        return self.kind.ask(self.model, signals)

    def __getstate__(self) -> tuple[str, Kind, dict[str, bytes]]:
        with tempfile.TemporaryDirectory() as folder:
            self.model.save(Path(folder))
            files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
        return self.name, self.kind, files

    def __setstate__(self, state: tuple[str, Kind, dict[str, bytes]]) -> None:
        self.name, self.kind, files = state
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
            self.model = pick(self.kind.fitted, self.name, "model").load(Path(folder))


def new_net(model: NetName, options: Mapping[str, object], shape: Sequence[int], width: int) -> nn.Module:
    """Build a net for signals by its short name or class; torch's generator draws weights. shape: (channel, ...) of a sample.

    It receives channels and length, or channels, rows and columns if its constructor has rows; and as `classes` the width,
    the values that it returns for a sample.
    """
    kind = pick(MODELS, model, "model") if isinstance(model, str) else model
    axes = ("channels", "rows", "columns") if "rows" in inspect.signature(kind).parameters else ("channels", "length")
    if len(shape) != len(axes):
        words = " and ".join([", ".join(axes[:-1]), axes[-1]])
        raise BadValue(f"model: '{_word(model)}' takes samples with {words}; a sample in X is {shape_words(shape)}")
    return _built(MODELS, model, options, {**dict(zip(axes, shape, strict=True)), "classes": width})


def new_forecaster(model: NetName, options: Mapping[str, object], given: Mapping[str, int]) -> nn.Module:
    """Build a forecasting net by its short name or class. given: channels, targets, past, ahead."""
    return _built(FORECASTERS, model, options, given)


def _built(
    table: Mapping[str, type[nn.Module]], model: NetName, options: Mapping[str, object], given: Mapping[str, int]
) -> nn.Module:
    if isinstance(model, str):
        net: nn.Module = build_part(table, model, options, "model", **given)
        return net
    need_takes(model, given, options)
    return model(**given, **options)


def _word(model: NetName) -> str:
    return model if isinstance(model, str) else model.__name__
