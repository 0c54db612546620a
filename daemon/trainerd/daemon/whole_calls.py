"""Calls in threads that run to their end, whoever waits for them or leaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def to_its_end(call: Callable[[], T]) -> T:
    """Run `call` in a thread and return what it returns.

    A caller that is cancelled stays until the thread has ended: whatever lock it holds around this
    is not given to the next one while the thread still works.
    """
    work = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # Nobody is left who could be told.
        raise
