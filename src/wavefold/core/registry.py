"""Builds parts from short names and options, checked against lookup tables and signatures."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Collection, Mapping
from types import ModuleType
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from wavefold.core.errors import UserError, listed, nearest

T = TypeVar("T")


def pick(table: Mapping[str, T], name: str, place: str) -> T:
    """Return the entry of `table` for a short name; UserError with the nearest name if there is none."""
    if name not in table:
        raise UserError(f"{place}: '{name}' is not one of {listed(table)}{nearest(name, table)}")
    return table[name]


def check_options(
    part: Any, options: Mapping[str, object], place: str, given: Collection[str] = (), beside: Collection[str] = ()
) -> None:
    """Raise UserError unless every option is a keyword of `part` with the right type and no required one is missing.

    given: arguments that the caller supplies and a recipe may not set. beside: other keys that are valid in the same place,
    for the suggestion.
    """
    known = {
        k: p for k, p in inspect.signature(part).parameters.items() if k not in (*given, "self") and p.kind != p.VAR_POSITIONAL
    }
    hints = get_type_hints(part.__init__ if inspect.isclass(part) else part)
    for key, value in options.items():
        if key not in known:
            near = nearest(key, [*known, *beside]) or (f"; it takes {listed(known)}" if known else "; it takes no options")
            raise UserError(f"{place}.{key}: no such option{near}")
        _check_type(hints.get(key, Any), value, f"{place}.{key}")
    missing = [k for k, p in known.items() if p.default is p.empty and p.kind != p.VAR_KEYWORD and k not in options]
    if missing:
        raise UserError(f"{place}.{missing[0]}: must be set")


def build_part(table: Mapping[str, Any], name: str, options: Mapping[str, object], place: str, **given: object) -> Any:
    """Build the part with a short name from a recipe's options and the caller's own arguments."""
    part = pick(table, name, place)
    check_options(part, options, place, given)
    return part(**given, **{k: _typed(part, k, v) for k, v in options.items()})


def optional(module: str, extra: str) -> Any:
    """A package from an optional extra, imported on first use; if it is missing, the error names the extra."""
    return _Optional(module, extra)


class _Optional(ModuleType):
    def __init__(self, module: str, extra: str) -> None:
        super().__init__(module)
        self._extra = extra

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(importlib.import_module(self.__name__), name)
        except ModuleNotFoundError as error:
            raise UserError(
                f"this needs the package {error.name}, which is not installed: pip install 'wavefold[{self._extra}]'"
            ) from error


def _check_type(hint: Any, value: object, place: str) -> None:
    try:
        TypeAdapter(hint).validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        raise UserError(f"{place}: {value!r}: {error.errors()[0]['msg'].lower()}") from None


def _typed(part: Any, key: str, value: object) -> object:
    hint = get_type_hints(part.__init__ if inspect.isclass(part) else part).get(key, Any)
    return TypeAdapter(hint).validate_json(json.dumps(value, default=str), strict=True)
