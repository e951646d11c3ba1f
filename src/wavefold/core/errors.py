"""One-line errors for the user: the place, the value, what was expected, the nearest valid name."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """An error that the user can fix; the command line prints it as one line and exits with 2.

    It is one line whatever a file contains: characters that are not printable appear as Python writes them, such as \\n.
    """

    def __str__(self) -> str:
        words = super().__str__()
        return words if words.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in words)


class DataError(UserError):
    """A file does not match its layout; the message names the file and the line, id or column."""


class MissingGroup(DataError):
    """The source lacks the requested groups."""


def nearest(word: object, known: Iterable[object]) -> str:
    """Return "; did you mean 'blocks'?" for a mistyped word, or "" if no known word is close."""
    close = get_close_matches(str(word), [str(k) for k in known], n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def listed(known: Iterable[object]) -> str:
    """Join words with commas for a message, in order."""
    return ", ".join(str(k) for k in known)


def plural(number: int, one: str, many: str = "") -> str:
    """Format a count with its noun: "1 group", "2,000 groups". many: the plural, if it is not `one` with an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
