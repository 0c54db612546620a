"""How long each phase of a run may be silent: learnt from what the run took before.

A phase's durations are the times between the records that say it began and ended, so a daemon that
replays its journal knows them too. Where the link was down in between, the records came late and
say nothing. How long steps take, telemetry tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from trainerd.daemon import codec
from trainerd.daemon.journal import Stored
from trainerd.daemon.supervision.faults import Phase
from trainerd.daemon.supervision.state import Run, State
from trainerd.daemon.telemetry import Telemetry

FLOORS_S: Mapping[Phase, float] = MappingProxyType(
    {
        Phase.SPAWN: 60.0,
        Phase.INIT: 600.0,
        Phase.RESTORE: 600.0,
        Phase.COMPILE: 3600.0,
        Phase.FIRST_STEP: 900.0,
        Phase.STEP: 120.0,
        Phase.SAVE: 900.0,
        Phase.DRAIN: 300.0,
        Phase.EVALUATE: 1800.0,
    }
)
"""The least deadlines, in seconds; fault.proto tells users of them. A paused trainer has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """A live trainer's phase, since when it made no progress, and how long that may last."""

    phase: Phase
    waited_s: float
    deadline_s: float


class Deadlines:
    """Knows the longest durations of every run; bounded by the runs and the phases."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._longest_s: dict[str, dict[Phase, float]] = {}
        # What each run's trainer is in, and since when; a record that came late has no such place.
        self._entered: dict[str, tuple[Phase, float]] = {}

    def record(self, stored: Stored, state: State) -> None:
        """A journal record, in order."""
        run = stored.message.run
        match stored.kind:
            case "daemon_started":
                self._entered.clear()
            case "trainer_attached" | "trainer_detached" | "trainer_exited" | "trainer_spawned":
                self._entered.pop(run, None)
            case "phase_entered" if not stored.ignored:
                self._ended(run, stored.now)
                phase = codec.phase_of(stored.message.phase_entered.phase)
                if phase is not None:
                    self._entered[run] = (phase, stored.now)
            case "trainer_finished" if not stored.ignored:
                self._ended(run, stored.now)
            case _:
                pass
        if run and run not in state.runs:
            self._longest_s.pop(run, None)
            self._entered.pop(run, None)

    def deadline_s(self, run: Run, phase: Phase) -> float | None:
        """Seconds without progress after which the phase counts as hung; None: it never does."""
        floor_s = FLOORS_S.get(phase)
        if floor_s is None:
            return None
        if phase is Phase.STEP:
            longest_s = self._telemetry.of(run.id).longest_step_s
        else:
            longest_s = self._longest_s.get(run.id, {}).get(phase, 0.0)
        if longest_s > 0 and run.policy.hang_floor_s > 0:
            floor_s = run.policy.hang_floor_s
        return max(floor_s, run.policy.hang_factor * longest_s)

    def silence(self, run: Run, *, now: float) -> Silence | None:
        """How long the run's trainer has been silent; None: it need not say anything now."""
        trainer = run.trainer
        if trainer is None or trainer.phase is None:
            return None
        if not trainer.attached or trainer.killed or trainer.ending:
            return None
        deadline_s = self.deadline_s(run, trainer.phase)
        if deadline_s is None:
            return None
        waited_s = now - self._telemetry.of(run.id).progress_at
        return Silence(phase=trainer.phase, waited_s=waited_s, deadline_s=deadline_s)

    def _ended(self, run: str, now: float) -> None:
        if run not in self._entered:
            return
        phase, since = self._entered.pop(run)
        longest_s = self._longest_s.setdefault(run, {})
        longest_s[phase] = max(longest_s.get(phase, 0.0), now - since)
