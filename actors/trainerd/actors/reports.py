"""What the training loop says and hears: the seam between the library and the actor around it.

The loop knows neither gRPC nor processes. It calls a `Reporter` for everything that happens and
looks at a `Controls` at every step boundary. The trainer actor implements the reporter with its
link to the daemon; a person who uses the library alone passes `Quiet`. No jax here: the trainer
attaches to its daemon before it imports jax.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


class Phase(enum.Enum):
    """Where the loop is; the values are the names of `trainerd.v1.Phase`."""

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


class FaultClass(enum.Enum):
    """The fault classes a trainer can witness; the values are the names of the fault matrix."""

    NON_FINITE_MICROBATCH = "non_finite_microbatch"
    NON_FINITE_STEP = "non_finite_step"
    LOSS_SPIKE = "loss_spike"
    DATA_ERROR = "data_error"
    STEP_EXCEPTION = "step_exception"
    DEVICE_OOM = "device_oom"
    DEVICE_ERROR = "device_error"
    CHECKPOINT_SAVE_FAILED = "checkpoint_save_failed"
    CHECKPOINT_CORRUPT = "checkpoint_corrupt"
    PEER_LOST = "peer_lost"


class Verdict(enum.Enum):
    """What is done about a fault; the values are the names of `trainerd.v1.Action`."""

    CONTINUE = "continue"
    MASK = "mask"
    SKIP = "skip"
    ROLLBACK = "rollback"
    RESTART = "restart"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict and what it needs. `rollback_steps`: for ROLLBACK, how many applied updates older
    the state must be at least; 0: as the run's plan says."""

    verdict: Verdict
    rollback_steps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault as the loop saw it. Fields as in `trainerd.v1.Fault`; `error_type` names the type of
    what was raised, if anything was. `policy_version`: of the rules that it was dealt with by."""

    fault_class: FaultClass
    message: str
    suggestion: str = ""
    detail: str = ""
    step: int = 0
    batch: int = -1
    phase: Phase = Phase.INIT
    state_intact: bool = True
    reason: str = ""
    slots: tuple[int, ...] = ()
    delegated: Verdict | None = None
    request_ids: tuple[str, ...] = ()
    error_type: str = ""
    policy_version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One dispatched batch, one step late. `duration_s` is its own, not its successor's."""

    step: int
    batch: int
    applied: bool
    loss: float
    gradient_norm: float
    metrics: Mapping[str, float]
    duration_s: float
    data_wait_s: float
    examples: int
    masked_slots: tuple[int, ...]
    total_skipped_batches: int
    total_masked_slots: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveRecord:
    """A checkpoint that is durable. Sizes in bytes, times in seconds.

    `fallback`: it is not in the run's own directory, which fails. `every_steps`: saves are made
    after so many updates; 0: not by steps. `coalesced`: saves that fell due during the one before
    and that this one stands for. `disk_bytes`: all the run's durable checkpoints;
    `disk_free_bytes`: what may still be written beside this one, -1: nobody can tell.
    """

    step: int
    path: str
    bytes: int
    blocked_s: float
    duration_s: float
    request_ids: tuple[str, ...] = ()
    fallback: bool = False
    every_steps: int = 0
    coalesced: int = 0
    disk_bytes: int = 0
    disk_free_bytes: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackRecord:
    """The run went back to an older state. Batches `first_batch` to `last_batch`, the offending
    one, are left out from now on. `source`: "init", or the checkpoint's path."""

    from_step: int
    step: int
    first_batch: int
    last_batch: int
    source: str
    fault_class: FaultClass


class FinishReason(enum.Enum):
    """Why the loop ended; the values are the names of `trainerd.v1.FinishReason`."""

    COMPLETED = "completed"
    STOPPED = "stopped"
    PREEMPTED = "preempted"
    DECIDED = "decided"
    DATA_ENDED = "data_ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a loop amounts to. `state_digest` is SHA-256 in hexadecimal; -1: no durable step."""

    reason: FinishReason
    step: int
    batches: int
    masked_slots: int
    skipped_batches: int
    loss: float
    state_digest: str
    durable: bool
    durable_step: int = -1
    checkpoint: str = ""


class Reporter(Protocol):
    """Hears everything that happens in a loop. Called from the loop's thread; must not block,
    but for `decide`. `saved` and `faulted` may come from a background thread too."""

    def entered(self, phase: Phase, step: int) -> None: ...

    def slots_fixed(self, slots: int) -> None: ...

    def restored(self, step: int, batch: int, source: str) -> None: ...

    def stepped(self, record: StepRecord) -> None: ...

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def saved(self, record: SaveRecord) -> None: ...

    def faulted(self, fault: Fault) -> None:
        """A fault that was handled by a delegated rule, or that does not stop training."""

    def decide(self, fault: Fault) -> Judgement:
        """A fault that needs a decision. Blocks, with a deadline, until there is one."""

    def rolled_back(self, record: RollbackRecord) -> None:
        """The run goes on from an older state."""

    def paused(self, step: int) -> None: ...

    def resumed(self, step: int) -> None: ...


class Quiet:
    """A reporter that listens to nothing and fails on every fault that needs a decision."""

    def entered(self, phase: Phase, step: int) -> None: ...

    def slots_fixed(self, slots: int) -> None: ...

    def restored(self, step: int, batch: int, source: str) -> None: ...

    def stepped(self, record: StepRecord) -> None: ...

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def saved(self, record: SaveRecord) -> None: ...

    def faulted(self, fault: Fault) -> None: ...

    def decide(self, fault: Fault) -> Judgement:  # noqa: ARG002 - whatever it is
        return Judgement(verdict=Verdict.FAIL)

    def rolled_back(self, record: RollbackRecord) -> None: ...

    def paused(self, step: int) -> None: ...

    def resumed(self, step: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Requests:
    """What is asked of the loop at this boundary."""

    pause: bool = False
    stop: FinishReason | None = None
    stop_saves: bool = True
    save: tuple[str, ...] | None = None


@dataclass(slots=True)
class Controls:
    """Requests to a loop, from any thread; the loop looks at them at every step boundary."""

    _changed: threading.Condition = field(default_factory=threading.Condition)
    _pause: bool = False
    _stop: FinishReason | None = None
    _stop_saves: bool = True
    _save: list[str] = field(default_factory=list)

    def pause(self) -> None:
        """Hold at the next boundary, after a durable save."""
        with self._changed:
            self._pause = True
            self._changed.notify_all()

    def resume(self) -> None:
        """Go on."""
        with self._changed:
            self._pause = False
            self._changed.notify_all()

    def save(self, request_id: str = "") -> None:
        """Save at the next boundary."""
        with self._changed:
            if request_id not in self._save:
                self._save.append(request_id)
            self._changed.notify_all()

    def stop(self, reason: FinishReason, *, save: bool = True) -> None:
        """End at the next boundary. The first reason stays; a later `save=False` wins."""
        with self._changed:
            self._stop = self._stop or reason
            self._stop_saves = self._stop_saves and save
            self._changed.notify_all()

    def take(self) -> Requests:
        """Everything asked for now. Saves are handed over once; pause and stop stay."""
        with self._changed:
            save = tuple(self._save) if self._save else None
            self._save.clear()
            return Requests(self._pause, self._stop, self._stop_saves, save)

    def wait_while_paused(self, timeout_s: float) -> bool:
        """Block until something other than the pause is asked for; False after the timeout."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._pause or self._stop is not None or bool(self._save), timeout_s
            )
