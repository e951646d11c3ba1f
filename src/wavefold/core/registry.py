"""Tables of parts by short name, and parts built from a recipe's options.

Tables are filled by wavefold, by its domains and by other packages. A domain is found through the entry-point group
`wavefold.domains`; ours are registered in the same way as anyone else's. A single part is found through the group of its
table: `wavefold.models`, `wavefold.losses`, `wavefold.metrics` and so on.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from wavefold.core.errors import UserError, listed, nearest

T = TypeVar("T")


def pick(table: Mapping[str, T], name: str, place: str) -> T:
    """Return the entry of `table` for a short name; UserError with the nearest name if there is none."""
    if name not in table:
        raise UserError(f"{place}: '{name}' is not one of {listed(table)}{nearest(name, table)}")
    return table[name]


def check_options(
    part: Callable[..., object],
    options: Mapping[str, object],
    place: str,
    given: Collection[str] = (),
    beside: Collection[str] = (),
) -> None:
    """Raise UserError unless every option is a keyword of `part` with the right type and no required one is missing.

    given: arguments that the caller supplies and a recipe may not set. beside: other keys that are valid in the same place,
    for the suggestion.
    """
    known = {
        k: p for k, p in inspect.signature(part).parameters.items() if k not in (*given, "self") and p.kind != p.VAR_POSITIONAL
    }
    hints = _hints(part)
    for key, value in options.items():
        if key not in known:
            near = nearest(key, [*known, *beside]) or (f"; it takes {listed(known)}" if known else "; it takes no options")
            raise UserError(f"{place}.{key}: no such option{near}")
        _check_type(hints.get(key, object), value, f"{place}.{key}")
    missing = [k for k, p in known.items() if p.default is p.empty and p.kind != p.VAR_KEYWORD and k not in options]
    if missing:
        raise UserError(f"{place}.{missing[0]}: must be set")


def build_part(
    table: Mapping[str, Callable[..., T]], name: str, options: Mapping[str, object], place: str, **given: object
) -> T:
    """Build the part with a short name from a recipe's options and the caller's own arguments."""
    part, hints = pick(table, name, place), _hints(table[name])
    check_options(part, options, place, given)
    return part(**given, **{k: _typed(hints.get(k, object), v) for k, v in options.items()})


def optional(module: str, extra: str) -> ModuleType:
    """A package from an optional extra, imported on first use; if it is missing, the error names the extra."""
    return _Optional(module, extra)


def later(module: str) -> ModuleType:
    """A package that is always there, imported on first use: for those that take long to import and are seldom needed."""
    return _Optional(module)


class _Optional(ModuleType):
    def __init__(self, module: str, extra: str = "") -> None:
        super().__init__(module)
        self._extra = extra

    def __getattr__(self, name: str) -> object:
        try:
            return getattr(importlib.import_module(self.__name__), name)
        except ModuleNotFoundError as error:
            if not self._extra:
                raise
            raise UserError(
                f"this needs the package {error.name}, which is not installed: pip install 'wavefold[{self._extra}]'"
            ) from error


def _check_type(hint: type, value: object, place: str) -> None:
    try:
        _typed(hint, value)
    except ValidationError as error:
        raise UserError(f"{place}: {value!r}: {error.errors()[0]['msg'].lower()}") from None


def _typed(hint: type[T], value: object) -> T:
    return TypeAdapter(hint).validate_json(json.dumps(value, default=str), strict=True)


def _hints(part: Callable[..., object]) -> dict[str, type]:
    """The types of a part's options."""
    return get_type_hints(part.__init__ if inspect.isclass(part) else part)


class Table(MutableMapping[str, T]):
    """The parts of one kind by short name: `own`, then those of every domain, then those of other packages.

    kind: the field of a domain that holds such parts, and the entry-point group's name after `wavefold.`. The table is filled
    when it is first read; add your own part with table[name] = part. UserError if two packages use the same name. A part may be
    given as "module:name", as entry points are: its module is then imported when the part is first asked for.
    """

    def __init__(self, kind: str, own: Mapping[str, T | str] | None = None) -> None:
        self.kind, self._own = kind, dict(own or {})
        self._entries: dict[str, T | str] | None = None

    def __getitem__(self, name: str) -> T:
        entry = self._filled()[name]
        if not isinstance(entry, str):
            return entry
        part: T = EntryPoint(name, entry, f"wavefold.{self.kind}").load()
        self._filled()[name] = part
        return part

    def __contains__(self, name: object) -> bool:
        return name in self._filled()

    def __setitem__(self, name: str, part: T) -> None:
        self._filled()[name] = part

    def __delitem__(self, name: str) -> None:
        del self._filled()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._filled())

    def __len__(self) -> int:
        return len(self._filled())

    def _filled(self) -> dict[str, T | str]:
        if self._entries is None:
            entries = dict(self._own)
            for name, domain in installed_domains().items():
                _add(entries, getattr(domain, self.kind), self.kind, f"domain '{name}'")
            for point in entry_points(group=f"wavefold.{self.kind}"):
                _load_into(entries, point, self.kind)
            self._entries = entries
        return self._entries


@cache
def installed_domains() -> dict[str, object]:
    """Every installed domain by name, sorted; UserError if two packages use the same name."""
    found: dict[str, object] = {}
    for point in entry_points(group="wavefold.domains"):
        _load_into(found, point, "domain")
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


def _load_into(entries: dict[str, T], point: EntryPoint, kind: str) -> None:
    try:
        part: T = point.load()
    except (ImportError, AttributeError) as error:
        raise UserError(f"'{point.name}' of {_package(point)} cannot be loaded ({error}); update or uninstall it") from error
    _add(entries, {point.name: part}, kind, _package(point))


def _package(point: EntryPoint) -> str:
    return f"package {point.dist.name}" if point.dist else point.value
