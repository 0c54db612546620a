"""Installing on a real machine: a user's own Python, an upgrade without a lost step, removal."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

import pytest

from e2e.host import eventually
from e2e.machine import REPOSITORY, Machine, why_not
from e2e.services import (
    DAEMON,
    INSTALL,
    LAUNCHER,
    completed,
    events,
    installed,
    spec,
    stop_run,
    story,
    trains,
)

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(bool(why := why_not()), reason=why)]


def test_a_users_own_python_needs_trainerd_and_is_used(
    here: Machine, wheel: Path, run: str
) -> None:
    stop_run(here, run)
    here.run("/usr/bin/python3", "-m", "venv", "--system-site-packages", "/srv/own")
    own = spec("own", steps=3)
    own.trainer.python = "/srv/own/bin/python"
    with here.client() as client:
        problems = client.check_run(own).problems
        assert [problem.field for problem in problems] == ["trainer.python"]
        assert problems[0].suggestion == "/srv/own/bin/python -m pip install trainerd"
        place = f"/tmp/{wheel.name}"
        here.run("/srv/own/bin/python", "-m", "pip", "install", "-q", "--no-deps", place)
        submitted = client.submit_run(own).run.id
    assert eventually("it is done", lambda: completed(here, submitted))


def test_an_upgrade_restarts_the_daemon_and_costs_no_step(
    here: Machine, wheel: Path, run: str, tmp_path: Path
) -> None:
    before, launcher = trains(here, run), here.main_pid(LAUNCHER)
    first = os.readlink(here.root / "opt/trainerd/current")
    told = installed(here, changed(wheel, tmp_path / wheel.name), "--enable")
    second = os.readlink(here.root / "opt/trainerd/current")
    after = trains(here, run, beyond=before.step + 20)

    assert second != first
    assert "trainerd-launcher goes on with the version it was started from" in told
    assert here.main_pid(LAUNCHER) == launcher
    assert (after.pid, after.incarnation) == (before.pid, before.incarnation)
    command = here.run("cat", f"/proc/{here.main_pid(DAEMON)}/cmdline").stdout
    assert f"/opt/trainerd/{second}/bin/python" in command
    # What the launcher runs from stays, however often the version changes.
    installed(here, changed(wheel, tmp_path / "third" / wheel.name, "three"))
    kept = {path.name for path in (here.root / "opt/trainerd/versions").iterdir()}
    assert {Path(first).name, Path(second).name} < kept


def changed(wheel: Path, target: Path, how: str = "two") -> Path:
    """A wheel that differs in a comment."""
    target.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(target, "w") as made:
        for item in source.infolist():
            content = source.read(item)
            if item.filename == "trainerd/v1/mailbox.py":
                content += f"\n# {how}\n".encode()
            made.writestr(item, content)
    return target


def test_a_backup_that_is_restored_goes_on_where_it_was_made(here: Machine, run: str) -> None:
    """The commands of installing.md."""
    before = trains(here, run)
    for line in commands("Backing up, restoring, moving"):
        here.run("sh", "-c", f"cd /tmp; {line}")
    after = trains(here, run, beyond=before.step)

    assert after.incarnation == before.incarnation + 1, story(here, run)
    assert events(here, run, "state_restored")[-1].state_restored.step >= before.step


def commands(heading: str) -> list[str]:
    """The commands of a section of installing.md, one after the other."""
    text = (REPOSITORY / "ops/docs/installing.md").read_text()
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return [line.partition("  #")[0] for block in blocks for line in block.splitlines()]


def test_uninstalling_keeps_the_state_and_purging_leaves_nothing(
    here: Machine, wheel: Path, run: str
) -> None:
    before = trains(here, run)
    here.run(INSTALL, "--uninstall")
    assert not here.run("systemctl", "cat", DAEMON, check=False).stdout
    assert not (here.root / "opt/trainerd").exists()
    assert (here.root / "var/lib/trainerd/journal.sqlite").exists()

    installed(here, wheel, "--enable")
    after = trains(here, run, beyond=before.step)
    assert after.incarnation == before.incarnation + 1, story(here, run)
    restored = events(here, run, "state_restored")[-1].state_restored.step
    assert restored >= before.step, story(here, run)

    stop_run(here, run)
    here.run(INSTALL, "--uninstall", "--purge")
    places = ("/etc", "/opt", "/usr/local", "/var", "/run", "/dev/shm")
    found = here.run("find", *places, "-xdev", "-name", "*trainerd*").stdout.splitlines()
    assert not [path for path in found if not Path(path).exists()]
    assert "trainerd" not in (here.root / "etc/passwd").read_text()
    assert "trainerd" not in (here.root / "etc/group").read_text()
    commands = [path.read_bytes() for path in (here.root / "proc").glob("[0-9]*/cmdline")]
    assert not [command for command in commands if b"/opt/trainerd/" in command]
    # As they were.
    installed(here, wheel, "--enable")
