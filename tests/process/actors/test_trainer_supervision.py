"""Real trainer processes under a fake daemon: drills, rollbacks, orders about policy and parts."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.daemon import FakeDaemon, fake_daemon
from fakes.launcher_process import LauncherProcess, launcher, wait_until
from trainerd.actors.trainer import codes
from trainerd.v1 import event_pb2, fault_pb2, incident_pb2, inject_pb2, launcher_pb2, trainer_pb2

pytestmark = pytest.mark.e2e

PROGRAMS = Path(__file__).resolve().parents[2] / "fakes"
TRAINER = "import runpy; runpy.run_module('trainerd.actors.trainer', run_name='__main__')"
STEPS = 14


@contextlib.contextmanager
def stage() -> Iterator[tuple[LauncherProcess, FakeDaemon]]:
    with fake_daemon() as daemon, launcher(TRAINER) as host:
        yield host, daemon


def assignment(
    host: LauncherProcess,
    daemon: FakeDaemon,
    *injections: inject_pb2.ArmedInjection,
    steps: int = STEPS,
    delay_s: float = 0.0,
    incarnation: int = 1,
    run: str = "r-1",
) -> launcher_pb2.Assignment:
    told = host.assignment(run, incarnation)
    told.attach_address, told.token = daemon.address, daemon.token
    told.spec.entry = "toy_program:build"
    if delay_s:
        told.spec.args["delay_s"].double_value = delay_s
    told.spec.trainer.path.append(str(PROGRAMS))
    told.spec.train.steps, told.spec.train.global_batch = steps, 8
    told.spec.train.microbatch = 4
    told.spec.checkpoint.every_steps = 4
    told.spec.policy.rollback_steps = 3
    told.spec.policy.non_finite_step.limit = 0
    told.injections.extend(injections)
    return told


def armed(fault: str, *, number: int = 1, **more: Any) -> inject_pb2.ArmedInjection:
    told = inject_pb2.Injection(fault=f"INJECTED_FAULT_{fault}", **more)
    return inject_pb2.ArmedInjection(number=number, injection=told)


def decides(
    action: fault_pb2.Action, **more: int
) -> Callable[[trainer_pb2.AttachRequest], trainer_pb2.AttachResponse | None]:
    def answer(message: trainer_pb2.AttachRequest) -> trainer_pb2.AttachResponse | None:
        if not message.event.fault_raised.fault.awaits_decision:
            return None
        decision = fault_pb2.Decision(
            action=action, reason="so", answers=message.envelope.sequence, **more
        )
        return trainer_pb2.AttachResponse(decision=decision)

    return answer


def left_out(back: event_pb2.RolledBack) -> incident_pb2.LedgerEntry:
    return incident_pb2.LedgerEntry(
        first_batch=back.first_batch,
        last_batch=back.last_batch,
        fault_class="non_finite_step",
        decision="skip",
    )


def finished(daemon: FakeDaemon) -> Any:
    return daemon.events("trainer_finished")[-1]


def test_a_run_goes_back_in_its_process_and_ends_like_one_that_left_it_out_from_the_start():
    with stage() as (host, daemon):
        watch = host.watch()
        daemon.answers = decides(fault_pb2.ACTION_ROLLBACK, rollback_steps=3)
        host.start_trainer(assignment=assignment(host, daemon, armed("NAN", step=10), delay_s=0.01))
        (record,) = watch.wait_exits(1)
        assert record.exited.exit_code == codes.FINISHED, host.log()
        (back,) = daemon.events("rolled_back")
        assert (back.from_step - 3, back.last_batch) >= (back.step, 9)
        assert back.first_batch == back.step
        assert getattr(back, "class") == fault_pb2.FAULT_CLASS_NON_FINITE_STEP
        kinds = daemon.kinds()
        after = kinds.index("rolled_back")
        assert kinds.index("fault_injected") < kinds.index("fault_raised") < after
        phases = [fault_pb2.Phase.Name(e.phase) for e in daemon.events("phase_entered")]
        assert phases.count("PHASE_COMPILE") == 1
        (tried,) = daemon.events("fault_injected")
        assert (tried.injection, tried.batch) == (1, back.last_batch)
        result = finished(daemon).result

        calm = assignment(host, daemon, run="calm")
        calm.ledger.append(left_out(back))
        host.start_trainer(assignment=calm)
        watch.wait_exits(2)
        assert finished(daemon).result.state_digest == result.state_digest


def test_a_kill_right_after_going_back_changes_nothing():
    with stage() as (host, daemon):
        watch = host.watch()
        daemon.answers = decides(fault_pb2.ACTION_ROLLBACK, rollback_steps=3)
        kill = armed("SIGKILL", number=2, step=1)
        told = assignment(host, daemon, armed("NAN", step=10), delay_s=0.01)

        def answer(message: trainer_pb2.AttachRequest) -> Any:
            if message.event.WhichOneof("payload") == "rolled_back":
                return trainer_pb2.AttachResponse(inject=kill)
            return decides(fault_pb2.ACTION_ROLLBACK, rollback_steps=3)(message)

        daemon.answers = answer
        host.start_trainer(assignment=told)
        (record,) = watch.wait_exits(1)
        assert record.exited.signal == signal.SIGKILL, host.log()
        (back,) = daemon.events("rolled_back")
        assert daemon.kinds()[-1] == "fault_injected"

        again = assignment(host, daemon, incarnation=2)
        again.ledger.append(left_out(back))
        host.start_trainer(assignment=again)
        assert watch.wait_exits(2)[1].exited.exit_code == codes.FINISHED
        result = finished(daemon).result
        calm = assignment(host, daemon, run="calm")
        calm.ledger.append(left_out(back))
        host.start_trainer(assignment=calm)
        watch.wait_exits(3)
        assert finished(daemon).result.state_digest == result.state_digest


@pytest.mark.parametrize(
    ("fault", "code", "number"),
    [
        ("SIGKILL", -1, signal.SIGKILL),
        ("SEGFAULT", -1, signal.SIGSEGV),
        ("EXIT", 42, 0),
    ],
)
def test_a_process_that_dies_on_purpose_has_said_so_and_does_not_die_of_it_again(
    fault: str, code: int, number: int
):
    with stage() as (host, daemon):
        watch = host.watch()
        told = assignment(host, daemon, armed(fault, step=6, exit_code=42))
        host.start_trainer(assignment=told)
        (record,) = watch.wait_exits(1)
        assert (record.exited.exit_code, record.exited.signal) == (code, number), host.log()
        (tried,) = daemon.events("fault_injected")
        again = assignment(host, daemon, armed(fault, step=6, exit_code=42), incarnation=2)
        again.injections[0].batches.append(tried.batch)
        host.start_trainer(assignment=again)
        assert watch.wait_exits(2)[1].exited.exit_code == codes.FINISHED


@pytest.mark.parametrize("fault", ["HANG", "HANG_GIL", "SIGSTOP"])
def test_a_process_that_hangs_on_purpose_does_not_go_on(fault: str):
    with stage() as (host, daemon):
        watch = host.watch()
        told = assignment(host, daemon, armed(fault, step=6), steps=100_000)
        host.start_trainer(assignment=told)
        daemon.wait_event("fault_injected", 60)
        host.kill_trainer(grace_s=0.5)
        assert watch.wait_exits(1)[0].exited.signal == signal.SIGKILL
        assert max(report.step for report in daemon.step_reports) <= 6


def test_without_a_journal_nothing_is_done_on_purpose():
    with stage() as (host, daemon):
        watch = host.watch()
        daemon.acknowledges = False
        told = assignment(host, daemon, armed("EXIT", step=2, exit_code=42), steps=3)
        host.start_trainer(assignment=told)
        wait_until(lambda: "was not journalled" in host.log(), "the drill to be left out", 60)
        daemon.acknowledges = True
        daemon.cut()
        assert watch.wait_exits(1)[0].exited.exit_code == codes.FINISHED, host.log()


def test_a_changed_policy_is_followed_by_a_live_trainer():
    with stage() as (host, daemon):
        watch = host.watch()
        told = assignment(host, daemon, steps=100_000, delay_s=0.002)
        told.spec.policy.non_finite_microbatch.limit = 1000
        host.start_trainer(assignment=told)
        wait_until(lambda: any(r.step >= 1 for r in daemon.step_reports), "a step", 60)
        policy = fault_pb2.Policy()
        policy.non_finite_microbatch.action = fault_pb2.ACTION_SKIP
        policy.non_finite_microbatch.limit = 1000
        order = trainer_pb2.SetPolicy(policy=policy, version=2)
        daemon.send(trainer_pb2.AttachResponse(set_policy=order))
        drill = armed("NAN", step=1, slots=[1], times=1000)
        daemon.send(trainer_pb2.AttachResponse(inject=drill))
        # The order to spoil a batch may arrive while the step before the change is dispatched.
        wait_until(
            lambda: any(e.fault.policy_version == 2 for e in daemon.events("fault_raised")),
            "a fault under the new policy",
            60,
        )
        raised = daemon.events("fault_raised")[-1].fault
        assert (raised.delegated, raised.policy_version) == (fault_pb2.ACTION_SKIP, 2)
        host.kill_trainer(grace_s=60)
        watch.wait_exits(1)


@pytest.mark.parametrize(("parts", "code"), [(2, codes.FINISHED), (3, codes.FAILED)])
def test_slots_are_computed_in_as_many_parts_as_the_daemon_says(parts: int, code: int):
    with stage() as (host, daemon):
        daemon.answers = decides(fault_pb2.ACTION_FAIL)
        watch = host.watch()
        told = assignment(host, daemon)
        told.slot_parts = parts
        host.start_trainer(assignment=told)
        assert watch.wait_exits(1)[0].exited.exit_code == code, host.log()
        messages = [e.fault.message for e in daemon.events("fault_raised")]
        assert any("in 3 equal parts" in message for message in messages) is (parts == 3)
