"""The net for cadences: it follows lines, takes out what OFF panels share, and sees nothing of the batch."""

from __future__ import annotations

import pytest
import torch

from wavefold.core.errors import UserError
from wavefold.domains.radio.cadence import ON
from wavefold.domains.radio.needles import Needles, add_needles
from wavefold.domains.radio.on_off import Tracker, line_kernels, unstructured
from wavefold.models import MODELS

ROWS, COLUMNS = 64, 96


def noise(count: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 6, ROWS, COLUMNS, generator=torch.Generator().manual_seed(seed))


def with_line(cadences: torch.Tensor, drift: float, amplitude: float = 2.0) -> torch.Tensor:
    clock = torch.arange(6 * ROWS).float().view(1, 6, ROWS).expand(len(cadences), -1, -1)
    column = 48 + drift * (clock - 3 * ROWS)
    some = len(cadences)
    lit = torch.ones(some, 6, ROWS, dtype=torch.bool)
    line = Needles(
        torch.zeros(some, dtype=torch.int64), torch.full((some,), amplitude), torch.full((some,), drift), column, lit
    )
    return add_needles(cadences, line, torch.tensor([[p in ON for p in range(6)]]).expand(some, -1))


def test_line_kernels_are_one_bin_wide_and_keep_the_noise():
    kernels = line_kernels(16, torch.tensor([-0.5, 0.0, 0.5]))
    assert kernels.shape == (3, 1, 16, 11)
    assert torch.equal((kernels != 0).sum(3), torch.ones(3, 1, 16, dtype=torch.int64))
    assert torch.allclose(kernels.square().sum((1, 2, 3)), torch.ones(3))
    assert torch.equal(kernels[1, 0].argmax(1), torch.full((16,), 5))


@pytest.mark.parametrize("drift", [-0.25, 0.0, 0.125])
def test_a_straight_track_adds_up_over_a_panel(drift):
    tracker = Tracker(ROWS, COLUMNS)
    sums = tracker.sums(with_line(0 * noise(1), drift, 1.0))
    ends = tracker.follow(sums, tracker.forth, bends=False)[-1]  # (B, J, F) at the end of each panel
    steps = ROWS // 16 - 1
    whole = 4 * (ROWS // 16) - 1.2 * steps  # 4 sigma a stretch, less what its steps cost
    assert ends[2].max() == pytest.approx(whole, abs=2)  # a quarter bin a row: every other tie of halves goes past the kernel


def test_profiles_of_off_panels_go_and_a_needle_stays():
    cadences = noise(2)
    carrier = torch.exp(-(((torch.arange(COLUMNS) - 30) / 5.0) ** 4))
    fading = 20 * torch.randn(2, 6, ROWS, 1, generator=torch.Generator().manual_seed(1)).abs()
    clean = unstructured(with_line(cadences + fading * carrier, 0.2, 6.0), Tracker(ROWS, COLUMNS).starts)
    assert clean[:, 1::2, :, 25:35].std() < 1.3
    row = 10
    column = round(48 + 0.2 * (2 * ROWS + row - 3 * ROWS))
    assert clean[:, 2, row, column].min() > 3


def test_scale_of_each_panel_does_not_matter():
    net = MODELS["on_off"](6, ROWS, COLUMNS, 2).eval()
    cadences = with_line(noise(), 0.1)
    sizes = torch.tensor([0.1, 1.0, 3.0, 0.5, 2.0, 7.0])[None, :, None, None]
    with torch.no_grad():
        assert torch.allclose(net(cadences), net(cadences * sizes), atol=1e-3)


def test_one_logit_for_two_classes_and_a_head_of_all_for_more():
    net = MODELS["on_off"](6, ROWS, COLUMNS, 2)
    assert torch.equal(net(noise())[:, 0], torch.zeros(4))
    assert MODELS["on_off"](6, ROWS, COLUMNS, 5)(noise()).shape == (4, 5)


def test_it_has_at_most_a_million_parameters_on_the_contests_shape():
    with torch.device("meta"):
        net = MODELS["on_off"](6, 273, 256, 2)
    assert sum(p.numel() for p in net.parameters()) < 1_000_000


@pytest.mark.parametrize("shape", [(1, 64, 64), (6, 4, 64), (6, 64, 4)])
def test_what_it_cannot_take_is_one_line(shape):
    with pytest.raises(UserError, match="on_off: expected 6 panels of 8 rows and columns or more; got"):
        MODELS["on_off"](*shape, 2)
