"""Classical classifiers: boosted trees, forests and logistic regression on the flattened signal.

Signals (sample, channel, position) become (sample, channel x position). Nothing is pickled: boosting is saved as LightGBM
text, forests as arrays of tree nodes, from which they also predict, and logistic regression as its weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save as pack_arrays
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save as pack_tensors
from torch import nn

from wavefold.core.errors import UserError
from wavefold.core.files import write_json, write_text, write_whole
from wavefold.core.registry import later, optional
from wavefold.data.dataset import Floats, Ints
from wavefold.models.layers import need_least
from wavefold.models.linear import LinearHead, fit_linear

if TYPE_CHECKING:
    from lightgbm import Booster
    from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

lightgbm = optional("lightgbm", extra="boost")
ensemble = later("sklearn.ensemble")

_State = TypeVar("_State")

Probabilities = NDArray[np.float64]

_BATCH = 2048  # samples that descend all trees together
_TREE_KEYS = ("roots", "feature", "threshold", "left", "right", "value")


class Boosting:
    """LightGBM gradient boosting, bit-identical for the same seed."""

    def __init__(self, *, seed: int, trees: int = 200, leaves: int = 31, rate: float = 0.05, threads: int = 2) -> None:
        need_least("lightgbm", 1, trees=trees, threads=threads)
        need_least("lightgbm", 2, leaves=leaves)
        if not 0 < rate <= 1:
            raise UserError(f"lightgbm: rate {rate} is not a valid learning rate; it must be above 0 and at most 1")
        self.options = {"seed": seed, "trees": trees, "leaves": leaves, "rate": rate, "threads": threads}
        self.model: Booster | None = None

    def fit(self, signals: Floats, labels: Ints, classes: int) -> Self:
        """Fit on signals (sample, channel, position) and class numbers (sample,)."""
        options = self.options
        settings = {"objective": "multiclass", "num_class": classes, "num_leaves": options["leaves"]}
        settings |= {"learning_rate": options["rate"], "seed": options["seed"], "num_threads": options["threads"]}
        settings |= {"deterministic": True, "force_row_wise": True, "verbosity": -1}
        data = lightgbm.Dataset(in_rows(signals), labels, params={"verbosity": -1})
        self.model = lightgbm.train(settings, data, num_boost_round=options["trees"])
        return self

    def probabilities(self, signals: Floats) -> Probabilities:
        """Class probabilities (sample, class)."""
        model = need_fitted(self.model, "lightgbm")
        if not len(signals):  # LightGBM cannot predict an empty table
            return np.zeros((0, model.num_model_per_iteration()))
        return np.asarray(model.predict(in_rows(signals), num_threads=self.options["threads"]), np.float64)

    def save(self, folder: Path) -> None:
        """Write the model in LightGBM's text format to lightgbm.txt and the options to lightgbm.json."""
        model = need_fitted(self.model, "lightgbm")
        write_text(folder / "lightgbm.txt", model.model_to_string())
        write_json(folder / "lightgbm.json", self.options)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The classifier that `save` wrote."""
        made = cls(**json.loads((folder / "lightgbm.json").read_text()))
        made.model = lightgbm.Booster(model_str=(folder / "lightgbm.txt").read_text())
        return made


class _Forest:
    kind: ClassVar[str]  # in sklearn.ensemble

    def __init__(self, *, seed: int, trees: int = 300, smallest_leaf: int = 1) -> None:
        need_least("forest", 1, trees=trees, smallest_leaf=smallest_leaf)
        self.seed, self.trees, self.smallest_leaf = seed, trees, smallest_leaf
        self.arrays: dict[str, NDArray[np.generic]] = {}

    def fit(self, signals: Floats, labels: Ints, classes: int) -> Self:
        """Fit on signals (sample, channel, position) and class numbers (sample,)."""
        forest = getattr(ensemble, self.kind)(
            self.trees, min_samples_leaf=self.smallest_leaf, random_state=self.seed, n_jobs=-1
        )
        forest.fit(in_rows(signals), labels)
        self.arrays = _tree_arrays(forest, classes)
        return self

    def probabilities(self, signals: Floats) -> Probabilities:
        """Class probabilities (sample, class): the mean over trees of the class fractions in the leaf a sample reaches."""
        need_fitted(self.arrays, "forest")
        flat = in_rows(signals)
        parts = [_walk(self.arrays, flat[start : start + _BATCH]) for start in range(0, len(flat), _BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, self.arrays["value"].shape[1]))

    def save(self, folder: Path) -> None:
        """Write the trees to forest.safetensors and the options to forest.json."""
        need_fitted(self.arrays, "forest")
        write_whole(folder / "forest.safetensors", lambda stream: stream.write(pack_arrays(self.arrays)))
        options = {"seed": self.seed, "trees": self.trees, "smallest_leaf": self.smallest_leaf}
        write_json(folder / "forest.json", options)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The classifier that `save` wrote."""
        made = cls(**json.loads((folder / "forest.json").read_text()))
        made.arrays = load_arrays(folder / "forest.safetensors")
        return made


class RandomForest(_Forest):
    """scikit-learn's random forest: bootstrap samples, and the best split among a few random features at each node."""

    kind = "RandomForestClassifier"


class ExtraTrees(_Forest):
    """scikit-learn's extremely randomised trees: split thresholds are random as well."""

    kind = "ExtraTreesClassifier"


class Logistic:
    """Multinomial logistic regression on the standardised signal; its L2 penalty is chosen on held-out rows."""

    def __init__(self, *, seed: int) -> None:
        self.seed = seed
        self.head: LinearHead | None = None

    def fit(self, signals: Floats, labels: Ints, classes: int) -> Self:
        """Fit on signals (sample, channel, position) and class numbers (sample,)."""
        self.head = fit_linear(in_rows(signals).copy(), labels, classes, np.random.default_rng(self.seed))
        return self

    def probabilities(self, signals: Floats) -> Probabilities:
        """Class probabilities (sample, class)."""
        if self.head is None:
            raise UserError("logistic: not fitted yet; call fit first")
        return self.head.probabilities(in_rows(signals))

    def save(self, folder: Path) -> None:
        """Write the weights to logistic.safetensors and the seed to logistic.json."""
        if self.head is None:
            raise UserError("logistic: not fitted yet, so there is nothing to save; call fit first")
        packed = pack_tensors(self.head.tensors())
        write_whole(folder / "logistic.safetensors", lambda stream: stream.write(packed))
        write_json(folder / "logistic.json", {"seed": self.seed})

    def module(self, shape: Sequence[int]) -> nn.Module:
        """`probabilities` as a torch module: signals (N, channel, position) to (N, class) float64. shape: of one sample."""
        if self.head is None:
            raise UserError("logistic: not fitted yet; call fit first")
        return nn.Sequential(nn.Flatten(), self.head.module())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The classifier that `save` wrote."""
        made = cls(**json.loads((folder / "logistic.json").read_text()))
        made.head = LinearHead.from_tensors(load_tensors(folder / "logistic.safetensors"))
        return made


def in_rows(signals: Floats) -> Floats:
    """Signals (sample, channel, position) as (sample, channel x position)."""
    return np.ascontiguousarray(signals, np.float32).reshape(len(signals), math.prod(signals.shape[1:]))


def need_fitted(state: _State | None, name: str) -> _State:
    """Return a classifier's fitted state; UserError if it has none yet."""
    if not state:
        raise UserError(f"{name}: not fitted yet; call fit first")
    return state


def _tree_arrays(forest: RandomForestClassifier | ExtraTreesClassifier, classes: int) -> dict[str, NDArray[np.generic]]:
    """All trees of a fitted scikit-learn forest as one set of node arrays; a leaf is its own left and right child."""
    trees = [estimator.tree_ for estimator in forest.estimators_]
    starts = np.cumsum([0] + [tree.node_count for tree in trees])
    feature = np.concatenate([tree.feature for tree in trees])
    leaf, here = feature < 0, np.arange(starts[-1])
    offsets = np.repeat(starts[:-1], np.diff(starts))
    shares = np.concatenate([tree.value[:, 0] for tree in trees])
    value = np.zeros((len(here), classes))
    value[:, forest.classes_.astype(int)] = shares / shares.sum(1, keepdims=True)
    return {
        "roots": starts[:-1].astype(np.int64),
        "feature": np.where(leaf, 0, feature).astype(np.int32),
        "threshold": np.concatenate([tree.threshold for tree in trees]),
        "left": np.where(leaf, here, np.concatenate([tree.children_left for tree in trees]) + offsets),
        "right": np.where(leaf, here, np.concatenate([tree.children_right for tree in trees]) + offsets),
        "value": value,
    }


def _walk(arrays: dict[str, NDArray[np.generic]], flat: Floats) -> Probabilities:
    """Class probabilities of samples (sample, value): all samples descend all trees one level at a time to their leaves."""
    roots, feature, threshold, left, right, value = (torch.from_numpy(arrays[key]) for key in _TREE_KEYS)
    values = torch.from_numpy(flat)
    at = roots.repeat(len(flat), 1)  # (sample, tree): the current node
    while True:
        lower = values.gather(1, feature[at].long()) <= threshold[at]
        down = torch.where(lower, left[at], right[at])
        if torch.equal(down, at):
            return np.asarray(value[at].mean(1).numpy())
        at = down
