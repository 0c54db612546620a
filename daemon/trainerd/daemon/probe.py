"""A question to the runtime: does it get on?"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Probe:
    """Waits in the mailbox like an event; `answer` is set once it was handled."""

    answer: asyncio.Future[None]

    def settle(self) -> None:
        """Answer, if anybody still waits."""
        if not self.answer.done():
            self.answer.set_result(None)
