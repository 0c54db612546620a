"""The supervisor's state survives its bytes; what a release does not know is refused."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from trainerd.daemon import state_codec
from trainerd.daemon.supervision.budget import Budgets
from trainerd.daemon.supervision.drills import Armed, InjectedFault, Injection
from trainerd.daemon.supervision.events import TrainerSpawnFailed
from trainerd.daemon.supervision.faults import Decision, Fault, Phase
from trainerd.daemon.supervision.policy import Action, FaultClass, Policy
from trainerd.daemon.supervision.state import Ending, Host, Run, State, Trainer, Trial

FAULT = Fault(fault_class=FaultClass.HANG, message="still…", slots=(1, 2), phase=None)
DECISION = Decision(action=Action.RESTART, scope="process", delay_s=0.1, reason="why", slot_parts=2)
UNSPAWNED = TrainerSpawnFailed(run="a-1", incarnation=2, message="no", host="b")
INJECTION = Injection(fault=InjectedFault.NAN, probability=0.1, slots=(3,))
STATE = State(
    runs={
        "a-1": Run(
            id="a-1",
            name="a",
            order=1,
            policy=Policy(),
            members={
                "": Trainer(incarnation=2, phase=Phase.STEP, suspected=FAULT, decision=DECISION)
            },
            ending=Ending(root=FAULT, weight=3, decision=DECISION, unspawned=UNSPAWNED),
            budgets=Budgets(
                windows={
                    FaultClass.CRASH: (0.1, 1e300),
                    (FaultClass.HANG, None): (2.0,),
                    (FaultClass.HANG, Phase.STEP): (3.0,),
                    (FaultClass.HOST_LOST, "b"): (4.0,),
                },
                last_root=("crash", 7, "it broke"),
            ),
            trial=Trial(policy=Policy(continue_on_error=True), message=b"\x00\xff"),
            policy_message=b"\n",
            injections=(Armed(number=1, injection=INJECTION, batches=(5, 9)),),
        ),
        "b-1": Run(id="b-1", name="b", order=2, policy=Policy(hang_factor=float("inf"))),
    },
    hosts={"": Host(launcher="L"), "b": Host(name="b", leftovers=(("r", 1),))},
    submitted=2,
    timers={"attach:a-1:2": 61.25},
)


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The bytes of the state after a change of its document."""
    document = json.loads(zlib.decompress(state_codec.encode(STATE)))
    change(document)
    return zlib.compress(json.dumps(document).encode())


def run_of(document: dict[str, Any]) -> dict[str, Any]:
    (_, run), _ = document["runs"]
    return run  # type: ignore[no-any-return]


def test_a_state_comes_back_as_it_was_down_to_its_types() -> None:
    again = state_codec.decode(state_codec.encode(STATE))

    assert again == STATE
    run = again.runs["a-1"]
    assert isinstance(run, Run)
    assert isinstance(run.budgets, Budgets)
    assert run.trial is not None
    assert type(run.trial.policy) is Policy
    assert list(again.runs) == ["a-1", "b-1"]


def test_a_field_that_an_older_release_did_not_have_gets_its_default() -> None:
    data = changed(lambda document: run_of(document).pop("slot_parts"))

    assert state_codec.decode(data) == STATE


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda d: run_of(d).update(luck=7), "state.runs.*.luck is not what this release knows"),
        (lambda d: run_of(d).pop("policy"), "has no policy is not what this release knows"),
        (lambda d: run_of(d).update(state="asleep"), "'asleep' is not a RunState of this release"),
        (lambda d: run_of(d).update(order="first"), "expected int, got str"),
        (lambda d: run_of(d).update(stopping=1), "expected bool, got int"),
        (lambda d: run_of(d).update(saves="no"), "expected a tuple, got str"),
        (lambda d: run_of(d).update(ending=[9, 1]), "expected one of a union"),
        (lambda d: d.update(timers={}), "expected pairs, got dict"),
    ],
)
def test_what_this_release_does_not_know_is_a_value_error(
    change: Callable[[dict[str, Any]], object], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        state_codec.decode(changed(change))


@pytest.mark.parametrize("data", [b"", b"no", zlib.compress(b"{"), zlib.compress(b"[]")])
def test_damaged_bytes_are_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - that is the contract
        state_codec.decode(data)


def test_the_shape_is_that_of_this_release_everywhere() -> None:
    assert state_codec.shape() == state_codec.shape()
    assert len(state_codec.shape()) == 64
