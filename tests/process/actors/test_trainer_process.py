"""Real trainer processes with the real loop, started by a real launcher, under a fake daemon."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fakes.daemon import FakeDaemon, fake_daemon
from fakes.launcher_process import LauncherProcess, launcher, wait_until
from trainerd.actors.trainer import codes
from trainerd.v1 import event_pb2, fault_pb2, launcher_pb2, trainer_pb2

pytestmark = pytest.mark.e2e

PROGRAMS = Path(__file__).resolve().parents[2] / "fakes"
TRAINER = "import runpy; runpy.run_module('trainerd.actors.trainer', run_name='__main__')"


@contextlib.contextmanager
def stage() -> Iterator[tuple[LauncherProcess, FakeDaemon]]:
    with fake_daemon() as daemon, launcher(TRAINER) as host:
        yield host, daemon


def assignment(
    host: LauncherProcess,
    daemon: FakeDaemon,
    function: str = "build",
    *,
    steps: int = 12,
    delay_s: float = 0.0,
    incarnation: int = 1,
    run: str = "r-1",
) -> launcher_pb2.Assignment:
    told = host.assignment(run, incarnation)
    told.attach_address, told.token = daemon.address, daemon.token
    told.spec.entry = f"toy_program:{function}"
    if delay_s:
        told.spec.args["delay_s"].double_value = delay_s
    told.spec.trainer.path.append(str(PROGRAMS))
    told.spec.train.steps, told.spec.train.global_batch = steps, 8
    told.spec.train.microbatch = 4
    told.spec.checkpoint.every_steps = 4
    return told


def decides(action: fault_pb2.Action):
    def answer(message: trainer_pb2.AttachRequest) -> trainer_pb2.AttachResponse | None:
        if not message.event.fault_raised.fault.awaits_decision:
            return None
        return trainer_pb2.AttachResponse(
            decision=fault_pb2.Decision(
                action=action, reason="the test says so", answers=message.envelope.sequence
            )
        )

    return answer


def wait_steps(daemon: FakeDaemon, step: int) -> None:
    wait_until(lambda: any(r.step >= step for r in daemon.step_reports), f"step {step}", 60)


def test_a_run_is_trained_to_its_end_and_every_report_arrives():
    with stage() as (host, daemon):
        watch = host.watch()
        host.start_trainer(assignment=assignment(host, daemon))
        (record,) = watch.wait_exits(1)
        assert record.exited.exit_code == codes.FINISHED, host.log()
        kinds = daemon.kinds()
        assert kinds[0] == "phase_entered"
        assert kinds[-1] == "trainer_finished"
        (finished,) = daemon.events("trainer_finished")
        assert finished.reason == event_pb2.FINISH_REASON_COMPLETED
        assert finished.durable
        assert (finished.result.step, finished.result.durable_step) == (12, 12)
        assert Path(finished.result.checkpoint).is_relative_to(host.state / "runs" / "r-1")
        assert [e.slots for e in daemon.events("slots_fixed")] == [2]
        assert sum(r.examples for r in daemon.step_reports) <= 12 * 8
        hello = daemon.streams[0].hello
        # The greeting is said before jax is imported.
        assert hello.phase in (fault_pb2.PHASE_SPAWN, fault_pb2.PHASE_INIT)
        assert hello.versions["jax"]


def test_a_killed_trainers_successor_ends_with_the_state_of_an_undisturbed_run():
    with stage() as (host, daemon):
        watch = host.watch()
        host.start_trainer(assignment=assignment(host, daemon, run="calm-1"))
        watch.wait_exits(1)
        host.start_trainer(assignment=assignment(host, daemon, delay_s=0.01))
        wait_until(lambda: len(daemon.events("checkpoint_saved")) > 3, "its first checkpoint", 60)
        host.kill_trainer()
        assert watch.wait_exits(2)[1].exited.signal == signal.SIGKILL
        host.start_trainer(assignment=assignment(host, daemon, incarnation=2))
        assert watch.wait_exits(3)[2].exited.exit_code == 0, host.log(incarnation=2)
        calm, disturbed = daemon.events("trainer_finished")
        assert calm.result.state_digest == disturbed.result.state_digest
        assert len(calm.result.state_digest) == 64
        assert daemon.events("state_restored")[-1].step >= 4


def test_sigterm_saves_and_ends_as_preempted():
    with stage() as (host, daemon):
        watch = host.watch()
        host.start_trainer(assignment=assignment(host, daemon, steps=100_000, delay_s=0.002))
        wait_steps(daemon, 2)
        host.kill_trainer(grace_s=60)
        assert watch.wait_exits(1)[0].exited.exit_code == 0
        (finished,) = daemon.events("trainer_finished")
        assert finished.reason == event_pb2.FINISH_REASON_PREEMPTED
        assert finished.durable
        assert finished.result.durable_step == finished.result.step


def test_pause_save_resume_and_stop_are_obeyed():
    with stage() as (host, daemon):
        watch = host.watch()
        host.start_trainer(assignment=assignment(host, daemon, steps=100_000, delay_s=0.002))
        wait_steps(daemon, 1)
        daemon.send(trainer_pb2.AttachResponse(pause=trainer_pb2.PauseTrainer()))
        daemon.wait_event("trainer_paused")
        daemon.send(
            trainer_pb2.AttachResponse(
                save_checkpoint=trainer_pb2.SaveCheckpoint(request_id="please")
            )
        )
        wait_until(
            lambda: any("please" in e.request_ids for e in daemon.events("checkpoint_saved")),
            "the save that was asked for",
        )
        daemon.send(trainer_pb2.AttachResponse(resume=trainer_pb2.ResumeTrainer()))
        resumed = daemon.wait_event("trainer_resumed")
        wait_steps(daemon, resumed.step + 1)
        stop = trainer_pb2.StopTrainer(save=False, reason=event_pb2.FINISH_REASON_STOPPED)
        daemon.send(trainer_pb2.AttachResponse(stop=stop))
        assert watch.wait_exits(1)[0].exited.exit_code == 0
        (finished,) = daemon.events("trainer_finished")
        assert finished.reason == event_pb2.FINISH_REASON_STOPPED


def test_training_goes_on_without_the_daemon_and_is_adopted_by_the_next():
    with stage() as (host, daemon):
        watch = host.watch()
        host.start_trainer(assignment=assignment(host, daemon, steps=100_000, delay_s=0.002))
        wait_steps(daemon, 1)
        daemon.stop()
        before = max(r.step for r in daemon.step_reports)
        daemon.start()
        hello = daemon.wait_streams(2).hello
        assert hello.phase == fault_pb2.PHASE_STEP
        assert hello.step >= before
        wait_steps(daemon, hello.step + 1)
        assert daemon.inbox.duplicates == 0
        host.kill_trainer(grace_s=60)
        watch.wait_exits(1)


@pytest.mark.parametrize(
    ("function", "message", "detail"),
    [
        ("raises", "toy_program:raises raised ValueError: no such width", "in raises"),
        ("exits", "the program raised SystemExit: 3", "in exits"),
        ("loses_a_key", "KeyError: 'nope'", "toy_program.py"),
    ],
)
def test_a_users_mistake_is_a_fault_with_the_users_traceback(function, message, detail):
    with stage() as (host, daemon):
        daemon.answers = decides(fault_pb2.ACTION_FAIL)
        watch = host.watch()
        host.start_trainer(assignment=assignment(host, daemon, function))
        (record,) = watch.wait_exits(1)
        assert record.exited.exit_code == codes.FAILED, host.log()
        (raised,) = daemon.events("fault_raised")
        assert getattr(raised.fault, "class") == fault_pb2.FAULT_CLASS_STEP_EXCEPTION
        assert raised.fault.message == message
        assert detail in raised.fault.detail
        assert "trainerd/actors" not in raised.fault.detail
        assert detail in host.log()
        (finished,) = daemon.events("trainer_finished")
        assert finished.reason == event_pb2.FINISH_REASON_DECIDED


def test_a_decision_to_restart_is_in_the_exit_code():
    with stage() as (host, daemon):
        daemon.answers = decides(fault_pb2.ACTION_RESTART)
        watch = host.watch()
        host.start_trainer(assignment=assignment(host, daemon, "raises"))
        assert watch.wait_exits(1)[0].exited.exit_code == codes.RESTART


def test_a_refused_trainer_ends_without_a_checkpoint():
    with stage() as (host, daemon):
        watch = host.watch()
        told = assignment(host, daemon, steps=100_000, delay_s=0.002)
        told.token = "of another incarnation"
        host.start_trainer(assignment=told)
        (record,) = watch.wait_exits(1)
        assert record.exited.exit_code == codes.REFUSED
        assert "refuses this trainer" in record.exited.log_tail
        assert daemon.journal == []
        assert not list((host.state / "runs" / "r-1" / "checkpoints").glob("*"))


def test_a_trainer_that_is_superseded_while_it_trains_ends_without_a_save():
    with stage() as (host, daemon):
        watch = host.watch()
        told = assignment(host, daemon, steps=100_000, delay_s=0.002)
        told.spec.checkpoint.every_steps = 100_000
        host.start_trainer(assignment=told)
        wait_steps(daemon, 1)
        daemon.refuses = (grpc.StatusCode.FAILED_PRECONDITION, "incarnation 1 is over")
        daemon.cut()
        assert watch.wait_exits(1)[0].exited.exit_code == codes.REFUSED
        assert not list((host.state / "runs" / "r-1" / "checkpoints").glob("*"))


def test_the_users_programs_inherit_neither_the_lock_nor_the_assignment():
    with stage() as (host, daemon):
        watch = host.watch()
        host.start_trainer(assignment=assignment(host, daemon, "looks_around"))
        watch.wait_exits(1)
        assert "standard input: /dev/null" in host.log()
        listed = next(line for line in host.log().splitlines() if "descriptors:" in line)
        assert ".lock" not in listed
        assert "assignment" not in listed


def test_a_trainer_dies_with_its_launcher_even_while_it_trains():
    with stage() as (host, daemon):
        pid = host.start_trainer(assignment=assignment(host, daemon, steps=100_000, delay_s=0.002))
        wait_steps(daemon, 1)
        host.sigkill()
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the trainer's end")


def test_a_trainer_whose_launcher_is_gone_already_does_nothing():
    told = launcher_pb2.Assignment(run="r-1", incarnation=1, launcher_pid=1)
    done = run_trainer(told.SerializeToString())
    assert done.returncode == codes.DEFECT
    assert "the launcher is gone already" in done.stderr


def test_an_unreadable_assignment_is_a_defect_with_a_traceback():
    done = run_trainer(b"\xff\xff")
    assert done.returncode == codes.DEFECT
    assert "Traceback" in done.stderr


def run_trainer(data: bytes) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "trainerd.actors.trainer"],
        input=data,
        capture_output=True,
        timeout=30,
        check=False,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, "", done.stderr.decode())
