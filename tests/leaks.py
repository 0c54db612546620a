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
import socket
import stat
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

GRACE_S = 5.0
"""How long a thing may take to end after its test; most need none of it."""

BEGINNING_S = 0.1
"""How long the kernel may take between a process's exec and its environment."""

MARK = f"TRAINERD_TEST_SESSION={uuid.uuid4().hex}"
"""In the environment of every process that a test starts, however detached."""

_NOT_OUR_TASKS = ("tensorstore_spec=",)
"""Orbax reads the leaves of a checkpoint together and asks only the first failure for its reason;
the others are complained about whenever the collector finds them, in whatever test runs then."""

_OUR_MODULES = ("trainerd.", "fakes.", "test_", "unit.", "training.", "process.", "e2e.")
_NOT_OURS = ("/proc/", "/sys/", "/memfd:", "/dev/", sys.prefix)


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


def unmarked() -> dict[str, str]:
    """An environment for a child that outlives its test, and for all that come from it.

    Whoever owns them sees to their end. The child itself is named to `outlives`.
    """
    name, _, _ = MARK.partition("=")
    return {key: value for key, value in os.environ.items() if key != name}


def outlives(pid: int) -> None:
    """A child of this process is not the test's that starts it."""
    _OUTLIVING.add(pid)


_OUTLIVING: set[int] = set()


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
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == me:
            continue
        try:
            parent, started = _kinship(name)
            if _STRANGERS.get(name) == started:
                continue
            environment, command = _begun(name)
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
        if (parent != me and mark not in environment) or int(name) in _OUTLIVING:
            continue
        if "multiprocessing.resource_tracker" not in command:
            found[int(name)] = f"{name} {command or '(ended, not waited for)'}"
    return found


def _begun(pid: str) -> tuple[list[bytes], str]:
    """Return a process's environment and command; both are empty at first, even after its exec."""
    deadline_s = time.monotonic() + BEGINNING_S
    while True:
        environment = _read(f"/proc/{pid}/environ")
        command = _read(f"/proc/{pid}/cmdline")
        if environment or command or time.monotonic() > deadline_s or _has_ended(pid):
            text = command.replace(b"\0", b" ").decode(errors="replace")
            return environment.split(b"\0"), text
        time.sleep(0.001)


def _has_ended(pid: str) -> bool:
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[0] in b"ZX"


def _kinship(pid: str) -> tuple[int, bytes]:
    """Return a process's parent, and when it started, in the kernel's ticks."""
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return int(fields[1]), fields[19]


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.readall()


def _strangers() -> dict[str, bytes]:
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, PermissionError, ProcessLookupError):
            found[name] = _kinship(name)[1]
    return found


_STRANGERS = _strangers()
"""Processes that were there before the first test, with their starting times: no test's."""


def _threads() -> dict[int, str]:
    found = {}
    for thread in threading.enumerate():
        target = getattr(thread, "_target", None)
        module = getattr(target, "__module__", None) or type(thread).__module__
        ours = module.startswith(_OUR_MODULES)
        if ours or thread.name.startswith("trainerd"):
            found[id(thread)] = f"{thread.name} in {module}"
    return found


def _descriptors() -> dict[int, str]:
    found = {}
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
            if target.startswith("socket:"):
                if _listens(number):
                    found[number] = f"listening {target}"
            elif not target.startswith(_NOT_OURS) and stat.S_ISREG(os.fstat(number).st_mode):
                found[number] = target
        except OSError:
            continue  # another thread has closed it
    return found


def _listens(descriptor: int) -> bool:
    borrowed = socket.socket(fileno=descriptor)
    try:
        return borrowed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) != 0
    finally:
        borrowed.detach()


def _end(pids: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
