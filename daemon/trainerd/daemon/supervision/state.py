"""The supervisor's state: frozen values, and which run state may follow which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from trainerd.daemon.supervision.budget import Budgets
from trainerd.daemon.supervision.events import FinishReason, RunState
from trainerd.daemon.supervision.faults import Decision, Fault, Phase
from trainerd.daemon.supervision.policy import Action, Policy

_S = RunState

EDGES: Mapping[RunState, frozenset[RunState]] = MappingProxyType(
    {
        _S.QUEUED: frozenset({_S.STARTING, _S.STOPPED}),
        _S.STARTING: frozenset(
            {_S.RUNNING, _S.RECOVERING, _S.PAUSED, _S.STOPPING, _S.QUEUED, _S.COMPLETED, _S.FAILED}
        ),
        _S.RUNNING: frozenset(
            {_S.RECOVERING, _S.PAUSED, _S.STOPPING, _S.QUEUED, _S.COMPLETED, _S.FAILED}
        ),
        _S.RECOVERING: frozenset(
            {_S.RUNNING, _S.PAUSED, _S.STOPPING, _S.STOPPED, _S.QUEUED, _S.COMPLETED, _S.FAILED}
        ),
        _S.PAUSED: frozenset(
            # COMPLETED: reports in between may have been lost to an overflow.
            {_S.RUNNING, _S.RECOVERING, _S.STOPPING, _S.QUEUED, _S.COMPLETED, _S.FAILED}
        ),
        _S.STOPPING: frozenset({_S.STOPPED, _S.COMPLETED, _S.FAILED}),
        _S.STOPPED: frozenset(),
        _S.COMPLETED: frozenset(),
        _S.FAILED: frozenset(),
    }
)

TERMINAL = frozenset(state for state, after in EDGES.items() if not after)


class IllegalTransitionError(Exception):
    """An edge that is not in the table: a defect in the supervisor, told with its story."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """The one live incarnation of a run's trainer.

    `decision`: about the fault it waits with, or that ends it. `finish`: it said it is done.
    `suspected`: the fault for which we kill it; its exit is then charged to that, not to a signal.
    `killed`: a kill was ordered.
    """

    incarnation: int
    pid: int = 0
    attached: bool = False
    phase: Phase | None = None
    decision: Decision | None = None
    finish: FinishReason | None = None
    suspected: Fault | None = None
    killed: bool = False

    @property
    def ending(self) -> bool:
        """Whether the decision it has is to end."""
        return self.decision is not None and self.decision.action in (Action.RESTART, Action.FAIL)

    @property
    def unheard_of(self) -> bool:
        """Whether it was asked for, and nobody has said yet that it lives."""
        return self.pid == 0 and not self.attached and self.phase is None and not self.killed


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run. `recoverable_step` -1: none yet. `saves`: checkpoint requests not answered yet.
    `incidents`: how many were ever kept.

    `pausing`: it is to hold, for the reason `hold`, whichever process trains it.
    """

    id: str
    name: str
    order: int
    policy: Policy
    request_id: str = ""
    state: RunState = RunState.QUEUED
    reason: str = "submitted"
    incarnation: int = 0
    trainer: Trainer | None = None
    slots: int = 0
    trained: bool = False
    recoverable_step: int = -1
    recoverable_at: float = 0.0
    budgets: Budgets = field(default_factory=Budgets)
    pausing: bool = False
    hold: str = ""
    stopping: bool = False
    stop_saves: bool = True
    restarting: bool = False
    saves: tuple[str, ...] = ()
    incidents: int = 0

    @property
    def terminal(self) -> bool:
        """Whether the run has ended for good."""
        return self.state in TERMINAL

    @property
    def holds_devices(self) -> bool:
        """Whether another run must wait."""
        return self.trainer is not None or not (self.terminal or self.state is RunState.QUEUED)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything the supervisor knows. `timers`: key → due time, for a restarted daemon."""

    runs: Mapping[str, Run] = field(default_factory=dict)
    launcher: str | None = None
    submitted: int = 0
    timers: Mapping[str, float] = field(default_factory=dict)
