"""SIGINT and SIGTERM during a run: finish the step in flight, save, then end.

Handlers can be had in the main thread only; elsewhere nothing is watched, and whoever owns the
main thread decides. The first signal asks the loop to stop at its next boundary; one that finds
the loop waiting for data ends the wait. Later signals change nothing, so that a save that has
begun is finished, or fails by its own timeout. What was installed before is put back.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from trainerd.actors.errors import Terminated
from trainerd.actors.reports import Controls, FinishReason

_WATCHED = (signal.SIGINT, signal.SIGTERM)


class SignalWatch:
    """Turns a signal into a request to stop. Made for one run, in the main thread."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls
        self._received: signal.Signals | None = None
        self._waiting = False

    @property
    def received(self) -> signal.Signals | None:
        """The first signal."""
        return self._received

    def exception(self) -> BaseException | None:
        """What the first signal stands for: KeyboardInterrupt or `Terminated`."""
        match self._received:
            case None:
                return None
            case signal.SIGTERM:
                return Terminated()
            case _:
                return KeyboardInterrupt()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Inside, a signal is raised at once; one that has come is raised before."""
        self._waiting = True
        try:
            if self._received is not None:
                raise KeyboardInterrupt
            yield
        finally:
            self._waiting = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Watch, until the end of the block. A signal that was ignored before stays ignored."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: handler
            for number in _WATCHED
            # None: not installed from Python, and could not be put back.
            if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)
        }
        for number in before:
            signal.signal(number, self._on_signal)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._received is not None:
            return
        self._received = signal.Signals(number)
        self._controls.stop(FinishReason.PREEMPTED)
        if self._waiting:
            raise KeyboardInterrupt
