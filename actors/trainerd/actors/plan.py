"""What a loop is told to do: plain numbers, checked before any compute."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from trainerd.actors.arithmetic import Arithmetic
from trainerd.actors.checkpoint_retention import LOSS, Retention
from trainerd.actors.errors import PlanError
from trainerd.actors.rules import Rule, Rules
from trainerd.actors.shards import REPLICATED, SHARDED, STATES
from trainerd.actors.spikes import Spike

_DEFAULTS = Rules()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run's numbers. `slots` 0: choose; `evaluate_every_steps` 0: only first and last.

    `slot_parts`: each slot is computed in so many parts of equal size, one after the other, so that
    it needs less memory. `rollback_steps`: how much older than the present a state must be for a
    rollback to go to it; such checkpoints are kept. `policy_version` names the rules.
    A checkpoint is saved after every `checkpoint_every_steps` updates (0: not by updates) and
    `checkpoint_every_s` seconds (0: not by time), or with `checkpoint_auto` as often as saves are
    worth what they cost; which of them stay is said in `Retention`. One that training waits for is
    to be durable within `final_save_timeout_s`; where the last one is not, the run holds for
    `final_save_hold_s` if that is decided (0: nobody is asked). `microbatch` is examples per slot,
    `accumulate_steps` slots per device; one of them at most. `precision`, `clip_norm`, `remat` and
    `exact_across_hosts` (there: `ordered`) are explained in `Arithmetic`, `state` in `shards`:
    "replicated", or "sharded" over the devices. `spike` None: no loss is
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
    exact_across_hosts: bool = False
    state: str = REPLICATED
    spike: Spike | None = None
    evaluate_every_steps: int = 0
    checkpoint_every_steps: int = 50
    checkpoint_every_s: float = 0.0
    checkpoint_auto: bool = False
    checkpoint_keep: int = 3
    checkpoint_keep_every_steps: int = 0
    checkpoint_keep_best: int = 0
    checkpoint_best_metric: str = LOSS
    checkpoint_best_highest: bool = False
    rollback_steps: int = 20
    final_save_timeout_s: float = 120.0
    final_save_hold_s: float = 0.0
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
            "checkpoint_every_steps": 0,
            "checkpoint_keep": 1,
            "checkpoint_keep_every_steps": 0,
            "checkpoint_keep_best": 0,
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
        for name in ("checkpoint_every_s", "final_save_hold_s"):
            if not 0 <= getattr(self, name) < math.inf:
                problems.append(f"{name} must be ≥ 0 and finite, got {getattr(self, name)}")
        if not (self.checkpoint_every_steps or self.checkpoint_every_s or self.checkpoint_auto):
            problems.append("checkpoint_every_steps must be ≥ 1, got 0: nothing else says when")
        if self.microbatch is not None and self.accumulate_steps is not None:
            problems.append("give microbatch or accumulate_steps, not both")
        if self.state not in STATES:
            problems.append(f'state must be "replicated" or "sharded", got {self.state!r}')
        if self.state == SHARDED and self.exact_across_hosts:
            problems.append(
                'state "sharded" cannot be given together with exact_across_hosts, which sums '
                "whole gradients on every device"
            )
        try:
            _ = self.arithmetic
        except PlanError as error:
            problems.append(error.message)
        if problems:
            raise PlanError("; ".join(problems))

    @property
    def arithmetic(self) -> Arithmetic:
        """How gradients are computed."""
        return Arithmetic(
            precision=self.precision,
            clip_norm=self.clip_norm,
            remat=self.remat,
            ordered=self.exact_across_hosts,
        )

    @property
    def retention(self) -> Retention:
        """Which checkpoints stay."""
        return Retention(
            keep=self.checkpoint_keep,
            every_steps=self.checkpoint_keep_every_steps,
            best=self.checkpoint_keep_best,
            metric=self.checkpoint_best_metric,
            highest=self.checkpoint_best_highest,
            rollback_steps=self.rollback_steps,
        )

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
