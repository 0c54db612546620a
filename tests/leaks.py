"""What a test must not leave behind: processes, threads, open files, servers, unfinished tasks.

Only what can be ours is counted. JAX, gRPC and Orbax keep threads and descriptors of their own for
as long as the process lives; those are neither files nor listening sockets nor in our modules.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import stat
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

GRACE_S = 5.0
"""How long a thing may take to end after its test; most need none of it."""

MARK = f"TRAINERD_TEST_SESSION={uuid.uuid4().hex}"
"""In the environment of every process that a test starts, however detached."""

_NOT_OUR_TASKS = ("tensorstore_spec=",)
"""Orbax reads the leaves of a checkpoint together and asks only the first failure for its reason;
the others are complained about whenever the collector finds them, in whatever test runs then."""

_LISTENING = {"unix": (5, "01"), "tcp": (3, "0A"), "tcp6": (3, "0A")}
_NOT_OURS = ("/proc/", "/sys/", "/memfd:", "/dev/", sys.prefix)
_INODE = {"unix": 6, "tcp": 9, "tcp6": 9}


@dataclass(frozen=True, slots=True, kw_only=True)
class Belongings:
    """What this process holds at one moment."""

    processes: dict[int, str]
    threads: dict[int, str]
    descriptors: dict[int, str]

    def beyond(self, earlier: Belongings) -> list[str]:
        """Say what is here that was not there earlier."""
        return [
            f"{kind}: {what}"
            for kind, now, then in (
                ("process", self.processes, earlier.processes),
                ("thread", self.threads, earlier.threads),
                ("descriptor", self.descriptors, earlier.descriptors),
            )
            for key, what in now.items()
            if then.get(key) != what
        ]


def mark_children() -> None:
    """Mark the environment that the processes of this session inherit."""
    name, _, value = MARK.partition("=")
    os.environ[name] = value


def belongings() -> Belongings:
    """Look at this process and at those that came from it."""
    return Belongings(processes=_processes(), threads=_threads(), descriptors=_descriptors())


def left_behind(earlier: Belongings) -> list[str]:
    """Return what is left after the grace beyond what there was; end the processes among it."""
    deadline_s = time.monotonic() + GRACE_S
    collected = False
    while True:
        now = belongings()
        left = now.beyond(earlier)
        if not left:
            return []
        if not collected:
            gc.collect()
            collected = True
        elif time.monotonic() > deadline_s:
            _end(now.processes.keys() - earlier.processes.keys())
            return left
        else:
            time.sleep(0.02)


class _Complaints(logging.Handler):
    """Keeps what asyncio says of tasks that nobody finished or asked for their exception."""

    def __init__(self) -> None:
        super().__init__(level=logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if any(mark in message for mark in _NOT_OUR_TASKS):
            return
        if "destroyed but it is pending" in message or "never retrieved" in message:
            self.messages.append(f"task: {message}")


@contextlib.contextmanager
def asyncio_complaints() -> Iterator[list[str]]:
    """Collect asyncio's complaints about forgotten tasks for as long as the context lasts."""
    handler = _Complaints()
    logger = logging.getLogger("asyncio")
    logger.addHandler(handler)
    try:
        yield handler.messages
    finally:
        logger.removeHandler(handler)


def _processes() -> dict[int, str]:
    found = {}
    mark, me = MARK.encode(), os.getpid()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == me:
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            marked = mark in (entry / "environ").read_bytes().split(b"\0")
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
        if (marked or parent == me) and "multiprocessing.resource_tracker" not in command:
            found[int(entry.name)] = f"{entry.name} {command or '(ended, not waited for)'}"
    return found


def _threads() -> dict[int, str]:
    found = {}
    for thread in threading.enumerate():
        target = getattr(thread, "_target", None)
        module = getattr(target, "__module__", None) or type(thread).__module__
        ours = module.startswith(("trainerd.", "fakes.", "test_", "unit.", "e2e."))
        if ours or thread.name.startswith("trainerd"):
            found[id(thread)] = f"{thread.name} in {module}"
    return found


def _descriptors() -> dict[int, str]:
    found = {}
    listening = _listening_sockets()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
            mode = os.stat(f"/proc/self/fd/{name}").st_mode
        except FileNotFoundError:
            continue
        if stat.S_ISSOCK(mode) and target in listening:
            found[int(name)] = f"listening {target}"
        elif stat.S_ISREG(mode) and not target.startswith(_NOT_OURS):
            found[int(name)] = target
    return found


def _listening_sockets() -> set[str]:
    found = set()
    for family, (column, state) in _LISTENING.items():
        try:
            lines = Path(f"/proc/self/net/{family}").read_text().splitlines()[1:]
        except FileNotFoundError:
            continue
        for fields in map(str.split, lines):
            # A listening Unix socket has __SO_ACCEPTCON among its flags and the state of any other.
            accepting = family != "unix" or fields[3] == "00010000"
            if fields[column] == state and accepting:
                found.add(f"socket:[{fields[_INODE[family]]}]")
    return found


def _end(pids: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
