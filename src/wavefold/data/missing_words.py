"""The words by which tables say that an entry is missing: one list and one rule for labels, groups and numbers of all readers.

Such a word is never a class, never a group that samples share and never text among numbers, whatever its case. A recipe or a
file that names its classes may name one of these words among them; then it is a class.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
from numpy.typing import NDArray

from wavefold.data.dataset import Strings

# what pandas, R, SQL, Excel and astronomers' catalogues write, in lower case
_MISSING = frozenset(
    ("", "nan", "+nan", "-nan", "na", "n/a", "n.a.", "#n/a", "#na", "<na>", "nat", "none", "null", "nil", "-", "--", "---", "?")
)


def is_missing(word: str) -> bool:
    """Whether a word means that an entry is missing, in any case and with any blanks around it."""
    return word.strip().lower() in _MISSING


def are_missing(words: Strings, named: Collection[str] = ()) -> NDArray[np.bool_]:
    """Which words mean that an entry is missing, (sample,). named: words that are classes all the same."""
    found = missing_among(words.tolist(), named)
    return np.isin(words, found) if found else np.zeros(len(words), bool)


def missing_among(words: Iterable[str], named: Collection[str] = ()) -> list[str]:
    """The distinct words, as written, that mean that an entry is missing. named: words that are classes all the same."""
    return sorted(word for word in set(words) if is_missing(word) and word not in named)


def spelled(words: Iterable[str]) -> str:
    """How missing entries are written, for a message: "empty, 'nan'"."""
    return ", ".join(repr(word) if word.strip() else "empty" for word in sorted(set(words)))
