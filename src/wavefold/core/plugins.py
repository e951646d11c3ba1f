"""Tables of parts by short name, filled by wavefold, by its domains and by other packages.

A domain is found through the entry-point group `wavefold.domains`; ours are registered in the same way as anybody else's.
A single part comes through the group of its table: `wavefold.models`, `wavefold.losses`, `wavefold.metrics` and so on.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, MutableMapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from wavefold.core.errors import UserError

T = TypeVar("T")


class Table(MutableMapping[str, T]):
    """The parts of one kind by short name: `own`, then those of every domain, then those of other packages.

    kind: the field of a domain that holds such parts, and what follows `wavefold.` in the entry-point group. The table is
    filled when it is first read; a part of one's own is added by table[name] = part. UserError where two packages use one name.
    """

    def __init__(self, kind: str, own: Mapping[str, T] | None = None) -> None:
        self.kind, self._own = kind, dict(own or {})
        self._entries: dict[str, T] | None = None

    def __getitem__(self, name: str) -> T:
        return self._filled()[name]

    def __setitem__(self, name: str, part: T) -> None:
        self._filled()[name] = part

    def __delitem__(self, name: str) -> None:
        del self._filled()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._filled())

    def __len__(self) -> int:
        return len(self._filled())

    def _filled(self) -> dict[str, T]:
        if self._entries is None:
            entries = dict(self._own)
            for domain in installed_domains().values():
                _add(entries, getattr(domain, self.kind), self.kind, f"domain '{domain.name}'")
            for point in entry_points(group=f"wavefold.{self.kind}"):
                _add(entries, {point.name: _loaded(point)}, self.kind, _package(point))
            self._entries = entries
        return self._entries


@cache
def installed_domains() -> dict[str, Any]:
    """Every installed domain by name, in the order of names; UserError where two packages use one name."""
    found: dict[str, Any] = {}
    for point in entry_points(group="wavefold.domains"):
        _add(found, {point.name: _loaded(point)}, "domain", _package(point))
    return dict(sorted(found.items()))


def recipe_files() -> dict[str, Path]:
    """The recipes of all domains: the TOML files in the folder `recipes` beside each domain's module. Imports no domain."""
    files: dict[str, Path] = {}
    for point in entry_points(group="wavefold.domains"):
        spec = importlib.util.find_spec(point.module)
        if spec is None or spec.origin is None:
            raise UserError(f"domain '{point.name}' of {_package(point)}: there is no module {point.module}; reinstall it")
        _add(files, {f.stem: f for f in (Path(spec.origin).parent / "recipes").glob("*.toml")}, "recipe", _package(point))
    return dict(sorted(files.items()))


def _add(entries: dict[str, T], more: Mapping[str, T], kind: str, source: str) -> None:
    for name, entry in more.items():
        if name in entries:
            raise UserError(f"{kind} '{name}' of {source}: another package has one of that name; uninstall one of the two")
        entries[name] = entry


def _loaded(point: EntryPoint) -> Any:
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise UserError(f"'{point.name}' of {_package(point)} cannot be loaded ({error}); update or uninstall it") from error


def _package(point: EntryPoint) -> str:
    return f"package {point.dist.name}" if point.dist else point.value
