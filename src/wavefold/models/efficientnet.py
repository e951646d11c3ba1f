"""EfficientNet b0 and b3 for cadences: an adapter from six panels to three colours, timm's features, one linear layer.

Source: a published baseline of the SETI Breakthrough Listen contest 2021 (b0 in its text, b3 in its code); the nets are Tan
and Le's of 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks". What differs: timm's features
rather than efficientnet_pytorch's; with two classes the source's one logit z comes out as the pair (0, z), whose softmax is
sigmoid(z), so that cross-entropy on it is the source's binary cross-entropy; any number of classes.

Legend: N samples, P panels, T times, F frequencies, K classes, D features; all of (N, channel, T, F) in channels_last memory.
"""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from wavefold.base.build import optional
from wavefold.base.errors import UserError, nearest
from wavefold.models.layers import drop, one_logit

_timm = optional("timm", extra="vision")
_torchvision = optional("torchvision", extra="vision")

_LEAST = 29  # rows or columns from which batch norm has two values or more of a lone sample: halved five times after padding
_OPERATORS = ("nms", "qnms")  # of torchvision's compiled part, which a torch for CPUs alone cannot load; timm calls neither


class _EfficientNet(nn.Module):
    """Logits (N, K) of cadences (N, P, T, F).

    pretrained: "none"; "hub" for timm's weights from its hub; or a .safetensors or .pth file of timm's layout, whose
    classifier is left out. Under torch.device("meta") no weights are read, but a missing file is an error.
    """

    name = ""  # in MODELS and in timm

    def __init__(
        self,
        channels: int,
        rows: int,
        columns: int,
        classes: int,
        *,
        pretrained: str = "none",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if max(rows, columns) < _LEAST:
            raise UserError(
                f"{self.name}: panels of {rows} x {columns} are too small; rows or columns must be {_LEAST} or more"
            )
        self.adapt = nn.Conv2d(channels, 3, 3, padding=3, bias=False)  # 3 is the source's: two rows and columns more a side
        self.drop = drop(self.name, dropout)
        self.features = _features(self.name, pretrained)
        self.head = nn.Linear(self.features.num_features, 1 if classes == 2 else classes)

    def forward(self, signals: Tensor) -> Tensor:
        x = self.adapt(signals.contiguous(memory_format=torch.channels_last))  # (N, 3, T + 4, F + 4)
        scores: Tensor = self.head(self.drop(self.features(x)))  # (N, D) to (N, K)
        return one_logit(scores)


class EfficientNetB0(_EfficientNet):
    """The smallest: 4.0 million parameters, 1,280 features."""

    name = "efficientnet_b0"


class EfficientNetB3(_EfficientNet):
    """Deeper and wider: 10.7 million parameters, 1,536 features."""

    name = "efficientnet_b3"


def _features(name: str, pretrained: str) -> Any:
    """timm's net without a classifier, (N, 3, rows, columns) to (N, D), with the first weights that are asked for."""
    file, place = Path(pretrained), f"{name}: pretrained '{pretrained}'"
    if pretrained not in ("none", "hub"):
        _need_file(file, place)
    create, laid_out = _timm_create(), torch.get_default_device().type == "meta"
    if pretrained == "hub" and not laid_out:
        return _from_hub(create, name, place)
    features = create(name, num_classes=0)
    if pretrained != "none" and not laid_out:
        _load(features, _read(file, place), place)
    return features


def _need_file(file: Path, place: str) -> None:
    if file.suffix not in (".safetensors", ".pth"):
        near = nearest(file, ["none", "hub"])
        raise UserError(f"{place}: it must be none, hub or a file that ends in .safetensors or .pth{near}")
    if not file.is_file():
        raise UserError(f"{place}: there is no such file")


def _timm_create() -> Any:
    """timm.create_model, imported at the first net: its warnings do not matter, nor a torchvision without its operators."""
    with warnings.catch_warnings(), torch.device("cpu"):  # what a module makes at import is kept: never "meta"
        warnings.simplefilter("ignore")
        try:
            _torchvision.ops  # noqa: B018
        except RuntimeError as error:
            if "torchvision::nms does not exist" not in str(error):
                raise
            _declare_operators()
        return _timm.create_model


def _declare_operators() -> None:
    """Tell torch the signatures of the operators that torchvision's import looks for; they cannot be called."""
    for operator in _OPERATORS:
        torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def _from_hub(create: Any, name: str, place: str) -> Any:
    try:
        return create(name, pretrained=True, num_classes=0)
    except Exception as error:  # of whichever package timm fetches with
        why = type(error).__name__
        raise UserError(f"{place}: timm's hub cannot be reached ({why}); name a .safetensors or .pth file instead") from error


def _read(file: Path, place: str) -> dict[str, Tensor]:
    """A file's tensors by name; nothing in it is run."""
    try:
        if file.suffix == ".safetensors":
            return safetensors.torch.load_file(file)
        weights = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise UserError(f"{place}: this is not a whole file of weights alone ({type(error).__name__})") from error
    if isinstance(weights, dict) and all(isinstance(value, Tensor) for value in weights.values()):
        return weights
    raise UserError(f"{place}: this holds other things than tensors by name")


def _load(features: Any, weights: dict[str, Tensor], place: str) -> None:
    """Put weights into the net; UserError for the first that is missing, has no place or has another shape."""
    weights = {key: value for key, value in weights.items() if not key.startswith("classifier.")}
    own = features.state_dict()
    for key in own:
        if key not in weights and not key.endswith("num_batches_tracked"):  # a count that older files lack
            raise UserError(f"{place}: no {key} in it")
    for key, value in weights.items():
        if key not in own:
            raise UserError(f"{place}: {key} has no place in this net")
        if value.shape != own[key].shape:
            raise UserError(f"{place}: {key} is of shape {tuple(value.shape)}, not {tuple(own[key].shape)}")
    features.load_state_dict(weights, strict=False)
