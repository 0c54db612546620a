"""The launcher's children: every one is started, watched, signalled and reaped here.

The launcher is a *subreaper*: what its descendants leave behind becomes its child. So that no exit
status is ever taken by somebody else, nothing in this process uses asyncio's or subprocess's own
waiting; one SIGCHLD handler reaps everything.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from trainerd.actors.launcher.process_identity import is_ending

PR_SET_CHILD_SUBREAPER = 36
UNCLAIMED_LIMIT = 64
UNCLAIMED_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a process ended: `exit_code` is -1 and `signal` set if a signal ended it."""

    exit_code: int
    signal: int


@dataclass(slots=True, eq=False)
class Child:
    """A live child that leads a process group of its own. `ended` resolves when it is reaped."""

    pid: int
    pidfd: int
    ended: asyncio.Future[Ended]
    signals_sent: set[int] = field(default_factory=set)
    _kill_timer: asyncio.TimerHandle | None = None

    def terminate(self, grace_s: float) -> None:
        """SIGTERM to the process; SIGKILL to its group after `grace_s`, 0: at once.

        Of several calls the earliest SIGKILL stands.
        """
        if self._over():
            return
        if grace_s <= 0:
            self.kill()
            return
        self.signals_sent.add(signal.SIGTERM)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGTERM)
        loop = self.ended.get_loop()
        at_s = loop.time() + grace_s
        if self._kill_timer is None or at_s < self._kill_timer.when():
            self._stop_timer()
            self._kill_timer = loop.call_at(at_s, self.kill)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, one that does not end it."""
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        if self._over():
            return
        self.signals_sent.add(signal.SIGKILL)
        # Not reaped yet, so neither the process's number nor the group's can be another's.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def finish(self, ended: Ended) -> None:
        """The process is reaped."""
        self._stop_timer()
        os.close(self.pidfd)
        self.ended.set_result(ended)

    def _over(self) -> bool:
        """Whether it has ended, reaped or not, or does: what is sent now did not end it."""
        if self.ended.done():
            return True
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            ended = os.waitid(os.P_PIDFD, self.pidfd, flags) is not None
            return ended or is_ending(self.pid)
        except ChildProcessError:
            # Reaped by whoever is about to say so.
            return True

    def _stop_timer(self) -> None:
        if self._kill_timer is not None:
            self._kill_timer.cancel()


class Children:
    """Owns every child of this process. To be used from the event loop's (main) thread only."""

    def __init__(self) -> None:
        self._children: dict[int, Child] = {}
        # Ended before anybody claimed them: a child that a helper forked for us may be that fast.
        self._unclaimed: collections.OrderedDict[int, tuple[Ended, float]]
        self._unclaimed = collections.OrderedDict()

    def __len__(self) -> int:
        return len(self._children)

    def watch(self) -> None:
        """Become a subreaper and begin to reap."""
        become_subreaper()
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self.reap)
        self.reap()

    def spawn(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: str,
        stdin: int,
        stdout: int,
        stderr: int,
        inherited: Sequence[int] = (),
    ) -> Child:
        """Start a process in a group of its own, by exec. Raise OSError if it cannot start."""
        process = subprocess.Popen(
            list(argv),
            env=dict(environment),
            cwd=directory,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=tuple(inherited),
            process_group=0,
        )
        # Tells Popen that it has nothing to wait for: the reaper below owns the exit status.
        process.returncode = 0
        return self._own(process.pid)

    def claim(self, pid: int) -> Child:
        """Watch a child that somebody forked for this process; it must lead its process group.

        It may have ended already, but not longer than `UNCLAIMED_S` ago: the kernel gives its
        number to another process one day.
        """
        loop = asyncio.get_running_loop()
        ended, at_s = self._unclaimed.pop(pid, (None, 0.0))
        if ended is not None and loop.time() - at_s <= UNCLAIMED_S:
            child = Child(pid, -1, loop.create_future())
            child.ended.set_result(ended)
            return child
        return self._own(pid)

    def _own(self, pid: int) -> Child:
        self._unclaimed.pop(pid, None)
        child = Child(pid, os.pidfd_open(pid), asyncio.get_running_loop().create_future())
        self._children[pid] = child
        return child

    def reap(self) -> None:
        """Reap everything that has ended, adopted orphans included."""
        while (pid := _peek()) is not None:
            child = self._children.pop(pid, None)
            if child is not None:
                # While it is a zombie its group's number is its own: end what it left behind.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
            ended = _take(pid)
            if child is not None:
                child.finish(ended)
            else:
                self._unclaimed[pid] = (ended, asyncio.get_running_loop().time())
                while len(self._unclaimed) > UNCLAIMED_LIMIT:
                    self._unclaimed.popitem(last=False)


def become_subreaper() -> None:
    """Make this process the parent of its descendants' orphans. Raise OSError if refused."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) was refused")


def _peek() -> int | None:
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found is not None else None


def _take(pid: int) -> Ended:
    found = os.waitid(os.P_PID, pid, os.WEXITED)
    assert found is not None
    if found.si_code == os.CLD_EXITED:
        return Ended(exit_code=found.si_status, signal=0)
    return Ended(exit_code=-1, signal=found.si_status)
