"""Taking turns with a running loop: it runs for a window, and holds while something else runs.

A loop cannot be called for a few steps; but a callback can hold it. `Turns` counts the steps that
have landed. After `pause` of them, in which the pipeline fills again, it measures `window` more,
says what one took, and does not return before it is this loop's turn again.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

from trainerd.actors.callbacks import Callback, CallbackSignal, TrainingState

ANSWER_S = 90.0
"""Longest time in which somebody else's window must be over: a held trainer makes no progress."""


class Turns(Callback):
    """Calls `turn(seconds a step)` after every window; ends the run where that says False."""

    def __init__(self, *, window: int, pause: int, turn: Callable[[float], bool]) -> None:
        self._window, self._pause, self._turn = window, pause, turn
        self._landed, self._began_s = 0, 0.0

    def on_step_end(self, state: TrainingState) -> CallbackSignal:
        """Count a step."""
        self._landed += 1
        if self._landed == self._pause:
            self._began_s = time.perf_counter()
        if self._landed < self._pause + self._window:
            return CallbackSignal.CONTINUE
        took_s = (time.perf_counter() - self._began_s) / self._window
        self._landed = 0
        return CallbackSignal.CONTINUE if self._turn(took_s) else CallbackSignal.STOP


def over_socket(path: Path) -> Callable[[float], bool]:
    """Make a `turn` that tells another process, and waits until that one says to go on."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.settimeout(ANSWER_S)
    link.connect(str(path))
    lines = link.makefile("r")

    def turn(took_s: float) -> bool:
        link.sendall(f"{took_s!r}\n".encode())
        return lines.readline() == "on\n"

    return turn
