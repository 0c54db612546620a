"""The launcher's own life: one at a time, ends with its trainers, and what the next one tells."""

from __future__ import annotations

import json
import os
import signal
import subprocess

from fakes.launcher_process import launcher, process_is_alive, wait_until
from fakes.trainer_scripts import POLITE, SLEEPER, STUBBORN
from trainerd.actors.launcher import process_identity


def test_sigterm_lets_trainers_save_and_ends_the_launcher():
    with launcher(POLITE) as host:
        watch = host.watch()
        pid = host.start_trainer()
        host.wait_log("ready")
        assert host.terminate() == 0
        assert not process_is_alive(pid)
        (record,) = watch.wait_exits(1)
        assert record.exited.exit_code == 0
        wait_until(watch.ended.is_set, "the stream's end")
        assert watch.error is None
        assert not host.socket.exists()


def test_sigint_does_the_same():
    with launcher(POLITE) as host:
        host.start_trainer()
        host.wait_log("ready")
        host.process.send_signal(signal.SIGINT)
        assert host.process.wait(20) == 0
        assert "saved" in host.log()


def test_a_trainer_that_does_not_end_within_the_launchers_grace_is_killed():
    with launcher(STUBBORN, "--grace-s", "0.2") as host:
        watch = host.watch()
        pid = host.start_trainer()
        host.wait_log("ready")
        assert host.terminate() == 0
        assert not process_is_alive(pid)
        assert watch.wait_exits(1)[0].exited.killed_by_launcher


def test_no_trainer_outlives_its_launcher():
    with launcher(SLEEPER) as host:
        pid = host.start_trainer()
        host.wait_log("ready")
        host.sigkill()
        wait_until(lambda: not process_is_alive(pid), "the trainer's end")


def test_the_next_launcher_reports_the_trainers_that_died_with_the_last():
    with launcher(SLEEPER) as host:
        host.start_trainer(incarnation=4)
        host.wait_log("ready", incarnation=4)
        first = host.watch().hello.instance
        host.sigkill()
        host.start()
        watch = host.watch()
        assert watch.hello.instance != first
        assert not watch.hello.trainers
        (record,) = watch.wait_exits(1)
        assert (record.run, record.incarnation) == ("r-1", 4)
        assert (record.exited.exit_code, record.exited.signal) == (-1, signal.SIGKILL)
        assert record.exited.log_tail.startswith("ready")
        assert "launcher of this trainer died" in record.exited.log_tail
        host.start_trainer(incarnation=5)


def test_a_trainer_that_survived_its_launcher_is_killed_by_the_next():
    script = SLEEPER.replace("prctl(1, signal.SIGKILL", "prctl(1, 0")
    assert script != SLEEPER
    with launcher(script) as host:
        pid = host.start_trainer()
        host.wait_log("ready")
        host.sigkill()
        assert process_is_alive(pid)
        host.start()
        assert not process_is_alive(pid)
        assert host.watch().wait_exits(1)[0].incarnation == 1


def test_another_process_with_the_same_number_is_left_alone():
    with launcher(SLEEPER) as host:
        host.terminate()
        bystander = subprocess.Popen(["sleep", "60"])
        try:
            record = {"run": "r-1", "incarnation": 1, "pid": bystander.pid, "started": 1}
            (host.state / "live.json").write_text(
                json.dumps({"boot": process_identity.boot_id(), "trainers": [record]})
            )
            host.start()
            assert host.watch().wait_exits(1)[0].run == "r-1"
            assert bystander.poll() is None
        finally:
            bystander.kill()
            bystander.wait()


def test_exit_records_are_told_again_until_they_are_acknowledged():
    with launcher("import sys; sys.exit(5)") as host:
        watch = host.watch()
        for incarnation in (1, 2):
            host.start_trainer(incarnation=incarnation)
            watch.wait_exits(incarnation)
        assert len(host.watch().wait_exits(2)) == 2
        host.sigkill()
        host.start()
        assert [r.sequence for r in host.watch().wait_exits(2)] == [1, 2]
        assert [r.sequence for r in host.watch(after_sequence=1).wait_exits(1)] == [2]
        host.sigkill()
        host.start()
        assert [r.sequence for r in host.watch().wait_exits(1)] == [2]


def test_a_start_repeated_after_the_launchers_death_starts_nothing():
    with launcher(SLEEPER) as host:
        pid = host.start_trainer()
        host.wait_log("ready")
        host.sigkill()
        host.start()
        assert host.start_trainer() == pid
        assert not host.watch().hello.trainers


def test_a_second_launcher_on_the_same_state_directory_is_refused():
    with launcher(SLEEPER) as host:
        command = host.command()
        command[command.index(str(host.socket))] = str(host.root / "other.sock")
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 4
        assert f"another launcher (process {host.pid}) uses {host.state}" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_second_launcher_on_the_same_socket_is_refused_and_the_first_keeps_it():
    with launcher(SLEEPER) as host:
        command = host.command()
        command[command.index(str(host.state))] = str(host.root / "other")
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 4
        assert f"another process listens on {host.socket}" in done.stderr
        assert host.watch().hello.pid == host.pid


def test_the_socket_of_a_dead_launcher_is_replaced():
    with launcher(SLEEPER) as host:
        host.sigkill()
        assert host.socket.exists()
        host.start()
        assert host.watch().hello.pid == host.pid


def test_a_file_in_the_sockets_place_is_not_removed():
    with launcher(SLEEPER) as host:
        host.terminate()
        host.socket.write_text("precious")
        done = subprocess.run(
            host.command(), capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 2
        assert "is not a socket" in done.stderr
        assert host.socket.read_text() == "precious"


def test_the_socket_is_for_the_launchers_user_alone():
    with launcher(SLEEPER) as host:
        assert host.socket.stat().st_mode & 0o777 == 0o600


def test_an_unknown_socket_group_is_one_clear_line():
    with launcher(SLEEPER) as host:
        host.terminate()
        command = [*host.command(), "--socket-group", "no-such-group"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 2
        assert "no group 'no-such-group' on this host" in done.stderr


def test_a_launcher_whose_log_nobody_reads_any_more_goes_on():
    with launcher(SLEEPER) as host:
        host.terminate()
        reading, writing = os.pipe()
        host.process = subprocess.Popen(
            host.command(), stdin=subprocess.DEVNULL, stdout=writing, stderr=writing
        )
        os.close(writing)
        os.close(reading)
        host.connect()
        watch = host.watch()
        host.start_trainer()
        host.wait_log("ready")
        host.kill_trainer()
        assert len(watch.wait_exits(1)) == 1
