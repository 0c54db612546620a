"""Orbax logs every failure with its traceback, and raises it too: once is enough.

What is kept out of the log is only what Orbax itself says while a save or a restore of ours is
under way, whose failure we report with its reason.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

_ORBAX = "/orbax/"


class Hush:
    """Keeps Orbax out of the log from `begin` to `end`, and for no longer than to `close`."""

    def __init__(self) -> None:
        self._active = False
        # absl's logger is the one that Orbax writes to.
        self._logger = logging.getLogger("absl")
        self._logger.addFilter(self._passes)

    def begin(self) -> None:
        """What Orbax says from now on is reported by us."""
        self._active = True

    def end(self) -> None:
        """It is not any more."""
        self._active = False

    def close(self) -> None:
        """Leave the logger as it was."""
        self._active = False
        self._logger.removeFilter(self._passes)

    def _passes(self, record: logging.LogRecord) -> bool:
        return not (
            self._active and record.levelno >= logging.WARNING and _ORBAX in record.pathname
        )


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Keep Orbax out of the log for as long as the context lasts."""
    hush = Hush()
    hush.begin()
    try:
        yield
    finally:
        hush.close()
