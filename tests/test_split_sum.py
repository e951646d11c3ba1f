"""The split-sum net is the source's: the same sums as plain torch layers put together as the write-up says."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from wavefold.core.errors import UserError
from wavefold.models import MODELS
from wavefold.models.layers import MaxPool
from wavefold.models.split_sum import DropPositions


def plain_conv(x, conv):
    """torch's own convolution with one of our layers' weights, kept as (output, tap, input)."""
    return F.conv1d(x, conv.weight.transpose(1, 2), conv.bias, padding=conv.padding, dilation=conv.dilation)


def plain_block(x, block):
    """The source's BLOCK: twice the filters, ReLU, first half plus second half; three times; the shortcut added."""
    path = x
    for split, dilation in zip(block.path, (1, 2, 4), strict=True):
        weight = torch.cat([split.left.weight, split.right.weight]).transpose(1, 2)
        bias = torch.cat([split.left.bias, split.right.bias])
        both = F.relu(F.conv1d(path, weight, bias, padding=dilation, dilation=dilation))
        first, second = both.chunk(2, dim=1)
        path = first + second
    return path + (x if path.shape == x.shape else plain_conv(x, block.shortcut))


@pytest.mark.parametrize("length", [2600, 205, 128, 20, 1])
def test_it_is_the_sources_net(length):
    torch.manual_seed(0)
    net = MODELS["split_sum"](1, length, 4).eval()
    x = torch.randn(3, 1, length)
    expected = x
    for layer in net.blocks:
        expected = F.max_pool1d(expected, 2) if isinstance(layer, MaxPool) else plain_block(expected, layer)
    expected = net.head(expected.amax(dim=2))
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in net.parameters()) == 748_324
    widths = [block.path[2].left.weight.shape[0] for block in net.blocks if not isinstance(block, MaxPool)]
    assert widths == [16, 16, 32, 32, 64, 64, 128, 128]


def test_dropout_takes_whole_positions():
    torch.manual_seed(0)
    drop, x = DropPositions(0.5).train(), torch.ones(200, 8, 1, 20)
    dropped = drop(x)[:, :, 0]
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert (dropped == dropped[:, :1]).all()  # all channels of a position together
    assert (dropped[:, 0] == 0).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert torch.equal(drop.eval()(x), x)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"widths": ()}, "split_sum: blocks 0 is too small"),
        ({"widths": (16, 0)}, "split_sum: width 0 is too small"),
        ({"dense": 0}, "split_sum: dense 0 is too small"),
        ({"dropout": 1.0}, r"split_sum: dropout 1\.0 is not a valid fraction"),
    ],
)
def test_an_option_without_sense_is_named(options, words):
    with pytest.raises(UserError, match=words):
        MODELS["split_sum"](1, 2600, 4, **options)
