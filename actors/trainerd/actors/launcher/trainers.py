"""The host actor itself: which trainers live on this host, and what is done to them."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import grpc
import structlog

from trainerd.actors.launcher import (
    devices,
    incidents,
    process_identity,
    stacks,
)
from trainerd.actors.launcher.acceptance import Acceptance
from trainerd.actors.launcher.completing import completed
from trainerd.actors.launcher.config import LauncherConfig
from trainerd.actors.launcher.device_release import wait_released
from trainerd.actors.launcher.exits import Exit, ExitStore
from trainerd.actors.launcher.fencing import raise_fence
from trainerd.actors.launcher.live import LiveRecord, write_live
from trainerd.actors.launcher.logs import tail
from trainerd.actors.launcher.processes import Child, Children, Ended
from trainerd.actors.launcher.refusals import (
    Refused,
    devices_busy,
    draining,
    invalid_incarnation,
    no_trainer,
    not_removed,
    not_started,
    stale_incarnation,
    trainer_alive,
)
from trainerd.actors.launcher.runs import RunFiles
from trainerd.actors.launcher.snapshot_places import SnapshotPlaces
from trainerd.actors.launcher.standby_key import Wanted
from trainerd.actors.launcher.standbys import Standbys
from trainerd.actors.launcher.times import taken
from trainerd.actors.trainer import codes
from trainerd.v1 import event_pb2, launcher_pb2

STARTED_LIMIT = 1024
"""Runs whose newest incarnation is remembered."""

LOCK_PATIENCE_S = 2.0
"""Seconds to wait for the devices' lock after the trainer that held it has ended."""

_OVER = (codes.FINISHED, codes.FAILED)
"""Exit codes of a trainer whose run ended, or is saved: nothing will ask for its snapshots."""

LIVE_DELAY_S = 0.02
"""Seconds until an exit is noted where the live ones are: its record is on disk before."""

TrainerCommand = Callable[[str], list[str]]
"""Makes the argument vector of a trainer from the path of its interpreter."""

_log = structlog.get_logger("trainerd.launcher")


def trainer_command(python: str) -> list[str]:
    """The trainer process of this package."""
    return [python, "-m", "trainerd.actors.trainer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A trainer process; `warm`: it was forked from the standby."""

    pid: int
    warm: bool


@dataclass(slots=True, kw_only=True, eq=False)
class Trainer:
    """A live trainer process. `stacks`: those of its threads, collected before it is killed."""

    live: LiveRecord
    child: Child
    stacks: str = ""


class Trainers:
    """Starts and ends trainers; one at a time holds the devices. Event loop's thread only."""

    def __init__(
        self,
        config: LauncherConfig,
        children: Children,
        exits: ExitStore,
        *,
        command: TrainerCommand = trainer_command,
        has_gpu: Callable[[], bool] = devices.has_nvidia_gpu,
        standbys: Standbys | None = None,
        snapshots: SnapshotPlaces | None = None,
    ) -> None:
        self._config = config
        self._children = children
        self._exits = exits
        self._command = command
        self._has_gpu = has_gpu
        self._standbys = standbys or Standbys(children, enabled=False)
        self._acceptance = Acceptance(config, children, self._standbys, has_gpu)
        self._snapshots = snapshots
        self.before_start: Callable[[], None] = lambda: None
        """Called before a trainer takes the devices: whoever may yield them does."""
        self.unsaved: set[str] = set()
        """Runs whose trainers were drained, and died before they had saved."""
        self._live: dict[str, Trainer] = {}
        self._starting = asyncio.Lock()
        self._draining = False
        self._gone = 0  # process id of the trainer before
        self._collecting: set[asyncio.Task[None]] = set()
        # Newest incarnation of a run: a repeated or late request starts nothing.
        self._started = {
            r.run: (r.incarnation, Started(pid=r.pid, warm=False)) for r in exits.after(0)
        }

    def situation(self) -> list[event_pb2.LiveTrainer]:
        """The trainers that live."""
        return [
            event_pb2.LiveTrainer(run=t.live.run, incarnation=t.live.incarnation, pid=t.live.pid)
            for t in self._live.values()
        ]

    async def start(self, assignment: launcher_pb2.Assignment) -> Started:
        """Start a trainer. Idempotent. Raise `Refused`."""
        run, incarnation = assignment.run, assignment.incarnation
        files = self.files(run)
        if incarnation < 1:
            raise invalid_incarnation(incarnation)
        async with self._starting:
            newest, started = self._started.get(run, (0, None))
            if newest == incarnation and started is not None:
                return started
            self._refuse_if_unfit(run, incarnation, newest)
            assignment, wanted = await self._acceptance.accepted(assignment, files)
            await raise_fence(assignment, files)
            if self._draining:
                raise draining()
            self._acceptance.refuse_if_changed(assignment)
            try:
                return await self._spawn(assignment, files, wanted)
            except devices.DevicesBusy as error:
                raise devices_busy(str(error)) from error
            except OSError as error:
                raise not_started(error) from error

    async def prepare(self, assignment: launcher_pb2.Assignment) -> str:
        """Have a standby for a trainer that may follow; return once it waits, or why there is none.

        Raise `Refused`, also while the trainer of another run has the devices.
        """
        run, files = assignment.run, self.files(assignment.run)
        async with self._starting:
            if self._draining:
                raise draining()
            if run not in self._live:
                self._refuse_if_busy()
            assignment, wanted = await self._acceptance.accepted(assignment, files)
            if self._draining:
                raise draining()
            self._acceptance.refuse_if_changed(assignment)
            try:
                files.make()
            except OSError as error:
                raise not_started(error) from error
            self._standbys.want(wanted, files.standby_log, at_once=True)
            if not self._live:
                self._standbys.rest()
        return await self._standbys.missing(wanted)

    def kill(
        self, run: str, incarnation: int, grace_s: float, *, collect_stacks: bool = False
    ) -> bool:
        """End a trainer, once its stacks are collected if asked; return whether it was alive."""
        trainer = self._live.get(run)
        if trainer is None or trainer.live.incarnation != incarnation:
            return False
        _log.info("trainer_killed", run=run, incarnation=incarnation, grace_s=grace_s)
        if collect_stacks:
            task = asyncio.create_task(self._kill_with_stacks(trainer, grace_s))
            self._collecting.add(task)
            task.add_done_callback(self._collecting.discard)
        else:
            trainer.child.terminate(grace_s)
        return True

    async def _kill_with_stacks(self, trainer: Trainer, grace_s: float) -> None:
        live = trainer.live
        log = self.files(live.run).log(live.incarnation)
        try:
            trainer.stacks = (await stacks.collect(trainer.child, log, self._children)).text()
        except OSError as error:
            _log.warning("stacks_not_collected", run=live.run, error=str(error))
        finally:
            trainer.child.terminate(grace_s)

    async def look_at(self, run: str) -> stacks.Stacks:
        """Where a run's trainer is; it goes on. Raise `Refused` without one, OSError."""
        if (trainer := self._live.get(run)) is None:
            raise no_trainer(run)
        log = self.files(run).log(trainer.live.incarnation)
        return await stacks.collect(trainer.child, log, self._children)

    async def remove(self, run: str, *, memory_only: bool = False) -> None:
        """Remove a run's files, or its snapshots. Raise `Refused` while a trainer of it lives."""
        files = self.files(run)
        async with self._starting:
            if run in self._live:
                raise trainer_alive(run, self._live[run].live.pid)
            if self._snapshots is not None:
                self._snapshots.remove(run)
            if memory_only:
                return
            self._standbys.forget(run)
            try:
                # They lie beside the checkpoints, which may be elsewhere.
                await asyncio.to_thread(incidents.remove_pins, files)
                await asyncio.to_thread(shutil.rmtree, files.root)
            except FileNotFoundError:
                return
            except OSError as error:
                raise not_removed(files.root, error) from error

    async def drain(self, grace_s: float) -> None:
        """Let every trainer save and exit; SIGKILL after `grace_s`. Starts nothing from now on."""
        self._draining = True
        await self._standbys.close()
        trainers = list(self._live.values())
        for trainer in trainers:
            trainer.child.terminate(grace_s)
        if trainers:
            await asyncio.wait([t.child.ended for t in trainers], timeout=grace_s + 10.0)
            self._write_live()

    def files(self, run: str) -> RunFiles:
        """The files of a run. Raise `Refused` for anything that is not a run id."""
        try:
            return RunFiles.of(self._config.state, run)
        except ValueError as error:
            raise Refused(
                code=grpc.StatusCode.INVALID_ARGUMENT, reason="INVALID_RUN", message=str(error)
            ) from error

    def _refuse_if_unfit(self, run: str, incarnation: int, newest: int) -> None:
        if self._draining:
            raise draining()
        if incarnation < newest:
            raise stale_incarnation(run, incarnation, newest)
        self._refuse_if_busy()

    def _refuse_if_busy(self) -> None:
        for other in self._live.values():
            raise devices_busy(
                f"the devices are held by incarnation {other.live.incarnation} of "
                f"{other.live.run} (process {other.live.pid})"
            )

    async def _spawn(
        self, assignment: launcher_pb2.Assignment, files: RunFiles, wanted: Wanted
    ) -> Started:
        files.make()
        told = completed(assignment, files, self._config, self._snapshots)
        self.before_start()
        lock = await self._lock()
        # A file in memory, not a pipe: an assignment of any size is written without blocking.
        stdin = os.memfd_create("assignment", os.MFD_CLOEXEC)
        log = -1
        try:
            with os.fdopen(os.dup(stdin), "wb") as stream:
                stream.write(told.SerializeToString())
            os.lseek(stdin, 0, os.SEEK_SET)
            log = os.open(
                files.log(assignment.incarnation),
                os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC,
                0o600,
            )
            child = await self._standbys.fork(
                wanted, assignment.incarnation, assignment=stdin, log=log, lock=lock.descriptor
            )
            warm = child is not None
            if child is None:
                child = self._children.spawn(
                    self._command(wanted.python),
                    environment=dict(wanted.variables),
                    directory=wanted.directory,
                    stdin=stdin,
                    stdout=log,
                    stderr=log,
                    inherited=(lock.descriptor,),
                )
        finally:
            lock.close()
            os.close(stdin)
            if log >= 0:
                os.close(log)
        self._enter(assignment.run, assignment.incarnation, child, warm=warm)
        self._standbys.want(wanted, files.standby_log)
        return Started(pid=child.pid, warm=warm)

    async def _lock(self) -> devices.DeviceLock:
        """The devices' lock. What the last trainer forked is being killed and may hold it yet."""
        if self._gone and devices.resolved_platform(self._config.devices, self._has_gpu) == "cuda":
            await wait_released(self._gone, self._children)
        deadline = asyncio.get_running_loop().time() + LOCK_PATIENCE_S
        while True:
            try:
                return devices.DeviceLock.take(self._config.state, self._config.devices)
            except devices.DevicesBusy:
                if asyncio.get_running_loop().time() >= deadline:
                    raise
            await asyncio.sleep(0.02)

    def _enter(self, run: str, incarnation: int, child: Child, *, warm: bool) -> None:
        live = LiveRecord(
            run=run,
            incarnation=incarnation,
            pid=child.pid,
            started=process_identity.start_ticks(child.pid) or 0,
        )
        trainer = Trainer(live=live, child=child)
        self._live[run] = trainer
        self._started.pop(run, None)
        self._started[run] = (incarnation, Started(pid=child.pid, warm=warm))
        while len(self._started) > STARTED_LIMIT:
            self._started.pop(next(iter(self._started)))
        self._write_live()
        child.ended.add_done_callback(lambda future: self._leave(trainer, future.result()))
        _log.info("trainer_started", run=run, incarnation=incarnation, pid=child.pid, warm=warm)

    def _leave(self, trainer: Trainer, ended: Ended) -> None:
        live = trainer.live
        files = self.files(live.run)
        record = self._exits.add(
            Exit(
                run=live.run,
                incarnation=live.incarnation,
                pid=live.pid,
                exit_code=ended.exit_code,
                signal=ended.signal,
                killed_by_launcher=ended.signal in trainer.child.signals_sent,
                log_tail=tail(files.log(live.incarnation)),
                stacks=trainer.stacks,
                times_s=taken(files.times(live.incarnation)),
                drained=self._draining,
            )
        )
        del self._live[live.run]
        self._gone = live.pid
        asyncio.get_running_loop().call_later(LIVE_DELAY_S, self._write_live)
        if not self._live:
            self._standbys.rest()
        if ended.exit_code not in _OVER and self._draining:
            self.unsaved.add(live.run)
        elif self._snapshots is not None and ended.exit_code in _OVER:
            self._snapshots.remove(live.run)
        _log.info(
            "trainer_exited",
            run=live.run,
            incarnation=live.incarnation,
            pid=live.pid,
            exit_code=ended.exit_code,
            signal=ended.signal,
            sequence=record.sequence,
            killed_by_launcher=record.killed_by_launcher,
        )

    def _write_live(self) -> None:
        try:
            write_live(self._config.state / "live.json", (t.live for t in self._live.values()))
        except OSError as error:
            _log.error("live_record_not_written", error=str(error))
