"""What the loop says, as messages of the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainerd.actors.drills import Injection
from trainerd.actors.reports import Fault, Phase, Result, RollbackRecord, SaveRecord, StepRecord
from trainerd.actors.timesheet import Activity
from trainerd.actors.trainer.profiling import Profiled
from trainerd.v1 import event_pb2, fault_pb2, run_pb2, timesheet_pb2, trainer_pb2

MAX_DURATIONS = 256
MAX_TEXT = 64 * 1024
"""Longest evidence sent with a fault, in characters: a message is bounded."""


def phase_name(phase: Phase) -> str:
    """The protocol's name of a phase."""
    return f"PHASE_{phase.name}"


def fault_to_proto(fault: Fault, *, awaits_decision: bool) -> fault_pb2.Fault:
    """The fault as its witness saw it."""
    delegated = fault.delegated
    named: dict[str, Any] = {"class": f"FAULT_CLASS_{fault.fault_class.name}"}
    return fault_pb2.Fault(
        **named,
        message=_bounded(fault.message),
        suggestion=_bounded(fault.suggestion),
        detail=_bounded(fault.detail),
        step=fault.step,
        batch=fault.batch,
        phase=phase_name(fault.phase),
        state_intact=fault.state_intact,
        reason=fault.reason,
        slots=fault.slots,
        delegated=f"ACTION_{delegated.name}" if delegated else None,
        awaits_decision=awaits_decision,
        policy_version=fault.policy_version,
    )


def _bounded(text: str) -> str:
    """The end of a traceback says most."""
    return text if len(text) <= MAX_TEXT else "…" + text[-MAX_TEXT:]


def fault_raised(fault: Fault, *, awaits_decision: bool, question: int = 0) -> event_pb2.Event:
    """A fault was seen. `question`: the same fault was raised under it before; 0: it was not."""
    return event_pb2.Event(
        fault_raised=event_pb2.FaultRaised(
            fault=fault_to_proto(fault, awaits_decision=awaits_decision),
            request_ids=fault.request_ids,
            question=question,
        )
    )


def checkpoint_saved(record: SaveRecord) -> event_pb2.Event:
    """A checkpoint is durable."""
    return event_pb2.Event(
        checkpoint_saved=event_pb2.CheckpointSaved(
            step=record.step,
            path=record.path,
            bytes=record.bytes,
            blocked_s=record.blocked_s,
            duration_s=record.duration_s,
            request_ids=record.request_ids,
            fallback=record.fallback,
            every_steps=record.every_steps,
            coalesced=record.coalesced,
            disk_bytes=record.disk_bytes,
            disk_free_bytes=record.disk_free_bytes,
        )
    )


def rolled_back(record: RollbackRecord) -> event_pb2.Event:
    """The run went back to an older state."""
    named: dict[str, Any] = {"class": f"FAULT_CLASS_{record.fault_class.name}"}
    return event_pb2.Event(
        rolled_back=event_pb2.RolledBack(
            from_step=record.from_step,
            step=record.step,
            first_batch=record.first_batch,
            last_batch=record.last_batch,
            source=record.source,
            **named,
        )
    )


def profiled(made: Profiled) -> event_pb2.Event:
    """A profile was taken, or could not be."""
    return event_pb2.Event(
        profiled=event_pb2.Profiled(
            request_id=made.request_id,
            step=made.step,
            steps=made.steps,
            path=made.path,
            problem=_bounded(made.problem),
        )
    )


def fault_injected(injection: Injection, step: int, batch: int) -> event_pb2.Event:
    """A fault is about to happen on purpose, at the step that is to make `step` updates."""
    return event_pb2.Event(
        fault_injected=event_pb2.FaultInjected(
            injection=injection.number,
            step=step,
            batch=batch,
            fault=f"INJECTED_FAULT_{injection.fault.name}",
        )
    )


def trainer_finished(result: Result) -> event_pb2.Event:
    """The trainer has done all it had to."""
    return event_pb2.Event(
        trainer_finished=event_pb2.TrainerFinished(
            reason=f"FINISH_REASON_{result.reason.name}",
            durable=result.durable,
            result=run_pb2.RunResult(
                step=result.step,
                batches=result.batches,
                masked_slots=result.masked_slots,
                skipped_batches=result.skipped_batches,
                loss=result.loss,
                state_digest=result.state_digest,
                durable_step=result.durable_step,
                checkpoint=result.checkpoint,
            ),
        )
    )


def activity_times(spent_s: Mapping[Activity, float]) -> list[timesheet_pb2.ActivityTime]:
    """How time was spent."""
    return [
        timesheet_pb2.ActivityTime(activity=f"ACTIVITY_{activity.name}", seconds=seconds)
        for activity, seconds in spent_s.items()
    ]


def step_report(
    record: StepRecord,
    applied: StepRecord,
    *,
    durations_s: Sequence[float],
    examples: int,
    data_wait_s: float,
) -> trainer_pb2.StepReport:
    """Batches up to `record`; `applied` is the newest applied one, and may be the same.

    A batch that was left out adds neither a duration nor examples.
    """
    return trainer_pb2.StepReport(
        step=record.step,
        batch=record.batch + 1,
        loss=applied.loss,
        gradient_norm=applied.gradient_norm,
        metrics=applied.metrics,
        skipped_batches=record.total_skipped_batches,
        masked_slots=record.total_masked_slots,
        durations_s=durations_s,
        examples=examples,
        data_wait_s=data_wait_s,
    )


def merge_step_reports(
    older: trainer_pb2.AttachRequest, newer: trainer_pb2.AttachRequest
) -> trainer_pb2.AttachRequest:
    """Both in one: newest values win, amounts add up, the newest 256 durations stay."""
    merged = trainer_pb2.AttachRequest()
    merged.CopyFrom(newer)
    report, before = merged.step_report, older.step_report
    durations = [*before.durations_s, *report.durations_s][-MAX_DURATIONS:]
    del report.durations_s[:]
    report.durations_s.extend(durations)
    report.examples += before.examples
    report.data_wait_s += before.data_wait_s
    return merged
