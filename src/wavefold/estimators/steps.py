"""Preparation steps by short name, as in a recipe: "noise", or {"step": "noise", "sigma": 0.01} with options."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wavefold.core.random import key as make_key
from wavefold.core.registry import build_part, pick
from wavefold.data.dataset import Floats, Ints
from wavefold.estimators.errors import BadValue
from wavefold.tasks.samples.kinds import Truth
from wavefold.training.sampler import Augment, Mix
from wavefold.transforms import AUGMENTATIONS, BALANCERS, MIXERS, TRANSFORMS, Transform

Step = str | Mapping[str, object]
Named = tuple[str, str, dict[str, object]]  # place, short name, options


@dataclass(frozen=True)
class TrainingPart:
    """The prepared training data; synthetic samples come last."""

    signals: Floats  # (sample, channel, ...)
    truth: Truth  # (sample,) or (sample, output)
    weights: Floats | None  # (sample,) weights of mean 1; None if all are equal
    transforms: tuple[Transform, ...]  # fitted, to apply to other signals


def named_steps(steps: Sequence[Step], known: Mapping[str, object]) -> list[Named]:
    """Steps with their places and options; BadValue for an unknown name."""
    if isinstance(steps, str | Mapping):
        raise BadValue(f"prepare: {steps!r} is one step; expected a sequence of steps, such as ({steps!r},)")
    named = []
    for number, step in enumerate(steps):
        options: dict[str, object] = {"step": step} if isinstance(step, str) else dict(step)
        place, name = f"prepare.{number}", str(options.pop("step", ""))
        pick(known, name, f"{place}.step")
        named.append((place, name, options))
    return named


def prepared_part(
    steps: Sequence[Step], signals: Floats, truth: Truth, weights: Floats | None, *, seed: int, numbered: bool = True
) -> TrainingPart:
    """Apply the steps in order to the training part: fit and apply transforms, and balance rare classes.

    signals: (sample, channel, ...); truth: (sample,) or (sample, output); weights: (sample,). numbered: truth is one class
    number for each sample; if not, balancers and mixers are refused. A synthetic sample gets the mean weight of its class.
    """
    learned: list[Transform] = []
    for place, name, options in named_steps(steps, STEPS):
        if not numbered and (name in BALANCERS or name in MIXERS):
            raise BadValue(f"{place}.step: '{name}' needs one class per sample, (sample,), in y; leave it out")
        if name in TRANSFORMS:
            transform = build_part(TRANSFORMS, name, options, place)
            transform.fit(signals, truth)
            signals = transform.apply(signals)
            learned.append(transform)
        elif name in BALANCERS:
            balancer, first = build_part(BALANCERS, name, options, place), len(truth)
            draw = make_key(seed, len(learned)) & 0x7FFFFFFF
            signals, truth, _ = balancer.resample(signals, np.asarray(truth, np.int64), draw)
            weights = None if weights is None else _with_invented(weights, np.asarray(truth, np.int64), first)
    return TrainingPart(np.ascontiguousarray(signals, np.float32), truth, weights, tuple(learned))


def taken(transforms: Sequence[Transform], signals: Floats) -> Floats:
    """Apply fitted transforms to signals (sample, channel, ...)."""
    for transform in transforms:
        signals = transform.apply(signals)
    return np.ascontiguousarray(signals, np.float32)


def random_changes(steps: Sequence[Step], shape: Sequence[int], classes: int) -> tuple[Augment | Mix, ...]:
    """The augmentations and mixers among the steps, in order. shape: (channel, ...) of a prepared sample."""
    changes: list[Augment | Mix] = []
    for place, name, options in named_steps(steps, STEPS):
        if name in AUGMENTATIONS:
            changes.append(build_part(AUGMENTATIONS, name, options, place))
        elif name in MIXERS:
            known = inspect.signature(MIXERS[name]).parameters
            given = {k: v for k, v in {"classes": classes, "shape": tuple(shape)}.items() if k in known}
            changes.append(Mix(build_part(MIXERS, name, options, place, **given)))
    return tuple(changes)


STEPS: dict[str, object] = {**TRANSFORMS, **BALANCERS, **AUGMENTATIONS, **MIXERS}


def _with_invented(weights: Floats, labels: Ints, first: int) -> Floats:
    """Weights of the first `first` samples, then of the synthetic ones, divided by the mean of all."""
    counts = np.maximum(np.bincount(labels[:first], minlength=labels.max() + 1), 1)
    means = np.bincount(labels[:first], weights, labels.max() + 1) / counts
    every = np.concatenate([weights, means[labels[first:]]])
    return np.asarray(every / every.mean(), np.float32)
