"""What a policy that was not in force would have decided: on trial, and from a recorded story."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from trainerd.daemon.supervision.commands import Record
from trainerd.daemon.supervision.events import (
    AnyEvent,
    CheckpointSaved,
    DecisionMade,
    Event,
    FaultRaised,
    LauncherAttached,
    PhaseEntered,
    PolicyChanged,
    RunSubmitted,
    StopRequested,
    TimerFired,
    TrainerAttached,
    TrainerExited,
    TrainerSpawnFailed,
)
from trainerd.daemon.supervision.faults import Fault, Phase
from trainerd.daemon.supervision.policy import (
    DEFAULT_RULES,
    Action,
    FaultClass,
    Policy,
    Rule,
)
from trainerd.daemon.supervision.simulate import STORY, simulate
from trainerd.daemon.supervision.state import State
from trainerd.daemon.supervision.supervisor import step

F, A = FaultClass, Action
MILD = Policy(max_cycles_without_progress=9)


class Teller:
    """Plays events and keeps the story as a journal would: each, and what was derived from it."""

    def __init__(self, policy: Policy = MILD, trial: Policy | None = None) -> None:
        self.state, self.now = State(), 0.0
        self.story: list[tuple[float, AnyEvent]] = []
        self.take(RunSubmitted(run="r", name="r", spec=b"", policy=policy))
        if trial is not None:
            self.take(PolicyChanged(run="r", policy=trial, message=b"t", trial=True))
        self.take(LauncherAttached(instance="L", pid=1))
        self.trains()

    def take(self, event: Event) -> None:
        self.state, commands = step(self.state, event, now=self.now)
        self.story.append((self.now, event))
        self.story += [(self.now, each.event) for each in commands if isinstance(each, Record)]

    @property
    def incarnation(self) -> int:
        return self.state.runs["r"].incarnation

    def trains(self) -> None:
        while any(key.startswith("restart") for key in self.state.timers):
            key = next(key for key in self.state.timers if key.startswith("restart"))
            self.now = self.state.timers[key]
            self.take(TimerFired(key=key))
        self.take(TrainerAttached(run="r", incarnation=self.incarnation, phase=Phase.SPAWN))
        self.take(PhaseEntered(run="r", incarnation=self.incarnation, phase=Phase.STEP, step=1))

    def crashes(self) -> None:
        self.now += 1.0
        self.take(TrainerExited(run="r", incarnation=self.incarnation, exit_code=3))

    def faults(self, fault_class: FaultClass, **fields: Any) -> None:
        self.now += 1.0
        fault = replace(Fault(fault_class=fault_class, message="m"), **fields)
        question = len(self.story) if fault.awaits_decision else 0
        self.take(
            FaultRaised(run="r", incarnation=self.incarnation, fault=fault, question=question)
        )

    def saves(self, step_: int) -> None:
        self.take(CheckpointSaved(run="r", incarnation=self.incarnation, step=step_, path="/c"))

    def decisions(self, *, trial: bool) -> list[DecisionMade]:
        made = [event for _, event in self.story if isinstance(event, DecisionMade)]
        return [each for each in made if each.trial is trial]


def eventful(policy: Policy = MILD, trial: Policy | None = None) -> Teller:
    """A run to which most things happen."""
    told = Teller(policy, trial)
    told.crashes()
    told.trains()
    for batch in range(3):
        told.faults(F.NON_FINITE_STEP, delegated=A.SKIP, step=5, batch=5 + batch)
    told.saves(10)
    told.faults(F.CHECKPOINT_SAVE_FAILED, reason="no_space")
    told.faults(F.DEVICE_OOM, awaits_decision=True, step=12)
    told.crashes()
    told.trains()
    told.faults(F.DEVICE_ERROR, awaits_decision=True, step=13)
    told.crashes()
    told.trains()
    told.faults(F.STEP_EXCEPTION, awaits_decision=True, batch=14, step=14)
    told.crashes()
    told.trains()
    told.saves(20)
    told.crashes()
    return told


def actions(told: Teller, policy: Policy) -> list[Action]:
    return [each.supposed.action for each in simulate(told.story, policy)]


def test_a_runs_own_policy_would_have_decided_what_was_decided() -> None:
    told = eventful()
    found = simulate(told.story, MILD)

    assert [each.decided for each in found] == [
        made.decision for made in told.decisions(trial=False)
    ]
    # The third in a row its step would have asked about; it never did.
    differing = [each for each in found if each.supposed.action is not each.decided.action]
    assert [each.fault.batch for each in differing] == [7]
    assert differing[0].supposed.action is A.ROLLBACK
    assert not any(each.beyond for each in found)


OTHERS = [
    MILD,
    Policy(),
    Policy(max_cycles_without_progress=1),
    Policy(continue_on_error=True, rules={**DEFAULT_RULES, F.CRASH: Rule(action=A.FAIL)}),
    Policy(rules={**DEFAULT_RULES, F.NON_FINITE_STEP: Rule(action=A.ROLLBACK, limit=1)}),
]


@pytest.mark.parametrize("other", OTHERS)
def test_a_story_is_simulated_as_a_trial_would_have_recorded_it(other: Policy) -> None:
    told = eventful(trial=other)
    tried = told.decisions(trial=True)

    assert [each.supposed for each in simulate(told.story, other)] == [
        made.decision for made in tried
    ]
    assert [made.fault for made in tried] == [made.fault for made in told.decisions(trial=False)]
    assert all(made.incident == 0 and made.policy_version == 0 for made in tried)


@pytest.mark.parametrize("other", OTHERS)
def test_a_trial_changes_nothing(other: Policy) -> None:
    tried, untried = eventful(trial=other), eventful()

    assert tried.decisions(trial=False) == untried.decisions(trial=False)
    assert tried.state.runs["r"]._replace(trial=None) == untried.state.runs["r"]
    assert tried.state.timers == untried.state.timers


def test_what_comes_after_the_end_of_the_other_policy_is_marked() -> None:
    told = eventful()
    found = simulate(
        told.story, Policy(rules={**DEFAULT_RULES, F.DEVICE_ERROR: Rule(action=A.FAIL)})
    )

    beyond = [each.fault.fault_class for each in found if each.beyond]
    assert [each.supposed.action for each in found if each.fault.fault_class is F.DEVICE_ERROR] == [
        A.FAIL
    ]
    assert beyond == [F.STEP_EXCEPTION, F.CRASH]


def test_progress_counts_for_the_other_policy_too() -> None:
    told = Teller()
    for number in range(3):
        told.crashes()
        told.trains()
        if number == 1:
            told.saves(10)
    one = Policy(max_cycles_without_progress=1)

    assert actions(told, one) == [A.RESTART, A.FAIL, A.RESTART]


def test_what_no_policy_has_a_say_in_is_as_it_was() -> None:
    told = Teller()
    told.take(StopRequested(run="r"))
    told.faults(F.DEVICE_ERROR, awaits_decision=True)
    hopeless = Teller()
    hopeless.crashes()
    hopeless.take(
        TrainerSpawnFailed(run="r", incarnation=hopeless.incarnation, message="x", permanent=True)
    )

    assert actions(told, MILD) == [A.FAIL]
    assert actions(hopeless, MILD) == [A.RESTART, A.FAIL]


def test_other_events_may_be_left_out_of_a_story() -> None:
    told = eventful()
    thin = [(now, event) for now, event in told.story if isinstance(event, STORY)]

    assert len(thin) < len(told.story)
    assert simulate(thin, OTHERS[2]) == simulate(told.story, OTHERS[2])
