"""What another policy would have decided about the faults of a run, from its recorded story.

Fault by fault: the faults are those that came, whatever the other policy would have made of the
ones before. What it would have used up of its own budgets is counted, and so is progress.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trainerd.daemon.supervision.budget import Budgets
from trainerd.daemon.supervision.decision import charge_supposed, suppose
from trainerd.daemon.supervision.events import (
    AnyEvent,
    CheckpointSaved,
    DecisionMade,
    PhaseEntered,
    Progressed,
    RunState,
    RunStateChanged,
    RunSubmitted,
    TrainerAttached,
    TrainerSpawnFailed,
)
from trainerd.daemon.supervision.faults import Decision, Fault, Phase
from trainerd.daemon.supervision.policy import UNCHARGED, Action, Policy
from trainerd.daemon.supervision.state import TERMINAL

STORY: tuple[type[AnyEvent], ...] = (
    RunSubmitted,
    PhaseEntered,
    TrainerAttached,
    TrainerSpawnFailed,
    CheckpointSaved,
    Progressed,
    DecisionMade,
    RunStateChanged,
)
"""The events that a story is read from; others may be left out of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supposition:
    """One fault, what was decided, and what the other policy would have decided.

    `beyond`: the other policy had failed the run before.
    """

    now: float
    fault: Fault
    decided: Decision
    supposed: Decision
    beyond: bool


@dataclass(slots=True)
class _Told:
    """The run as far as the story is told."""

    budgets: Budgets
    trained: bool = False
    recoverable_step: int = -1
    recoverable_at: float = 0.0
    slot_parts: int = 0
    over: bool = False
    hopeless: bool = False
    failed: bool = False


def simulate(story: Iterable[tuple[float, AnyEvent]], policy: Policy) -> tuple[Supposition, ...]:
    """Return one supposition for each decision of a run that no trial made, in order, but for
    what costs a run nothing.

    `story`: the run's events with their times, in the order of the journal, from its submission.
    What no policy has a say in (a run that is stopping, a process that cannot be started) would
    have been decided as it was.
    """
    told = _Told(budgets=Budgets())
    suppositions: list[Supposition] = []
    for now, event in story:
        match event:
            case RunSubmitted():
                told.recoverable_at = now
            case PhaseEntered(phase=Phase.STEP) | TrainerAttached(phase=Phase.STEP):
                told.trained = True
            case TrainerSpawnFailed(permanent=True):
                told.hopeless = True
            case CheckpointSaved():
                _saved(told, event, now)
            case Progressed():
                _progressed(told, event.step)
            case RunStateChanged():
                told.over = event.after is RunState.STOPPING or event.after in TERMINAL
            case DecisionMade(trial=False) if event.fault.fault_class not in UNCHARGED:
                suppositions.append(_suppose(told, event, policy, now))
            case _:
                pass
    return tuple(suppositions)


def _saved(told: _Told, event: CheckpointSaved, now: float) -> None:
    told.recoverable_at = now
    told.budgets = told.budgets.saved()
    _progressed(told, event.step)


def _progressed(told: _Told, step: int) -> None:
    if step > told.recoverable_step:
        told.recoverable_step = step
        told.budgets = told.budgets.progressed(step)


def _suppose(told: _Told, made: DecisionMade, policy: Policy, now: float) -> Supposition:
    fault, beyond = made.fault, told.failed
    if told.hopeless or (told.over and fault.awaits_decision):
        supposed = made.decision
    else:
        supposed = suppose(
            policy,
            told.budgets,
            fault,
            now=now,
            trained=told.trained,
            checkpoint_age_s=now - told.recoverable_at,
            slot_parts=told.slot_parts,
        )
        told.budgets = charge_supposed(policy, told.budgets, fault, supposed, now=now)
    told.hopeless = False
    told.failed = told.failed or supposed.action is Action.FAIL
    told.slot_parts = made.decision.slot_parts or told.slot_parts
    return Supposition(
        now=now, fault=fault, decided=made.decision, supposed=supposed, beyond=beyond
    )
