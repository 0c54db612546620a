"""Tries, as a user's program may, what it must not do; writes what came of it beside its run."""

import json
import os
import socket

import tiny


def _tried(action) -> str:
    try:
        action()
    except OSError as error:
        return os.strerror(error.errno)
    return "done"


def _connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(2)
        sock.connect(path)


def _write(path: str) -> None:
    with open(path, "w") as file:
        file.write("x")


def build(daemon: int, pace_s: float = 0.0):
    attempts = {
        "write /etc": lambda: _write("/etc/trainerd-was-here"),
        "write /usr": lambda: _write("/usr/trainerd-was-here"),
        "write the program": lambda: _write("/opt/trainerd/current/was-here"),
        "read the journal": lambda: open("/var/lib/trainerd/journal.sqlite").close(),
        "list the keys": lambda: os.listdir("/var/lib/trainerd"),
        "reach the control socket": lambda: _connect("/run/trainerd/trainerd.sock"),
        "replace the control socket": lambda: _write("/run/trainerd/other.sock"),
        "replace the attach socket": lambda: _write("/run/trainerd-link/other.sock"),
        "become root": lambda: os.setuid(0),
        "signal the daemon": lambda: os.kill(daemon, 0),
        "make a device": lambda: os.mknod("/tmp/disk", 0o060666, os.makedev(8, 0)),
        "write in /home": lambda: _write("/home/ada-was-here"),
        # What it may.
        "write in /tmp": lambda: _write("/tmp/was-here"),
        "write in its own folder": lambda: _write("was-here"),
        "reach the attach socket": lambda: _connect("/run/trainerd-link/attach.sock"),
    }
    with open("reached.json", "w") as file:
        json.dump({what: _tried(action) for what, action in attempts.items()}, file)
    return tiny.build(pace_s=pace_s)
