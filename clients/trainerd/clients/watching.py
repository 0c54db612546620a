"""Watching a run to its end: the one loop under `watch`, `submit --wait` and `run`."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from trainerd.clients.client import Client
from trainerd.clients.errors import ExitCode, Unreachable
from trainerd.clients.feed import Feed, StreamEnded
from trainerd.clients.interrupts import Interrupts
from trainerd.clients.report import ENDED
from trainerd.v1 import control_pb2, run_pb2

_TICK_S = 0.2
_RETRY_S = 0.5

EXIT_CODES = {
    run_pb2.RUN_STATE_COMPLETED: ExitCode.OK,
    run_pb2.RUN_STATE_FAILED: ExitCode.RUN_FAILED,
    run_pb2.RUN_STATE_STOPPED: ExitCode.STOPPED,
}
"""What an ended run means for the exit code."""


class View(Protocol):
    """Shows a run while it is watched."""

    def show(self, response: control_pb2.WatchRunResponse) -> None:
        """The situation has changed."""

    def tick(self) -> None:
        """Time has passed; called a few times a second."""

    def note(self, text: str) -> None:
        """A remark for the person who watches."""

    def close(self) -> None:
        """Nothing more will come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """How watching ended: the run as last seen, and the signal that ended it early, if any."""

    run: run_pb2.Run
    left_by: signal.Signals | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """How a run is watched.

    `interrupted(count, view)` is told of every signal and answers for how many more seconds to
    watch (0: leave now). `daemon_lives()` says whether a lost daemon may come back; it gets
    `patience_s` seconds to do so.
    """

    interrupted: Callable[[int, View], float]
    daemon_lives: Callable[[], bool] = lambda: True
    patience_s: float = 60.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def to_end(self, client: Client, run: run_pb2.Run, view: View) -> Watched:
        """Watch `run` until it has ended or a signal says to leave.

        Raises `Unreachable` when the daemon does not come back.
        """
        with Interrupts() as interrupts:
            watch = _Watch(self, client, run, view, interrupts)
            try:
                return watch.to_end()
            finally:
                view.close()


def leave(_count: int, _view: View) -> float:
    """What a signal does to somebody who only looks on."""
    return 0.0


class _Watch:
    def __init__(
        self, how: Watching, client: Client, run: run_pb2.Run, view: View, interrupts: Interrupts
    ) -> None:
        self._how = how
        self._client = client
        self._run = run
        self._view = view
        self._interrupts = interrupts
        self._heard = 0
        self._sequence = 0
        self._leave_at: float | None = None
        self._lost_at: float | None = None

    def to_end(self) -> Watched:
        while True:
            try:
                return self._one_stream()
            except Unreachable as error:
                watched = self._lost(error)
                if watched is not None:
                    return watched

    def _one_stream(self) -> Watched:
        """Follow one stream; raises `Unreachable` if it ends before the run has ended."""
        stream = self._client.watch_run(self._run.id, after_sequence=self._sequence)
        with Feed(stream) as feed:
            while not self._leaves():
                try:
                    response = feed.take(_TICK_S)
                except StreamEnded:
                    raise Unreachable("the daemon ended the stream") from None
                if response is not None:
                    self._found()
                    self._run = response.run
                    self._sequence = max(self._sequence, response.sequence)
                    self._view.show(response)
                    if self._run.state in ENDED:
                        return Watched(run=self._run)
                self._view.tick()
        return Watched(run=self._run, left_by=self._interrupts.signal)

    def _leaves(self) -> bool:
        while self._heard < self._interrupts.count:
            self._heard += 1
            self._leave_at = self._how.clock() + self._how.interrupted(self._heard, self._view)
        return self._leave_at is not None and self._how.clock() >= self._leave_at

    def _lost(self, error: Unreachable) -> Watched | None:
        """Wait a little and let it be tried again, or give up."""
        if self._lost_at is None:
            self._lost_at = self._how.clock()
            if self._how.daemon_lives():
                self._view.note("the daemon does not answer; waiting for it (training goes on)")
        if not self._how.daemon_lives():
            raise error
        if self._how.clock() - self._lost_at >= self._how.patience_s:
            raise error
        if self._leaves():
            return Watched(run=self._run, left_by=self._interrupts.signal)
        self._how.sleep(_RETRY_S)
        return None

    def _found(self) -> None:
        if self._lost_at is not None:
            self._lost_at = None
            self._view.note("the daemon answers again")
