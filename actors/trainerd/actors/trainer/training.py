"""The training library under the actor: load the program, build the plan, run the loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax

from trainerd.actors import fence
from trainerd.actors.batch_files import BatchFiles, Evidence, NoEvidence
from trainerd.actors.drills import Drill
from trainerd.actors.errors import TrainingError
from trainerd.actors.executables import ExecutableStore
from trainerd.actors.faults import classify
from trainerd.actors.gang import COLLECTIVE_TIMEOUT_S, Gang, Joining
from trainerd.actors.head_start import HeadStart
from trainerd.actors.launcher.runs import RunFiles
from trainerd.actors.preparation import MEETING_S
from trainerd.actors.program import build_program, entry_function
from trainerd.actors.program_loop import run_loop
from trainerd.actors.recovery import Recovery
from trainerd.actors.reports import (
    Controls,
    Fault,
    FaultClass,
    FinishReason,
    Phase,
    Reporter,
    Result,
)
from trainerd.actors.rules import Rulebook
from trainerd.actors.timesheet import Timesheet
from trainerd.actors.traceback_text import user_traceback
from trainerd.actors.trainer import module_path
from trainerd.actors.trainer.plans import build_plan, ledger_entries
from trainerd.actors.trainer.situation import Situation
from trainerd.actors.trainer.values import arguments
from trainerd.v1 import launcher_pb2


def train(
    assignment: launcher_pb2.Assignment,
    reporter: Reporter,
    controls: Controls,
    situation: Situation,
    *,
    rulebook: Rulebook | None = None,
    drill: Drill | None = None,
    recovery: Recovery | None = None,
    joining: Joining | None = None,
    timesheet: Timesheet | None = None,
) -> Result:
    """Train as assigned. The user's mistakes are faults that the supervisor decides on.

    Where `recovery` brings no head start one is made as soon as the program's module is imported;
    where the assignment names a gang and there is no `joining`, it begins with that.
    """
    try:
        joining = joining or join(assignment)
        result = _train(
            assignment,
            reporter,
            controls,
            rulebook,
            drill,
            recovery or Recovery(),
            timesheet,
            joining,
        )
        if result.reason is not FinishReason.DATA_ENDED:
            return result
        reporter.decide(_data_ended(result, assignment.spec.train.steps))
        return replace(result, reason=FinishReason.DECIDED)
    except TrainingError as error:
        phase, step = situation.now()
        fault = classify(error, phase=phase, step=step, state_intact=False)
    except (SystemExit, KeyboardInterrupt) as error:
        phase, step = situation.now()
        fault = Fault(
            fault_class=FaultClass.STEP_EXCEPTION,
            message=f"the program raised {type(error).__name__}: {error}",
            suggestion="raise an ordinary exception, or return",
            detail=user_traceback(error),
            step=step,
            phase=phase,
            state_intact=False,
        )
    # Whatever the verdict: there is nothing to go on with in this process.
    reporter.decide(fault)
    return _nothing(fault.step)


def _train(  # noqa: PLR0917
    assignment: launcher_pb2.Assignment,
    reporter: Reporter,
    controls: Controls,
    rulebook: Rulebook | None,
    drill: Drill | None,
    recovery: Recovery,
    timesheet: Timesheet | None,
    joining: Joining | None,
) -> Result:
    spec = assignment.spec
    try:
        module_path.search_first(spec.trainer.path)
        plan = build_plan(
            spec,
            run=assignment.run,
            slots=assignment.slots,
            slot_parts=assignment.slot_parts,
            policy_version=assignment.policy_version,
        )
        fallback = spec.checkpoint.fallback_directory
        build, args = entry_function(spec.entry), arguments(spec.args)
        if recovery.head_start is None:
            recovery = replace(recovery, head_start=head_start(assignment, joining))
        return run_loop(
            build_program(spec.entry, build, args),
            plan,
            checkpoint_directory=Path(assignment.checkpoint_directory),
            fallback_directory=Path(fallback) / assignment.run if fallback else None,
            restore_directories=[Path(place) for place in assignment.restore_directories],
            ledger=ledger_entries(assignment.ledger),
            reporter=reporter,
            controls=controls,
            rulebook=rulebook,
            drill=drill,
            recovery=recovery,
            evidence=_evidence(assignment.run_directory),
            joining=joining,
            incarnation=fence.number(assignment),
            timesheet=timesheet,
        )
    finally:
        if recovery.head_start is not None:
            recovery.head_start.close()


def join(assignment: launcher_pb2.Assignment) -> Joining | None:
    """Begin to join the gang that the assignment names; None: the process trains alone.

    Raises what JAX raises where its devices have been opened by then.
    """
    gang = assignment.gang
    if not assignment.HasField("gang") or gang.process_count < 2:
        return None
    return Joining(
        Gang(
            coordinator_address=gang.coordinator_address,
            process_id=gang.process_id,
            process_count=gang.process_count,
            collective_timeout_s=gang.collective_timeout_s or COLLECTIVE_TIMEOUT_S,
            barrier_timeout_s=gang.barrier_timeout_s or MEETING_S,
            own_address=gang.own_address,
        )
    )


def head_start(
    assignment: launcher_pb2.Assignment, joining: Joining | None = None
) -> HeadStart | None:
    """Begin to load the step that the run's last process used; its module is imported.

    None where the run keeps nothing for its next process.
    """
    if not assignment.snapshot_directory or not assignment.executable_directory:
        return None
    return HeadStart.begin(
        ExecutableStore(Path(assignment.executable_directory)),
        Path(assignment.snapshot_directory),
        assignment.spec.entry,
        arguments(assignment.spec.args),
        devices=jax.devices if joining is None else joining.devices,
        processes=1 if joining is None else joining.gang.process_count,
    )


def _evidence(run_directory: str) -> Evidence:
    """Where the launcher looks for the batch of an incident."""
    if not run_directory:
        return NoEvidence()
    return BatchFiles(place=RunFiles(root=Path(run_directory)).batch)


def _data_ended(result: Result, steps: int) -> Fault:
    """What is left of it is saved; no process of this run can do more."""
    return Fault(
        fault_class=FaultClass.DATA_ERROR,
        message=f"the data ended after {result.batches} batches: {result.step} of {steps} steps "
        "are applied",
        suggestion="repeat() the data, or make train.steps smaller",
        step=result.step,
        batch=result.batches,
        phase=Phase.DRAIN,
        reason="data_ended",
    )


def _nothing(step: int) -> Result:
    return Result(
        reason=FinishReason.DECIDED,
        step=step,
        batches=0,
        masked_slots=0,
        skipped_batches=0,
        loss=0.0,
        state_digest="",
        durable=False,
    )
