"""Every event survives the wire and the journal; what is not known is refused, not guessed."""

from __future__ import annotations

import typing
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainerd.daemon import codec
from trainerd.daemon.supervision.events import AnyEvent, DerivedEvent, RunSubmitted, TrainerExited
from trainerd.daemon.supervision.faults import Phase
from trainerd.daemon.supervision.policy import FaultClass
from trainerd.v1 import event_pb2, fault_pb2, run_pb2
from unit.daemon.events import events

PLAIN = [cls for cls in codec.KINDS.values() if cls is not RunSubmitted]


@pytest.mark.parametrize("cls", PLAIN, ids=lambda cls: cls.__name__)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(data=st.data())
def test_an_event_comes_back_from_its_bytes_as_it_was(
    cls: type[AnyEvent], data: st.DataObject
) -> None:
    event = data.draw(events(cls))
    written = codec.encode(event).SerializeToString(deterministic=True)

    assert codec.decode(event_pb2.Event.FromString(written)) == event


def test_a_submission_comes_back_with_the_policy_of_its_specification() -> None:
    spec = run_pb2.RunSpec(name="a", entry="m:f")
    spec.policy.max_cycles_without_progress = 7
    spec.policy.crash.limit = 2
    event = codec.submission("a-1", spec, "once")

    again = codec.decode(event_pb2.Event.FromString(codec.encode(event).SerializeToString()))

    assert again == event
    assert isinstance(again, RunSubmitted)
    assert again.policy.max_cycles_without_progress == 7
    assert again.policy.rule(FaultClass.CRASH).limit == 2


def test_each_payload_of_the_protocol_is_an_event_and_each_event_a_payload() -> None:
    payloads = {field.name for field in event_pb2.Event.DESCRIPTOR.oneofs_by_name["payload"].fields}

    assert payloads == set(codec.KINDS)
    for name, cls in codec.KINDS.items():
        message_type = event_pb2.Event.DESCRIPTOR.fields_by_name[name].message_type
        assert message_type is not None
        assert message_type.name == cls.__name__


@pytest.mark.parametrize(
    "message",
    [
        event_pb2.Event(run="r"),
        event_pb2.Event(run="r", phase_entered=event_pb2.PhaseEntered(phase=cast(Any, 99))),
        event_pb2.Event(run="r", fault_raised=event_pb2.FaultRaised(fault=fault_pb2.Fault())),
        event_pb2.Event(run="r", trainer_finished=event_pb2.TrainerFinished()),
    ],
    ids=["no payload", "an unknown phase", "a fault without a class", "no reason to finish"],
)
def test_what_this_version_does_not_know_is_a_value_error(message: event_pb2.Event) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - that is the contract
        codec.decode(message)
    assert codec.decode_report(message) is None


def test_a_trainer_can_report_nothing_that_others_have_to_say() -> None:
    allowed = {
        "phase_entered",
        "slots_fixed",
        "state_restored",
        "evaluated",
        "checkpoint_saved",
        "fault_raised",
        "trainer_paused",
        "trainer_resumed",
        "trainer_finished",
        "fault_injected",
        "rolled_back",
        "profiled",
    }
    for name in set(codec.KINDS) - allowed:
        message = event_pb2.Event(run="r", incarnation=1)
        getattr(message, name).SetInParent()
        assert codec.decode_report(message) is None, name
    resumed = event_pb2.Event(run="r", trainer_resumed=event_pb2.TrainerResumed(step=3))
    assert codec.decode_report(resumed) is not None


def test_derived_events_are_no_input_of_the_supervisor() -> None:
    derived = {cls.__name__ for cls in typing.get_args(DerivedEvent)}

    assert derived == {"DecisionMade", "RunStateChanged", "EventIgnored"}


def test_phases_of_a_later_version_are_not_known() -> None:
    assert codec.phase_of(fault_pb2.PHASE_STEP) is Phase.STEP
    assert codec.phase_of(fault_pb2.PHASE_UNSPECIFIED) is None
    assert codec.phase_of(99) is None


def test_run_and_incarnation_travel_in_the_header() -> None:
    message = codec.encode(TrainerExited(run="r", incarnation=3, exit_code=-1, signal=9))

    assert (message.run, message.incarnation) == ("r", 3)
    assert message.trainer_exited.signal == 9
