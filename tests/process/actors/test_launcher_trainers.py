"""A launcher's trainers: started once, bound to the devices, ended, reaped, reported."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from fakes.launcher_process import launcher, open_descriptors, process_is_alive, wait_until
from fakes.trainer_scripts import (
    FAILS,
    LEAVES_A_PROCESS,
    ORPHANS,
    POLITE,
    SEGFAULTS,
    SHOWS_ITSELF,
    SLEEPER,
    STUBBORN,
)
from trainerd.v1 import launcher_pb2


def reason_of(error: grpc.RpcError) -> str:
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    assert info.domain == "trainerd"
    return info.reason


def refused(started, code: grpc.StatusCode, reason: str) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        started()
    assert (caught.value.code(), reason_of(caught.value)) == (code, reason)
    return caught.value.details()


def test_an_exit_code_is_reported_with_the_end_of_the_log():
    with launcher(FAILS) as host:
        watch = host.watch()
        assert not watch.hello.trainers
        host.start_trainer()
        (record,) = watch.wait_exits(1)
        assert (record.sequence, record.run, record.incarnation) == (1, "r-1", 1)
        assert (record.exited.exit_code, record.exited.signal) == (3, 0)
        assert not record.exited.killed_by_launcher
        assert record.exited.log_tail.splitlines() == [f"line {n}" for n in range(80, 100)]


def test_a_signal_is_reported_as_the_signal():
    with launcher(SEGFAULTS) as host:
        watch = host.watch()
        host.start_trainer()
        (record,) = watch.wait_exits(1)
        assert (record.exited.exit_code, record.exited.signal) == (-1, signal.SIGSEGV)
        assert not record.exited.killed_by_launcher


def test_somebody_elses_sigkill_is_not_the_launchers():
    with launcher(SLEEPER) as host:
        watch = host.watch()
        os.kill(host.start_trainer(), signal.SIGKILL)
        (record,) = watch.wait_exits(1)
        assert record.exited.signal == signal.SIGKILL
        assert not record.exited.killed_by_launcher


def test_a_trainer_that_saves_within_the_grace_exits_by_itself():
    with launcher(POLITE) as host:
        watch = host.watch()
        host.start_trainer()
        host.wait_log("ready")
        assert host.kill_trainer(grace_s=20)
        (record,) = watch.wait_exits(1)
        assert (record.exited.exit_code, record.exited.signal) == (0, 0)
        assert not record.exited.killed_by_launcher
        assert record.exited.log_tail.endswith("saved")


def test_after_the_grace_the_whole_group_is_killed():
    with launcher(STUBBORN) as host:
        watch = host.watch()
        pid = host.start_trainer()
        host.wait_log("ready")
        forked = int(host.log().split("ready ")[1].split()[0])
        assert host.kill_trainer(grace_s=0.2)
        (record,) = watch.wait_exits(1)
        assert record.exited.signal == signal.SIGKILL
        assert record.exited.killed_by_launcher
        assert "refused" in record.exited.log_tail
        assert not process_is_alive(pid)
        wait_until(lambda: not process_is_alive(forked), "the forked process's end")


def test_what_a_trainer_leaves_behind_in_its_group_is_ended_with_it():
    with launcher(LEAVES_A_PROCESS) as host:
        watch = host.watch()
        host.start_trainer()
        assert watch.wait_exits(1)[0].exited.exit_code == 0
        left = int(host.log().split("left ")[1])
        wait_until(lambda: not process_is_alive(left), "the end of what was left")


def test_without_a_grace_a_trainer_is_killed_at_once():
    with launcher(POLITE) as host:
        watch = host.watch()
        host.start_trainer()
        host.wait_log("ready")
        assert host.kill_trainer(grace_s=0)
        (record,) = watch.wait_exits(1)
        assert record.exited.killed_by_launcher
        assert "saved" not in host.log()


def test_a_later_and_milder_kill_does_not_delay_an_earlier_one():
    with launcher(STUBBORN) as host:
        watch = host.watch()
        host.start_trainer()
        host.wait_log("ready")
        assert host.kill_trainer(grace_s=0.2)
        assert host.kill_trainer(grace_s=600)
        assert watch.wait_exits(1)[0].exited.killed_by_launcher


def test_killing_what_does_not_live_finds_nothing():
    with launcher(SLEEPER) as host:
        pid = host.start_trainer(incarnation=2)
        assert not host.kill_trainer(incarnation=1)
        assert not host.kill_trainer(run="other")
        assert process_is_alive(pid)


def test_a_repeated_start_answers_with_the_same_process():
    with launcher(POLITE) as host:
        watch = host.watch()
        pid = host.start_trainer()
        assert host.start_trainer() == pid
        host.wait_log("ready")
        host.kill_trainer(grace_s=20)
        watch.wait_exits(1)
        assert host.start_trainer() == pid
        assert host.log().count("ready") == 1


def test_a_past_incarnation_is_not_started():
    with launcher(POLITE) as host:
        watch = host.watch()
        host.start_trainer(incarnation=2)
        host.wait_log("ready", incarnation=2)
        host.kill_trainer(incarnation=2, grace_s=20)
        watch.wait_exits(1)
        said = refused(
            lambda: host.start_trainer(incarnation=1),
            grpc.StatusCode.FAILED_PRECONDITION,
            "STALE_INCARNATION",
        )
        assert said == "incarnation 1 of r-1 is past: 2 was started"


def test_the_devices_take_one_trainer_at_a_time():
    with launcher(POLITE) as host:
        watch = host.watch()
        pid = host.start_trainer()
        host.wait_log("ready")
        said = refused(
            lambda: host.start_trainer("other"),
            grpc.StatusCode.FAILED_PRECONDITION,
            "DEVICES_BUSY",
        )
        assert f"incarnation 1 of r-1 (process {pid})" in said
        host.kill_trainer(grace_s=20)
        watch.wait_exits(1)
        assert host.start_trainer("other") != pid


def test_a_process_that_left_the_group_and_kept_the_lock_keeps_the_devices():
    with launcher(ORPHANS) as host:
        fifo = Path(f"{host.script}.fifo")
        os.mkfifo(fifo)
        watch = host.watch()
        host.start_trainer()
        host.wait_log("ready")
        host.wait_log("orphan")
        host.kill_trainer()
        watch.wait_exits(1)
        refused(
            lambda: host.start_trainer("other"),
            grpc.StatusCode.FAILED_PRECONDITION,
            "DEVICES_BUSY",
        )
        fifo.write_bytes(b"x")
        wait_until(lambda: _starts(host), "the devices to be free")
        # Its orphan would outlive the launcher.
        host.wait_log("orphan", "other")
        fifo.write_bytes(b"x")


def _starts(host) -> bool:
    try:
        return host.start_trainer("other") > 0
    except grpc.RpcError:
        return False


def test_orphans_become_the_launchers_children_and_are_reaped():
    with launcher(ORPHANS) as host:
        fifo = Path(f"{host.script}.fifo")
        os.mkfifo(fifo)
        watch = host.watch()
        host.start_trainer()
        host.wait_log("ready")
        host.wait_log("orphan")
        orphan = int(host.log().split("orphan ")[1].split()[0])
        parent = Path(f"/proc/{orphan}/stat").read_text().rpartition(")")[2].split()[1]
        assert int(parent) == host.pid
        fifo.write_bytes(b"x")
        wait_until(lambda: not Path(f"/proc/{orphan}").exists(), "the orphan to be reaped")
        # The orphan's exit code is nobody's exit record.
        assert watch.exits == []


def test_what_a_trainer_sees_is_built_and_the_token_is_nowhere_to_be_seen():
    with launcher(SHOWS_ITSELF, "--cpu-count", "2") as host:
        watch = host.watch()
        assignment = host.assignment()
        assignment.token = "t0p-s3cret"
        assignment.spec.trainer.env["MINE"] = "yes"
        assignment.spec.checkpoint.fallback_directory = "/elsewhere"
        os.environ["INHERITED"] = "no"
        host.start_trainer(assignment=assignment)
        watch.wait_exits(1)
        shown = json.loads(host.log())
        told = launcher_pb2.Assignment.FromString(bytes.fromhex(shown.pop("assignment")))
        assert "t0p-s3cret" not in json.dumps(shown)
        assert shown["group"]
        assert shown["locks"] == 1
        assert shown["directory"] == str(host.state / "runs" / "r-1")
        environment = shown["environment"]
        assert "INHERITED" not in environment
        assert environment["MINE"] == "yes"
        assert environment["JAX_PLATFORMS"] == "cpu"
        assert environment["XLA_FLAGS"] == "--xla_force_host_platform_device_count=2"
        assert told.token == "t0p-s3cret"
        assert told.launcher_pid == host.pid
        assert told.host == "testhost"
        assert told.orphan_grace_s == 86_400
        assert told.run_directory == str(host.state / "runs" / "r-1")
        assert told.checkpoint_directory == str(host.state / "runs" / "r-1" / "checkpoints")
        assert list(told.restore_directories) == ["/elsewhere/r-1"]


def test_an_assignment_larger_than_a_pipe_is_told_whole():
    with launcher(SHOWS_ITSELF) as host:
        watch = host.watch()
        assignment = host.assignment()
        assignment.spec.args["text"].string_value = "x" * 1_000_000
        host.start_trainer(assignment=assignment)
        watch.wait_exits(1)
        told = launcher_pb2.Assignment.FromString(
            bytes.fromhex(json.loads(host.log())["assignment"])
        )
        assert len(told.spec.args["text"].string_value) == 1_000_000


def test_a_runs_own_checkpoint_directory_gets_the_runs_id():
    with launcher(SHOWS_ITSELF) as host:
        watch = host.watch()
        assignment = host.assignment()
        assignment.spec.checkpoint.directory = "/data/checkpoints"
        host.start_trainer(assignment=assignment)
        watch.wait_exits(1)
        told = launcher_pb2.Assignment.FromString(
            bytes.fromhex(json.loads(host.log())["assignment"])
        )
        assert told.checkpoint_directory == "/data/checkpoints/r-1"


def test_what_no_new_try_can_mend_is_an_invalid_argument():
    cases = [
        ("python", "/nowhere/python", "no interpreter '/nowhere/python' on this host"),
        ("python", "/etc/passwd", "/etc/passwd is not"),
        ("python", "/bin/false", "/bin/false is not a working Python"),
        ("workdir", "/nowhere/at/all", "/nowhere/at/all does not exist on this host"),
        ("workdir", "relative", "must be absolute"),
    ]
    with launcher(SLEEPER) as host:
        for field, value, said in cases:
            assignment = host.assignment()
            setattr(assignment.spec.trainer, field, value)
            details = refused(
                lambda told=assignment: host.start_trainer(assignment=told),
                grpc.StatusCode.INVALID_ARGUMENT,
                "INVALID_SPECIFICATION",
            )
            assert f"trainer.{field}: " in details
            assert said in details
        assert not host.watch().hello.trainers


def test_a_python_without_trainerd_is_an_invalid_argument():
    with launcher(SLEEPER) as host:
        bare = host.root / "python"
        bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')
        bare.chmod(0o755)
        assignment = host.assignment()
        assignment.spec.trainer.python = str(bare)
        details = refused(
            lambda: host.start_trainer(assignment=assignment),
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_SPECIFICATION",
        )
        assert f"trainerd is not installed for {bare}" in details
        assert f"{bare} -m pip install trainerd" in details


def test_what_is_no_run_id_touches_no_file():
    with launcher(SLEEPER) as host:
        for run in ("", "../r", "r/..", "R", "-r", "r\n", "x" * 129):
            calls = (
                lambda run=run: host.start_trainer(run),
                lambda run=run: host.stub.RemoveRun(
                    launcher_pb2.RemoveRunRequest(run=run), timeout=20
                ),
                lambda run=run: host.stub.ReadLog(launcher_pb2.ReadLogRequest(run=run), timeout=20),
            )
            for call in calls:
                refused(call, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_RUN")


def test_many_trainers_leave_no_descriptor_and_no_child_behind():
    with launcher(SEGFAULTS) as host:
        watch = host.watch()
        host.start_trainer(incarnation=1)
        watch.wait_exits(1)
        before = open_descriptors(host.pid)
        for incarnation in range(2, 22):
            host.start_trainer(incarnation=incarnation)
            watch.wait_exits(incarnation)
        wait_until(lambda: open_descriptors(host.pid) <= before, "descriptors to be closed")
        children = Path(f"/proc/{host.pid}/task/{host.pid}/children").read_text()
        assert children.split() == []
