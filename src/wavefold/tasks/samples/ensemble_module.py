"""A run as one net, from raw signals to ensemble probabilities, for export and saliency maps.

Legend: N samples, M members, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wavefold.core.errors import UserError, listed
from wavefold.core.run import RunFolder
from wavefold.ensemble import Ensemble
from wavefold.models import CLASSIFIERS, MODELS
from wavefold.models.views import answers_of
from wavefold.recipe import Member, Recipe
from wavefold.tasks.samples.inference import member_net, transforms_of

__all__ = ["EnsembleModule", "ensemble_module"]


class EnsembleModule(nn.Module):
    """Raw signals (N, channel, ...) float32 to probabilities (N, K) float32: each fold's members combined, folds averaged.

    prepared: transforms of each fold; members: for each member, its module in each fold; logits: for each member, whether it
    returns logits rather than probabilities; combined: (M, N, K) float64 to (N, K).
    """

    def __init__(
        self,
        prepared: Sequence[nn.Module],
        members: Sequence[Sequence[nn.Module]],
        logits: Sequence[bool],
        combined: nn.Module,
    ) -> None:
        super().__init__()
        self.prepared = nn.ModuleList(prepared)  # a single one if all folds share the same steps
        self.members = nn.ModuleList(nn.ModuleList(nets) for nets in members)
        self.logits = list(logits)
        self.combined = combined

    def forward(self, signals: Tensor) -> Tensor:
        taken = [steps(signals) for steps in self.prepared]
        predicted = [self._predicted(nets, logits, taken) for nets, logits in zip(self.members, self.logits, strict=True)]
        folds = [self.combined(torch.stack(list(members))) for members in zip(*predicted, strict=True)]
        return torch.stack(folds).mean(0).float()

    @staticmethod
    def _predicted(nets: nn.Module, logits: bool, taken: Sequence[Tensor]) -> list[Tensor]:
        """A member's probabilities (N, K) float64 in each fold."""
        answers = answers_of(list(nets.children()), taken)
        return [answer.double().softmax(1) if logits else answer for answer in answers]


def ensemble_module(
    run: RunFolder, recipe: Recipe, *, nets_only: bool = False, members: Sequence[int] | None = None
) -> EnsembleModule:
    """Build one net on the CPU that maps raw signals (N, channel, ...) float32 to a run's probabilities (N, class).

    members: numbers of the members to average by the recipe's weights, without calibration; by default all of them, combined
    and calibrated as in the evaluation. nets_only: the plain mean of the members that are nets, so that every step has a
    gradient. UserError for a member that cannot be expressed as a net.
    """
    chosen, folds = _chosen(recipe, members, nets_only), range(run.metadata["folds"])
    if members is None and not nets_only:
        combined = Ensemble.load(recipe.combine.by, recipe.combine.calibrate, run.folder / "ensemble.npz").module()
    else:
        combined = _Weighted([1.0 if nets_only else recipe.member[n].weight for n in chosen])
    prepared = _prepared(run, recipe)
    shape, classes = _shape_of(prepared[0], run.metadata["shape"]), len(run.metadata["classes"])
    nets = [[_module(run, recipe.member[n], n, fold, shape, classes) for fold in folds] for n in chosen]
    return EnsembleModule(prepared, nets, [recipe.member[n].model in MODELS for n in chosen], combined).eval()


def _chosen(recipe: Recipe, members: Sequence[int] | None, nets_only: bool) -> list[int]:
    """The numbers of the selected members; UserError if there are none."""
    count = len(recipe.member)
    chosen = list(range(count)) if members is None else list(members)
    for number in chosen:
        if not 0 <= number < count:
            raise UserError(
                f"member {number}: no such member; the run has member{'s' if count != 1 else ''} {listed(range(count))}"
            )
    if nets_only:
        chosen = [number for number in chosen if recipe.member[number].model in MODELS]
    if not chosen:
        raise UserError(f"{recipe.name}: no member is a neural net; the members are {listed(m.model for m in recipe.member)}")
    return chosen


def _prepared(run: RunFolder, recipe: Recipe) -> list[nn.Module]:
    """Transforms of each fold as modules; of one fold only, if none of them has fitted state."""
    folds = [transforms_of(run, recipe, fold) for fold in range(run.metadata["folds"])]
    learned = any(transform.state() for fold in folds for transform in fold)
    return [nn.Sequential(*[transform.module() for transform in fold]) for fold in (folds if learned else folds[:1])]


def _shape_of(prepared: nn.Module, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of one prepared sample."""
    with torch.inference_mode():
        return tuple(prepared(torch.zeros(1, *shape)).shape[1:])


def _module(run: RunFolder, member: Member, number: int, fold: int, shape: Sequence[int], classes: int) -> nn.Module:
    """One member of one fold: prepared signals to a net's logits, or to a classifier's probabilities."""
    folder = run.member(fold, number, member.model)
    if member.model in MODELS:
        return member_net(member, folder, (1, *shape), classes)
    kind: Any = CLASSIFIERS[member.model]
    if not hasattr(kind, "module"):
        able = listed([*MODELS, *(name for name, other in CLASSIFIERS.items() if hasattr(other, "module"))])
        raise UserError(
            f"member {number}: '{member.model}' cannot be converted to a net; choose another with --member or train without "
            f"it (supported models: {able})"
        )
    module: nn.Module = kind.load(folder).module(shape)
    return module


class _Weighted(nn.Module):
    def __init__(self, weights: Sequence[float]) -> None:
        super().__init__()
        self.weights = list(weights)

    def forward(self, scores: Tensor) -> Tensor:
        total = torch.zeros_like(scores[0])
        for weight, own in zip(self.weights, scores.unbind(0), strict=True):
            total = total + weight * own
        return total / sum(self.weights)
