"""What the supervisor makes of events: recorded behind the one that caused it, not replayed."""

from __future__ import annotations

from dataclasses import dataclass

from trainerd.daemon.supervision.events.states import RunState
from trainerd.daemon.supervision.faults import Decision, Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionMade:
    """Derived: what the supervisor decided about which fault. `incident`: its number, or 0.

    `trial`: what the policy on trial would have decided; nothing was done.
    """

    run: str
    incarnation: int
    fault: Fault
    decision: Decision
    incident: int = 0
    trial: bool = False
    policy_version: int = 0
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStateChanged:
    """Derived: a run's state changed."""

    run: str
    before: RunState | None
    after: RunState
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventIgnored:
    """Derived: an event could not be acted on; `reason` says why."""

    run: str
    kind: str
    reason: str
