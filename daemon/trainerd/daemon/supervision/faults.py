"""A fault as its witness saw it, and the decision about it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from trainerd.daemon.supervision.policy import Action, FaultClass


class Phase(enum.Enum):
    """Where a trainer is in its life."""

    SPAWN = "spawn"
    INIT = "init"
    RESTORE = "restore"
    COMPILE = "compile"
    FIRST_STEP = "first_step"
    STEP = "step"
    SAVE = "save"
    DRAIN = "drain"
    PAUSED = "paused"
    EVALUATE = "evaluate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Evidence. `batch` -1: none; `slots` empty: all; `reason` names a checkpoint failure.

    `host`: where it happened; empty: the daemon's own.
    """

    fault_class: FaultClass
    message: str
    suggestion: str = ""
    detail: str = ""
    step: int = 0
    batch: int = -1
    phase: Phase | None = None
    state_intact: bool = True
    reason: str = ""
    slots: tuple[int, ...] = ()
    delegated: Action | None = None
    awaits_decision: bool = False
    policy_version: int = 0
    host: str = ""

    @property
    def handled(self) -> bool:
        """Whether the trainer has acted on it alone, as it may, and asks for nothing."""
        mild = (Action.CONTINUE, Action.MASK, Action.SKIP)
        return self.delegated in mild and not self.awaits_decision

    @property
    def root(self) -> tuple[str, int, str]:
        """What makes two faults the same one: class, batch, message."""
        return self.fault_class.value, self.batch, self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is done, to what, after how many seconds, and why in one sentence with the numbers.

    `answers`: the question of the fault that waits for it; 0: none does. `rollback_steps`: how much
    older the state of a rollback must be. `slot_parts`: what a restart cuts each slot into; 0: as
    before.
    """

    action: Action
    scope: str
    delay_s: float = 0.0
    reason: str
    answers: int = 0
    rollback_steps: int = 0
    slot_parts: int = 0
