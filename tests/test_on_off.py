"""The net for cadences: it follows lines, takes out what OFF panels share, and sees nothing of the batch."""

from __future__ import annotations

import pytest
import torch

from wavefold.core.errors import UserError
from wavefold.domains.radio import dedoppler, straight
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


@pytest.mark.parametrize("shape", [(64, 96), (40, 50), (16, 64), (9, 8)])
def test_the_search_gives_the_same_bits_compiled_by_torch_and_as_it_is_exported(shape, monkeypatch):
    pytest.importorskip("numba", reason="numba, the extra 'fast', is not installed")
    cadences = torch.randn(3, 6, *shape, generator=torch.Generator().manual_seed(2))
    cadences[0, ::2, :, 5] += 1.5
    cadences[1, :, :, 3] += 2
    compiled = dedoppler.drift_scores(cadences, 0.5)
    made = straight.straight_scores(cadences)
    monkeypatch.setattr(dedoppler, "has_numba", lambda: False)
    assert all(torch.equal(one, other) for one, other in zip(compiled, dedoppler.drift_scores(cadences, 0.5), strict=True))
    monkeypatch.setattr(straight, "has_numba", lambda: False)
    assert torch.equal(straight.straight_scores(cadences), made)
    assert made.shape == (3, 1 + straight.range_count(shape[0]))
    assert torch.equal(made[:, 0], made[:, 1:].amax(1))
    assert torch.equal(made[:, 0], dedoppler.drift_scores(cadences.clamp(-6, 6), 0.5)[0].amax((1, 2)))


def test_with_search_the_answer_begins_as_the_searchs():
    """With a head that says nothing yet the answer grows with the search's score; the head then corrects it."""
    torch.manual_seed(0)
    net = MODELS["on_off"](6, ROWS, COLUMNS, 2, width=4, search=True).eval()
    for weight in net.head[-1].parameters():
        torch.nn.init.zeros_(weight)
    strengths = [0.0, 0.5, 1.0, 2.0]
    cadences = torch.cat([with_line(noise(1), 0.2, strength) for strength in strengths])
    with torch.no_grad():
        answers = net(cadences)[:, 1]
        search = straight.straight_scores(unstructured(cadences, net.tracks.starts))[:, 0]
        assert answers.tolist() == pytest.approx((3.0 * (search.log() - 1.8)).tolist(), abs=1e-4)
    assert answers[1:].diff().min() > 0
    assert set(net.state_dict()) - set(MODELS["on_off"](6, ROWS, COLUMNS, 2, width=4).state_dict()) == {"searched"}
    old = MODELS["on_off"](6, ROWS, COLUMNS, 2, width=4)
    assert old.head[0].in_features + 1 + straight.range_count(ROWS) == net.head[0].in_features


def test_what_the_search_sees_has_a_gradient():
    net = MODELS["on_off"](6, 16, 32, 2, width=4, search=True).eval()
    for weight in net.head[-1].parameters():
        torch.nn.init.zeros_(weight)
    cadences = torch.randn(2, 6, 16, 32, generator=torch.Generator().manual_seed(3)).requires_grad_()
    plain = net(cadences.detach())
    whole = net(cadences)
    torch.testing.assert_close(whole, plain, rtol=0, atol=1e-5)
    whole[:, 1].sum().backward()
    assert cadences.grad[:, ::2].abs().sum() > 0
    with torch.no_grad():
        assert MODELS["on_off"](6, 16, 32, 3, width=4, search=True)(cadences).shape == (2, 3)
