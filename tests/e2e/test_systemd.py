"""The services under a real systemd: started, hung, killed, reloaded, drained, sandboxed.

One machine for all tests here; each leaves the services as it found them: running.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from e2e.host import eventually
from e2e.machine import Machine, why_not
from e2e.services import (
    BOTH,
    DAEMON,
    LAUNCHER,
    completed,
    events,
    installed,
    restarts,
    said,
    spec,
    stop_run,
    trains,
)
from trainerd.v1 import event_pb2, run_pb2

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(bool(why := why_not()), reason=why)]


def test_they_serve_when_they_are_started_and_the_same_install_does_nothing(
    here: Machine, wheel: Path
) -> None:
    assert all(here.is_active(unit) for unit in (DAEMON, LAUNCHER, BOTH))
    assert "nothing to do" in installed(here, wheel, "--enable")
    for _ in range(3):
        here.run("systemctl", "restart", DAEMON)
        # It is ready when `systemctl` says so: nobody tries twice.
        with here.client() as client:
            client.daemon()


def test_each_socket_and_each_state_has_its_own_users(here: Machine) -> None:
    command = ["stat", "--format=%a %U %G %n"]
    places = (
        *("/run/trainerd", "/run/trainerd/trainerd.sock"),
        *("/run/trainerd-link", "/run/trainerd-link/attach.sock"),
        *("/run/trainerd-launcher", "/run/trainerd-launcher/launcher.sock"),
        *("/var/lib/trainerd", "/var/lib/trainerd-launcher"),
    )
    assert here.run(*command, *places).stdout.splitlines() == [
        "750 trainerd trainerd /run/trainerd",
        "660 trainerd trainerd /run/trainerd/trainerd.sock",
        "2750 trainerd trainerd-launcher /run/trainerd-link",
        "660 trainerd trainerd-launcher /run/trainerd-link/attach.sock",
        "2750 trainerd-launcher trainerd-daemon /run/trainerd-launcher",
        "660 trainerd-launcher trainerd-daemon /run/trainerd-launcher/launcher.sock",
        "700 trainerd trainerd /var/lib/trainerd",
        "700 trainerd-launcher trainerd-launcher /var/lib/trainerd-launcher",
    ]


def test_a_killed_daemon_costs_no_step(here: Machine, run: str) -> None:
    before, count = trains(here, run), restarts(here)
    here.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", DAEMON)
    eventually("systemd starts it again", lambda: restarts(here) == count + 1)
    eventually("it serves", lambda: here.is_active(DAEMON))
    after = trains(here, run, beyond=before.step + 20)

    assert (after.pid, after.incarnation) == (before.pid, before.incarnation)
    assert after.restarts == before.restarts
    status = re.compile(r"long running, step [\d,]+ of 100,000(, .* steps/s)?")
    eventually("its status", lambda: status.fullmatch(here.shows(DAEMON, "StatusText")))


def test_a_daemon_that_hangs_is_ended_and_the_next_adopts(here: Machine, run: str) -> None:
    drop_in = here.root / "etc/systemd/system/trainerd.service.d/watchdog.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\nWatchdogSec=2\n")
    try:
        here.run("systemctl", "daemon-reload")
        here.run("systemctl", "restart", DAEMON)
        before, count = trains(here, run), restarts(here)
        # It lives well beyond its time as long as it gets on.
        alive = here.main_pid(DAEMON)
        trains(here, run, beyond=before.step + 150)
        assert here.main_pid(DAEMON) == alive
        here.run("systemctl", "kill", "--signal=STOP", "--kill-whom=main", DAEMON)
        eventually("systemd starts it again", lambda: restarts(here) == count + 1)
        eventually("it serves", lambda: here.is_active(DAEMON))
        after = trains(here, run, beyond=before.step + 170)
        assert (after.pid, after.incarnation) == (before.pid, before.incarnation)
        assert "Watchdog timeout" in here.journal(500, "-u", DAEMON)
    finally:
        drop_in.unlink()
        here.run("systemctl", "daemon-reload")
        here.run("systemctl", "restart", DAEMON)


def test_a_reload_takes_what_can_change_and_a_bad_file_changes_nothing(here: Machine) -> None:
    path = here.root / "etc/trainerd/trainerd.toml"
    shipped, pid = path.read_text(), here.main_pid(DAEMON)
    good = shipped.replace('level = "info"', 'level = "debug"').replace(":9469", ":9470")
    assert good != shipped
    before = len(said(here, DAEMON, "configuration_reloaded"))

    def reloads(count: int) -> None:
        what = "it has reloaded"
        eventually(what, lambda: len(said(here, DAEMON, "configuration_reloaded")) == count)

    try:
        path.write_text(good)
        here.run("systemctl", "reload", DAEMON)
        reloads(before + 1)
        assert said(here, DAEMON, "configuration_reloaded")[-1]["changed"] == ["log.level"]
        assert said(here, DAEMON, "configuration_needs_restart")[-1]["keys"] == ["metrics.address"]

        path.write_text(good.replace('level = "debug"', 'level = "loud"\nshout = true'))
        refused = here.run("systemctl", "reload", DAEMON, check=False)
        assert refused.returncode != 0
        here.run("systemctl", "kill", "--signal=HUP", "--kill-whom=main", DAEMON)
        eventually(
            "the mistakes are told", lambda: said(here, DAEMON, "configuration_not_reloaded")
        )
        problems = said(here, DAEMON, "configuration_not_reloaded")[-1]["problems"]
        assert len(list(problems)) == 2  # type: ignore[call-overload]
        # In the journal each line has its own priority.
        errors = here.journal(50, "-u", DAEMON, "-p", "err", "-o", "cat")
        assert "configuration_not_reloaded" in errors
        assert "configuration_reloaded" not in errors
    finally:
        path.write_text(shipped)
        here.run("systemctl", "reload", DAEMON)
        reloads(before + 2)
    eventually("systemd knows it is over", lambda: here.is_active(DAEMON))
    assert here.main_pid(DAEMON) == pid


def test_stopping_both_saves_and_a_start_goes_on_from_there(here: Machine, run: str) -> None:
    before = trains(here, run)
    here.run("systemctl", "stop", LAUNCHER, DAEMON)
    assert here.shows(LAUNCHER, "Result") == "success"
    assert not any(here.is_active(unit) for unit in (DAEMON, LAUNCHER))
    here.run("systemctl", "start", BOTH)
    after = trains(here, run, beyond=before.step)

    saved = events(here, run, "checkpoint_saved")[-1].checkpoint_saved
    finished = events(here, run, "trainer_finished")[-1].trainer_finished
    restored = events(here, run, "state_restored")[-1].state_restored
    assert saved.step >= before.step
    assert finished.durable
    assert finished.reason == event_pb2.FINISH_REASON_PREEMPTED
    assert saved.step == finished.result.step == restored.step
    assert after.incarnation == before.incarnation + 1
    assert after.restarts == before.restarts


def test_a_daemon_that_was_stopped_first_charges_nobody_for_it(here: Machine, run: str) -> None:
    before = trains(here, run)
    here.run("systemctl", "stop", DAEMON)
    here.run("systemctl", "stop", LAUNCHER)
    here.run("systemctl", "start", BOTH)
    after = trains(here, run, beyond=before.step)

    assert after.incarnation == before.incarnation + 1
    assert after.restarts == before.restarts
    assert events(here, run, "trainer_exited")[-1].trainer_exited.drained
    assert events(here, run, "state_restored")[-1].state_restored.step >= before.step


def test_stopping_waits_for_a_trainer_longer_than_the_unit_would(here: Machine, run: str) -> None:
    stop_run(here, run)
    drop_in = here.root / f"etc/systemd/system/{LAUNCHER}.d/short.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\nTimeoutStopSec=1\n")
    try:
        here.run("systemctl", "daemon-reload")
        with here.client() as client:
            # A batch takes 2.4 s: so long it may be until the trainer hears that it is to save.
            slow = client.submit_run(spec("slow", pace_s=0.15), skip_program_check=True).run.id
        before = trains(here, slow)
        here.run("systemctl", "stop", LAUNCHER)
        assert here.shows(LAUNCHER, "Result") == "success"
        saved = eventually("it has saved", lambda: events(here, slow, "checkpoint_saved"))
        assert saved[-1].checkpoint_saved.step >= before.step  # type: ignore[index]
    finally:
        drop_in.unlink()
        here.run("systemctl", "daemon-reload")
        here.run("systemctl", "start", LAUNCHER)
    stop_run(here, slow)


def test_a_killed_launcher_comes_back_and_finds_the_snapshots(here: Machine, run: str) -> None:
    before = eventually("it has a snapshot", lambda: snapped(here, run))
    assert isinstance(before, run_pb2.Run)
    here.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", LAUNCHER)
    after = eventually("another trainer", lambda: newer(here, run, before.incarnation))
    assert isinstance(after, run_pb2.Run)

    restored = events(here, run, "state_restored")[-1].state_restored
    assert restored.source.startswith("/dev/shm/")
    assert restored.step >= before.snapshot_step


def test_a_program_reaches_nothing_that_is_not_its_own(here: Machine, run: str) -> None:
    stop_run(here, run)
    daemon = here.main_pid(DAEMON)
    with here.client() as client:
        tried = spec("reaching", program="reaching", steps=3, daemon=daemon)
        reaching = client.submit_run(tried).run.id
    done = eventually("it is done", lambda: completed(here, reaching))
    assert done
    place = here.root / f"var/lib/trainerd-launcher/runs/{reaching}/reached.json"
    reached = json.loads(place.read_text())

    allowed = {what for what, how in reached.items() if how == "done"}
    assert allowed == {
        "write in /tmp",
        "write in its own folder",
        "reach the attach socket",
    }, reached
    # Its /tmp is its own.
    assert not (here.root / "tmp/was-here").exists()


def test_the_daemon_may_write_its_own_folders_and_no_others(here: Machine) -> None:
    inside = ["nsenter", "-t", str(here.main_pid(DAEMON)), "-m", "setpriv", "--reuid=trainerd"]
    inside += ["--regid=trainerd", "--clear-groups", "touch"]
    for place in ("/var/lib/trainerd", "/run/trainerd", "/run/trainerd-link"):
        here.run(*inside, f"{place}/was-here")
        (here.root / place.lstrip("/") / "was-here").unlink()
    for place in ("/etc", "/var/lib", "/var/lib/trainerd-launcher", "/run", "/opt/trainerd"):
        assert here.run(*inside, f"{place}/was-here", check=False).returncode != 0
    # Root itself could not: it is the mount that refuses.
    refused = here.run(*inside[:4], "touch", "/etc/was-here", check=False)
    assert "Read-only file system" in refused.stderr


def test_the_launchers_user_has_no_way_to_the_daemon(here: Machine) -> None:
    as_launcher = ["setpriv", "--reuid=trainerd-launcher", "--regid=trainerd-launcher"]
    as_launcher += ["--init-groups"]
    status = here.run(*as_launcher, "/usr/local/bin/trainerctl", "list", check=False)
    assert status.returncode == 6, status
    as_operator = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--groups=trainerd"]
    here.run(*as_operator, "/usr/local/bin/trainerctl", "list")
    directly = here.run(*as_operator, "ls", "/run/trainerd-launcher", check=False)
    assert directly.returncode != 0


def snapped(here: Machine, run: str) -> run_pb2.Run | None:
    now = trains(here, run)
    return now if now.snapshot_step > 0 else None


def newer(here: Machine, run: str, incarnation: int) -> run_pb2.Run | None:
    now = here.get(run)
    trained = now.state == run_pb2.RUN_STATE_RUNNING and now.incarnation > incarnation
    return now if trained and now.attached else None
