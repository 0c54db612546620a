"""The supervisor in a world that could be: a sample of the long campaign, and its own judge."""

from __future__ import annotations

import pytest

from soak import simulation
from soak.holds import Holds, Violation
from trainerd.daemon.supervision.commands import Record, StartTimer, StartTrainer, TellTrainer
from trainerd.daemon.supervision.events import (
    DecisionMade,
    Event,
    FaultRaised,
    LauncherAttached,
    LauncherLost,
    PhaseEntered,
    RolledBack,
    RunState,
    RunStateChanged,
    RunSubmitted,
    TrainerAttached,
)
from trainerd.daemon.supervision.faults import Decision, Fault, Phase
from trainerd.daemon.supervision.policy import Action, FaultClass, Policy
from trainerd.daemon.supervision.state import Host, Run, State
from trainerd.daemon.supervision.supervisor import step

EVENTS = 4_000


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_everything_holds_after_each_of_some_thousand_events(seed: int) -> None:
    campaign = simulation.simulate(seed, EVENTS)

    assert campaign.violation == ""
    assert campaign.events == EVENTS
    for action in (Action.MASK, Action.SKIP, Action.ROLLBACK, Action.RESTART, Action.FAIL):
        assert campaign.actions[action] > 10
    assert sum(campaign.edges.values()) > 300


def test_a_world_is_the_same_world_again_and_its_story_leads_to_the_same_state() -> None:
    told = simulation.story(4, 1_500)

    assert told == simulation.story(4, 1_500)
    assert told != simulation.story(5, 1_500)
    state = State()
    for now, event in told:
        state, _ = step(state, event, now=now)
    assert simulation.replayed(told) == state


# The judge itself: each of these is something that it must see.

LINKED = LauncherAttached(instance="L", pid=1)
SUBMITTED = RunSubmitted(run="r", name="r", spec=b"", policy=Policy())


def after(*events: Event) -> State:
    state = State()
    for event in events:
        state, _ = step(state, event, now=0.0)
    return state


RUNNING = after(
    LINKED, SUBMITTED, TrainerAttached(run="r", incarnation=1, phase=Phase.STEP, step=1)
)
NOTHING = PhaseEntered(run="r", incarnation=1, phase=Phase.STEP)


def altered(**fields: object) -> State:
    """The running run, with these fields."""
    run = RUNNING.runs["r"]._replace(**fields)  # type: ignore[arg-type]
    return RUNNING._replace(runs={"r": run})


def sees(after: State, *commands: object, before: State = RUNNING) -> str:
    with pytest.raises(Violation) as seen:
        Holds().check(before, NOTHING, after, commands, 1.0)  # type: ignore[arg-type]
    return str(seen.value)


def test_what_holds_is_no_violation() -> None:
    Holds().check(RUNNING, NOTHING, RUNNING, (), 1.0)


@pytest.mark.parametrize(
    ("state", "what"),
    [
        (altered(incarnation=0), "another incarnation"),
        (altered(incarnation=3), "another incarnation"),
        (altered(state=RunState.FAILED), "changed unrecorded"),
        (altered(members={}), "without its trainer"),
        (altered(stopping=True), "nobody moves it"),
        (altered(recoverable_step=-2), "progress lost"),
        (RUNNING._replace(runs={}), "forgotten"),
        (RUNNING._replace(timers={"exit:s:1": 5.0}), "a timer of nobody"),
        (RUNNING._replace(timers={"exit:r:7": 5.0}), "a timer of nobody"),
        (RUNNING._replace(timers={"restart:r:1": 5.0}), "a restart of what lives"),
        (
            RUNNING._replace(
                runs={
                    **RUNNING.runs,
                    "s": RUNNING.runs["r"]._replace(id="s"),
                }
            ),
            "two runs have the devices",
        ),
        (
            RUNNING._replace(
                runs={"q": Run(id="q", name="q", order=2, policy=Policy())}, timers={}
            ),
            "nobody moves it",
        ),
    ],
)
def test_a_state_that_must_not_be_is_seen(state: State, what: str) -> None:
    before = State(hosts={"": Host(launcher="L")}) if "q" in state.runs else RUNNING
    assert what in sees(state, before=before)


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (StartTrainer(run="r", incarnation=2, slots=0), "a start of nothing"),
        (StartTrainer(run="x", incarnation=1, slots=0), "a start of nothing"),
        (
            TellTrainer(
                run="r", incarnation=2, order=Decision(action=Action.FAIL, scope="run", reason="r")
            ),
            "another incarnation",
        ),
        (StartTimer(key="exit:r:1", delay_s=1.0), "nobody knows of"),
        (
            Record(
                event=RunStateChanged(
                    run="r", before=RunState.STOPPED, after=RunState.RUNNING, reason="r"
                )
            ),
            "an illegal edge",
        ),
    ],
)
def test_a_command_that_must_not_be_is_seen(command: object, what: str) -> None:
    assert what in sees(RUNNING, command)


def decided(action: Action, fault_class: FaultClass, **fields: object) -> Record:
    fault = Fault(fault_class=fault_class, message="m", **fields)  # type: ignore[arg-type]
    decision = Decision(action=action, scope="run", reason="r")
    return Record(event=DecisionMade(run="r", incarnation=1, fault=fault, decision=decision))


def test_budgets_are_counted_apart_from_the_supervisor() -> None:
    holds = Holds()
    restart = decided(Action.RESTART, FaultClass.CRASH)
    for _ in range(3):
        holds.check(RUNNING, NOTHING, RUNNING, (restart,), 1.0)
    with pytest.raises(Violation, match="more recoveries than allowed"):
        holds.check(RUNNING, NOTHING, RUNNING, (restart,), 1.0)

    patient = Policy(max_cycles_without_progress=100)
    state = altered(policy=patient)
    holds, hung = Holds(), decided(Action.RESTART, FaultClass.HANG, phase=Phase.STEP)
    for _ in range(3):
        holds.check(state, NOTHING, state, (hung,), 1.0)
    with pytest.raises(Violation, match="more restarts than allowed"):
        holds.check(state, NOTHING, state, (hung,), 600.0)
    elsewhere = decided(Action.RESTART, FaultClass.HANG, phase=Phase.SAVE)
    holds.check(state, NOTHING, state, (elsewhere,), 600.0)


def test_a_second_rollback_and_one_that_nobody_waits_for_are_seen() -> None:
    back = RolledBack(
        run="r", incarnation=1, from_step=9, step=1, first_batch=1, last_batch=9, source="init",
        fault_class=FaultClass.NON_FINITE_STEP,
    )  # fmt: skip
    asked = FaultRaised(
        run="r",
        incarnation=1,
        fault=Fault(fault_class=FaultClass.NON_FINITE_STEP, message="m", awaits_decision=True),
        question=1,
    )
    recovering, commands = step(RUNNING, asked, now=1.0)
    holds = Holds()
    holds.check(RUNNING, asked, recovering, commands, 1.0)
    holds.check(recovering, back, recovering, (), 2.0)
    with pytest.raises(Violation, match="rolled back again"):
        holds.check(RUNNING, asked, recovering, commands, 3.0)
    unasked = decided(Action.ROLLBACK, FaultClass.NON_FINITE_STEP)
    with pytest.raises(Violation, match="nobody waits for a rollback"):
        Holds().check(RUNNING, NOTHING, RUNNING, (unasked,), 1.0)


def test_without_a_launcher_everybody_may_wait() -> None:
    state, commands = step(RUNNING, LauncherLost(reason="gone"), now=1.0)
    Holds().check(RUNNING, LauncherLost(reason="gone"), state, commands, 1.0)


def test_a_campaign_says_what_it_never_saw() -> None:
    unseen = simulation.simulate(1, 10).unseen

    assert "queued → starting" not in unseen
    assert "stopping → failed" in unseen
    assert "rollback" in unseen
    assert "reform" not in unseen
