"""Stacking of predicted numbers: weights by target, fitted on out-of-fold predictions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wavefold.ensemble.combine import Ensemble, EnsembleParts
from wavefold.ensemble.decide import keep_probabilities
from wavefold.ensemble.mixture import Mixture
from wavefold.ensemble.spread_scale import SpreadScale
from wavefold.ensemble.stack_numbers import StackNumbers

PARTS = EnsembleParts({"mean": Mixture, "stack": StackNumbers}, {"spread": SpreadScale}, {"probabilities": keep_probabilities})


def members_of(truth: np.ndarray, noise: list[list[float]], seed: int = 0) -> np.ndarray:
    """Members (M, R, 2T) whose means are the truth with noise of a size for each member and target."""
    rng = np.random.default_rng(seed)
    means = [truth + rng.normal(size=truth.shape) * np.array(size) for size in noise]
    return np.stack([np.hstack([m, np.broadcast_to(size, m.shape)]) for m, size in zip(means, noise, strict=True)])


def test_each_target_takes_the_member_that_is_good_at_it() -> None:
    truth = np.random.default_rng(1).normal([5000.0, 2.0], [900.0, 0.5], size=(400, 2))
    members = members_of(truth, [[50.0, 2.0], [2000.0, 0.05]])
    fitted = StackNumbers().fit(members, truth, 0)
    assert fitted.weights is not None
    assert fitted.weights[0, 0] > 0.95
    assert fitted.weights[1, 1] > 0.95
    np.testing.assert_allclose(fitted.weights.sum(axis=0), 1, atol=1e-3)
    off = fitted.probabilities(members)[:, :2] - truth
    assert off[:, 0].std() < 60
    assert off[:, 1].std() < 0.06


def test_gaps_and_few_rows_are_no_error() -> None:
    truth = np.random.default_rng(1).normal(size=(100, 2))
    members = members_of(truth, [[0.1, 0.1], [1.0, 1.0]])
    truth[5:, 1] = np.nan
    fitted = StackNumbers().fit(members, truth, 0)
    assert fitted.weights is not None
    np.testing.assert_allclose(fitted.weights[:, 1], 0.5)
    assert fitted.weights[0, 0] > 0.9


def test_torch_says_the_same_and_the_state_is_restored() -> None:
    truth = np.random.default_rng(1).normal(size=(200, 3))
    members = members_of(truth, [[0.1, 1.0, 0.4], [1.0, 0.1, 0.4], [0.5, 0.5, 0.4]])
    fitted = StackNumbers().fit(members, truth, 0)
    again = StackNumbers().load(fitted.state())
    made = fitted.probabilities(members)
    assert np.array_equal(again.probabilities(members), made)
    np.testing.assert_allclose(again.module()(torch.from_numpy(members)).numpy(), made)


@pytest.mark.parametrize("by", ["mean", "stack"])
def test_the_spread_of_an_ensemble_is_calibrated_on_rows_it_was_fitted_without(by: str) -> None:
    truth = np.random.default_rng(1).normal(size=(500, 2))
    members = members_of(truth, [[0.3, 0.3], [0.6, 0.6]])
    members[:, :, 2:] *= 0.1  # far too sure
    ensemble = Ensemble.fit(by, "spread", members, labels=truth, seed=0, parts=PARTS)
    means, spreads = np.split(ensemble.probabilities(members), 2, axis=1)
    inside = (np.abs(means - truth) <= 1.96 * spreads).mean()
    assert 0.92 < inside < 0.98
