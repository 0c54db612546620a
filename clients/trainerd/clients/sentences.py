"""Every event of the journal as one sentence for people."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping

from trainerd.clients.wording import duration, figure, one_line, plural, size, word
from trainerd.v1 import event_pb2, fault_pb2, inject_pb2, run_pb2

Event = event_pb2.Event


def sentence(event: Event) -> str:
    """What happened, in one line without its time. An unknown event is said to be one."""
    kind = event.WhichOneof("payload")
    say = _SENTENCES.get(kind or "")
    if say is None:
        return f"something newer than this trainerctl happened (record {event.sequence})"
    return one_line(f"{event.host}: {say(event)}" if event.host else say(event))


def kind_of(event: Event) -> str:
    """The event's kind, such as "checkpoint_saved"."""
    return event.WhichOneof("payload") or "unknown"


def state_word(state: run_pb2.RunState) -> str:
    """A run state in lower case."""
    return word(run_pb2.RunState, "RUN_STATE_", state)


def phase_word(phase: fault_pb2.Phase) -> str:
    """A trainer's phase in words."""
    return word(fault_pb2.Phase, "PHASE_", phase).replace("_", " ")


def class_word(fault: fault_pb2.Fault) -> str:
    """A fault's class in lower case."""
    return word(fault_pb2.FaultClass, "FAULT_CLASS_", getattr(fault, "class"))


def fault_sentence(fault: fault_pb2.Fault) -> str:
    """A fault's class, place and message in one line."""
    place = f" at step {fault.step:,}" if fault.step else ""
    place += f", batch {fault.batch:,}" if fault.batch > 0 else ""
    reason = f" ({fault.reason})" if fault.reason else ""
    return one_line(f"{class_word(fault)}{reason}{place}: {fault.message}")


def decision_text(decision: fault_pb2.Decision) -> str:
    """What is done, to what, when, and why: `restart the process in 4 s: crash 3 in 600 s`."""
    scope = f" the {decision.scope}" if decision.scope else ""
    after = f" in {duration(decision.delay_s)}" if decision.delay_s else ""
    if decision.slot_parts > 1:
        after += f", each slot in {decision.slot_parts} parts"
    action = word(fault_pb2.Action, "ACTION_", decision.action)
    if decision.action == fault_pb2.ACTION_ROLLBACK:
        action, scope = "roll back", f" by at least {plural(decision.rollback_steps, 'update')}"
    return f"{action}{scope}{after}: {decision.reason}"


def injection_text(injection: inject_pb2.Injection) -> str:
    """What happens when: `nan in slots 0, 1 at step 50, at most 3 times`."""
    text = _injected_word(injection.fault)
    if injection.slots:
        slots = ", ".join(str(slot) for slot in injection.slots)
        text += f" in {'slot' if len(injection.slots) == 1 else 'slots'} {slots}"
    if injection.seconds:
        text += f" of {duration(injection.seconds)}"
    if injection.fault == inject_pb2.INJECTED_FAULT_EXIT:
        text += f" with code {injection.exit_code}"
    if injection.probability:
        text += f" at each step with probability {injection.probability:g}"
    else:
        text += f" at step {injection.step:,}" if injection.step > 1 else " at the next step"
    return f"{text}, at most {injection.times:,} times" if injection.times > 1 else text


def _injected_word(fault: inject_pb2.InjectedFault) -> str:
    return word(inject_pb2.InjectedFault, "INJECTED_FAULT_", fault).replace("_", " ")


def metrics_text(metrics: Mapping[str, float]) -> str:
    """`bits_per_byte 3.21, loss 2.22`."""
    return ", ".join(f"{name} {figure(value)}" for name, value in sorted(metrics.items()))


def _launcher_attached(event: Event) -> str:
    attached = event.launcher_attached
    return (
        f"the launcher is linked (pid {attached.pid}, {plural(len(attached.trainers), 'trainer')})"
    )


def _submitted(event: Event) -> str:
    spec = event.run_submitted.spec
    return f"submitted: {spec.entry}, {spec.train.steps:,} steps of {spec.train.global_batch}"


def _stop_requested(event: Event) -> str:
    how = "after a checkpoint" if event.stop_requested.save else "without a checkpoint"
    return f"a stop was asked for, {how}"


def _spawn_failed(event: Event) -> str:
    failed = event.trainer_spawn_failed
    again = "; another try is useless" if failed.permanent else ""
    return f"the trainer could not be started: {failed.message}{again}"


def _attached(event: Event) -> str:
    attached = event.trainer_attached
    lost = (
        f"; {plural(attached.dropped_reports, 'report')} lost" if attached.dropped_reports else ""
    )
    return (
        f"trainer {event.incarnation} attached in phase {phase_word(attached.phase)} "
        f"at step {attached.step:,}{lost}"
    )


def _exited(event: Event) -> str:
    exited = event.trainer_exited
    if not exited.signal:
        drained = " as its host was drained" if exited.drained else ""
        return f"trainer {event.incarnation} exited with code {exited.exit_code}{drained}"
    by = "by its launcher " if exited.killed_by_launcher else ""
    return f"trainer {event.incarnation} was killed {by}with {_signal_name(exited.signal)}"


def _phase(event: Event) -> str:
    entered = event.phase_entered
    return f"the trainer is in phase {phase_word(entered.phase)} at step {entered.step:,}"


def _restored(event: Event) -> str:
    restored = event.state_restored
    if restored.source == "init":
        return "a new state was made"
    return f"restored step {restored.step:,} (next batch {restored.batch:,}) from {restored.source}"


def _evaluated(event: Event) -> str:
    evaluation = event.evaluated.evaluation
    return f"evaluation at step {evaluation.step:,}: {metrics_text(evaluation.metrics)}"


def _saved(event: Event) -> str:
    saved = event.checkpoint_saved
    where = " in the fallback directory" if saved.fallback else ""
    return (
        f"checkpoint of step {saved.step:,} is durable{where} ({size(saved.bytes)} in "
        f"{duration(saved.duration_s)}, training waited {duration(saved.blocked_s)}): {saved.path}"
    )


def _fault_raised(event: Event) -> str:
    fault = event.fault_raised.fault
    acted = ""
    if fault.delegated:
        acted = f"; the trainer's own rule: {word(fault_pb2.Action, 'ACTION_', fault.delegated)}"
    return f"fault: {fault_sentence(fault)}{acted}"


def _verified(event: Event) -> str:
    verified = event.checkpoints_verified
    found = [f"{plural(verified.sound, 'checkpoint')} sound"]
    for each in verified.rejected:
        what = f"step {each.step:,}" if each.step >= 0 else each.path
        found.append(f"{what}: {each.reason}: {each.problem}")
    who = "by the scrub" if verified.scrub else "on request"
    took = f"in {duration(verified.duration_s)}"
    return f"checkpoints verified {who}, {took}: {'; '.join(found)}"


def _finished(event: Event) -> str:
    finished = event.trainer_finished
    reason = word(event_pb2.FinishReason, "FINISH_REASON_", finished.reason)
    durable = "its state is durable" if finished.durable else "its state is not durable"
    return f"the trainer finished ({reason}) at step {finished.result.step:,}; {durable}"


def _spawned(event: Event) -> str:
    spawned = event.trainer_spawned
    how = " from the standby" if spawned.warm else ""
    return f"trainer {event.incarnation} started{how} (pid {spawned.pid})"


def _journal_recovered(event: Event) -> str:
    recovered = event.journal_recovered
    return (
        f"the journal can be written again; it could not be for {duration(recovered.duration_s)}, "
        f"{plural(recovered.refused, 'event')} refused: {recovered.problem}"
    )


def _standby_prepared(event: Event) -> str:
    if event.standby_prepared.problem:
        return f"a trainer would start cold there: {event.standby_prepared.problem}"
    return "a standby for the gang to grow by is ready"


def _files_removed(event: Event) -> str:
    if event.files_removed.memory_only:
        return "what of the run lay in memory is removed"
    return f"the files of {event.run} are removed"


def _deadline(event: Event) -> str:
    expired = event.deadline_expired
    return (
        f"no progress in phase {phase_word(expired.phase)} for {duration(expired.waited_s)} "
        f"(deadline {duration(expired.deadline_s)})"
    )


def _injected(event: Event) -> str:
    injected = event.fault_injected
    return (
        f"on purpose (injection {injected.injection}): {_injected_word(injected.fault)} "
        f"at step {injected.step:,}, batch {injected.batch:,}"
    )


def _rolled_back(event: Event) -> str:
    back = event.rolled_back
    source = "the initial state" if back.source == "init" else back.source
    batches = f"batch {back.first_batch:,} is"
    if back.last_batch > back.first_batch:
        batches = f"batches {back.first_batch:,} to {back.last_batch:,} are"
    name = word(fault_pb2.FaultClass, "FAULT_CLASS_", getattr(back, "class"))
    return (
        f"rolled back from step {back.from_step:,} to step {back.step:,} for {name}: {source}; "
        f"{batches} left out from now on"
    )


def _policy_changed(event: Event) -> str:
    if event.policy_changed.trial:
        return "another policy was put on trial: what it would decide is recorded, nothing else"
    return "the policy was changed"


def _profiled(event: Event) -> str:
    made = event.profiled
    if made.problem:
        return f"no profile was taken: {made.problem}"
    return f"a profile of {plural(made.steps, 'step')} from step {made.step:,} on is in {made.path}"


def _decided(event: Event) -> str:
    made = event.decision_made
    if made.trial:
        text = decision_text(made.decision)
        return f"the policy on trial would have decided on {class_word(made.fault)}: {text}"
    kept = f" (incident {made.incident})" if made.incident else ""
    return f"decision on {class_word(made.fault)}: {decision_text(made.decision)}{kept}"


def _state_changed(event: Event) -> str:
    changed = event.run_state_changed
    before: run_pb2.RunState = getattr(changed, "from")
    why = f": {changed.reason}" if changed.reason else ""
    arrow = f"{state_word(before)} → " if before else ""
    return f"{arrow}{state_word(changed.to)}{why}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


_SENTENCES: Mapping[str, Callable[[Event], str]] = {
    "daemon_started": lambda e: (
        f"the daemon started (trainerd {e.daemon_started.version}, pid {e.daemon_started.pid})"
    ),
    "launcher_attached": _launcher_attached,
    "launcher_lost": lambda e: f"the link to the launcher is lost: {e.launcher_lost.reason}",
    "daemon_ended": lambda _: "the daemon ended",
    "journal_recovered": _journal_recovered,
    "files_removed": _files_removed,
    "host_joined": lambda e: (
        f"the host joined from {e.host_joined.address} (trainerd {e.host_joined.software})"
    ),
    "host_lost": lambda e: f"the link to the host is lost: {e.host_lost.reason}",
    "host_drained": lambda _: "draining the host was asked for",
    "host_undrained": lambda _: "undraining the host was asked for",
    "coordinator_started": lambda e: f"the gang meets at {e.coordinator_started.address}",
    "standby_prepared": _standby_prepared,
    "coordinator_failed": lambda e: (
        f"the gang's meeting place could not be made: {e.coordinator_failed.message}"
    ),
    "member_gone": lambda e: (
        f"nothing was heard of the host for {duration(e.member_gone.waited_s)} while its gang "
        f"stood still; {duration(e.member_gone.deadline_s)} are allowed"
    ),
    "run_submitted": _submitted,
    "pause_requested": lambda _: "a pause was asked for",
    "resume_requested": lambda _: "going on was asked for",
    "stop_requested": _stop_requested,
    "checkpoint_requested": lambda _: "a checkpoint was asked for",
    "restart_requested": lambda _: "a restart was asked for",
    "run_deleted": lambda e: e.run_deleted.reason or "the deletion of the run was asked for",
    "profile_requested": lambda e: (
        f"a profile of {plural(e.profile_requested.steps, 'step')} was asked for"
    ),
    "profiled": _profiled,
    "policy_changed": _policy_changed,
    "policy_trial_ended": lambda _: "the trial of a policy was ended",
    "injection_requested": lambda e: (
        f"a fault was asked for: {injection_text(e.injection_requested.injection)}"
    ),
    "fault_injected": _injected,
    "rolled_back": _rolled_back,
    "progressed": lambda e: f"a snapshot holds step {e.progressed.step:,}: recoveries count anew",
    "trainer_spawned": _spawned,
    "trainer_spawn_failed": _spawn_failed,
    "trainer_attached": _attached,
    "trainer_detached": lambda e: f"the trainer detached: {e.trainer_detached.reason}",
    "trainer_exited": _exited,
    "phase_entered": _phase,
    "slots_fixed": lambda e: f"a batch is cut into {plural(e.slots_fixed.slots, 'slot')}",
    "state_restored": _restored,
    "evaluated": _evaluated,
    "checkpoint_saved": _saved,
    "fault_raised": _fault_raised,
    "first_loss_heard": lambda e: (
        f"the first loss, at step {e.first_loss_heard.step:,}: {figure(e.first_loss_heard.loss)}"
    ),
    "trainer_paused": lambda e: f"the trainer holds at step {e.trainer_paused.step:,}",
    "trainer_resumed": lambda e: f"the trainer goes on from step {e.trainer_resumed.step:,}",
    "trainer_finished": _finished,
    "timer_fired": lambda e: f"the timer {e.timer_fired.key} fired",
    "deadline_expired": _deadline,
    "checkpoints_verified": _verified,
    "decision_made": _decided,
    "run_state_changed": _state_changed,
    "event_ignored": lambda e: f"ignored {e.event_ignored.kind}: {e.event_ignored.reason}",
}
