"""Carries out the supervisor's commands: timers, calls to the launcher, orders to trainers.

Nothing here decides. Each command is begun at once and answered by an event; calls run in tasks of
their own, bounded by their deadlines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import assert_never

import grpc
import structlog

from trainerd.daemon.assignments import assignment_of
from trainerd.daemon.clock import Clock
from trainerd.daemon.incidents import request_of
from trainerd.daemon.journal import Stored
from trainerd.daemon.launcher_calls import LauncherCalls
from trainerd.daemon.launchers import Launchers
from trainerd.daemon.links import TrainerLinks
from trainerd.daemon.missed_incidents import missed_incidents
from trainerd.daemon.refusals import reason_of
from trainerd.daemon.runtime import JournalFullError, Runtime
from trainerd.daemon.supervision.commands import (
    CancelTimer,
    Command,
    KillTrainer,
    PrepareStandby,
    Record,
    RemoveFiles,
    StartCoordinator,
    StartTimer,
    StartTrainer,
    StopCoordinator,
    TellTrainer,
    WriteIncident,
)
from trainerd.daemon.supervision.events import (
    CoordinatorFailed,
    CoordinatorStarted,
    Event,
    FilesRemoved,
    StandbyPrepared,
    TimerFired,
    TrainerSpawned,
    TrainerSpawnFailed,
)
from trainerd.daemon.supervision.state import State
from trainerd.daemon.telemetry import Telemetry
from trainerd.daemon.tokens import Tokens
from trainerd.daemon.views import Views
from trainerd.v1 import launcher_pb2
from trainerd.v1.mailbox import MailboxOverflow

log = structlog.get_logger()

INCIDENT_TRIES = 5
RETRY_S = 1.0
"""Seconds until an event that could not be journalled is posted again."""

_PERMANENT = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
_BUSY = "DEVICES_BUSY"
"""The launcher's reason for starting nothing: another process holds the devices."""
_DRAINING = "LAUNCHER_DRAINING"
"""The launcher's reason for starting nothing: it ends, and its successor will be asked."""


class Effects:
    """The executor of one daemon."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        views: Views,
        links: TrainerLinks,
        launchers: Launchers,
        tokens: Tokens,
        telemetry: Telemetry,
        clock: Clock,
        attach_address: str,
        host: str = "",
    ) -> None:
        self._runtime = runtime
        self._views = views
        self._links = links
        self._launchers = launchers
        self._tokens = tokens
        self._telemetry = telemetry
        self._clock = clock
        self._attach_address = attach_address
        self._host = host
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._looked_back = False

    def execute(self, command: Command) -> None:
        """Begin to carry out one command; after `close`, leave it to the next daemon."""
        if self._closed:
            return
        match command:
            case StartTrainer():
                self._spawn(self._start_trainer(command))
            case StartCoordinator():
                self._spawn(self._start_coordinator(command))
            case StopCoordinator():
                self._spawn(self._stop_coordinator(command))
            case PrepareStandby():
                self._spawn(self._prepare_standby(command))
            case KillTrainer():
                self._spawn(self._kill_trainer(command))
            case TellTrainer():
                self._links.send(command.run, command.incarnation, command.order, host=command.host)
            case StartTimer():
                self._cancel(command.key)
                loop = asyncio.get_running_loop()
                self._timers[command.key] = loop.call_later(
                    command.delay_s, self._fire, command.key
                )
            case CancelTimer():
                self._cancel(command.key)
            case RemoveFiles():
                self._spawn(self._remove_files(command))
            case WriteIncident():
                # What telemetry knows is that of the moment: the next trainer reports soon.
                request = request_of(
                    command,
                    self._runtime.state,
                    self._views,
                    self._telemetry,
                    wall=self._clock.wall(),
                )
                self._spawn(self._write_incident(request, command.host))
            case Record():
                raise TypeError("records are journalled by the runtime, not carried out")
            case _:
                assert_never(command)

    def rearm(self, now: float) -> None:
        """After a replay: start the timers that still run."""
        for key, due in self._runtime.state.timers.items():
            self.execute(StartTimer(key=key, delay_s=max(0.0, due - now)))

    def record(self, stored: Stored, state: State) -> None:  # noqa: ARG002 - an observer
        """A journal record: with the first launcher come the incidents that were missed."""
        if stored.kind == "launcher_attached" and not self._looked_back:
            self._looked_back = True
            self._spawn(self._write_missed())

    async def close(self) -> None:
        """Forget timers, cancel calls, carry out nothing more."""
        self._closed = True
        for handle in self._timers.values():
            handle.cancel()
        self._timers.clear()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _cancel(self, key: str) -> None:
        handle = self._timers.pop(key, None)
        if handle is not None:
            handle.cancel()

    def _fire(self, key: str) -> None:
        self._timers.pop(key, None)
        self._spawn(self._post(TimerFired(key=key)))

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("effect_failed", error=repr(error))

    async def _post(self, event: Event) -> None:
        """Post an answer; it must not get lost, so a full journal only delays it."""
        while True:
            try:
                await self._runtime.post(event)
                return
            except (JournalFullError, MailboxOverflow) as error:
                log.warning("event_delayed", error=str(error))
                await asyncio.sleep(RETRY_S)

    async def _start_trainer(self, command: StartTrainer) -> None:
        run, incarnation = command.run, command.incarnation
        known = self._runtime.state.runs.get(run)
        if known is None:
            return  # Deleted meanwhile.
        assignment = assignment_of(
            command,
            known,
            self._views,
            now=self._clock.now(),
            token=self._tokens.of(run, incarnation),
            # Another host's daemon has a socket of its own, and says which.
            attach_address=self._attach_address if command.host == self._host else "",
        )
        event: Event
        try:
            started = await self._launchers.of(command.host).start_trainer(assignment)
            event = TrainerSpawned(
                run=run,
                incarnation=incarnation,
                pid=started.pid,
                warm=started.warm,
                host=command.host,
            )
        except grpc.aio.AioRpcError as error:
            if unanswered(error):
                # It may have started: a timer, or the next greeting of the launcher, tells.
                log.warning("trainer_start_unanswered", run=run, error=error.details())
                return
            event = TrainerSpawnFailed(
                run=run,
                incarnation=incarnation,
                message=error.details() or error.code().name,
                permanent=error.code() in _PERMANENT,
                devices_busy=reason_of(error) == _BUSY,
                host=command.host,
            )
        except OSError as error:
            # Unlinked between the decision and the call: at the next greeting it is asked again.
            log.warning("trainer_start_unlinked", run=run, error=str(error))
            return
        await self._post(event)

    async def _kill_trainer(self, command: KillTrainer) -> None:
        await self._call(
            lambda: self._launchers.of(command.host).kill_trainer(
                command.run,
                command.incarnation,
                command.grace_s,
                collect_stacks=command.collect_stacks,
            ),
            "trainer_kill_failed",
            command.run,
        )

    async def _start_coordinator(self, command: StartCoordinator) -> None:
        run, incarnation, host = command.run, command.incarnation, command.host
        event: Event
        try:
            launcher = self._launchers.of(host)
            came = await launcher.start_coordinator(run, incarnation, command.processes)
            event = CoordinatorStarted(
                run=run, incarnation=incarnation, address=came.address, pid=came.pid, host=host
            )
        except (grpc.aio.AioRpcError, OSError) as error:
            # Asked for again where the launcher comes back; where it does not, others are.
            event = CoordinatorFailed(
                run=run, incarnation=incarnation, message=_problem(error), host=host
            )
        await self._post(event)

    async def _prepare_standby(self, command: PrepareStandby) -> None:
        """Whatever becomes of it is an answer: without a standby a trainer only starts later."""
        run, host, problem = command.run, command.host, ""
        if run not in self._runtime.state.runs:
            return  # Deleted meanwhile.
        try:
            launcher = self._launchers.of(host)
            problem = await launcher.prepare_standby(run, self._views.spec(run))
        except (grpc.aio.AioRpcError, OSError) as error:
            problem = _problem(error)
        await self._post(
            StandbyPrepared(run=run, incarnation=command.incarnation, problem=problem, host=host)
        )

    async def _stop_coordinator(self, command: StopCoordinator) -> None:
        await self._call(
            lambda: self._launchers.of(command.host).stop_coordinator(
                command.run, command.incarnation
            ),
            "coordinator_stop_failed",
            command.run,
        )

    async def _write_incident(
        self, request: launcher_pb2.WriteIncidentRequest, host: str = ""
    ) -> None:
        """An incident that cannot be kept is told in the log; the run does not depend on it."""
        for _ in range(INCIDENT_TRIES):
            try:
                await self._keeper(host).write_incident(request)
                return
            except grpc.aio.AioRpcError as error:
                problem = error.details() or error.code().name
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    break
            except OSError as error:
                problem = str(error)
            await asyncio.sleep(RETRY_S)
        incident = request.incident
        log.warning("incident_not_kept", run=incident.run, number=incident.number, error=problem)

    def _keeper(self, host: str) -> LauncherCalls:
        """Who keeps an incident: the launcher of the host it happened on, or any that can."""
        try:
            calls = self._launchers.of(host)
        except OSError:
            return self._launchers.any()
        return calls if calls.linked else self._launchers.any()

    async def _write_missed(self) -> None:
        """Incidents of the daemon before that their launcher was not told of."""
        try:
            missed = await missed_incidents(self._runtime, self._views, self._launchers)
        except (grpc.aio.AioRpcError, OSError) as error:
            log.warning("incidents_not_looked_at", error=str(error))
            return
        for request in missed:
            await self._write_incident(request)

    async def _remove_files(self, command: RemoveFiles) -> None:
        """What cannot be removed now is asked for again when a launcher is linked anew."""
        run, memory_only = command.run, command.memory_only
        try:
            await self._launchers.of(command.host).remove_run(run, memory_only=memory_only)
        except (grpc.aio.AioRpcError, OSError) as error:
            log.warning("run_files_left", run=run, memory_only=memory_only, error=str(error))
            return
        await self._post(FilesRemoved(run=run, memory_only=memory_only, host=command.host))

    async def _call(self, call: Callable[[], Awaitable[object]], failed: str, run: str) -> None:
        try:
            await call()
        except (grpc.aio.AioRpcError, OSError) as error:
            log.warning(failed, run=run, error=str(error))


def _problem(error: grpc.aio.AioRpcError | OSError) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return error.details() or error.code().name
    return str(error)


def unanswered(error: grpc.aio.AioRpcError) -> bool:
    """Whether the launcher may still do what it was asked, or its successor must be asked."""
    # A server that ends cancels what it has not answered: nobody else cancels these calls.
    if error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
        return True
    # Its own refusals carry a reason; a transport that broke does not.
    return error.code() is grpc.StatusCode.UNAVAILABLE and reason_of(error) in ("", _DRAINING)
