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
from trainerd.daemon.supervision.state import Run, State, Trainer
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
MUTE_S = 15.0
"""The deadline of a step where a gang stands still and one process alone says nothing at all: it
is stopped, not slow. Whatever its loop does, a process that runs says that it lives."""
HEARD_S = 3.0
"""Whoever said something in the last seconds is not mute; every process does once a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """A live trainer's phase, since when it made no progress, and how long that may last.

    `host`: where it is; of a gang the process that was heard of last.
    """

    phase: Phase
    waited_s: float
    deadline_s: float
    host: str = ""


class Deadlines:
    """Knows the longest durations of every run; bounded by the runs and the phases."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._longest_s: dict[str, dict[Phase, float]] = {}
        # What each trainer, by run and host, is in, and since when; not of what came late.
        self._entered: dict[tuple[str, str], tuple[Phase, float]] = {}

    def record(self, stored: Stored, state: State) -> None:
        """A journal record, in order."""
        run = stored.message.run
        trainer = run, stored.message.host
        match stored.kind:
            case "daemon_started":
                self._entered.clear()
            case "trainer_attached" | "trainer_detached" | "trainer_exited" | "trainer_spawned":
                self._entered.pop(trainer, None)
            case "phase_entered" if not stored.ignored:
                self._ended(trainer, stored.now)
                phase = codec.phase_of(stored.message.phase_entered.phase)
                if phase is not None:
                    self._entered[trainer] = (phase, stored.now)
            case "trainer_finished" if not stored.ignored:
                self._ended(trainer, stored.now)
            case _:
                pass
        if run and run not in state.runs:
            self._longest_s.pop(run, None)
            self._entered = {key: at for key, at in self._entered.items() if key[0] != run}

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
        if run.size > 1:
            return self._of_a_gang(run, now)
        trainer = run.trainer
        if trainer is None:
            return None
        deadline_s = self._due(run, trainer)
        if deadline_s is None or trainer.phase is None:
            return None
        waited_s = now - self._telemetry.of(run.id, trainer.host).progress_at
        return Silence(
            phase=trainer.phase, waited_s=waited_s, deadline_s=deadline_s, host=trainer.host
        )

    def _of_a_gang(self, run: Run, now: float) -> Silence | None:
        """Its processes move together or not at all; the one that is mute the longest is named."""
        pulses = {host: self._telemetry.of(run.id, host) for host in run.members}
        due = {host: self._due(run, trainer) for host, trainer in run.members.items()}
        if len(run.members) < run.size or any(each is None for each in due.values()):
            return None
        host = min(run.members, key=lambda each: pulses[each].heard_at)
        phase = run.members[host].phase
        if phase is None:
            return None
        waited_s = now - max(pulse.progress_at for pulse in pulses.values())
        deadline_s = max(each for each in due.values() if each is not None)
        mute_s = now - pulses[host].heard_at
        others_s = max(now - pulses[each].heard_at for each in run.members if each != host)
        if phase is Phase.STEP and others_s <= HEARD_S and min(mute_s, waited_s) > MUTE_S:
            deadline_s = min(deadline_s, MUTE_S)
        return Silence(phase=phase, waited_s=waited_s, deadline_s=deadline_s, host=host)

    def _due(self, run: Run, trainer: Trainer) -> float | None:
        """The deadline of a process that has to say something; None: it has not."""
        if trainer.phase is None or not trainer.attached or trainer.killed or trainer.ending:
            return None
        return self.deadline_s(run, trainer.phase)

    def _ended(self, trainer: tuple[str, str], now: float) -> None:
        if trainer not in self._entered:
            return
        phase, since = self._entered.pop(trainer)
        longest_s = self._longest_s.setdefault(trainer[0], {})
        longest_s[phase] = max(longest_s.get(phase, 0.0), now - since)
