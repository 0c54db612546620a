"""Fault classes, actions, and the rules between them: the fault matrix as data."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


class FaultClass(enum.Enum):
    """Every fault has exactly one class."""

    NON_FINITE_MICROBATCH = "non_finite_microbatch"
    NON_FINITE_STEP = "non_finite_step"
    LOSS_SPIKE = "loss_spike"
    DATA_ERROR = "data_error"
    STEP_EXCEPTION = "step_exception"
    DEVICE_OOM = "device_oom"
    DEVICE_ERROR = "device_error"
    CRASH = "crash"
    HANG = "hang"
    PEER_LOST = "peer_lost"
    HOST_LOST = "host_lost"
    CHECKPOINT_SAVE_FAILED = "checkpoint_save_failed"
    CHECKPOINT_CORRUPT = "checkpoint_corrupt"
    PREEMPTION = "preemption"
    VOLUNTARY = "voluntary"
    NO_PROGRESS = "no_progress"
    DAEMON_CRASH = "daemon_crash"
    JOURNAL_FULL = "journal_full"


class Action(enum.Enum):
    """What is done about a fault, mildest first."""

    CONTINUE = "continue"
    MASK = "mask"
    SKIP = "skip"
    ROLLBACK = "rollback"
    RESTART = "restart"
    REFORM = "reform"
    PAUSE = "pause"
    FAIL = "fail"


MAX_LIMIT = 1000
"""Largest limit of a rule that counts: a run remembers that many faults of a class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is done about one class, and what is done when it comes too often.

    More than `limit` faults in `window_s` seconds (a limit beyond MAX_LIMIT: never), or
    `consecutive` in a row (0: no such rule), lead to `then`.
    """

    action: Action
    limit: int = 0
    window_s: float = 600.0
    then: Action = Action.FAIL
    consecutive: int = 0


UNLIMITED = 1_000_000_000
"""The limit of a class that may come as often as it likes."""

DEFAULT_RULES: Mapping[FaultClass, Rule] = MappingProxyType(
    {
        FaultClass.NON_FINITE_MICROBATCH: Rule(action=Action.MASK, limit=8, then=Action.SKIP),
        FaultClass.NON_FINITE_STEP: Rule(
            action=Action.SKIP, limit=10, consecutive=3, then=Action.ROLLBACK
        ),
        FaultClass.LOSS_SPIKE: Rule(action=Action.SKIP, limit=5, then=Action.ROLLBACK),
        FaultClass.DATA_ERROR: Rule(action=Action.SKIP, limit=10),
        FaultClass.STEP_EXCEPTION: Rule(action=Action.RESTART, limit=10),
        FaultClass.DEVICE_OOM: Rule(action=Action.RESTART, limit=2),
        FaultClass.DEVICE_ERROR: Rule(action=Action.RESTART, limit=3, window_s=3600.0),
        FaultClass.CRASH: Rule(action=Action.RESTART, limit=20),
        FaultClass.HANG: Rule(action=Action.RESTART, limit=3),
        FaultClass.PEER_LOST: Rule(action=Action.RESTART, limit=20),
        FaultClass.HOST_LOST: Rule(
            action=Action.REFORM, limit=3, window_s=3600.0, then=Action.REFORM
        ),
        FaultClass.CHECKPOINT_SAVE_FAILED: Rule(action=Action.CONTINUE, limit=UNLIMITED),
        FaultClass.CHECKPOINT_CORRUPT: Rule(action=Action.CONTINUE, limit=UNLIMITED),
    }
)

_A = Action
ALLOWED_ACTIONS: Mapping[FaultClass, frozenset[Action]] = MappingProxyType(
    {
        FaultClass.NON_FINITE_MICROBATCH: frozenset({_A.MASK, _A.SKIP, _A.ROLLBACK, _A.FAIL}),
        FaultClass.NON_FINITE_STEP: frozenset({_A.SKIP, _A.ROLLBACK, _A.FAIL}),
        FaultClass.LOSS_SPIKE: frozenset({_A.SKIP, _A.ROLLBACK, _A.FAIL}),
        FaultClass.DATA_ERROR: frozenset({_A.SKIP, _A.ROLLBACK, _A.FAIL}),
        FaultClass.STEP_EXCEPTION: frozenset({_A.ROLLBACK, _A.RESTART, _A.FAIL}),
        FaultClass.DEVICE_OOM: frozenset({_A.RESTART, _A.FAIL}),
        FaultClass.DEVICE_ERROR: frozenset({_A.RESTART, _A.FAIL}),
        FaultClass.CRASH: frozenset({_A.RESTART, _A.FAIL}),
        FaultClass.HANG: frozenset({_A.RESTART, _A.FAIL}),
        FaultClass.HOST_LOST: frozenset({_A.REFORM, _A.FAIL}),
    }
)
"""The actions that a run's policy may name for a class, as `action` or as `then`."""

DELEGABLE = frozenset(
    {
        FaultClass.NON_FINITE_MICROBATCH,
        FaultClass.NON_FINITE_STEP,
        FaultClass.LOSS_SPIKE,
        FaultClass.DATA_ERROR,
    }
)
"""Classes that the compiled step masks or skips alone, until their allowance is spent."""

UNCHARGED = frozenset(
    {
        FaultClass.PREEMPTION,
        FaultClass.VOLUNTARY,
        FaultClass.DAEMON_CRASH,
        FaultClass.JOURNAL_FULL,
    }
)
"""Classes that cost a run nothing of what its faults may cost, and that no policy rules."""

_NO_RULE = Rule(action=Action.FAIL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A run's whole policy. Rules that a run does not set are the defaults.

    `hang_factor`, `hang_floor_s` (0: each phase's own): what the monitor makes deadlines of.
    """

    rules: Mapping[FaultClass, Rule] = field(default_factory=lambda: DEFAULT_RULES)
    continue_on_error: bool = False
    backoff_s: float = 1.0
    backoff_max_s: float = 60.0
    max_cycles_without_progress: int = 3
    checkpoint_action: Action = Action.CONTINUE
    max_checkpoint_failures: int = 0
    max_checkpoint_age_s: float = 0.0
    hang_factor: float = 10.0
    hang_floor_s: float = 0.0
    rollback_steps: int = 20

    def rule(self, fault_class: FaultClass) -> Rule:
        """The rule for a class; a class without one fails the run."""
        return self.rules.get(fault_class, _NO_RULE)
