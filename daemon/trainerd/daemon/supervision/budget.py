"""Restart intensity as a sliding window for each fault class, and progress (Erlang's terms)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from trainerd.daemon.supervision.faults import Fault
from trainerd.daemon.supervision.policy import MAX_LIMIT, FaultClass, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """What a run's faults have used up.

    `windows`: times in seconds of the newest faults of each class, at most limit + 1 of them.
    `consecutive`: faults of a class in a row, reset by progress. `cycles`: charged restarts since
    the last new recoverable step. `last_root`: the root of the last step exception.
    """

    windows: Mapping[FaultClass, tuple[float, ...]] = field(default_factory=dict)
    consecutive: Mapping[FaultClass, int] = field(default_factory=dict)
    cycles: int = 0
    last_root: tuple[str, int, str] | None = None

    def used(self, fault_class: FaultClass, *, window_s: float, now: float) -> int:
        """Faults of this class within the window that ends now."""
        return sum(1 for at in self.windows.get(fault_class, ()) if now - at < window_s)

    def charged(self, fault: Fault, rule: Rule, *, now: float) -> Budgets:
        """With this fault counted in."""
        kept = [at for at in self.windows.get(fault.fault_class, ()) if now - at < rule.window_s]
        # More than limit + 1 entries decide nothing: the bound keeps a fault storm's state small.
        kept = [*kept, now][-(min(rule.limit, MAX_LIMIT) + 1) :]
        in_a_row = self.consecutive.get(fault.fault_class, 0) + 1
        return replace(
            self,
            windows={**self.windows, fault.fault_class: tuple(kept)},
            consecutive={**self.consecutive, fault.fault_class: in_a_row},
            last_root=fault.root
            if fault.fault_class is FaultClass.STEP_EXCEPTION
            else self.last_root,
        )

    def restarted(self) -> Budgets:
        """With one more charged restart since the last progress."""
        return replace(self, cycles=self.cycles + 1)

    def saved(self) -> Budgets:
        """After a durable save, of whatever step: failed saves in a row start again."""
        kept = {**self.consecutive, FaultClass.CHECKPOINT_SAVE_FAILED: 0}
        return replace(self, consecutive=kept)

    def progressed(self) -> Budgets:
        """After a new recoverable step: what counts in a row starts again."""
        return replace(self, consecutive={}, cycles=0)
