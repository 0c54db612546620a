"""What an installation leaves with the system: units, users, directories, configuration."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from places import (
    CONFIGURATIONS,
    GROUPS,
    RUNTIME,
    SOURCE,
    STATE,
    UNITS,
    USERS,
    Places,
)
from work import Work, run, say


def install(places: Places, work: Work) -> bool:
    """Write the system's files; return whether any changed. A configuration is never changed."""
    changed = [work.copy(source, target) for target, source in places.system_files().items()]
    for document in sorted((SOURCE / "ops/docs").glob("*.md")):
        work.copy(document, places.documents / document.name)
    for path, leads_to in places.commands().items():
        work.link(path, leads_to)
    for name in CONFIGURATIONS:
        shipped = SOURCE / "ops/systemd" / name
        work.copy(shipped, places.documents / f"example.{name}")
        if not (places.configuration / name).exists():
            work.copy(shipped, places.configuration / name)
    return any(changed)


def tell_system(places: Places, work: Work, *, enable: bool, changed: bool, switched: bool) -> None:
    """Make users and directories, and have systemd take what is new. Never on a staged root."""
    if places.staged:
        say("staged: on the system itself run systemd-sysusers, systemd-tmpfiles --create and")
        say("  systemctl daemon-reload")
        return
    if changed:
        work.run("make the users and groups", ["systemd-sysusers", "trainerd.conf"])
        if system_is_up():
            create = ["systemd-tmpfiles", "--create", "trainerd.conf"]
            work.run("make the directories", create)
            work.run("have systemd read its units", ["systemctl", "daemon-reload"])
    if enable and not all(is_enabled(unit) for unit in UNITS):
        work.run("enable the services", ["systemctl", "--quiet", "enable", *UNITS])
    if not system_is_up():
        return
    if changed or switched:
        # The launcher and its trainers go on as they are: nothing of a run is lost.
        work.run("restart the daemon", ["systemctl", "try-restart", "trainerd.service"])
        if switched and is_active("trainerd-launcher.service"):
            say("trainerd-launcher goes on with the version it was started from; when its trainers")
            say("  may save and start anew: systemctl restart trainerd-launcher")
    if enable and not all(is_active(unit) for unit in UNITS):
        work.run("start the services", ["systemctl", "start", "trainerd.target"])


def remove(places: Places, work: Work, *, purge: bool) -> None:
    """Stop the services, remove what was installed; with `purge` also state, settings and users."""
    if not places.staged:
        stop = ["systemctl", "--quiet", "disable", *UNITS]
        if any(path.exists() for path in places.system_files()):
            if system_is_up():
                # The launcher first: the daemon hears that its trainers have saved.
                work.run("stop the services", ["systemctl", "stop", *reversed(UNITS)])
            work.run("disable the services", stop, may_fail=True)
    for path in places.system_files():
        work.remove(path)
    for path, leads_to in places.commands().items():
        if path.is_symlink() and os.readlink(path) == leads_to:
            work.remove(path)
    for name in CONFIGURATIONS:
        path = places.configuration / name
        if path.exists() and (purge or _as_shipped(path)):
            work.remove(path)
    if purge:
        work.remove(places.configuration)
    work.remove_empty(places.configuration)
    work.remove(places.program)
    for directory in RUNTIME:
        work.remove(places.root / directory)
    if purge:
        for directory in STATE:
            work.remove(places.root / directory)
    else:
        kept = [f"/{each}" for each in STATE if (places.root / each).exists()]
        if kept:
            say(f"kept: {', '.join(kept)}, their users, and a configuration that was edited")
    if not places.staged:
        if system_is_up():
            work.run("have systemd read its units", ["systemctl", "daemon-reload"])
        if purge:
            _remove_users(work)


def system_is_up() -> bool:
    """Whether systemd runs here; in a chroot or a container it may not."""
    return Path("/run/systemd/system").is_dir()


def is_active(unit: str) -> bool:
    """Whether a unit runs."""
    return run(["systemctl", "show", "--property=ActiveState", "--value", unit]).strip() == "active"


def is_enabled(unit: str) -> bool:
    """Whether a unit starts with the machine."""
    command = ["systemctl", "is-enabled", unit]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip() == "enabled"


def _as_shipped(path: Path) -> bool:
    return path.read_bytes() == (SOURCE / "ops/systemd" / path.name).read_bytes()


def _remove_users(work: Work) -> None:
    for user in USERS:
        if number := _named("/etc/passwd").get(user):
            work.remove(Path(f"/dev/shm/trainerd-{number}"))  # noqa: S108 - memory snapshots
            work.run(f"remove the user {user}", ["userdel", user])
    for group in GROUPS:
        # With a user goes its own group.
        if group in _named("/etc/group"):
            work.run(f"remove the group {group}", ["groupdel", group])


def _named(path: str) -> dict[str, str]:
    """The numbers of the users, or the groups, by their names."""
    lines = Path(path).read_text().splitlines()
    return {fields[0]: fields[2] for fields in (line.split(":") for line in lines)}
