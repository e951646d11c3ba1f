"""Wraps any scikit-learn classifier as a member: one line in a table, its parameters as options, saved without pickle.

skops writes an estimator as JSON and arrays, and on loading builds only trusted types: its default list (scikit-learn's
public classes, numpy arrays) and the few named in the table; a file cannot extend that list.
"""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from wavefold.core.errors import UserError, listed
from wavefold.core.files import write_json, write_whole
from wavefold.core.registry import later, optional
from wavefold.data.dataset import Floats, Ints
from wavefold.models.classical import in_rows, need_fitted

skops = optional("skops.io", extra="skops")
exceptions = later("sklearn.exceptions")

Probabilities = NDArray[np.float64]


class Estimator(Protocol):
    """What is used of a scikit-learn classifier."""

    classes_: NDArray[np.int64]  # the class numbers among the training rows, once fitted

    def fit(self, rows: Floats, labels: Ints, /) -> object: ...
    def predict_proba(self, rows: Floats, /) -> NDArray[np.floating]: ...
    def get_params(self) -> dict[str, object]: ...
    def set_params(self, **params: object) -> object: ...


class SklearnMember:
    """Base class of members that wrap a scikit-learn estimator; `sklearn_member` makes the subclass."""

    make: ClassVar[Callable[..., Estimator]]  # parameters to an unfitted estimator
    trusted: ClassVar[tuple[str, ...]] = ()  # types beyond skops' own list that may be loaded

    def __init__(self, *, seed: int, **options: object) -> None:
        skops.dumps  # noqa: B018 (report a missing package here, not when saving after the fit)
        self.seed, self.classes = seed, 0
        self.estimator = checked(type(self).make, options)
        self.estimator.set_params(**{key: seed for key in self.estimator.get_params() if key.endswith("random_state")})

    @property
    def name(self) -> str:
        """The estimator's class name, as used in messages: KNeighborsClassifier."""
        return type(self.estimator).__name__

    def fit(self, signals: Floats, labels: Ints, classes: int) -> Self:
        """Fit on signals (sample, channel, position) and class numbers (sample,)."""
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", exceptions.ConvergenceWarning
            )  # the fit is evaluated on held-out samples, converged or not
            try:
                self.estimator.fit(in_rows(signals), labels)
            except ValueError as error:
                raise UserError(f"{self.name}: {_first_line(error)}") from error
        self.classes = classes
        return self

    def probabilities(self, signals: Floats) -> Probabilities:
        """Class probabilities (sample, class); zero for a class that the training rows lack."""
        need_fitted(self.classes, self.name)
        full: Probabilities = np.zeros((len(signals), self.classes))
        if len(signals):  # scikit-learn cannot predict an empty table
            full[:, self.estimator.classes_] = self.estimator.predict_proba(in_rows(signals))
        full /= np.maximum(full.sum(1, keepdims=True), 1e-12)  # some estimators sum to 1 in float32 only
        return full

    def save(self, folder: Path) -> None:
        """Write the estimator to estimator.skops and the rest to estimator.json."""
        need_fitted(self.classes, self.name)
        packed = skops.dumps(self.estimator)
        self._need_trust(packed)
        write_whole(folder / "estimator.skops", lambda stream: stream.write(packed))
        write_json(folder / "estimator.json", {"seed": self.seed, "classes": self.classes})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The classifier that `save` wrote; UserError if the file contains an untrusted type."""
        facts = json.loads((folder / "estimator.json").read_text())
        packed = (folder / "estimator.skops").read_bytes()
        cls._need_trust(packed)
        made = cls.__new__(cls)  # the file holds the parameters as well
        made.seed, made.classes = facts["seed"], facts["classes"]
        made.estimator = skops.loads(packed, trusted=list(cls.trusted))
        return made

    @classmethod
    def _need_trust(cls, packed: bytes) -> None:
        strange = sorted(set(skops.get_untrusted_types(data=packed)) - set(cls.trusted))
        if strange:
            raise UserError(
                f"{cls.__name__}: the estimator contains types that are not trusted: {listed(strange)}; "
                "trusted are skops' default types and those passed to sklearn_member(trusted=...)"
            )


def sklearn_member(make: Callable[..., Estimator], *, trusted: tuple[str, ...] = ()) -> type[SklearnMember]:
    """The member class of a scikit-learn classifier: CLASSIFIERS["bayes"] = sklearn_member(GaussianNB).

    make: the estimator's class, or a function of keyword parameters that returns one. Its parameters become the member's
    options, except random_state, which is the member's seed. The estimator must have predict_proba and classes_.
    trusted: full names of types that you trust and skops does not trust by default.
    """
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    own = [p for p in inspect.signature(make).parameters.values() if p.name != "random_state" and p.kind not in several]
    seed = inspect.Parameter("seed", inspect.Parameter.KEYWORD_ONLY, annotation=int)
    signature = inspect.Signature([seed, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own)])
    parts = {"make": staticmethod(make), "trusted": trusted, "__signature__": signature, "__doc__": make.__doc__}
    return type(make.__name__, (SklearnMember,), parts)


def checked(make: Callable[..., Estimator], options: dict[str, object]) -> Estimator:
    """An unfitted estimator with validated parameters, which scikit-learn itself would check only in `fit`."""
    estimator = make(**options)
    try:
        getattr(estimator, "_validate_params", lambda: None)()
    except ValueError as error:
        raise UserError(f"{type(estimator).__name__}: {_first_line(error)}") from None
    return estimator


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
