"""Defines what a domain provides: readers, simulators, writers, models, transforms, vocabulary and plots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from wavefold.core.errors import UserError
from wavefold.core.registry import installed_domains
from wavefold.data.axes import Axis
from wavefold.data.dataset import Dataset, Floats
from wavefold.data.layout import Fetch, Layout, SeriesLayout
from wavefold.data.series import Series
from wavefold.plots.plot import Figure
from wavefold.plots.signal_charts import draw_explanations, draw_samples

if TYPE_CHECKING:
    from torch import Tensor, nn


class Candidate(Protocol):
    """What a search lists: a dataclass whose fields are the columns of the list."""

    @property
    def id(self) -> str:
        """Its name, the only one of this list."""

    @property
    def label_row(self) -> Mapping[str, str]:
        """What stands beside a person's verdict in a CSV of labels: `id`, and columns such as the group."""


# predict or None, metadata or None, files, *, out, warn, and what its command asks
Search = Callable[..., Sequence[Candidate]]
DrawSamples = Callable[[Floats, Sequence[str], Axis, Sequence[int] | None], Figure]
DrawExplanations = Callable[[Floats, Mapping[str, Floats], Sequence[str], Axis], list[tuple[str, Figure]]]


@dataclass(frozen=True)
class Words:
    """The field's terms for pages and messages, each as (singular, plural)."""

    sample: tuple[str, str] = ("sample", "samples")
    group: tuple[str, str] = ("group", "groups")  # samples that a split must keep together


@dataclass(frozen=True)
class Domain:
    """One field of science. Its recipes are the TOML files in the folder `recipes` beside the module that defines it.

    Every mapping is keyed by the short name that recipes use. A part may be given as "module:name", as entry points are: what
    needs torch should be, so that files are read and searched without it.
    """

    name: str
    words: Words = Words()
    words_by_simulator: Mapping[str, Words] = field(default_factory=dict)  # for recipes with samples of another kind
    layouts: Mapping[str, Layout] = field(default_factory=dict)
    remotes: Mapping[str, Fetch] = field(default_factory=dict)  # "physionet:" -> function that fetches the rest of the name
    simulators: Mapping[str, Callable[..., Dataset] | str] = field(default_factory=dict)  # (count, seed, *, shape, classes)
    writers: Mapping[str, Callable[..., Path] | str] = field(default_factory=dict)  # (dataset, folder)
    series_layouts: Mapping[str, SeriesLayout] = field(default_factory=dict)
    series_simulators: Mapping[str, Callable[..., Series] | str] = field(default_factory=dict)
    series_writers: Mapping[str, Callable[..., Path] | str] = field(default_factory=dict)
    models: Mapping[str, type[nn.Module] | str] = field(default_factory=dict)
    classifiers: Mapping[str, type | str] = field(default_factory=dict)
    regressors: Mapping[str, type | str] = field(default_factory=dict)
    labellers: Mapping[str, type | str] = field(default_factory=dict)
    forecasters: Mapping[str, type[nn.Module] | str] = field(default_factory=dict)
    transforms: Mapping[str, Callable[..., object] | str] = field(default_factory=dict)
    augmentations: Mapping[str, Callable[..., object] | str] = field(default_factory=dict)
    mixers: Mapping[str, Callable[..., object] | str] = field(default_factory=dict)
    balancers: Mapping[str, Callable[..., object] | str] = field(default_factory=dict)
    tasks: Mapping[str, object] = field(default_factory=dict)  # as `tasks/base.py` defines them
    losses: Mapping[str, Callable[..., object] | str] = field(default_factory=dict)
    metrics: Mapping[str, object] = field(default_factory=dict)
    regression_losses: Mapping[str, Callable[..., object] | str] = field(default_factory=dict)
    multilabel_losses: Mapping[str, Callable[..., object] | str] = field(default_factory=dict)
    multilabel_metrics: Mapping[str, object] = field(default_factory=dict)
    mirrors: Mapping[str, Callable[[Tensor], Tensor] | str] = field(default_factory=dict)  # symmetries named in member.flips
    searches: Callable[[str], bool] | None = None  # whether `search` accepts a file
    search: Search | None = None  # searches whole observations, several files at once; returns the candidates it lists
    axis_title: str = ""  # title of the last axis; "" derives it from the unit
    draw_samples: DrawSamples = draw_samples
    draw_explanations: DrawExplanations = draw_explanations


def all_domains() -> dict[str, Domain]:
    """Every installed domain by name; UserError if an entry point names something else."""
    found = installed_domains()
    for name, domain in found.items():
        if not isinstance(domain, Domain):
            raise UserError(f"domain '{name}': {type(domain).__name__} is no wavefold.domains.base.Domain; fix its entry point")
    return {name: domain for name, domain in found.items() if isinstance(domain, Domain)}


def domain_of(simulator: str) -> Domain:
    """Return the domain that a recipe's simulator belongs to, or an empty domain if none has it."""
    found = (d for d in all_domains().values() if simulator in d.simulators or simulator in d.series_simulators)
    return next(found, Domain(name=""))


def words_of(simulator: str) -> Words:
    """The terms for the samples of a recipe, by its simulator."""
    domain = domain_of(simulator)
    return domain.words_by_simulator.get(simulator, domain.words)
