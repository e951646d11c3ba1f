"""Other packages' log messages, kept from the user where they say nothing to act on."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def logs_from(level: int, names: Sequence[str]) -> Iterator[None]:
    """Let loggers by these names pass only messages of a level or above, inside the block."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, earlier in zip(loggers, before, strict=True):
            logger.setLevel(earlier)
