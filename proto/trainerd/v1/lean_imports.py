"""Importing the parts of a long-lived process quickly, and into little memory."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def lean_imports() -> Iterator[None]:
    """Import without the collector, and without what only draws.

    Modules live as long as the process does: collecting among them while they are made finds
    nothing, so they are made without it and then left out of every later collection. structlog
    takes rich where that is installed, to draw exceptions that our logs write in one line: it is
    a tenth of a daemon's start and of its memory. Nothing stays hidden from later imports.
    """
    hidden = "rich" not in sys.modules
    if hidden:
        sys.modules["rich"] = None  # type: ignore[assignment]
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()
        if hidden:
            del sys.modules["rich"]
