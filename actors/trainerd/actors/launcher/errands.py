"""Errands: short processes in the user's Python that are told something and answer once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainerd.actors.launcher.processes import Child, Children, Ended
from trainerd.actors.launcher.tail_pipe import TailPipe

MAX_ANSWER_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """How an errand ended (None: it was ended here, at its deadline), its answer, and the end of
    what it wrote to standard error."""

    ended: Ended | None
    answer: bytes
    said: str


class Errands:
    """Runs errands, each in a process group of its own, and ends those that run."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._running: set[Child] = set()

    async def run(
        self,
        argv: Sequence[str],
        *,
        told: bytes,
        environment: Mapping[str, str],
        directory: str,
        timeout_s: float,
        inherited: Sequence[int] = (),
    ) -> Errand:
        """Run `argv` with `told` on its standard input; its standard output is the answer.

        Killed at the deadline, and when the caller is cancelled. Raise OSError if it cannot start.
        """
        # Files in memory, not pipes: neither side ever blocks on the other.
        stdin = os.memfd_create("told", os.MFD_CLOEXEC)
        stdout = os.memfd_create("answer", os.MFD_CLOEXEC)
        errors = TailPipe()
        try:
            with os.fdopen(os.dup(stdin), "wb") as stream:
                stream.write(told)
            os.lseek(stdin, 0, os.SEEK_SET)
            try:
                child = self._children.spawn(
                    argv,
                    environment=environment,
                    directory=directory,
                    stdin=stdin,
                    stdout=stdout,
                    stderr=errors.writing,
                    inherited=inherited,
                )
            finally:
                errors.close_writing()
            ended = await self._ended(child, timeout_s)
            answer = os.pread(stdout, MAX_ANSWER_BYTES, 0)
        finally:
            os.close(stdin)
            os.close(stdout)
            said = errors.close()
        return Errand(ended=ended, answer=answer, said=said)

    def kill(self) -> None:
        """End the errands that run."""
        for child in self._running:
            child.kill()

    async def _ended(self, child: Child, timeout_s: float) -> Ended | None:
        self._running.add(child)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(child.ended)
        except TimeoutError:
            return None
        finally:
            child.kill()
            self._running.discard(child)
