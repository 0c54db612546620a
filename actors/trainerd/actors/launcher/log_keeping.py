"""Keeps trainers' logs within bounds, while their programs go on writing.

A program writes straight into its file, as fast as the file system takes it: there is no pipe whose
reader could be late, so that a talkative program never waits for its launcher. Twice a second
whoever has written too much loses the oldest of it.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog

from trainerd.actors.launcher.logs import read_base, remove_log, write_base
from trainerd.actors.launcher.runs import RunFiles

PERIOD_S = 0.5
ALL_EVERY = 20
"""Every so many looks a run's logs are looked at together."""
MOST_LOGS = 500
"""Logs of one run: a run that crashes for ever must not fill the disk with small files."""
_BLOCK = 4096
_STAT_BLOCK = 512
_KEEP_SIZE_PUNCH_HOLE = 0x01 | 0x02
_NO_HOLES = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)

Punch = Callable[[int, int], None]
"""Frees so many bytes from the beginning of a file, which keeps its size. Raises OSError."""

_log = structlog.get_logger("trainerd.launcher")


def punch(descriptor: int, length: int) -> None:
    """Make a hole of the first `length` bytes of an open file. Raise OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    offset_type = ctypes.c_int64
    arguments = (descriptor, _KEEP_SIZE_PUNCH_HOLE, offset_type(0), offset_type(length))
    if libc.fallocate(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def bound_log(path: Path, most_bytes: int, *, make_hole: Punch = punch) -> int:
    """Cut the oldest from a log that takes more than `most_bytes`; half of that stays.

    Return how many bytes of it are gone by now. Somebody may write to it. Raise OSError.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        found = os.fstat(descriptor)
        if found.st_blocks * _STAT_BLOCK <= most_bytes:
            return 0
        gone = (found.st_size - most_bytes // 2) // _BLOCK * _BLOCK
        if gone <= 0:
            return 0
        try:
            make_hole(descriptor, gone)
        except OSError as error:
            if error.errno not in _NO_HOLES:
                raise
            # Whoever appends goes on at the beginning. The offsets go on as well.
            gone = read_base(path) + found.st_size
            write_base(path, gone)
            os.ftruncate(descriptor, 0)
        return gone
    finally:
        os.close(descriptor)


def bound_run(files: RunFiles, most_bytes: int, *, alive: int) -> list[int]:
    """Remove the oldest logs of a run that take too much together; never that of `alive`.

    Return their incarnations. Raise OSError.
    """
    newest_first = sorted(files.incarnations(), reverse=True)
    total, removed = 0, []
    for place, incarnation in enumerate(newest_first):
        path = files.log(incarnation)
        total += os.stat(path).st_blocks * _STAT_BLOCK
        if incarnation != alive and place and (total > most_bytes or place >= MOST_LOGS):
            remove_log(path)
            removed.append(incarnation)
    return removed


class LogKeeper:
    """Looks after the logs of the trainers that live; `living` says which, as (run, incarnation).

    A log takes at most `most_bytes` and what its program writes in half a second, the logs of one
    run together at most `run_bytes` and that.
    """

    def __init__(
        self,
        state: Path,
        living: Callable[[], Iterable[tuple[str, int]]],
        *,
        most_bytes: int,
        run_bytes: int,
    ) -> None:
        self._state, self._living = state, living
        self._most_bytes, self._run_bytes = most_bytes, run_bytes
        self._told: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Look until cancelled."""
        looks = 0
        while True:
            trainers = list(self._living())
            if trainers:
                await asyncio.to_thread(self.look, trainers, together=looks % ALL_EVERY == 0)
                looks += 1
            await asyncio.sleep(PERIOD_S)

    def look(self, trainers: Iterable[tuple[str, int]], *, together: bool) -> None:
        """Bring the logs of these trainers within their bounds; what cannot be done is logged."""
        for run, incarnation in trainers:
            files = RunFiles.of(self._state, run)
            try:
                gone = bound_log(files.log(incarnation), self._most_bytes)
                if gone and (run, "") not in self._told:
                    self._told.add((run, ""))
                    _log.info("log_cut", run=run, incarnation=incarnation, gone_bytes=gone)
                if together:
                    bound_run(files, self._run_bytes, alive=incarnation)
            except OSError as error:
                if (run, str(error)) not in self._told and len(self._told) < MOST_LOGS:
                    self._told.add((run, str(error)))
                    _log.warning("log_not_bounded", run=run, error=str(error))
