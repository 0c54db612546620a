"""What systemd is told while the daemon serves: its status line, and that it gets on.

The sign of life is the runtime's own: sent when it has handled what waited and its journal answers.
A daemon whose mailbox or whose disk hangs sends none, whatever else of it still runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger()

STATUS_S = 1.0
"""Seconds between two looks at the status line; it is sent when it has changed."""
SHARE = 3
"""Signs of life in the time within which one is wanted."""


class SignOfLife:
    """Tells systemd until cancelled.

    `probe` returns when the runtime gets on, and is not waited for with a deadline here: the one
    there is, `watchdog_s`, is systemd's (None: it has none). `status` makes the status line.
    """

    def __init__(
        self,
        *,
        notify: Callable[[str], object],
        probe: Callable[[], Awaitable[None]],
        status: Callable[[], str],
        watchdog_s: float | None,
    ) -> None:
        self._notify = notify
        self._probe = probe
        self._status = status
        self._watchdog_s = watchdog_s

    async def run(self) -> None:
        """Tell until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell_status())
            if self._watchdog_s is not None:
                group.create_task(self._show_life(self._watchdog_s / SHARE))

    async def _tell_status(self) -> None:
        told = ""
        while True:
            status = self._status()
            if status != told:
                self._say(f"STATUS={status}")
                told = status
            await asyncio.sleep(STATUS_S)

    async def _show_life(self, period_s: float) -> None:
        while True:
            await self._probe()
            self._say("WATCHDOG=1")
            await asyncio.sleep(period_s)

    def _say(self, state: str) -> None:
        try:
            self._notify(state)
        except OSError as error:
            # Its socket is full or gone for a moment; the next one may get through.
            log.warning("systemd_not_told", state=state, error=str(error))
