"""The owner of the standby: there is at most one, for the run that trains, trained, or is to."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from trainerd.actors.launcher.processes import Child, Children
from trainerd.actors.launcher.standby_key import Wanted
from trainerd.actors.launcher.standby_process import (
    FORK_S,
    PREPARE_S,
    StandbyLost,
    StandbyProcess,
)
from trainerd.actors.standby import stamps
from trainerd.actors.standby.messages import Forked, Ready, Refused, Unfit

QUIET_S = 3.0
"""Seconds after a trainer's start in which no standby is prepared: it would slow the start down."""
BACKOFF_S = 1.0
BACKOFF_MAX_S = 300.0
LOST_LIMIT = 10
"""A program whose standbys are lost so often in a row, without a fork, starts cold from then on."""
IDLE_S = 600.0
"""Seconds without a trainer after which a standby is ended."""
MAX_BYTES = 512 * 1024 * 1024
"""A standby that takes more than this is not worth its memory."""
GROWTH_BYTES = 32 * 1024 * 1024
"""One that has grown by so much since it was ready is replaced."""
FORKS_LIMIT = 1_000
UNFIT_LIMIT = 64

_log = structlog.get_logger("trainerd.launcher")


class Standbys:
    """Prepares a standby in the background and asks it for trainers. Event loop's thread only.

    Whatever befalls a standby costs nothing but speed: `fork` answers None, and a new process is
    started instead. `unfit` is told once why a program's trainers start cold for ever.
    """

    def __init__(
        self,
        children: Children,
        *,
        enabled: bool = True,
        quiet_s: float = QUIET_S,
        prepare_s: float = PREPARE_S,
        fork_s: float = FORK_S,
        max_bytes: int = MAX_BYTES,
        backoff_s: float = BACKOFF_S,
        idle_s: float = IDLE_S,
        unfit: Callable[[Wanted, str], None] = lambda _wanted, _reason: None,
    ) -> None:
        self._children, self._enabled = children, enabled
        self._quiet_s, self._prepare_s, self._fork_s = quiet_s, prepare_s, fork_s
        self._max_bytes, self._backoff_s, self._idle_s = max_bytes, backoff_s, idle_s
        self._tell_unfit = unfit
        self._wanted: tuple[Wanted, Path] | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._standby: StandbyProcess | None = None
        self._ready: Ready | None = None
        self._forks = 0
        self._lost = 0
        # Why programs start cold for ever, and the files in which the reason lies.
        self._unfit: collections.OrderedDict[Wanted, Unfit] = collections.OrderedDict()
        self._idle: asyncio.TimerHandle | None = None

    @property
    def ready(self) -> StandbyProcess | None:
        """The standby, once it can fork; None: there is none now."""
        return self._standby if self._ready is not None else None

    @property
    def preparing(self) -> bool:
        """Whether one is being prepared, or will be soon."""
        return self._preparing is not None

    @property
    def given_up(self) -> bool:
        """Whether too many were lost in a row."""
        return self._lost >= LOST_LIMIT

    def want(self, wanted: Wanted, log: Path, *, at_once: bool = False) -> None:
        """A trainer was started: have a standby for its successor, soon; or for it, `at_once`.

        What the standby says goes to `log`.
        """
        if not self._enabled:
            return
        if self._wanted is None or self._wanted[0] != wanted:
            self.retire()
            self._lost = 0
        self._stop_idling()
        self._wanted = wanted, log
        if self._standby is None and not self._is_unfit(wanted):
            self._start_preparing(0.0 if at_once else self._quiet_s)

    def rest(self) -> None:
        """No trainer lives: end the standby if that stays so."""
        self._stop_idling()
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(self._idle_s, self.retire)

    def fits(self, wanted: Wanted) -> bool:
        """Whether a standby waits for just this."""
        return self.ready is not None and self.ready.wanted == wanted

    async def missing(self, wanted: Wanted) -> str:
        """Why no standby waits for just this, once the present try has ended; empty: one does."""
        if not self._enabled:
            return "standbys are switched off here"
        if self._preparing is not None and self._wanted is not None and self._wanted[0] == wanted:
            await asyncio.wait([self._preparing])
        if self.fits(wanted):
            return ""
        unfit = self._unfit.get(wanted)
        return unfit.reason if unfit is not None else "none could be prepared: see standby.log"

    async def fork(
        self, wanted: Wanted, incarnation: int, *, assignment: int, log: int, lock: int
    ) -> Child | None:
        """A trainer forked from the standby, or None: there is no standby for just this."""
        standby = self.ready
        if standby is None or not self.fits(wanted):
            return None
        try:
            answer = await standby.fork(
                incarnation,
                assignment=assignment,
                log=log,
                lock=lock,
                children=self._children,
                timeout_s=self._fork_s,
            )
        except StandbyLost as error:
            self._discard(standby, "standby_lost", str(error))
            return None
        except asyncio.CancelledError:
            # Its answer will come, and must not be taken for that to a later question.
            self._discard(standby, "standby_lost", "the start was called off")
            raise
        match answer:
            case Refused(reason=reason):
                # Its end is no loss: the next one will have imported what there is now.
                self._discard(standby, "standby_outdated", reason)
                return None
            case (child, forked):
                self._forks, self._lost = self._forks + 1, 0
                self._replace_if_worn(standby, forked)
                return child

    def forget(self, run: str) -> None:
        """A run's files go: its standby goes first."""
        if self._wanted is not None and self._wanted[0].run == run:
            self.retire()

    def retire(self) -> None:
        """End the standby; the next trainer brings another one."""
        self._wanted = None
        self._stop_idling()
        if self._preparing is not None:
            self._preparing.cancel()
            self._preparing = None
        self._end()

    async def close(self) -> None:
        """End the standby and wait until it is gone."""
        preparing, standby = self._preparing, self._standby
        self.retire()
        if preparing is not None:
            await asyncio.gather(preparing, return_exceptions=True)
        if standby is not None:
            await standby.child.ended

    async def _prepare(self, wanted: Wanted, log: Path, delay_s: float) -> None:
        try:
            await asyncio.sleep(delay_s)
            standby = StandbyProcess.start(wanted, self._children, log=log)
        except OSError as error:
            _log.warning("standby_not_started", run=wanted.run, error=str(error))
            self._preparing = None
            self._lost += 1
            self._again()
            return
        self._standby = standby
        standby.child.ended.add_done_callback(lambda _: self._left(standby))
        try:
            answer = await standby.prepared(self._prepare_s)
        except StandbyLost as error:
            self._preparing = None
            self._discard(standby, "standby_lost", str(error))
            return
        self._preparing = None
        match answer:
            case Ready() if answer.resident_bytes <= self._max_bytes:
                self._ready, self._forks = answer, 0
                _log.info(
                    "standby_ready",
                    run=wanted.run,
                    pid=standby.child.pid,
                    took_s=round(answer.took_s, 3),
                    resident_bytes=answer.resident_bytes,
                )
            case Ready():
                self._give_up(
                    wanted,
                    Unfit(
                        reason=f"its imports take {answer.resident_bytes >> 20} MiB, the limit is "
                        f"{self._max_bytes >> 20} MiB",
                        lasting=True,
                    ),
                )
            case Unfit():
                self._give_up(wanted, answer)

    def _give_up(self, wanted: Wanted, unfit: Unfit) -> None:
        self._end()
        _log.warning("standby_unfit", run=wanted.run, reason=unfit.reason, lasting=unfit.lasting)
        if unfit.lasting:
            self._tell_unfit(wanted, unfit.reason)
            self._unfit[wanted] = unfit
            while len(self._unfit) > UNFIT_LIMIT:
                self._unfit.popitem(last=False)

    def _is_unfit(self, wanted: Wanted) -> bool:
        unfit = self._unfit.get(wanted)
        if unfit is not None and _changed(unfit.files):
            del self._unfit[wanted]
            return False
        return unfit is not None

    def _discard(self, standby: StandbyProcess, event: str, reason: str) -> None:
        _log.warning(event, run=standby.wanted.run, pid=standby.child.pid, reason=reason)
        if self._standby is standby:
            self._end()
            if event == "standby_lost":
                self._lost += 1
            self._again()

    def _replace_if_worn(self, standby: StandbyProcess, forked: Forked) -> None:
        assert self._ready is not None
        grown = forked.resident_bytes - self._ready.resident_bytes
        if grown > GROWTH_BYTES or self._forks >= FORKS_LIMIT:
            self._discard(standby, "standby_worn", f"{self._forks} forks, {grown} bytes more")

    def _left(self, standby: StandbyProcess) -> None:
        """It ended, whoever ended it."""
        if self._standby is standby and self._preparing is None:
            self._discard(standby, "standby_lost", "it ended")

    def _end(self) -> None:
        standby, self._standby, self._ready = self._standby, None, None
        if standby is not None:
            standby.end()

    def _again(self) -> None:
        """Prepare another one, later each time that one was lost."""
        if self._wanted is not None:
            backoff_s = min(self._backoff_s * 2**self._lost, BACKOFF_MAX_S)
            self._start_preparing(self._quiet_s + backoff_s)

    def _start_preparing(self, delay_s: float) -> None:
        if self._wanted is None or self._preparing is not None or self.given_up:
            return
        wanted, log = self._wanted
        self._preparing = asyncio.create_task(self._prepare(wanted, log, delay_s))

    def _stop_idling(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None


def _changed(files: Mapping[str, stamps.Stamp | None]) -> bool:
    return stamps.changed(files) is not None
