"""Answering on standard output from a process that runs the user's code."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import BinaryIO


@contextlib.contextmanager
def answer_alone() -> Iterator[BinaryIO]:
    """Standard output for the answer alone: what the user's code prints goes to standard error."""
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)
        yield answer
