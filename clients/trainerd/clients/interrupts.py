"""Ctrl-C and SIGTERM as a count to look at, where an exception could land anywhere."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM, outside of an `Interrupts` block."""


class Interrupts:
    """While entered, SIGINT and SIGTERM raise nothing: they are counted. Main thread only."""

    def __init__(self) -> None:
        """Nothing has been received."""
        self.count = 0
        self.signal = signal.SIGINT
        self._before: list[signal._HANDLER] = []

    def __enter__(self) -> Self:
        """Take the signals over."""
        self._before = [signal.signal(number, self._received) for number in _SIGNALS]
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give them back."""
        for number, handler in zip(_SIGNALS, self._before, strict=True):
            signal.signal(number, handler)

    def _received(self, number: int, _frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        self.count += 1


def raise_on_sigterm() -> None:
    """Make SIGTERM unwind the stack as Ctrl-C does, so that what was started is ended."""

    def raise_terminated(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, raise_terminated)
