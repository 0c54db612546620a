"""What a loop is told to do: plain numbers, checked before any compute."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from trainerd.actors.arithmetic import Arithmetic
from trainerd.actors.errors import PlanError
from trainerd.actors.reports import Verdict
from trainerd.actors.spikes import Spike


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is done about a fault without asking, and how often before somebody is asked.

    `limit`: more than so many within `window_s` seconds are not dealt with alone. `consecutive`:
    nor is the n-th in a row; 0: no such rule. An `action` other than MASK and SKIP always asks.
    """

    action: Verdict
    limit: int
    window_s: float
    consecutive: int = 0

    def __post_init__(self) -> None:
        if self.limit < 0 or self.consecutive < 0 or not self.window_s > 0:
            raise PlanError(
                f"a rule needs limit ≥ 0, consecutive ≥ 0 and window_s > 0, got {self.limit}, "
                f"{self.consecutive} and {self.window_s}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run's numbers. `slots` 0: choose; `evaluate_every_steps` 0: only first and last.

    `microbatch` is examples per slot, `accumulate_steps` slots per device; one of them at most.
    `precision`, `clip_norm` and `remat` are explained in `Arithmetic`; `spike` None: no loss is
    too high. The rules are for slots and steps that are not finite, for losses that are spikes, for
    batches the source raises for, and, with `continue_on_error`, for exceptions that leave the
    state whole.
    """

    steps: int
    global_batch: int
    run_id: str = ""
    microbatch: int | None = None
    accumulate_steps: int | None = None
    slots: int = 0
    seed: int = 0
    deterministic: bool = True
    precision: str = "float32"
    clip_norm: float | None = None
    remat: bool = False
    spike: Spike | None = None
    evaluate_every_steps: int = 0
    checkpoint_every_steps: int = 50
    checkpoint_keep: int = 3
    final_save_timeout_s: float = 120.0
    continue_on_error: bool = False
    non_finite_microbatch: Rule = field(
        default_factory=lambda: Rule(action=Verdict.MASK, limit=8, window_s=600.0)
    )
    non_finite_step: Rule = field(
        default_factory=lambda: Rule(action=Verdict.SKIP, limit=10, window_s=600.0, consecutive=3)
    )
    loss_spike: Rule = field(
        default_factory=lambda: Rule(action=Verdict.SKIP, limit=5, window_s=600.0)
    )
    data_error: Rule = field(
        default_factory=lambda: Rule(action=Verdict.SKIP, limit=10, window_s=600.0)
    )
    step_exception: Rule = field(
        default_factory=lambda: Rule(action=Verdict.SKIP, limit=10, window_s=600.0)
    )

    def __post_init__(self) -> None:
        least = {
            "steps": 1,
            "global_batch": 1,
            "microbatch": 1,
            "accumulate_steps": 1,
            "slots": 0,
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
