"""Stacking: a small model learns from the members' probabilities how far to trust each member on each class.

Fit it on out-of-fold scores: on their own training samples the members look far better than they are, and the stacker
trusts them too much. That is why the heartbeat system's stacking overfitted.

StackNet is that system's net (its Linear1), with a held-out part for early stopping. StackLogistic is the standard choice
(Wolpert 1992; Ting and Witten 1999): it has few parameters, so it needs few samples.
"""

from __future__ import annotations

import copy
import math
import warnings
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from wavefold.core.errors import DataError, UserError
from wavefold.core.registry import later
from wavefold.data.dataset import Ints
from wavefold.ensemble.parts import State, Values

special = later("scipy.special")

exceptions, linear_model = later("sklearn.exceptions"), later("sklearn.linear_model")

_LEAST = 10  # samples needed for a fit
_CALIBRATED = 13  # leaves _LEAST samples when calibration holds out a fifth
_BATCH = 512
_HELD = 5  # every fifth sample of a class is held out for early stopping
_SMALLEST = 1e-6  # minimum probability before the logarithm: keeps one member's 0 from outvoting all others
_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # values of scikit-learn's C: smaller means more L2 regularisation
_CHOOSE_ON = 20_000  # samples; with more, the strength hardly matters and choosing it takes minutes


class StackNet:
    """The heartbeat system's net, with layers members x classes - 64 - 128 - classes, on the members' probabilities.

    Adam on cross-entropy; stops after `patience` epochs without a better log loss on a held-out fifth and keeps the
    best epoch. The same seed gives the same net, and no global random state is touched.
    """

    learns, needs = True, _CALIBRATED

    def __init__(self, *, learning_rate: float = 1e-3, epochs: int = 200, patience: int = 15) -> None:
        for name, value in (("learning_rate", learning_rate), ("epochs", epochs), ("patience", patience)):
            if not 0 < value < math.inf:
                raise UserError(f"stack_net.{name}: {value} is out of range; expected a finite number above 0")
        self.learning_rate, self.epochs, self.patience = learning_rate, epochs, patience
        self._net: nn.Sequential | None = None

    def fit(self, member_scores: ArrayLike, labels: ArrayLike, seed: int) -> Self:
        """Fit on out-of-fold scores: (member, sample, class), labels (sample,)."""
        scores, numbers = _checked(member_scores, labels)
        rng = torch.Generator().manual_seed(seed)
        net = _small_net(scores.shape[0] * scores.shape[2], scores.shape[2], rng)
        held = even_parts(numbers, _HELD, seed) == 0
        inputs, targets = _side_by_side(scores), torch.from_numpy(numbers)
        self._net = self._fitted(net, (inputs[~held], targets[~held]), (inputs[held], targets[held]), rng)
        return self

    def probabilities(self, member_scores: ArrayLike) -> Values:
        """(sample, class) from member_scores (member, sample, class)."""
        with torch.inference_mode():
            logits = _known(self._net)(_side_by_side(np.asarray(member_scores, np.float64)))
        return special.softmax(logits.double().numpy(), axis=1)  # type: ignore[no-any-return]  # scipy has no types

    def state(self) -> dict[str, NDArray[np.generic]]:
        """The net's parameters by name."""
        return {name: value.numpy().copy() for name, value in _known(self._net).state_dict().items()}

    def load(self, state: State) -> Self:
        """Restore the result of `state()`."""
        inputs, classes = state["0.weight"].shape[1], state["6.weight"].shape[0]
        net = _small_net(inputs, classes, torch.Generator())
        net.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})
        self._net = net.eval()
        return self

    def module(self) -> nn.Module:
        """The same in torch: (member, N, class) float64 to (N, class)."""
        return _StackNetModule(_known(self._net))

    def _fitted(
        self, net: nn.Sequential, learn: tuple[Tensor, Tensor], check: tuple[Tensor, Tensor], rng: torch.Generator
    ) -> nn.Sequential:
        """Train the net and return the best epoch's. learn, check: inputs (sample, members * classes) and labels (sample,)."""
        optimiser = torch.optim.Adam(net.parameters(), lr=self.learning_rate)
        best, least, since = net, math.inf, 0
        for _ in range(self.epochs):
            _train_epoch(net, optimiser, learn, rng)
            with torch.inference_mode():
                loss = F.cross_entropy(net(check[0]), check[1]).item()
            since += 1
            if loss < least:
                best, least, since = copy.deepcopy(net), loss, 0
            if since == self.patience:
                break
        return best


class StackLogistic:
    """Multinomial logistic regression on the members' log-probabilities, with the L2 penalty chosen by cross-validation."""

    learns, needs = True, _CALIBRATED

    def __init__(self, *, folds: int = 5) -> None:
        if folds < 2:
            raise UserError(f"stack_logistic.folds: {folds} is too few; expected 2 or more")
        self.folds = folds
        self._weights = np.empty((0, 0))  # (members * classes, class)
        self._bias = np.empty(0)  # (class,); -inf for a class without labels in the fit

    def fit(self, member_scores: ArrayLike, labels: ArrayLike, seed: int) -> Self:
        """Fit on out-of-fold scores: (member, sample, class), labels (sample,)."""
        scores, numbers = _checked(member_scores, labels)
        inputs, classes = _log_side_by_side(scores), scores.shape[2]
        some = np.random.default_rng(seed).permutation(len(numbers))[:_CHOOSE_ON]
        parts = even_parts(numbers[some], self.folds, seed)
        losses = [self._held_loss(inputs[some], numbers[some], parts, classes, strength) for strength in _STRENGTHS]
        self._weights, self._bias = _logistic(inputs, numbers, classes, _STRENGTHS[int(np.argmin(losses))])
        return self

    def probabilities(self, member_scores: ArrayLike) -> Values:
        """(sample, class) from member_scores (member, sample, class)."""
        inputs = _log_side_by_side(np.asarray(member_scores, np.float64))
        return special.softmax(inputs @ self._weights + self._bias, axis=1)  # type: ignore[no-any-return]  # scipy has no types

    def state(self) -> dict[str, Values]:
        """weights (members * classes, class) and bias (class,)."""
        return {"weights": self._weights.copy(), "bias": self._bias.copy()}

    def load(self, state: State) -> Self:
        """Restore the result of `state()`."""
        self._weights, self._bias = np.array(state["weights"], np.float64), np.array(state["bias"], np.float64)
        return self

    def module(self) -> nn.Module:
        """The same in torch: (member, N, class) float64 to (N, class)."""
        return _StackLogisticModule(torch.from_numpy(self._weights), torch.from_numpy(self._bias))

    def _held_loss(self, inputs: Values, labels: Ints, parts: Ints, classes: int, strength: float) -> float:
        """Log loss summed over samples; each part is predicted by the fit on the others."""
        total = 0.0
        for part in range(self.folds):
            held = parts == part
            weights, bias = _logistic(inputs[~held], labels[~held], classes, strength)
            logs = special.log_softmax(inputs[held] @ weights + bias, axis=1)
            total -= np.maximum(logs[np.arange(held.sum()), labels[held]], math.log(_SMALLEST)).sum()
        return total


class _StackNetModule(nn.Module):
    def __init__(self, net: nn.Sequential) -> None:
        super().__init__()
        self.net = copy.deepcopy(net).eval()

    def forward(self, scores: Tensor) -> Tensor:
        logits: Tensor = self.net(torch.cat(scores.unbind(0), 1).float())
        return logits.double().softmax(1)


class _StackLogisticModule(nn.Module):
    weights: Tensor
    bias: Tensor

    def __init__(self, weights: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights)
        self.register_buffer("bias", bias)

    def forward(self, scores: Tensor) -> Tensor:
        inputs = torch.cat(scores.unbind(0), 1).clamp(min=_SMALLEST).log()
        return (inputs @ self.weights + self.bias).softmax(1)


def even_parts(labels: NDArray[np.number], count: int, seed: int) -> Ints:
    """Assign a part number to each sample so that each class is spread evenly. labels: (sample,)."""
    order = np.lexsort([np.random.default_rng(seed).random(len(labels)), labels])
    parts = np.empty(len(labels), np.int64)
    parts[order] = np.arange(len(labels)) % count
    return parts


def _small_net(inputs: int, classes: int, rng: torch.Generator) -> nn.Sequential:
    return nn.Sequential(
        _linear(inputs, 64, rng),
        nn.BatchNorm1d(64),
        nn.LeakyReLU(),
        _linear(64, 128, rng),
        nn.BatchNorm1d(128),
        nn.LeakyReLU(),
        _linear(128, classes, rng),
    )


def _linear(inputs: int, outputs: int, rng: torch.Generator) -> nn.Linear:
    """A linear layer with PyTorch's default initialisation, drawn from the given generator."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)  # type: ignore[no-untyped-call]  # untyped in torch
    bound = 1.0 / math.sqrt(inputs)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -bound, bound, generator=rng)
    return layer


def _train_epoch(
    net: nn.Sequential, optimiser: torch.optim.Optimizer, learn: tuple[Tensor, Tensor], rng: torch.Generator
) -> None:
    """Train for one epoch in a new order; leaves the net in evaluation mode."""
    net.train()
    inputs, labels = learn
    order = torch.randperm(len(labels), generator=rng)
    for batch in order.tensor_split(math.ceil(len(order) / _BATCH)):  # even parts: batch norm fails on a single sample
        optimiser.zero_grad()
        F.cross_entropy(net(inputs[batch]), labels[batch]).backward()  # type: ignore[no-untyped-call]  # untyped in torch
        optimiser.step()
    net.eval()


def _logistic(inputs: Values, labels: Ints, classes: int, strength: float) -> tuple[Values, Values]:
    """Weights (input, class) and bias (class,), -inf for classes without a label, so that they get probability 0."""
    weights, bias = np.zeros((inputs.shape[1], classes)), np.full(classes, -np.inf)
    there = np.unique(labels)
    bias[there] = 0.0
    if len(there) == 1:
        return weights, bias
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", exceptions.ConvergenceWarning
        )  # held-out samples decide, whether or not the fit converged
        # members agree, so inputs are nearly collinear: Newton takes 10 steps and lbfgs 150
        model = linear_model.LogisticRegression(C=strength, solver="newton-cg").fit(inputs, labels)
    coefficients, intercepts = model.coef_, model.intercept_
    if len(there) == 2:  # for two classes scikit-learn keeps one row: the second against the first
        coefficients, intercepts = np.vstack([0 * coefficients, coefficients]), np.r_[0.0, intercepts]
    weights[:, there], bias[there] = coefficients.T, intercepts
    return weights, bias


def _side_by_side(scores: Values) -> Tensor:
    """(sample, members * classes) float32 from (member, sample, class)."""
    return torch.from_numpy(np.concatenate(list(scores), axis=1).astype(np.float32))


def _log_side_by_side(scores: Values) -> Values:
    logs: Values = np.log(np.maximum(np.concatenate(list(scores), axis=1), _SMALLEST))
    return logs


def _checked(member_scores: ArrayLike, labels: ArrayLike) -> tuple[Values, Ints]:
    scores, numbers = np.asarray(member_scores, np.float64), np.asarray(labels, np.int64)
    if scores.ndim != 3 or not len(scores) or scores.shape[1] != len(numbers):
        raise DataError(
            f"stacking: scores have shape {scores.shape}; expected (member, sample, class) for {len(numbers)} labels"
        )
    if len(numbers) < _LEAST:
        raise DataError(
            f"stacking: {len(numbers)} held-out samples are too few; at least {_LEAST} are needed, preferably thousands"
        )
    return scores, numbers


def _known(net: nn.Sequential | None) -> nn.Sequential:
    if net is None:
        raise UserError("stack_net: it is not fitted; fit it or load its state first")
    return net
