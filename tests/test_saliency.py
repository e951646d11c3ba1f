"""Maps of what an answer rests on: they add up, point at what is used, and hang on the model's weights."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from wavefold.core.errors import UserError
from wavefold.models import MODELS
from wavefold.models.saliency import integrated_gradients, occlusion


class Small(nn.Module):
    """A small convolutional net: (N, 1, 40) to probabilities (N, 3)."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Conv1d(1, 8, 5, padding=2), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 8, 5, padding=2))
        self.head = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(8 * 40, 3))

    def forward(self, signals):
        return self.head(self.body(signals)).softmax(dim=1)


LEVEL = 3.0  # of bumps: where nothing is


def bumps(count, seed=0):
    """A level and noise with a bump at 8, 20 or 32, which is the class: (count, 1, 40), (count,)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=count)
    bump = np.exp(-(((np.arange(40) - 8 - 12 * labels[:, None]) / 2) ** 2))
    return torch.tensor(LEVEL + 0.3 * rng.normal(size=(count, 1, 40)) + 2 * bump[:, None], dtype=torch.float32), torch.tensor(
        labels
    )


@pytest.fixture(scope="module")
def trained():
    """A Small that knows bumps."""
    model, (signals, labels) = Small(), bumps(256)
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(40):
        optimiser.zero_grad()
        nn.functional.nll_loss(model(signals).log(), labels).backward()
        optimiser.step()
    return model


def chances(model, signals, labels):
    model.eval()
    with torch.no_grad():
        return model(signals).gather(1, labels[:, None])[:, 0]


def asker(model):
    """What occlusion asks, of a torch model."""
    model.eval()

    def predict(rows):
        with torch.no_grad():
            return model(torch.from_numpy(rows)).numpy()

    return predict


def test_maps_sum_to_the_rise_from_the_origin(trained):
    signals, labels = bumps(60, seed=1)
    origin = torch.zeros(1, 40)
    maps = integrated_gradients(trained, signals, labels, origin=origin)
    rise = chances(trained, signals, labels) - chances(trained, origin.expand_as(signals), labels)
    assert maps.shape == signals.shape
    assert not maps.requires_grad
    assert chances(trained, signals, labels).mean() > 0.9  # a net that knows something
    assert (maps.flatten(1).sum(1) - rise).abs().max() < 0.01


def test_steep_answers_get_more_steps():
    class Steep(nn.Module):
        def forward(self, signals):
            score = 300 * (signals.mean(dim=(1, 2)) - 0.37)
            return torch.stack([-score, score], dim=1).softmax(dim=1)

    signals, ones = torch.ones(3, 1, 4), torch.ones(3, dtype=torch.long)
    once = integrated_gradients(Steep(), signals, ones, origin=torch.zeros(1, 4), steps=8, most_steps=8)
    more = integrated_gradients(Steep(), signals, ones, origin=torch.zeros(1, 4), steps=8)
    assert (once.flatten(1).sum(1) - 1).abs().min() > 0.1
    assert (more.flatten(1).sum(1) - 1).abs().max() < 0.01


def test_a_linear_model_is_explained_exactly():
    class Linear(nn.Module):
        def forward(self, signals):
            score = signals @ torch.tensor([1.0, -2.0, 0.0])
            return torch.cat([score, -score], dim=1)

    signals = torch.tensor([[[3.0, 1.0, 7.0]], [[0.0, 2.0, 1.0]]])
    maps = integrated_gradients(Linear(), signals, torch.tensor([0, 1]), origin=torch.tensor([[1.0, 0.0, 0.0]]))
    torch.testing.assert_close(maps, torch.tensor([[[2.0, -2.0, 0.0]], [[1.0, 4.0, 0.0]]]))


def test_batches_are_bounded_and_do_not_change_maps(trained):
    seen = []

    class Watched(nn.Module):
        def forward(self, signals):
            seen.append(len(signals))
            return trained(signals)

    trained.eval()
    signals, labels = bumps(30, seed=2)
    origin = signals.mean(dim=0)
    together = integrated_gradients(Watched(), signals, labels, origin=origin, within=1)
    alone = torch.cat(
        [integrated_gradients(trained, signals[i : i + 1], labels[i : i + 1], origin=origin, within=1) for i in range(30)]
    )
    assert max(seen) == 256
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


def test_an_origin_for_each_sample(trained):
    signals, labels = bumps(4, seed=3)
    maps = integrated_gradients(trained, signals, labels, origin=signals.roll(1, 0))
    assert integrated_gradients(trained, signals, labels, origin=signals).abs().max() == 0
    alone = integrated_gradients(trained, signals[1:2], labels[1:2], origin=signals[0])
    torch.testing.assert_close(maps[1:2], alone, rtol=1e-4, atol=1e-6)


def test_the_model_is_left_as_it_was(trained):
    trained.train()
    trained.body[1].eval()  # a part in a mode of its own
    modes = [part.training for part in trained.modules()]
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    trained.zero_grad()
    signals, labels = bumps(5)
    with torch.no_grad():
        integrated_gradients(trained, signals, labels, origin=torch.zeros(1, 40))
    assert [part.training for part in trained.modules()] == modes
    assert all(value.grad is None for value in trained.parameters())
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())


def test_maps_change_when_weights_are_randomised(trained):
    """Adebayo and others 2018: a map that stays would show the signal, not what the model makes of it.

    From an origin of 0 the factor x - x' is about the level everywhere; else it alone would make any two maps rank alike.
    """
    signals, labels = bumps(20, seed=4)
    origin, maps = torch.zeros(1, 40), {}
    for name, model in {"trained": trained, "again": trained, "random": Small(seed=9)}.items():
        by_gradient = integrated_gradients(model, signals, labels, origin=origin).abs().numpy()
        by_cover = occlusion(asker(model), signals.numpy(), labels.numpy(), pieces=20, origin=origin.numpy())
        maps[name] = by_gradient, np.abs(by_cover)
    for number, what in enumerate(("gradients", "occlusion")):
        first, again, random = (maps[name][number].reshape(20, -1) for name in ("trained", "again", "random"))
        assert (first == again).all(), what
        assert np.mean([spearmanr(a, b).statistic for a, b in zip(first, random, strict=True)]) < 0.5, what


def test_maps_point_at_the_bump(trained):
    (signals, labels), level = bumps(60, seed=5), torch.full((1, 40), LEVEL)
    maps = (
        integrated_gradients(trained, signals, labels, origin=level).numpy(),
        occlusion(asker(trained), signals.numpy(), labels.numpy(), pieces=20, origin=level.numpy()),
    )
    for found in maps:
        for number, centre in enumerate((8, 20, 32)):
            assert abs(found[labels == number, 0].mean(axis=0).argmax() - centre) <= 3


@pytest.mark.parametrize("name", ["net1", "net4", "repvgg", "split_sum"])
def test_nets_of_the_table_are_explained(name):
    torch.manual_seed(0)
    model = nn.Sequential(MODELS[name](channels=1, length=120, classes=3), nn.Softmax(dim=1))
    signals, labels = torch.randn(4, 1, 120), torch.tensor([0, 1, 2, 0])
    maps = integrated_gradients(model, signals, labels, origin=torch.zeros(1, 120))
    rise = chances(model, signals, labels) - chances(model, torch.zeros_like(signals), labels)
    assert (maps.flatten(1).sum(1) - rise).abs().max() < 0.01


def looks_at(positions):
    """An ask whose answer is a logistic of the mean at the positions of the last axis of the first channel."""

    def predict(rows):
        chance = 1 / (1 + np.exp(-rows[:, 0, positions].mean(axis=1)))
        return np.stack([1 - chance, chance], axis=1)

    return predict


def test_occlusion_shows_where_a_model_looks():
    signals = np.full((3, 2, 40), 2, np.float32)
    signals[:, 0, 14:16] = 5
    found = occlusion(
        looks_at(slice(10, 20)), signals, np.ones(3, np.int64), pieces=20, origin=np.zeros((2, 40), np.float32), size=7
    )
    assert found.shape == signals.shape
    assert found.dtype == np.float32
    assert (found[:, 0, :10] == 0).all()
    assert (found[:, 0, 20:] == 0).all()
    assert (found[:, 1] == 0).all()
    assert (found[:, 0, 10:20] > 0).all()
    assert (found[:, 0].argmax(axis=1) == 14).all()
    whole, less = (1 / (1 + np.exp(-total / 10)) for total in (26, 16))
    assert found[0, 0, 14] == pytest.approx(whole - less, rel=1e-5)
    other = occlusion(looks_at(slice(10, 20)), signals, np.zeros(3, np.int64), pieces=20, origin=np.float32(0))
    assert other == pytest.approx(-found)


def test_occlusion_of_panels_covers_time_and_frequency_by_panel():
    def predict(rows):
        hot = np.clip(rows[:, 4, 2, 6], 0, 1)
        return np.stack([1 - hot, hot], axis=1)

    signals = np.ones((2, 6, 4, 9), np.float32)
    found = occlusion(predict, signals, np.ones(2, np.int64), pieces=(2, 3), origin=np.zeros((6, 4, 9), np.float32))
    expected = np.zeros_like(signals)
    expected[:, 4, 2:, 6:] = 1
    assert (found == expected).all()


def test_rows_are_asked_in_bounded_batches():
    requested = []

    def predict(rows):
        requested.append(len(rows))
        return np.zeros((len(rows), 2))

    occlusion(predict, np.zeros((5, 3, 10), np.float32), np.zeros(5, np.int64), pieces=99, origin=np.float32(0), size=64)
    assert max(requested) == 64
    assert sum(requested) == 5 + 5 * 3 * 10  # no more pieces than positions


def test_pieces_must_fit_the_axes():
    signals = np.zeros((1, 6, 4, 9), np.float32)
    with pytest.raises(UserError, match=r"pieces \(2,\) do not fit axes of \(4, 9\)"):
        occlusion(looks_at(0), signals, np.zeros(1, np.int64), pieces=(2,), origin=signals)
    with pytest.raises(UserError, match="pieces 0"):
        occlusion(looks_at(0), signals, np.zeros(1, np.int64), pieces=0, origin=signals)
