"""Restart intensity as a sliding window for each fault class, and progress (Erlang's terms)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from trainerd.daemon.supervision.faults import Fault, Phase
from trainerd.daemon.supervision.policy import DELEGABLE, MAX_LIMIT, FaultClass, Rule

Account = FaultClass | tuple[FaultClass, Phase | str | None]
"""What has a window of its own: a class, of hangs each phase, of what hosts do each host."""

OF_HOSTS = (FaultClass.HOST_LOST, FaultClass.DEVICE_ERROR)
"""Classes that speak of the host they happen on: a gang can do without that one."""

_NOTHING: Mapping[FaultClass, int] = MappingProxyType({})


def account(fault: Fault) -> Account:
    """The account that a fault is charged to."""
    if fault.fault_class is FaultClass.HANG:
        return FaultClass.HANG, fault.phase
    if fault.host and fault.fault_class in OF_HOSTS:
        return fault.fault_class, fault.host
    return fault.fault_class


class Budgets(NamedTuple):
    """What a run's faults have used up.

    `windows`: times in seconds of the newest faults of each account, rising; at most twice
    limit + 1 of them. `consecutive`: faults of a class in a row, reset by progress; `steps`: the
    applied updates at the newest one of a class that costs a step. `cycles`: restarts and rollbacks
    since the last new recoverable step. `last_root`: the root of the last step exception.
    `rollbacks`: when the run was rolled back for a class, since the last new recoverable step;
    `left`: the applied updates at the last of them, which only a step above makes up for.
    """

    windows: Mapping[Account, tuple[float, ...]] = MappingProxyType({})
    consecutive: Mapping[FaultClass, int] = _NOTHING
    steps: Mapping[FaultClass, int] = _NOTHING
    cycles: int = 0
    last_root: tuple[str, int, str] | None = None
    rollbacks: Mapping[FaultClass, float] = MappingProxyType({})
    left: int = -1

    def used(self, of: Account, *, window_s: float, now: float) -> int:
        """Faults of this account within the window that ends now."""
        times = self.windows.get(of, ())
        return len(times) - bisect_right(times, now - window_s)

    def in_a_row(self, fault: Fault) -> int:
        """Which one in a row this fault is, itself included.

        Of those that cost a step, only those without an applied update in between are in a row.
        """
        before = self.consecutive.get(fault.fault_class, 0)
        if (
            fault.fault_class in DELEGABLE
            and self.steps.get(fault.fault_class, fault.step) != fault.step
        ):
            before = 0
        return before + 1

    def charged(self, fault: Fault, rule: Rule, *, now: float) -> Budgets:
        """With this fault counted in."""
        fault_class = fault.fault_class
        of = account(fault)
        times = self.windows.get(of, ())
        # More entries decide nothing (twice: the masks, and the skips that follow them): the bound
        # keeps a fault storm's state small.
        most = 2 * (min(rule.limit, MAX_LIMIT) + 1)
        first = max(bisect_right(times, now - rule.window_s), len(times) + 1 - most)
        steps = self.steps
        if fault_class in DELEGABLE and steps.get(fault_class) != fault.step:
            steps = {**steps, fault_class: fault.step}
        return Budgets(
            {**self.windows, of: (*times[first:], now)},
            {**self.consecutive, fault_class: self.in_a_row(fault)},
            steps,
            self.cycles,
            fault.root if fault_class is FaultClass.STEP_EXCEPTION else self.last_root,
            self.rollbacks,
            self.left,
        )

    def recovering(self) -> Budgets:
        """With one more restart or rollback since the last progress."""
        return self._replace(cycles=self.cycles + 1)

    def rolled_back(self, fault_class: FaultClass, *, from_step: int, now: float) -> Budgets:
        """After a rollback from `from_step` for a fault of this class."""
        return self._replace(
            consecutive={**self.consecutive, fault_class: 0},
            rollbacks={**self.rollbacks, fault_class: now},
            left=max(self.left, from_step),
        )

    def saved(self) -> Budgets:
        """After a durable save, of whatever step: failed saves in a row start again."""
        if not self.consecutive.get(FaultClass.CHECKPOINT_SAVE_FAILED):
            return self
        kept = {**self.consecutive, FaultClass.CHECKPOINT_SAVE_FAILED: 0}
        return self._replace(consecutive=kept)

    def progressed(self, step: int) -> Budgets:
        """After a new recoverable step: what counts in a row starts again.

        What a rollback gave up and is trained anew is no progress.
        """
        if step <= self.left or not (self.consecutive or self.cycles or self.rollbacks):
            return self
        return self._replace(
            consecutive=_NOTHING, cycles=0, rollbacks=MappingProxyType({}), left=-1
        )
