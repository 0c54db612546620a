"""A trainer's drills: said before they are done, done once, and as the real thing would be."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from fakes.launcher_process import wait_until
from trainerd.actors.drills import Injection, Spoiling
from trainerd.actors.faults import classify
from trainerd.actors.reports import Controls, FaultClass, Phase, Verdict
from trainerd.actors.rules import Rulebook
from trainerd.actors.trainer.commands import Commands
from trainerd.actors.trainer.decisions import DecisionSlot
from trainerd.actors.trainer.drilling import TrainerDrill
from trainerd.actors.trainer.reporting import LinkReporter
from trainerd.actors.trainer.situation import Situation
from trainerd.v1 import fault_pb2, inject_pb2, trainer_pb2
from trainerd.v1.mailbox import Outbox


def armed(fault: str, *, number: int = 1, batches: tuple[int, ...] = (), **more: Any) -> Any:
    told = inject_pb2.Injection(fault=f"INJECTED_FAULT_{fault}", **{"step": 1, **more})
    return inject_pb2.ArmedInjection(number=number, injection=told, batches=batches)


class Journal:
    """Takes announcements, or does not."""

    def __init__(self, *, takes: bool = True) -> None:
        self.takes = takes
        self.told: list[tuple[int, int, int]] = []

    def __call__(self, injection: Injection, step: int, batch: int) -> bool:
        self.told.append((injection.number, step, batch))
        return self.takes


def drill(*injections: Any, journal: Journal | None = None) -> TrainerDrill:
    made = TrainerDrill(journal or Journal())
    for injection in injections:
        made.arm(injection)
    return made


def test_nothing_is_asked_of_a_drill_that_has_nothing():
    assert not drill().armed
    assert drill(armed("NAN")).armed


def test_of_a_gang_the_first_process_does_what_does_not_concern_slots():
    other = TrainerDrill(Journal(), leads=False)
    other.arm(armed("SIGKILL"))
    other.arm(armed("DATA_ERROR", number=2))
    assert not other.armed
    other.arm(armed("NAN", number=3, slots=[1]))
    assert other(5, 7) == Spoiling(nan_slots=(1,))


def test_a_fault_is_said_before_it_is_done_and_only_once():
    journal = Journal()
    made = drill(armed("NAN", slots=[1, 2]), journal=journal)
    assert made(5, 7) == Spoiling(nan_slots=(1, 2))
    assert made(6, 8) is None
    assert journal.told == [(1, 5, 7)]


def test_one_that_is_not_journalled_does_not_happen(capsys: pytest.CaptureFixture[str]):
    made = drill(armed("EXIT", exit_code=3), journal=Journal(takes=False))
    assert made(1, 0) is None
    assert "was not journalled" in capsys.readouterr().err


def test_one_that_has_happened_at_a_batch_in_an_earlier_process_does_not_happen_there_again():
    journal = Journal()
    made = drill(armed("NAN", times=2, batches=(4,)), journal=journal)
    assert made(3, 4) is None
    assert made(3, 5) == Spoiling(nan_slots=None)
    assert made(3, 6) is None


def test_several_at_one_batch_add_up():
    made = drill(
        armed("NAN", slots=[0]),
        armed("NAN", number=2, slots=[3]),
        armed("LOSS_SPIKE", number=3),
        armed("SLOW_STEP", number=4, seconds=0.001),
    )
    assert made(1, 0) == Spoiling(nan_slots=(0, 3), spike_slots=None)


def test_bad_data_says_so():
    spoiling = drill(armed("DATA_ERROR"))(1, 9)
    assert spoiling is not None
    assert "injected at batch 9" in spoiling.error


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("EXCEPTION", FaultClass.STEP_EXCEPTION),
        ("OUT_OF_MEMORY", FaultClass.DEVICE_OOM),
        ("DEVICE_ERROR", FaultClass.DEVICE_ERROR),
    ],
)
def test_what_is_raised_is_taken_for_the_real_thing(fault: str, expected: FaultClass):
    with pytest.raises(Exception, match="injected at batch 2") as raised:
        drill(armed(fault))(1, 2)
    error = raised.value
    assert isinstance(error, Exception)
    found = classify(error, phase=Phase.STEP, step=0, batch=2, state_intact=True)
    assert found.fault_class is expected


def reporter(outbox: Outbox[trainer_pb2.AttachRequest], timeout_s: float) -> LinkReporter:
    return LinkReporter(
        outbox=outbox,
        situation=Situation(),
        controls=Controls(),
        decisions=DecisionSlot(),
        reset_link=lambda: None,
        injection_timeout_s=timeout_s,
    )


def test_an_announcement_waits_until_it_is_journalled():
    outbox: Outbox[trainer_pb2.AttachRequest] = Outbox()
    made = drill(armed("NAN"), journal=reporter(outbox, 20.0).announced)  # type: ignore[arg-type]
    came: list[Any] = []
    thread = threading.Thread(target=lambda: came.append(made(5, 7)))
    thread.start()
    wait_until(lambda: len(outbox) == 1, "the announcement")
    assert not came
    (numbered,) = outbox.take(0.0)[0]
    told = numbered.message.event.fault_injected
    assert (told.injection, told.step, told.batch) == (1, 5, 7)
    assert told.fault == inject_pb2.INJECTED_FAULT_NAN
    outbox.acknowledge(numbered.sequence)
    thread.join(20.0)
    assert came == [Spoiling(nan_slots=None)]


@pytest.mark.parametrize("limit", [1024, 1])
def test_an_announcement_that_nobody_takes_is_not_believed(limit: int):
    """Neither for want of an answer, nor because reports that overflow are dropped."""
    outbox: Outbox[trainer_pb2.AttachRequest] = Outbox(limit)
    said = reporter(outbox, 0.01)
    said.slots_fixed(4)
    assert drill(armed("NAN"), journal=said.announced)(1, 0) is None  # type: ignore[arg-type]


def commands(rulebook: Rulebook, made: TrainerDrill) -> Commands:
    return Commands(
        controls=Controls(),
        decisions=DecisionSlot(),
        rulebook=rulebook,
        arm=made.arm,
        profile=lambda _: None,
    )


def test_an_order_arms_a_live_trainer_and_a_repeated_one_changes_nothing():
    made = drill()
    obey = commands(Rulebook(), made).obey
    order = trainer_pb2.AttachResponse(inject=armed("NAN"))
    obey(order)
    assert made(1, 0) == Spoiling(nan_slots=None)
    obey(order)
    assert made(2, 1) is None


def test_an_injection_that_is_not_known_is_said_to_be(capsys: pytest.CaptureFixture[str]):
    made = drill()
    unknown = inject_pb2.ArmedInjection(number=3)
    commands(Rulebook(), made).obey(trainer_pb2.AttachResponse(inject=unknown))
    assert "injection 3 is not known" in capsys.readouterr().err
    assert not made.armed


def test_a_policy_is_handed_to_the_loop_with_its_version():
    rulebook = Rulebook()
    policy = fault_pb2.Policy(loss_spike_z=7.0, continue_on_error=True)
    policy.non_finite_microbatch.action = fault_pb2.ACTION_SKIP
    order = trainer_pb2.SetPolicy(policy=policy, version=3)
    commands(rulebook, drill()).obey(trainer_pb2.AttachResponse(set_policy=order))
    rules = rulebook.newest
    assert rules is not None
    assert (rules.version, rules.continue_on_error) == (3, True)
    assert rules.spike is not None
    assert rules.spike.z == 7.0
    assert rules.non_finite_microbatch.action is Verdict.SKIP


def test_a_policy_that_cannot_be_followed_is_said_and_the_old_one_stays(
    capsys: pytest.CaptureFixture[str],
):
    rulebook = Rulebook()
    policy = fault_pb2.Policy(loss_spike_z=-1.0)
    order = trainer_pb2.SetPolicy(policy=policy, version=3)
    commands(rulebook, drill()).obey(trainer_pb2.AttachResponse(set_policy=order))
    assert rulebook.newest is None
    assert "policy 3 is not followed" in capsys.readouterr().err
