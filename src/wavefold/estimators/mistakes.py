"""What is wrong with a parameter or with data, told as scikit-learn's callers expect it: by a ValueError."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from wavefold.base.build import check_options
from wavefold.base.errors import UserError, listed


class BadValue(UserError, ValueError):
    """A mistake that the user can mend, as a ValueError."""


@contextmanager
def as_value_errors() -> Iterator[None]:
    """Let what a part says of a mistake come out as a BadValue of the same words."""
    try:
        yield
    except BadValue:
        raise
    except UserError as error:
        raise BadValue(str(error)) from None


def need_takes(model: type, given: Mapping[str, int], options: Mapping[str, Any]) -> None:
    """BadValue where a class of nets takes other arguments than it would be given."""
    try:
        check_options(model, {**given, **options}, "model_options")
    except UserError as error:
        raise BadValue(f"model: {model.__name__} is made with {listed(given)} and model_options: {error}") from None
