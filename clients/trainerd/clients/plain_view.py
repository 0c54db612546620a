"""Watching without a terminal: JSON, or one plain line for each noteworthy change."""

from __future__ import annotations

import time
from collections.abc import Callable

from trainerd.clients.report import ENDED, loss_text, progress_text
from trainerd.clients.sentences import kind_of, sentence, state_word
from trainerd.clients.session import Session
from trainerd.clients.wording import clock, one_line
from trainerd.v1 import control_pb2, event_pb2, run_pb2

_PROGRESS_EVERY_S = 10.0
_SAME_KIND_EVERY_S = 5.0

_NOTEWORTHY = frozenset(
    {
        "pause_requested",
        "resume_requested",
        "stop_requested",
        "restart_requested",
        "trainer_spawn_failed",
        "trainer_exited",
        "state_restored",
        "evaluated",
        "checkpoint_saved",
        "fault_raised",
        "deadline_expired",
        "decision_made",
        "fault_injected",
        "rolled_back",
        "policy_changed",
        "policy_trial_ended",
        "injection_requested",
        "profiled",
        "run_state_changed",
        "launcher_lost",
        "daemon_started",
        "daemon_ended",
        "journal_recovered",
    }
)
# These may come every second; the others change what the run does and are all shown.
_FREQUENT = frozenset({"checkpoint_saved", "evaluated"})


class JsonView:
    """One line of JSON for each message."""

    def __init__(self, session: Session) -> None:
        """Writes to the session's output."""
        self._session = session

    def show(self, response: control_pb2.WatchRunResponse) -> None:
        """Print it."""
        self._session.emit(response, streamed=True)

    def tick(self) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """A note on standard error."""
        self._session.note(text)

    def close(self) -> None:
        """Nothing."""


class PlainView:
    """Lines that are never redrawn: state changes, faults, checkpoints, progress at intervals."""

    def __init__(self, session: Session, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Writes to the session's output; `monotonic` gives seconds."""
        self._session = session
        self._monotonic = monotonic
        self._state: run_pb2.RunState = run_pb2.RUN_STATE_UNSPECIFIED
        self._progress_at = monotonic()
        self._progress_step = -1
        self._shown_at: dict[str, float] = {}
        self._unshown: dict[str, int] = {}

    def show(self, response: control_pb2.WatchRunResponse) -> None:
        """Print what is noteworthy in it."""
        for event in response.events:
            self._event(event)
        if response.dropped_events:
            self._line(f"{response.dropped_events} events not shown; see 'trainerctl events'")
        run = response.run
        if run.state != self._state:
            self._state = run.state
            why = f": {one_line(run.reason)}" if run.reason else ""
            self._line(f"{state_word(run.state)}{why}")
        self._progress(run)

    def tick(self) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """A note on standard error."""
        self._session.note(text)

    def close(self) -> None:
        """Nothing."""

    def _event(self, event: event_pb2.Event) -> None:
        kind = kind_of(event)
        if kind not in _NOTEWORTHY or self._too_soon(event, kind):
            return
        if kind == "run_state_changed":
            self._state = event.run_state_changed.to
        unshown = self._unshown.pop(kind, 0)
        more = f" ({unshown} more since the last such line)" if unshown else ""
        self._line(f"{sentence(event)}{more}", clock(event.time))

    def _too_soon(self, event: event_pb2.Event, kind: str) -> bool:
        """Whether a kind that comes often was just shown; the next line counts what was not."""
        delegated = kind == "fault_raised" and bool(event.fault_raised.fault.delegated)
        if kind not in _FREQUENT and not delegated:
            return False
        now = self._monotonic()
        if now - self._shown_at.get(kind, float("-inf")) < _SAME_KIND_EVERY_S:
            self._unshown[kind] = self._unshown.get(kind, 0) + 1
            return True
        self._shown_at[kind] = now
        return False

    def _progress(self, run: run_pb2.Run) -> None:
        now = self._monotonic()
        due = now - self._progress_at >= _PROGRESS_EVERY_S or self._progress_step < 0
        if run.step <= self._progress_step or run.step == 0 or run.state in ENDED or not due:
            return
        self._progress_at, self._progress_step = now, run.step
        self._line(f"step {progress_text(run)}, loss {loss_text(run)}")

    def _line(self, text: str, at: str | None = None) -> None:
        self._session.say(f"{at or time.strftime('%H:%M:%S')}  {text}")
        self._session.out.flush()
