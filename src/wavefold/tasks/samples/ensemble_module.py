"""A run as one net, from raw signals to the ensemble's predictions, for export and saliency maps.

Legend: N samples, M members, P columns of a prediction.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wavefold.core.errors import UserError, listed
from wavefold.core.registry import build_part
from wavefold.core.run import RunFolder
from wavefold.ensemble import Ensemble
from wavefold.models import MODELS
from wavefold.models.views import answers_of
from wavefold.recipe import Recipe
from wavefold.tasks.samples.inference import load_fitted, member_net, scaling_of, transforms_of
from wavefold.tasks.samples.target import losses_of, target_of

__all__ = ["EnsembleModule", "ensemble_module"]


class EnsembleModule(nn.Module):
    """Raw signals (N, channel, ...) float32 to predictions (N, P) float32: each fold's members combined, folds averaged.

    prepared: transforms of each fold; members: for each member, its module in each fold; heads: for each member, in each fold,
    from what the module returns to predictions; combined: (M, N, P) float64 to (N, P); averaged: (fold, N, P) to (N, P).
    """

    def __init__(
        self,
        prepared: Sequence[nn.Module],
        members: Sequence[Sequence[nn.Module]],
        heads: Sequence[Sequence[nn.Module]],
        combined: nn.Module,
        averaged: nn.Module,
    ) -> None:
        super().__init__()
        self.prepared = nn.ModuleList(prepared)  # a single one if all folds share the same steps
        self.members = nn.ModuleList(nn.ModuleList(nets) for nets in members)
        self.heads = nn.ModuleList(nn.ModuleList(each) for each in heads)
        self.combined, self.averaged = combined, averaged

    def forward(self, signals: Tensor) -> Tensor:
        taken = [steps(signals) for steps in self.prepared]
        predicted = [self._predicted(nets, heads, taken) for nets, heads in zip(self.members, self.heads, strict=True)]
        folds = [self.combined(torch.stack(list(members))) for members in zip(*predicted, strict=True)]
        made: Tensor = self.averaged(torch.stack(folds)).float()
        return made

    @staticmethod
    def _predicted(nets: nn.Module, heads: nn.Module, taken: Sequence[Tensor]) -> list[Tensor]:
        """A member's predictions (N, P) float64 in each fold."""
        answers = answers_of(list(nets.children()), taken)
        return [head(answer) for head, answer in zip(heads.children(), answers, strict=True)]


def ensemble_module(
    run: RunFolder, recipe: Recipe, *, nets_only: bool = False, members: Sequence[int] | None = None
) -> EnsembleModule:
    """Build one net on the CPU that maps raw signals (N, channel, ...) float32 to a run's probabilities (N, class).

    members: numbers of the members to average by the recipe's weights, without calibration; by default all of them, combined
    and calibrated as in the evaluation. nets_only: the plain mean of the members that are nets, so that every step has a
    gradient. UserError for a member that cannot be expressed as a net.
    """
    chosen, folds, target = _chosen(recipe, members, nets_only), range(run.metadata.folds), target_of(recipe)
    if members is None and not nets_only:
        path = run.folder / "ensemble.npz"
        combined = Ensemble.load(recipe.combine.by, recipe.combine.calibrate, path, target.parts).module()
    else:
        weights = [1.0 if nets_only else recipe.member[n].weight for n in chosen]
        combined = build_part(target.parts.combiners, "mean", {}, "combine", weights=weights).module()
    prepared = _prepared(run, recipe)
    shape = _shape_of(prepared[0], run.metadata.shape)
    nets = [[_module(run, recipe, n, fold, shape) for fold in folds] for n in chosen]
    heads = [[_head(run, recipe, n, fold) for fold in folds] for n in chosen]
    averaged = target.parts.combiners["mean"]().module()
    return EnsembleModule(prepared, nets, heads, combined, averaged).eval()


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
    folds = [transforms_of(run, recipe, fold) for fold in range(run.metadata.folds)]
    learned = any(transform.state() for fold in folds for transform in fold)
    return [nn.Sequential(*[transform.module() for transform in fold]) for fold in (folds if learned else folds[:1])]


def _shape_of(prepared: nn.Module, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of one prepared sample."""
    with torch.inference_mode():
        return tuple(prepared(torch.zeros(1, *shape)).shape[1:])


def _module(run: RunFolder, recipe: Recipe, number: int, fold: int, shape: Sequence[int]) -> nn.Module:
    """One member of one fold: prepared signals to what a net returns, or to a fitted model's predictions."""
    member, target = recipe.member[number], target_of(recipe)
    folder = run.member(fold, number, member.model)
    if member.model in MODELS:
        return member_net(member, folder, (1, *shape), target.width(losses_of(recipe), len(run.metadata.classes)))
    if not hasattr(target.fitted[member.model], "module"):
        able = listed([*MODELS, *(name for name, other in target.fitted.items() if hasattr(other, "module"))])
        raise UserError(
            f"member {number}: '{member.model}' cannot be converted to a net; choose another with --member or train without "
            f"it (supported models: {able})"
        )
    module: nn.Module = load_fitted(recipe, member.model, folder).module(shape)
    return module


def _head(run: RunFolder, recipe: Recipe, number: int, fold: int) -> nn.Module:
    """The head of one member in one fold; fitted models have none."""
    if recipe.member[number].model not in MODELS:
        return nn.Identity()
    return target_of(recipe).head(losses_of(recipe), len(run.metadata.classes), scaling_of(run, fold))
