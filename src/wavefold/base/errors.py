"""What went wrong at the user's door, in one line: the place, the value, what was expected, the nearest right word."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake that the user can mend; the command line prints it as one line and exits with 2."""


class DataError(UserError):
    """A file that does not hold what its layout says; names the file and the line, id or column."""


class MissingGroup(DataError):
    """A source without the groups that were asked for by name."""


def nearest(word: object, known: Iterable[object]) -> str:
    """A closing "; did you mean 'blocks'?" for a mistyped word, or nothing where no known word is near."""
    close = get_close_matches(str(word), [str(k) for k in known], n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def listed(known: Iterable[object]) -> str:
    """Words for an error message, in order and comma-separated."""
    return ", ".join(str(k) for k in known)
