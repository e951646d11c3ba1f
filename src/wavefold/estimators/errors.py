"""Errors in parameters or data, raised as ValueError, as scikit-learn's users expect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from wavefold.core.errors import UserError, listed
from wavefold.core.registry import check_options


class BadValue(UserError, ValueError):
    """An error that the user can fix, as a ValueError."""


@contextmanager
def as_value_errors() -> Iterator[None]:
    """Turn any UserError into a BadValue with the same message."""
    try:
        yield
    except BadValue:
        raise
    except UserError as error:
        raise BadValue(str(error)) from None


def need_takes(model: type, given: Mapping[str, int], options: Mapping[str, object]) -> None:
    """Raise BadValue if a net class does not accept the arguments that it would be given."""
    try:
        check_options(model, {**given, **options}, "model_options")
    except UserError as error:
        raise BadValue(f"model: {model.__name__} must accept {listed(given)} and model_options: {error}") from None
