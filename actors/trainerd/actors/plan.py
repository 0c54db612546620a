"""What a loop is told to do: plain numbers, checked before any compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from trainerd.actors.arithmetic import Arithmetic
from trainerd.actors.checkpoint_retention import Retention
from trainerd.actors.errors import PlanError
from trainerd.actors.rules import Rule, Rules
from trainerd.actors.spikes import Spike

_DEFAULTS = Rules()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run's numbers. `slots` 0: choose; `evaluate_every_steps` 0: only first and last.

    `slot_parts`: each slot is computed in so many parts of equal size, one after the other, so that
    it needs less memory. `rollback_steps`: how much older than the present a state must be for a
    rollback to go to it; such checkpoints are kept. `policy_version` names the rules.
    `microbatch` is examples per slot, `accumulate_steps` slots per device; one of them at most.
    `precision`, `clip_norm` and `remat` are explained in `Arithmetic`; `spike` None: no loss is
    too high. The rules are for slots and steps that are not finite, for losses that are spikes, for
    batches the source raises for, and, with `continue_on_error`, for exceptions that leave the
    state whole. `specification` is what the run was asked for, as JSON values; it is kept in
    checkpoints, for people.
    """

    steps: int
    global_batch: int
    run_id: str = ""
    microbatch: int | None = None
    accumulate_steps: int | None = None
    slots: int = 0
    slot_parts: int = 1
    seed: int = 0
    deterministic: bool = True
    precision: str = "float32"
    clip_norm: float | None = None
    remat: bool = False
    spike: Spike | None = None
    evaluate_every_steps: int = 0
    checkpoint_every_steps: int = 50
    checkpoint_keep: int = 3
    rollback_steps: int = 20
    final_save_timeout_s: float = 120.0
    continue_on_error: bool = False
    policy_version: int = 0
    non_finite_microbatch: Rule = _DEFAULTS.non_finite_microbatch
    non_finite_step: Rule = _DEFAULTS.non_finite_step
    loss_spike: Rule = _DEFAULTS.loss_spike
    data_error: Rule = _DEFAULTS.data_error
    step_exception: Rule = _DEFAULTS.step_exception
    specification: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        least = {
            "steps": 1,
            "global_batch": 1,
            "microbatch": 1,
            "accumulate_steps": 1,
            "slots": 0,
            "slot_parts": 1,
            "rollback_steps": 1,
            "evaluate_every_steps": 0,
            "checkpoint_every_steps": 1,
            "checkpoint_keep": 1,
        }
        problems = []
        for spec in fields(self):
            value = getattr(self, spec.name)
            if spec.name not in least or value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                problems.append(f"{spec.name} must be an integer, got {value!r}")
            elif value < least[spec.name]:
                problems.append(f"{spec.name} must be ≥ {least[spec.name]}, got {value}")
        if self.steps > 2**31 - 2:
            problems.append(f"steps must be below 2³¹ - 1, got {self.steps}")
        if not self.final_save_timeout_s > 0:
            problems.append(f"final_save_timeout_s must be > 0, got {self.final_save_timeout_s}")
        if self.microbatch is not None and self.accumulate_steps is not None:
            problems.append("give microbatch or accumulate_steps, not both")
        try:
            _ = self.arithmetic
        except PlanError as error:
            problems.append(error.message)
        if problems:
            raise PlanError("; ".join(problems))

    @property
    def arithmetic(self) -> Arithmetic:
        """How gradients are computed."""
        return Arithmetic(precision=self.precision, clip_norm=self.clip_norm, remat=self.remat)

    @property
    def retention(self) -> Retention:
        """Which checkpoints stay."""
        return Retention(keep=self.checkpoint_keep, rollback_steps=self.rollback_steps)

    @property
    def rules(self) -> Rules:
        """The rules to begin with."""
        return Rules(
            version=self.policy_version,
            continue_on_error=self.continue_on_error,
            spike=self.spike,
            non_finite_microbatch=self.non_finite_microbatch,
            non_finite_step=self.non_finite_step,
            loss_spike=self.loss_spike,
            data_error=self.data_error,
            step_exception=self.step_exception,
        )
