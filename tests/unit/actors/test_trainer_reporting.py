"""What the loop says becomes messages; what the supervisor decides becomes verdicts."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from fakes.launcher_process import wait_until
from fakes.tracing import FakeTracing
from trainerd.actors.reports import (
    Controls,
    Fault,
    FaultClass,
    FinishReason,
    Judgement,
    Phase,
    Result,
    RollbackRecord,
    SaveRecord,
    StepRecord,
    Verdict,
)
from trainerd.actors.rules import Rulebook
from trainerd.actors.trainer import codes
from trainerd.actors.trainer.commands import Commands
from trainerd.actors.trainer.decisions import DecisionSlot
from trainerd.actors.trainer.drilling import TrainerDrill
from trainerd.actors.trainer.main import exit_code
from trainerd.actors.trainer.messages import merge_step_reports
from trainerd.actors.trainer.profiling import Profiled, Profiler
from trainerd.actors.trainer.reporting import STEPS_EVERY_S, LinkReporter, Outcome
from trainerd.actors.trainer.situation import Situation
from trainerd.v1 import event_pb2, fault_pb2, trainer_pb2
from trainerd.v1.mailbox import Outbox


class FakeHistory:
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []

    def stepped(self, record: StepRecord) -> None:
        self.heard.append(("stepped", record.step))

    def went_back(self, step: int) -> None:
        self.heard.append(("back", step))

    def close(self) -> None: ...


@dataclass
class Desk:
    """A reporter and everything around it."""

    limit: int = 1024
    timeout_s: float = 20.0
    controls: Controls = field(default_factory=Controls)
    decisions: DecisionSlot = field(default_factory=DecisionSlot)
    situation: Situation = field(default_factory=Situation)
    resets: int = 0
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.outbox: Outbox[trainer_pb2.AttachRequest] = Outbox(self.limit)
        self.tracing = FakeTracing()
        self.profiler = Profiler(Path("/dev/null/profiles"), self.profiled, self.tracing)
        self.history = FakeHistory()
        self.reporter = LinkReporter(
            outbox=self.outbox,
            situation=self.situation,
            controls=self.controls,
            decisions=self.decisions,
            reset_link=self.reset,
            decision_timeout_s=self.timeout_s,
            injection_timeout_s=self.timeout_s,
            history=self.history,
            profiler=self.profiler,
            clock=self.clock,
        )
        self.rulebook = Rulebook()
        self.drill = TrainerDrill(self.reporter.announced)
        self.commands = Commands(
            controls=self.controls,
            decisions=self.decisions,
            rulebook=self.rulebook,
            arm=self.drill.arm,
            profile=self.profiler.ask,
        )

    def reset(self) -> None:
        self.resets += 1

    def profiled(self, made: Profiled) -> None:
        self.reporter.profiled(made)

    def events(self) -> list[event_pb2.Event]:
        return [numbered.message.event for numbered in self.outbox.take(0.0)[0]]

    def step_report(self) -> trainer_pb2.StepReport | None:
        """What the link would tell of steps now, in one report."""
        left = self.reporter.take_steps()
        told = self.outbox.take(0.0)[1] + ([left] if left is not None else [])
        return functools.reduce(merge_step_reports, told).step_report if told else None

    def decide(self, action: fault_pb2.Action, fault: Fault) -> Verdict:
        return self.judge(action, fault).verdict

    def judge(self, action: fault_pb2.Action, fault: Fault, **more: int) -> Judgement:
        with self.deciding(fault) as judgements:
            self.answer(action, self.decisions.awaited, **more)
        return judgements[0]

    @contextlib.contextmanager
    def deciding(self, fault: Fault) -> Iterator[list[Judgement]]:
        """The block runs while the loop waits for a decision; it ends with a verdict."""
        verdicts: list[Judgement] = []
        thread = threading.Thread(target=lambda: verdicts.append(self.reporter.decide(fault)))
        thread.start()
        wait_until(lambda: self.decisions.awaited, "the fault to be raised")
        yield verdicts
        thread.join(20.0)
        assert verdicts

    def answer(self, action: fault_pb2.Action, question: int, **more: int) -> None:
        decision = fault_pb2.Decision(
            action=action, reason="1 in 600 s, limit 10", answers=question, **more
        )
        self.commands.obey(trainer_pb2.AttachResponse(decision=decision))


def step(number: int, *, applied: bool = True, **changes: object) -> StepRecord:
    values: dict[str, object] = {
        "step": number,
        "batch": number,
        "applied": applied,
        "loss": 1.0 / number,
        "gradient_norm": 0.5,
        "metrics": {"accuracy": number / 100},
        "duration_s": number / 10,
        "data_wait_s": 0.5,
        "examples": 8,
        "masked_slots": (),
        "total_skipped_batches": 0,
        "total_masked_slots": 0,
    }
    return StepRecord(**(values | changes))  # type: ignore[arg-type]


FAULT = Fault(
    fault_class=FaultClass.STEP_EXCEPTION,
    message="ValueError: no",
    suggestion="say yes",
    detail="Traceback",
    step=7,
    batch=9,
    phase=Phase.STEP,
    state_intact=True,
    slots=(1, 2),
)


def test_every_lifecycle_report_becomes_its_event():
    desk = Desk()
    reporter = desk.reporter
    reporter.entered(Phase.COMPILE, 2)
    reporter.slots_fixed(4)
    reporter.restored(20, 21, "/c/20")
    reporter.evaluated(20, {"loss": 2.0})
    reporter.saved(
        SaveRecord(
            step=20,
            path="/c/20",
            bytes=9,
            blocked_s=0.1,
            duration_s=2.0,
            request_ids=("q",),
            fallback=True,
            every_steps=50,
            coalesced=2,
            disk_bytes=27,
            disk_free_bytes=1000,
        )
    )
    reporter.paused(20)
    reporter.resumed(20)
    phase, slots, restored, evaluated, saved, paused, resumed = desk.events()
    assert (phase.phase_entered.phase, phase.phase_entered.step) == (fault_pb2.PHASE_COMPILE, 2)
    assert slots.slots_fixed.slots == 4
    assert restored.state_restored == event_pb2.StateRestored(step=20, batch=21, source="/c/20")
    assert evaluated.evaluated.evaluation.metrics["loss"] == 2.0
    assert saved.checkpoint_saved == event_pb2.CheckpointSaved(
        step=20,
        path="/c/20",
        bytes=9,
        blocked_s=0.1,
        duration_s=2.0,
        request_ids=["q"],
        fallback=True,
        every_steps=50,
        coalesced=2,
        disk_bytes=27,
        disk_free_bytes=1000,
    )
    assert paused.trainer_paused.step == 20
    assert resumed.trainer_resumed.step == 20


def test_a_handled_fault_says_what_was_done():
    desk = Desk()
    desk.reporter.faulted(
        Fault(
            fault_class=FaultClass.NON_FINITE_MICROBATCH,
            message="m",
            delegated=Verdict.MASK,
            request_ids=("q",),
            reason="no_space",
        )
    )
    (event,) = desk.events()
    fault = event.fault_raised.fault
    assert getattr(fault, "class") == fault_pb2.FAULT_CLASS_NON_FINITE_MICROBATCH
    assert (fault.delegated, fault.awaits_decision) == (fault_pb2.ACTION_MASK, False)
    assert (fault.reason, list(event.fault_raised.request_ids)) == ("no_space", ["q"])
    assert fault.batch == -1


def test_a_fault_that_waits_for_a_decision_says_so_and_everything_it_knows():
    desk = Desk()
    assert desk.decide(fault_pb2.ACTION_SKIP, FAULT) is Verdict.SKIP
    fault = desk.events()[0].fault_raised.fault
    assert fault.awaits_decision
    assert getattr(fault, "class") == fault_pb2.FAULT_CLASS_STEP_EXCEPTION
    assert (fault.message, fault.suggestion, fault.detail) == (
        "ValueError: no",
        "say yes",
        "Traceback",
    )
    assert (fault.step, fault.batch, fault.phase) == (7, 9, fault_pb2.PHASE_STEP)
    assert fault.state_intact
    assert list(fault.slots) == [1, 2]


@pytest.mark.parametrize(
    ("action", "verdict", "outcome"),
    [
        (fault_pb2.ACTION_CONTINUE, Verdict.CONTINUE, Outcome.NONE),
        (fault_pb2.ACTION_MASK, Verdict.MASK, Outcome.NONE),
        (fault_pb2.ACTION_SKIP, Verdict.SKIP, Outcome.NONE),
        # The exit code to come, should this process not be able to go back.
        (fault_pb2.ACTION_ROLLBACK, Verdict.ROLLBACK, Outcome.RESTART),
        (fault_pb2.ACTION_RESTART, Verdict.RESTART, Outcome.RESTART),
        (fault_pb2.ACTION_REFORM, Verdict.RESTART, Outcome.RESTART),
        (fault_pb2.ACTION_FAIL, Verdict.FAIL, Outcome.FAIL),
    ],
)
def test_each_action_leads_to_its_verdict(action, verdict, outcome):
    desk = Desk()
    assert desk.decide(action, FAULT) is verdict
    assert desk.reporter.outcome is outcome


def test_a_decision_to_pause_holds_at_the_next_boundary():
    desk = Desk()
    assert desk.decide(fault_pb2.ACTION_PAUSE, FAULT) is Verdict.CONTINUE
    assert desk.controls.take().pause


def test_without_a_decision_in_time_the_next_daemon_decides():
    desk = Desk(timeout_s=0.05)
    assert desk.reporter.decide(FAULT).verdict is Verdict.RESTART
    assert desk.reporter.outcome is Outcome.PENDING


def test_a_decision_that_nothing_waits_for_is_not_kept_for_the_next_fault():
    desk = Desk(timeout_s=0.05)
    decision = fault_pb2.Decision(action=fault_pb2.ACTION_SKIP)
    desk.commands.obey(trainer_pb2.AttachResponse(decision=decision))
    assert desk.reporter.decide(FAULT).verdict is Verdict.RESTART


def test_a_rollback_says_how_far_and_is_over_when_it_is_done():
    desk = Desk()
    judged = desk.judge(fault_pb2.ACTION_ROLLBACK, FAULT, rollback_steps=30)
    assert judged == Judgement(verdict=Verdict.ROLLBACK, rollback_steps=30)
    desk.events()
    desk.reporter.rolled_back(
        RollbackRecord(
            from_step=40,
            step=10,
            first_batch=11,
            last_batch=44,
            source="/c/10",
            fault_class=FaultClass.NON_FINITE_STEP,
        )
    )
    (event,) = desk.events()
    told = event.rolled_back
    assert (told.from_step, told.step, told.first_batch, told.last_batch) == (40, 10, 11, 44)
    assert told.source == "/c/10"
    assert getattr(told, "class") == fault_pb2.FAULT_CLASS_NON_FINITE_STEP
    assert desk.situation.now()[1] == 10
    assert desk.reporter.outcome is Outcome.NONE


def test_without_a_batch_to_leave_out_there_is_no_going_back():
    desk = Desk()
    assert desk.decide(fault_pb2.ACTION_ROLLBACK, replace(FAULT, batch=-1)) is Verdict.RESTART
    assert desk.reporter.outcome is Outcome.RESTART


def test_a_fault_says_which_policy_it_was_dealt_with_by():
    desk = Desk()
    desk.reporter.faulted(replace(FAULT, delegated=Verdict.SKIP, policy_version=3))
    (event,) = desk.events()
    assert event.fault_raised.fault.policy_version == 3


def test_an_answer_to_another_fault_is_ignored(capsys: pytest.CaptureFixture[str]):
    desk = Desk()
    assert desk.decide(fault_pb2.ACTION_SKIP, FAULT) is Verdict.SKIP
    with desk.deciding(FAULT) as verdicts:
        assert desk.decisions.awaited == 2
        desk.answer(fault_pb2.ACTION_CONTINUE, 1)
        desk.answer(fault_pb2.ACTION_CONTINUE, 0)
        assert desk.decisions.awaited == 2
        desk.answer(fault_pb2.ACTION_MASK, 2)
        desk.answer(fault_pb2.ACTION_FAIL, 2)
    assert verdicts == [Judgement(verdict=Verdict.MASK)]
    assert desk.reporter.outcome is Outcome.NONE
    assert desk.decisions.awaited == 0
    assert capsys.readouterr().err.count("no fault waits for") >= 2


def test_a_fault_that_is_dropped_with_other_reports_is_raised_again_under_its_name():
    desk = Desk(limit=2)
    with desk.deciding(FAULT) as verdicts:
        question = desk.decisions.awaited
        for slots in (1, 2):
            desk.reporter.slots_fixed(slots)
        newest, again = desk.events()
        assert newest.slots_fixed.slots == 2
        assert again.fault_raised.question == question == 1
        assert again.fault_raised.fault.message == FAULT.message
        desk.answer(fault_pb2.ACTION_SKIP, question)
    assert verdicts == [Judgement(verdict=Verdict.SKIP)]
    desk.outbox.acknowledge(10)
    for slots in (3, 4, 5):
        desk.reporter.slots_fixed(slots)
    assert [event.WhichOneof("payload") for event in desk.events()] == ["slots_fixed"]


def test_a_mailbox_of_one_report_keeps_the_newest():
    desk = Desk(limit=1)
    with desk.deciding(FAULT) as verdicts:
        desk.reporter.slots_fixed(1)
        assert [event.fault_raised.question for event in desk.events()] == [1]
        desk.answer(fault_pb2.ACTION_SKIP, 1)
    assert verdicts == [Judgement(verdict=Verdict.SKIP)]


def test_a_link_that_is_refused_ends_the_wait():
    desk = Desk(timeout_s=600.0)
    desk.decisions.close()
    assert desk.reporter.decide(FAULT).verdict is Verdict.RESTART


def test_one_step_is_reported_with_all_it_has():
    desk = Desk()
    desk.reporter.stepped(step(3, total_skipped_batches=1, total_masked_slots=2))
    report = desk.step_report()
    assert report is not None
    assert (report.step, report.batch, report.examples) == (3, 4, 8)
    assert (report.loss, report.gradient_norm) == (1.0 / 3, 0.5)
    assert (report.skipped_batches, report.masked_slots) == (1, 2)
    assert dict(report.metrics) == {"accuracy": 0.03}
    assert list(report.durations_s) == [0.3]
    assert desk.situation.now()[1] == 3


def test_unsent_steps_become_one_report():
    desk = Desk()
    for number in (1, 2, 3):
        desk.reporter.stepped(step(number))
    report = desk.step_report()
    assert report is not None
    assert (report.step, report.loss, report.examples) == (3, 1.0 / 3, 24)
    assert list(report.durations_s) == [0.1, 0.2, 0.3]
    assert report.data_wait_s == 1.5
    assert desk.step_report() is None


def test_a_step_after_a_silence_is_told_at_once_and_those_behind_it_together():
    now_s = [5.0]
    desk = Desk(clock=lambda: now_s[0])

    def posted() -> list[int]:
        return [message.step_report.step for message in desk.outbox.take(0.0)[1]]

    desk.reporter.stepped(step(1))
    assert posted() == [1]
    desk.reporter.stepped(step(2))
    desk.reporter.stepped(step(3))
    assert posted() == []
    now_s[0] += STEPS_EVERY_S
    desk.reporter.stepped(step(4))
    report = desk.step_report()
    assert report is not None
    assert (report.step, list(report.durations_s)) == (4, [0.2, 0.3, 0.4])
    desk.reporter.stepped(step(5))
    assert posted() == []
    left = desk.reporter.take_steps()
    assert left is not None
    assert (left.step_report.step, list(left.step_report.durations_s)) == (5, [0.5])
    assert desk.reporter.take_steps() is None


def test_a_report_holds_the_newest_256_durations():
    desk = Desk()
    for number in range(1, 400):
        desk.reporter.stepped(step(number))
    report = desk.step_report()
    assert report is not None
    assert len(report.durations_s) == 256
    assert report.durations_s[-1] == 39.9
    assert report.examples == 399 * 8


def test_a_skipped_batch_reports_the_newest_applied_update():
    desk = Desk()
    desk.reporter.stepped(step(2))
    skipped = step(2, applied=False, batch=3, loss=float("nan"), total_skipped_batches=1)
    desk.reporter.stepped(skipped)
    report = desk.step_report()
    assert report is not None
    assert (report.loss, report.batch, report.skipped_batches) == (0.5, 4, 1)
    assert (list(report.durations_s), report.examples) == ([0.2], 8)


def test_before_the_first_applied_update_there_is_nothing_to_report():
    desk = Desk()
    desk.reporter.stepped(step(1, applied=False))
    assert desk.step_report() is None


def test_an_overflow_resets_the_link_and_keeps_the_newest_report():
    desk = Desk(limit=2)
    for slots in (1, 2, 3):
        desk.reporter.slots_fixed(slots)
    assert (desk.resets, desk.outbox.dropped) == (1, 3)
    assert [event.slots_fixed.slots for event in desk.events()] == [3]


def test_evidence_of_any_length_fits_into_a_message():
    desk = Desk()
    desk.reporter.faulted(
        Fault(fault_class=FaultClass.DATA_ERROR, message="m", detail="x" * 20_000_000 + "end")
    )
    detail = desk.events()[0].fault_raised.fault.detail
    assert len(detail) < 100_000
    assert detail.endswith("end")


def test_commands_become_requests_to_the_loop():
    desk = Desk()
    obey = desk.commands.obey
    obey(trainer_pb2.AttachResponse(pause=trainer_pb2.PauseTrainer()))
    obey(trainer_pb2.AttachResponse(save_checkpoint=trainer_pb2.SaveCheckpoint(request_id="q")))
    requests = desk.controls.take()
    assert (requests.pause, requests.save) == (True, ("q",))
    obey(trainer_pb2.AttachResponse(resume=trainer_pb2.ResumeTrainer()))
    stop = trainer_pb2.StopTrainer(save=False, reason=event_pb2.FINISH_REASON_PREEMPTED)
    obey(trainer_pb2.AttachResponse(stop=stop))
    requests = desk.controls.take()
    assert not requests.pause
    assert (requests.stop, requests.stop_saves) == (FinishReason.PREEMPTED, False)


def test_the_end_says_what_it_amounts_to():
    desk = Desk()
    desk.reporter.finished(result(FinishReason.COMPLETED))
    finished = desk.events()[0].trainer_finished
    assert finished.reason == event_pb2.FINISH_REASON_COMPLETED
    assert finished.durable
    assert (finished.result.step, finished.result.state_digest) == (5, "ab")
    assert (finished.result.durable_step, finished.result.checkpoint) == (5, "/c/5")


def result(reason: FinishReason) -> Result:
    return Result(
        reason=reason,
        step=5,
        batches=6,
        masked_slots=0,
        skipped_batches=1,
        loss=0.1,
        state_digest="ab",
        durable=True,
        durable_step=5,
        checkpoint="/c/5",
    )


@pytest.mark.parametrize(
    ("reason", "outcome", "code"),
    [
        (FinishReason.COMPLETED, Outcome.NONE, codes.FINISHED),
        (FinishReason.STOPPED, Outcome.FAIL, codes.FINISHED),
        (FinishReason.PREEMPTED, Outcome.NONE, codes.FINISHED),
        (FinishReason.DECIDED, Outcome.FAIL, codes.FAILED),
        (FinishReason.DECIDED, Outcome.RESTART, codes.RESTART),
        (FinishReason.DECIDED, Outcome.PENDING, codes.DECISION_PENDING),
        (FinishReason.DECIDED, Outcome.NONE, codes.FAILED),
    ],
)
def test_the_exit_code_says_why_it_ended(reason, outcome, code):
    assert exit_code(result(reason), outcome) == code


def test_a_report_says_how_old_the_newest_snapshot_is():
    desk = Desk()
    desk.reporter.snapshotted(-1, 0)
    desk.reporter.stepped(step(1))
    report = desk.step_report()
    assert report is not None
    assert (report.snapshot_step, report.snapshot_every) == (0, 0)
    desk.reporter.snapshotted(30, 15)
    for number in (31, 32):
        desk.reporter.stepped(step(number))
    report = desk.step_report()
    assert report is not None
    assert (report.step, report.snapshot_step, report.snapshot_every) == (32, 30, 15)


def test_applied_updates_and_ways_back_are_kept_and_what_was_left_out_is_not():
    desk = Desk()
    desk.reporter.restored(4, 4, "init")
    desk.reporter.stepped(step(5))
    desk.reporter.stepped(step(5, applied=False))
    desk.reporter.rolled_back(
        RollbackRecord(
            from_step=5,
            step=2,
            first_batch=2,
            last_batch=5,
            source="/c/2",
            fault_class=FaultClass.LOSS_SPIKE,
        )
    )
    desk.reporter.stepped(step(3))
    assert desk.history.heard == [("back", 4), ("stepped", 5), ("back", 2), ("stepped", 3)]


def test_a_profile_is_an_order_and_its_end_a_report():
    desk = Desk()
    order = trainer_pb2.ProfileTrainer(request_id="a", steps=2, directory="/dev/null/p")
    desk.commands.obey(trainer_pb2.AttachResponse(profile=order))
    desk.reporter.stepped(step(1))
    (event,) = [event for event in desk.events() if event.HasField("profiled")]
    assert event.profiled.request_id == "a"
    assert "could not be begun" in event.profiled.problem


def test_a_pause_answers_a_profile_that_has_not_begun():
    desk = Desk()
    order = trainer_pb2.ProfileTrainer(request_id="a", steps=2)
    desk.commands.obey(trainer_pb2.AttachResponse(profile=order))
    desk.reporter.paused(3)
    told = [event.WhichOneof("payload") for event in desk.events()]
    assert told == ["profiled", "trainer_paused"]
