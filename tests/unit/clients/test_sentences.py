"""Every event becomes a sentence that tells what it holds."""

from __future__ import annotations

from typing import Any

import pytest

from trainerd.clients.sentences import (
    decision_text,
    fault_sentence,
    injection_text,
    kind_of,
    sentence,
)
from trainerd.v1 import event_pb2, fault_pb2, inject_pb2, run_pb2

Event = event_pb2.Event

PAYLOADS = Event.DESCRIPTOR.oneofs_by_name["payload"].fields


def a_fault(**fields: Any) -> fault_pb2.Fault:
    fault = fault_pb2.Fault(message="it broke", step=7, batch=9, **fields)
    setattr(fault, "class", fault_pb2.FAULT_CLASS_CRASH)
    return fault


def a_change() -> event_pb2.RunStateChanged:
    change = event_pb2.RunStateChanged(to=run_pb2.RUN_STATE_RUNNING, reason="trains")
    setattr(change, "from", run_pb2.RUN_STATE_STARTING)
    return change


EXAMPLES: dict[str, tuple[Any, str]] = {
    "daemon_started": (
        event_pb2.DaemonStarted(version="1.2", pid=5),
        "the daemon started (trainerd 1.2, pid 5)",
    ),
    "launcher_attached": (
        event_pb2.LauncherAttached(pid=6, trainers=[event_pb2.LiveTrainer()]),
        "the launcher is linked (pid 6, 1 trainer)",
    ),
    "launcher_lost": (
        event_pb2.LauncherLost(reason="gone"),
        "the link to the launcher is lost: gone",
    ),
    "run_submitted": (
        event_pb2.RunSubmitted(
            spec=run_pb2.RunSpec(entry="a:b", train=run_pb2.TrainSpec(steps=4000, global_batch=32))
        ),
        "submitted: a:b, 4,000 steps of 32",
    ),
    "pause_requested": (event_pb2.PauseRequested(), "a pause was asked for"),
    "resume_requested": (event_pb2.ResumeRequested(), "going on was asked for"),
    "stop_requested": (
        event_pb2.StopRequested(save=True),
        "a stop was asked for, after a checkpoint",
    ),
    "checkpoint_requested": (event_pb2.CheckpointRequested(), "a checkpoint was asked for"),
    "restart_requested": (event_pb2.RestartRequested(), "a restart was asked for"),
    "run_deleted": (event_pb2.RunDeleted(), "the deletion of the run was asked for"),
    "profile_requested": (
        event_pb2.ProfileRequested(steps=3),
        "a profile of 3 steps was asked for",
    ),
    "profiled": (
        event_pb2.Profiled(step=1201, steps=3, path="/r/profiles/1201"),
        "a profile of 3 steps from step 1,201 on is in /r/profiles/1201",
    ),
    "policy_changed": (
        event_pb2.PolicyChanged(trial=True),
        "another policy was put on trial: what it would decide is recorded, nothing else",
    ),
    "policy_trial_ended": (event_pb2.PolicyTrialEnded(), "the trial of a policy was ended"),
    "injection_requested": (
        event_pb2.InjectionRequested(
            injection=inject_pb2.Injection(
                fault=inject_pb2.INJECTED_FAULT_NAN, step=1500, slots=[0, 2], times=3
            )
        ),
        "a fault was asked for: nan in slots 0, 2 at step 1,500, at most 3 times",
    ),
    "fault_injected": (
        event_pb2.FaultInjected(
            injection=2, step=49, batch=1051, fault=inject_pb2.INJECTED_FAULT_DATA_ERROR
        ),
        "on purpose (injection 2): data error at step 49, batch 1,051",
    ),
    "progressed": (
        event_pb2.Progressed(step=1120),
        "a snapshot holds step 1,120: recoveries count anew",
    ),
    "rolled_back": (
        event_pb2.RolledBack(
            **{"class": fault_pb2.FAULT_CLASS_LOSS_SPIKE},
            from_step=1120,
            step=1100,
            first_batch=1101,
            last_batch=1121,
            source="/c/1100",
        ),
        "rolled back from step 1,120 to step 1,100 for loss_spike: /c/1100; "
        "batches 1,101 to 1,121 are left out from now on",
    ),
    "trainer_spawned": (
        event_pb2.TrainerSpawned(pid=8, warm=True),
        "trainer 2 started from the standby (pid 8)",
    ),
    "daemon_ended": (event_pb2.DaemonEnded(), "the daemon ended"),
    "journal_recovered": (
        event_pb2.JournalRecovered(refused=3, duration_s=61, problem="disk full"),
        "the journal can be written again; it could not be for 1 min 01 s, 3 events refused: "
        "disk full",
    ),
    "files_removed": (
        event_pb2.FilesRemoved(memory_only=True),
        "what of the run lay in memory is removed",
    ),
    "host_joined": (
        event_pb2.HostJoined(address="ipv4:10.0.0.2:5", software="1.2"),
        "the host joined from ipv4:10.0.0.2:5 (trainerd 1.2)",
    ),
    "host_lost": (event_pb2.HostLost(reason="gone"), "the link to the host is lost: gone"),
    "host_drained": (event_pb2.HostDrained(), "draining the host was asked for"),
    "host_undrained": (event_pb2.HostUndrained(), "undraining the host was asked for"),
    "coordinator_started": (
        event_pb2.CoordinatorStarted(address="a:5000", pid=7),
        "the gang meets at a:5000",
    ),
    "standby_prepared": (
        event_pb2.StandbyPrepared(problem="the launcher is draining"),
        "a trainer would start cold there: the launcher is draining",
    ),
    "coordinator_failed": (
        event_pb2.CoordinatorFailed(message="no port is free"),
        "the gang's meeting place could not be made: no port is free",
    ),
    "member_gone": (
        event_pb2.MemberGone(waited_s=3.1, deadline_s=3),
        "nothing was heard of the host for 3.1 s while its gang stood still; 3 s are allowed",
    ),
    "first_loss_heard": (
        event_pb2.FirstLossHeard(step=1, loss=5.545),
        "the first loss, at step 1: 5.5450",
    ),
    "trainer_spawn_failed": (
        event_pb2.TrainerSpawnFailed(message="no python", permanent=True),
        "the trainer could not be started: no python; another try is useless",
    ),
    "trainer_attached": (
        event_pb2.TrainerAttached(phase=fault_pb2.PHASE_FIRST_STEP, step=3, dropped_reports=2),
        "trainer 2 attached in phase first step at step 3; 2 reports lost",
    ),
    "trainer_detached": (
        event_pb2.TrainerDetached(reason="reset"),
        "the trainer detached: reset",
    ),
    "trainer_exited": (
        event_pb2.TrainerExited(exit_code=-1, signal=9, killed_by_launcher=True),
        "trainer 2 was killed by its launcher with SIGKILL",
    ),
    "phase_entered": (
        event_pb2.PhaseEntered(phase=fault_pb2.PHASE_COMPILE, step=0),
        "the trainer is in phase compile at step 0",
    ),
    "slots_fixed": (event_pb2.SlotsFixed(slots=4), "a batch is cut into 4 slots"),
    "state_restored": (
        event_pb2.StateRestored(step=50, batch=51, source="/c/50"),
        "restored step 50 (next batch 51) from /c/50",
    ),
    "evaluated": (
        event_pb2.Evaluated(evaluation=run_pb2.Evaluation(step=5, metrics={"b": 2, "a": 1})),
        "evaluation at step 5: a 1.0000, b 2.0000",
    ),
    "checkpoint_saved": (
        event_pb2.CheckpointSaved(
            step=50, path="/c/50", bytes=12_340_000, blocked_s=0.013, duration_s=0.42
        ),
        "checkpoint of step 50 is durable (12.3 MB in 0.42 s, training waited 0.013 s): /c/50",
    ),
    "checkpoints_verified": (
        event_pb2.CheckpointsVerified(
            scrub=True,
            sound=2,
            rejected=[
                event_pb2.RejectedCheckpoint(
                    step=1200, path="/c/1200.damaged", reason="digest_mismatch", problem="d differs"
                ),
                event_pb2.RejectedCheckpoint(
                    step=-1, path="/f", reason="io_error", problem="/f cannot be read"
                ),
            ],
            duration_s=3.0,
        ),
        "checkpoints verified by the scrub, in 3 s: 2 checkpoints sound; step 1,200: "
        "digest_mismatch: d differs; /f: io_error: /f cannot be read",
    ),
    "fault_raised": (
        event_pb2.FaultRaised(fault=a_fault(delegated=fault_pb2.ACTION_SKIP)),
        "fault: crash at step 7, batch 9: it broke; the trainer's own rule: skip",
    ),
    "trainer_paused": (event_pb2.TrainerPaused(step=5), "the trainer holds at step 5"),
    "trainer_resumed": (event_pb2.TrainerResumed(step=5), "the trainer goes on from step 5"),
    "trainer_finished": (
        event_pb2.TrainerFinished(
            reason=event_pb2.FINISH_REASON_COMPLETED,
            result=run_pb2.RunResult(step=400),
            durable=True,
        ),
        "the trainer finished (completed) at step 400; its state is durable",
    ),
    "timer_fired": (event_pb2.TimerFired(key="backoff"), "the timer backoff fired"),
    "deadline_expired": (
        event_pb2.DeadlineExpired(phase=fault_pb2.PHASE_STEP, deadline_s=60, waited_s=61),
        "no progress in phase step for 1 min 01 s (deadline 1 min 00 s)",
    ),
    "decision_made": (
        event_pb2.DecisionMade(
            fault=a_fault(),
            decision=fault_pb2.Decision(
                action=fault_pb2.ACTION_RESTART, scope="process", delay_s=2, reason="1 of 20"
            ),
        ),
        "decision on crash: restart the process in 2 s: 1 of 20",
    ),
    "run_state_changed": (a_change(), "starting → running: trains"),
    "event_ignored": (
        event_pb2.EventIgnored(kind="trainer_exited", reason="it is of incarnation 1"),
        "ignored trainer_exited: it is of incarnation 1",
    ),
}


@pytest.mark.parametrize("kind", [field.name for field in PAYLOADS])
def test_every_event_has_a_sentence(kind: str) -> None:
    payload, wanted = EXAMPLES[kind]
    event = Event(sequence=3, incarnation=2, **{kind: payload})
    assert kind_of(event) == kind
    assert sentence(event) == wanted


def test_of_which_host_something_is_comes_first() -> None:
    event = Event(host="b", trainer_detached=event_pb2.TrainerDetached(reason="cut"))

    assert sentence(event) == "b: the trainer detached: cut"


@pytest.mark.parametrize("kind", [field.name for field in PAYLOADS])
def test_an_event_without_details_has_one_too(kind: str) -> None:
    event = Event()
    getattr(event, kind).SetInParent()
    assert sentence(event)


@pytest.mark.parametrize(
    ("kind", "payload", "wanted"),
    [
        ("stop_requested", event_pb2.StopRequested(), "without a checkpoint"),
        ("run_state_changed", event_pb2.RunStateChanged(to=run_pb2.RUN_STATE_QUEUED), "queued"),
        ("trainer_exited", event_pb2.TrainerExited(exit_code=3), "exited with code 3"),
        ("trainer_exited", event_pb2.TrainerExited(signal=11), "was killed with SIGSEGV"),
        ("trainer_exited", event_pb2.TrainerExited(signal=99), "signal 99"),
        ("state_restored", event_pb2.StateRestored(source="init"), "a new state was made"),
        ("trainer_finished", event_pb2.TrainerFinished(), "its state is not durable"),
    ],
)
def test_a_sentence_says_which_of_several_ways(kind: str, payload: Any, wanted: str) -> None:
    told = sentence(Event(**{kind: payload}))
    assert wanted in told
    assert "unspecified →" not in told


def test_an_event_of_a_newer_daemon_is_said_to_be_one() -> None:
    assert sentence(Event(sequence=7)) == (
        "something newer than this trainerctl happened (record 7)"
    )


def test_a_fault_of_a_newer_daemon_and_foreign_text_stay_one_clean_line() -> None:
    fault = a_fault(reason="no_space")
    setattr(fault, "class", 77)
    fault.message = "bad\x1b[2J\nthings\x07"
    assert fault_sentence(fault) == "77 (no_space) at step 7, batch 9: bad[2J things"


@pytest.mark.parametrize(
    ("injection", "text"),
    [
        ({"fault": "INJECTED_FAULT_HANG_GIL"}, "hang gil at the next step"),
        ({"fault": "INJECTED_FAULT_NAN", "slots": [3], "step": 9}, "nan in slot 3 at step 9"),
        ({"fault": "INJECTED_FAULT_EXIT", "exit_code": 7, "step": 2}, "exit with code 7 at step 2"),
        (
            {"fault": "INJECTED_FAULT_SLOW_STEP", "seconds": 2, "probability": 0.25, "times": 10},
            "slow step of 2 s at each step with probability 0.25, at most 10 times",
        ),
    ],
)
def test_an_injection_says_what_happens_when(injection: dict[str, Any], text: str) -> None:
    assert injection_text(inject_pb2.Injection(**injection)) == text


def test_decisions_say_how_far_back_and_in_how_many_parts() -> None:
    back = fault_pb2.Decision(
        action=fault_pb2.ACTION_ROLLBACK, scope="process", rollback_steps=20, reason="spent"
    )
    split = fault_pb2.Decision(
        action=fault_pb2.ACTION_RESTART, scope="process", slot_parts=2, delay_s=1, reason="oom"
    )

    assert decision_text(back) == "roll back by at least 20 updates: spent"
    assert decision_text(split) == "restart the process in 1 s, each slot in 2 parts: oom"


def test_a_decision_on_trial_is_said_to_be_one() -> None:
    decision = fault_pb2.Decision(action=fault_pb2.ACTION_FAIL, scope="run", reason="why")
    made = event_pb2.DecisionMade(fault=a_fault(), decision=decision, trial=True)

    assert sentence(Event(decision_made=made)) == (
        "the policy on trial would have decided on crash: fail the run: why"
    )


def test_a_deletion_by_rule_and_a_profile_that_failed_say_why() -> None:
    reason = "aged out: it ended 90.0 days ago, kept are 30; 120 runs ended later, kept are 100"
    deleted = event_pb2.RunDeleted(reason=reason)
    assert sentence(event_pb2.Event(run_deleted=deleted)) == reason
    failed = event_pb2.Profiled(problem="no space left")
    assert sentence(event_pb2.Event(profiled=failed)) == "no profile was taken: no space left"
