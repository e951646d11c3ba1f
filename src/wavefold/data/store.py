"""Rows read from many files, written block by block to one array on disk: constant memory, resumable, in parallel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from wavefold.base.dataset import Floats


@dataclass(frozen=True)
class Block:
    """What a parser makes of some files, a row each, in their order."""

    rows: Floats  # (sample, position); a bad row may hold anything
    problems: Sequence[str]  # (sample,) '' where a row is good, else the line that says what is wrong with its file
    facts: Mapping[str, Sequence[str]] = field(default_factory=dict)  # words found beside the values: name -> (sample,)


Parse = Callable[[Sequence[str]], Block]  # from files' names; must be picklable, to run in other processes
