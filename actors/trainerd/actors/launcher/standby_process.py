"""One standby process: started, asked to fork trainers, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path

from trainerd.actors.launcher.processes import Child, Children
from trainerd.actors.launcher.standby_key import Wanted
from trainerd.actors.standby import blas, messages
from trainerd.actors.standby.messages import Fork, Forked, Message, Prepare, Ready, Refused, Unfit

PREPARE_S = 300.0
"""Seconds in which a standby must have imported everything; it has little of the processor."""
FORK_S = 2.0
"""Seconds in which a standby must have forked; after that a new process is quicker."""


class StandbyLost(Exception):
    """The standby ended, does not answer, or answers nonsense."""


class StandbyProcess:
    """Owns a process and the socket to it. To be used from the event loop's thread."""

    def __init__(self, child: Child, link: socket.socket, wanted: Wanted) -> None:
        self.child, self.wanted = child, wanted
        self._link = link
        # Not earlier: whoever waits for its answer holds on to the descriptor's number.
        child.ended.add_done_callback(lambda _: link.close())

    @classmethod
    def start(cls, wanted: Wanted, children: Children, *, log: Path) -> StandbyProcess:
        """Start it and tell it what to prepare. Raise OSError if it cannot start."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        null = output = -1
        try:
            ours.setblocking(False)
            null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
            output = os.open(log, flags, 0o600)
            environment = dict(wanted.variables)
            child = children.spawn(
                _command(wanted, theirs.fileno(), environment.get(blas.LIMIT_VARIABLE)),
                # Its threads would outlive a fork only as a memory of locks they held.
                environment={**environment, blas.LIMIT_VARIABLE: "1"},
                directory=wanted.directory,
                stdin=null,
                stdout=output,
                stderr=output,
                inherited=(theirs.fileno(),),
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
            for descriptor in (null, output):
                if descriptor >= 0:
                    os.close(descriptor)
        made = cls(child, ours, wanted)
        with contextlib.suppress(OSError):  # it ended at once: the next question finds out
            ours.send(messages.encoded(Prepare(path=wanted.path, module=wanted.module)))
        return made

    async def prepared(self, timeout_s: float = PREPARE_S) -> Ready | Unfit:
        """Wait until everything is imported. Raise `StandbyLost`."""
        match await self._hear(timeout_s):
            case Ready() | Unfit() as answer:
                return answer
            case other:
                raise StandbyLost(f"it said {other} before it was ready")

    async def fork(
        self,
        incarnation: int,
        *,
        assignment: int,
        log: int,
        lock: int,
        children: Children,
        timeout_s: float = FORK_S,
    ) -> tuple[Child, Forked] | Refused:
        """Fork a trainer with these descriptors; it is a child of this process when this returns.

        Raise `StandbyLost`: then no trainer was started, nor will be.
        """
        asked = Fork(run=self.wanted.run, incarnation=incarnation, launcher_pid=os.getpid())
        # Whoever is forked does nothing before it has read a byte here; the end of file ends it.
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            try:
                socket.send_fds(
                    self._link, [messages.encoded(asked)], [assignment, log, lock, reading]
                )
            except OSError as error:
                raise StandbyLost(f"it cannot be asked: {error}") from error
            finally:
                os.close(reading)
            match await self._hear(timeout_s):
                case Refused() as answer:
                    return answer
                case Forked() as answer:
                    return _claimed(answer, writing, children), answer
                case other:
                    raise StandbyLost(f"it said {other} instead of forking")
        finally:
            os.close(writing)

    def end(self) -> None:
        """End it at once; what it forked lives on."""
        self.child.kill()

    async def _hear(self, timeout_s: float) -> Message:
        try:
            async with asyncio.timeout(timeout_s):
                data = await asyncio.get_running_loop().sock_recv(self._link, messages.MAX_BYTES)
            return messages.decoded(data)
        except TimeoutError:
            raise StandbyLost(f"it did not answer within {timeout_s:g} s") from None
        except (OSError, ValueError) as error:
            raise StandbyLost(f"it ended, or said nonsense: {error}") from error


def _claimed(answer: Forked, consent: int, children: Children) -> Child:
    try:
        child = children.claim(answer.pid)
    except OSError as error:
        raise StandbyLost(f"process {answer.pid} is not there: {error}") from error
    try:
        os.write(consent, b"1")
    except OSError as error:
        child.kill()
        raise StandbyLost(f"process {answer.pid} ended: {error}") from error
    return child


def _command(wanted: Wanted, descriptor: int, limit: str | None) -> list[str]:
    command = [wanted.python, "-m", "trainerd.actors.standby", "--run", wanted.run]
    command += ["--incarnation", "next", "--launcher", str(os.getpid())]
    command += ["--socket", str(descriptor)]
    return command if limit is None else [*command, "--blas-threads", limit]
