"""Transitions caused by clients: submit, pause, resume, stop, checkpoint, restart, delete."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from trainerd.daemon.supervision.commands import (
    Inject,
    Pause,
    Record,
    Resume,
    Save,
    SetPolicy,
    Stop,
    TakeProfile,
)
from trainerd.daemon.supervision.drills import Armed
from trainerd.daemon.supervision.durability import trains
from trainerd.daemon.supervision.events import (
    CheckpointRequested,
    FinishReason,
    InjectionRequested,
    PauseRequested,
    PolicyChanged,
    PolicyTrialEnded,
    ProfileRequested,
    RequestEvent,
    RestartRequested,
    ResumeRequested,
    RunDeleted,
    RunState,
    RunStateChanged,
    RunSubmitted,
    StopRequested,
)
from trainerd.daemon.supervision.policy import Action, FaultClass, Policy
from trainerd.daemon.supervision.state import ON_REQUEST, Profile, Run, Trial
from trainerd.daemon.supervision.turn import MAX_REMOVALS, STOP_NOW_S, STOP_S, Turn
from trainerd.daemon.supervision.verdicts import uncharged

MAX_PENDING_SAVES = 64
"""Checkpoint requests of one run that may wait for their answer."""
MAX_INJECTIONS = 1000
"""Injections of one run."""
MAX_PENDING_INJECTIONS = 64
"""Those of one run that may wait to happen, asked for since its trainer was started: each link
begins with all of them, and a mailbox is bounded."""


def submitted(turn: Turn, event: RunSubmitted) -> None:
    """Queue a new run."""
    if event.run in turn.runs:
        turn.ignore(event.run, event, "there is a run of this id")
        return
    if any(event.run in there for there in turn.removals.values()):
        turn.ignore(event.run, event, "the files of a run of this id are still to be removed")
        return
    turn.submitted = order = turn.submitted + 1
    turn.unsettled = True
    run = Run(
        id=event.run,
        name=event.name,
        order=order,
        policy=event.policy,
        request_id=event.request_id,
        hosts=event.hosts,
        min_hosts=event.min_hosts,
        wait_s=event.wait_s,
        recoverable_at=turn.now,
        injections=tuple(
            Armed(number=number, injection=injection)
            for number, injection in enumerate(event.injections, start=1)
        ),
    )
    changed = RunStateChanged(run=run.id, before=None, after=run.state, reason=run.reason)
    turn.emit(Record(event=changed))
    turn.put(run)


def request(turn: Turn, event: RequestEvent) -> None:
    """Take one request about an existing run; what cannot be done now is a recorded no-op."""
    run = turn.runs.get(event.run)
    if run is None:
        turn.ignore(event.run, event, f"there is no run {event.run}")
        return
    if run.terminal and not isinstance(event, RunDeleted):
        turn.ignore(
            run.id, event, f"run {run.id} has ended: it is {run.state.value}{_advice(event)}"
        )
        return
    match event:
        case PauseRequested():
            _pause(turn, run, event)
        case ResumeRequested():
            _resume(turn, run, event)
        case StopRequested():
            _stop(turn, run, event)
        case CheckpointRequested():
            _checkpoint(turn, run, event)
        case RestartRequested():
            _restart(turn, run, event)
        case RunDeleted():
            _delete(turn, run, event)
        case PolicyChanged():
            _policy(turn, run, event)
        case PolicyTrialEnded():
            _trial_ended(turn, run, event)
        case InjectionRequested():
            _inject(turn, run, event)
        case ProfileRequested():
            _profile(turn, run, event)
        case _:
            assert_never(event)


def _advice(event: RequestEvent) -> str:
    """What somebody may want who asks that of a run that has ended."""
    if isinstance(event, ResumeRequested | RestartRequested):
        return f"; trainerctl submit RUN.toml --resume {event.run} begins a new run where it ended"
    return ""


def _pause(turn: Turn, run: Run, event: PauseRequested) -> None:
    if run.stopping:
        turn.ignore(run.id, event, f"run {run.id} is stopping")
    elif run.state is RunState.QUEUED:
        turn.ignore(run.id, event, f"run {run.id} is queued: there is nothing to pause yet")
    elif not run.pausing:
        run = turn.put(run._replace(pausing=True, hold=ON_REQUEST))
        turn.tell(run, Pause())


def _resume(turn: Turn, run: Run, event: ResumeRequested) -> None:
    if not run.pausing:
        turn.ignore(run.id, event, f"run {run.id} is not paused: it is {run.state.value}")
        return
    # Whoever resumes it knows what it was paused for: it has its whole time again.
    run = turn.put(run._replace(pausing=False, unsaved_s=0.0))
    if run.trainer is not None and run.trainer.trains:
        trains(turn, run)
    turn.tell(run, Resume())


def _stop(turn: Turn, run: Run, event: StopRequested) -> None:
    saves = event.save and (run.stop_saves or not run.stopping)
    again = run.stopping and saves == run.stop_saves
    run = turn.put(run._replace(stopping=True, stop_saves=saves, pausing=False, restarting=False))
    if not run.members:
        turn.cancel_timers(run)
        turn.move(run, RunState.STOPPED, "stopped on request; no trainer was alive")
        return
    run = turn.move(run, RunState.STOPPING, "a stop was requested")
    if not again:
        # A repeated request must not put off the deadline of the first.
        turn.start_timer("stop", run, STOP_S if saves else STOP_NOW_S)
        turn.tell(run, Stop(save=saves, reason=FinishReason.STOPPED))


def _checkpoint(turn: Turn, run: Run, event: CheckpointRequested) -> None:
    if not run.members or run.stopping:
        turn.ignore(run.id, event, f"run {run.id} is {run.state.value}: no trainer could save")
    elif len(run.saves) >= MAX_PENDING_SAVES:
        turn.ignore(run.id, event, f"{len(run.saves)} checkpoint requests wait already")
    elif event.request_id not in run.saves:
        run = turn.put(run._replace(saves=(*run.saves, event.request_id)))
        if run.trainer is not None:
            # Of a gang the first process answers. The others would ask all of them once more.
            turn.tell_one(run, run.trainer, Save(request_id=event.request_id))


def _restart(turn: Turn, run: Run, event: RestartRequested) -> None:
    if run.stopping:
        turn.ignore(run.id, event, f"run {run.id} is stopping")
    elif not run.members:
        turn.ignore(run.id, event, f"run {run.id} is {run.state.value}: it has no trainer now")
    elif not run.restarting:
        uncharged(turn, run, FaultClass.VOLUNTARY, Action.RESTART, "a restart was asked for")
        again(turn, run, "a restart was requested", "restarted on request")


def again(turn: Turn, run: Run, why: str, then: str) -> None:
    """Have a run's processes save and end, for new ones to follow; `then`: why, when they do."""
    run = turn.put(run._replace(restarting=True, again=then))
    run = turn.move(run, RunState.RECOVERING, why)
    turn.start_timer("stop", run, STOP_S)
    turn.tell(run, Stop(save=True, reason=FinishReason.PREEMPTED))


def _delete(turn: Turn, run: Run, event: RunDeleted) -> None:
    if not run.terminal:
        turn.ignore(run.id, event, f"run {run.id} is {run.state.value}: stop it first")
    elif run.members:
        turn.ignore(run.id, event, f"run {run.id} has ended, its process has not yet: try again")
    elif len(turn.hosts) == 1 and len(turn.removals.get(turn.local, {})) >= MAX_REMOVALS:
        waiting = f"the files of {MAX_REMOVALS} runs are still to be removed by the launcher"
        turn.ignore(run.id, event, waiting)
    else:
        turn.forget(run)
        for host in run.touched or (turn.local,):
            turn.remove(run, host)


def _policy(turn: Turn, run: Run, event: PolicyChanged) -> None:
    policy = _with_checkpoint_rules_of(run.policy, event.policy)
    if event.trial:
        turn.put(run._replace(trial=Trial(policy=policy, message=event.message)))
        return
    run = turn.put(
        run._replace(
            policy=policy,
            policy_message=event.message,
            policy_version=run.policy_version + 1,
        )
    )
    turn.tell(run, SetPolicy(message=run.policy_message, version=run.policy_version))


def _with_checkpoint_rules_of(present: Policy, policy: Policy) -> Policy:
    """What to do about failed saves is said beside the checkpoints, not in the policy."""
    return replace(
        policy,
        checkpoint_action=present.checkpoint_action,
        max_checkpoint_failures=present.max_checkpoint_failures,
        max_checkpoint_age_s=present.max_checkpoint_age_s,
    )


def _trial_ended(turn: Turn, run: Run, event: PolicyTrialEnded) -> None:
    if run.trial is None:
        turn.ignore(run.id, event, f"no policy of run {run.id} is on trial")
    else:
        turn.put(run._replace(trial=None))


def _inject(turn: Turn, run: Run, event: InjectionRequested) -> None:
    if len(run.injections) >= MAX_INJECTIONS:
        turn.ignore(run.id, event, f"run {run.id} has {MAX_INJECTIONS} injections already")
        return
    if len(run.untold_injections) >= MAX_PENDING_INJECTIONS:
        reason = f"{MAX_PENDING_INJECTIONS} injections of run {run.id} have not happened yet"
        turn.ignore(run.id, event, reason)
        return
    armed = Armed(number=len(run.injections) + 1, injection=event.injection)
    run = turn.put(run._replace(injections=(*run.injections, armed)))
    turn.tell(run, Inject(armed=armed))


def _profile(turn: Turn, run: Run, event: ProfileRequested) -> None:
    """A newer request takes the place of one that waits; whoever waits for that finds out."""
    if run.state is not RunState.RUNNING or run.pausing or run.restarting:
        held = "about to hold" if run.state is RunState.RUNNING else run.state.value
        turn.ignore(run.id, event, f"run {run.id} is {held}: it makes no steps to profile")
        return
    profile = Profile(event.request_id, event.steps, event.directory)
    run = turn.put(run._replace(profile=profile))
    if run.trainer is not None:
        # Of a gang the first process shows what all of them do.
        turn.tell_one(run, run.trainer, TakeProfile(**profile._asdict()))
