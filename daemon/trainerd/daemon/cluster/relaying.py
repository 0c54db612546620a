"""A host's end of the link to its supervisor: passes on what launcher and trainers say, and to them
what the supervisor says. Nothing is kept: whoever has something that must not get lost keeps it
until the supervisor has acknowledged it.

Trainers tell of their steps many times a second; over the link that goes once a second, in one.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import grpc
import structlog

from trainerd.daemon.cluster.clock_offset import ClockOffset, measured
from trainerd.daemon.cluster.tunnel import answered, status_of
from trainerd.daemon.cluster.waiting import Waiting
from trainerd.daemon.launcher_calls import LauncherCalls
from trainerd.v1 import host_pb2, launcher_pb2, trainer_pb2, trainer_pb2_grpc
from trainerd.v1.mailbox import MAILBOX_LIMIT
from trainerd.v1.step_reports import merge_step_reports

log = structlog.get_logger()

PULSE_S = 1.0
"""Seconds after which something is said, and of each trainer telemetry is told at most once."""
CLOCKS_S = 30.0
"""Seconds from one look at the clocks to the next, once there were a few."""
_FIRST_LOOKS = 3

_Orders = asyncio.Queue[trainer_pb2.AttachResponse | host_pb2.LinkEnd]
_Context = grpc.aio.ServicerContext[trainer_pb2.AttachRequest, trainer_pb2.AttachResponse]


@dataclass(slots=True)
class _Stream:
    """One trainer's stream. `telemetry`: what waits to be told, by kind; `told_at`: when it was."""

    number: int
    orders: _Orders = field(default_factory=lambda: asyncio.Queue(MAILBOX_LIMIT))
    telemetry: dict[str, trainer_pb2.AttachRequest] = field(default_factory=dict)
    told_at: float = 0.0


class Relay:
    """One life of the link. `attach_address`: this host's socket for trainers."""

    def __init__(self, launcher: LauncherCalls, attach_address: str, clocks: ClockOffset) -> None:
        self.waiting: Waiting[host_pb2.HostReport] = Waiting()
        self._launcher = launcher
        self._attach_address = attach_address
        self._clocks = clocks
        self._looks = 0
        self._looked_at = 0.0
        self._said_at = 0.0
        self._numbers = itertools.count(1)
        self._streams: dict[int, _Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # What the supervisor says.

    def heard(self, order: host_pb2.HostOrder) -> None:
        """Take one thing that the supervisor says. Must not block."""
        match order.WhichOneof("payload"):
            case "time":
                told = order.time
                self._clocks.add(
                    measured(
                        sent_ns=told.sent_ns,
                        received_ns=told.received_ns,
                        answered_ns=told.answered_ns,
                        returned_ns=time.time_ns(),
                    )
                )
            case "call":
                self._begin(self._call(order.call))
            case "trainer":
                self._trainer(order.trainer)
            case _:
                pass  # Something that a later minor version says.

    async def _call(self, call: host_pb2.LauncherCall) -> None:
        if call.WhichOneof("request") == "start_trainer":
            assignment = call.start_trainer.assignment
            assignment.attach_address = assignment.attach_address or self._attach_address
        self._say(answer=await answered(self._launcher.stub, call))

    def _trainer(self, order: host_pb2.TrainerOrder) -> None:
        stream = self._streams.get(order.stream)
        if stream is None:
            return  # It has ended meanwhile.
        if order.WhichOneof("payload") == "end":
            self._end(stream, order.end)
        elif stream.orders.full():
            slow = f"{MAILBOX_LIMIT} orders wait for the trainer, limit {MAILBOX_LIMIT}"
            unavailable = grpc.StatusCode.UNAVAILABLE.value[0]
            self._end(stream, host_pb2.LinkEnd(code=unavailable, details=slow))
        else:
            stream.orders.put_nowait(order.response)

    # What the launcher says.

    def launcher(self, said: launcher_pb2.WatchTrainersResponse) -> None:
        """Pass on what its watch says."""
        self._say(launcher=said)

    def launcher_lost(self, reason: str) -> None:
        """Pass on that its watch is over."""
        code = grpc.StatusCode.UNAVAILABLE.value[0]
        self._say(launcher_end=host_pb2.LinkEnd(code=code, details=reason))

    # What a trainer says.

    async def attached(
        self, requests: AsyncIterator[trainer_pb2.AttachRequest], context: _Context
    ) -> AsyncIterator[trainer_pb2.AttachResponse]:
        """Pass one trainer's stream on, in both directions, until either end closes it."""
        stream = _Stream(next(self._numbers))
        self._streams[stream.number] = stream
        reader = asyncio.create_task(self._read(requests, stream))
        try:
            while True:
                order = await stream.orders.get()
                if isinstance(order, host_pb2.LinkEnd):
                    break
                yield order
        finally:
            reader.cancel()
            self._streams.pop(stream.number, None)
        if order.code:
            await context.abort(status_of(order), order.details)

    async def _read(
        self, requests: AsyncIterator[trainer_pb2.AttachRequest], stream: _Stream
    ) -> None:
        try:
            async for request in requests:
                kind = request.WhichOneof("payload") or ""
                if kind in ("step_report", "heartbeat"):
                    self._coalesce(stream, kind, request)
                else:
                    self._say(trainer=_report(stream, request))
        except grpc.aio.AioRpcError as error:
            log.debug("trainer_stream_broken", error=error.details())
        finally:
            end = host_pb2.TrainerReport(stream=stream.number)
            end.end.SetInParent()
            self._say(trainer=end)
            self._end(stream, host_pb2.LinkEnd())

    def _coalesce(self, stream: _Stream, kind: str, request: trainer_pb2.AttachRequest) -> None:
        older = stream.telemetry.get(kind)
        if older is not None and kind == "step_report":
            request = merge_step_reports(older, request)
        stream.telemetry[kind] = request
        # The first after a while is news; what follows can wait until it is a second's worth.
        if time.monotonic() - stream.told_at >= PULSE_S:
            self._flush(stream)

    def _flush(self, stream: _Stream) -> None:
        stream.told_at = time.monotonic()
        for request in stream.telemetry.values():
            self._say(trainer=_report(stream, request))
        stream.telemetry.clear()

    def _end(self, stream: _Stream, end: host_pb2.LinkEnd) -> None:
        while not stream.orders.empty():
            stream.orders.get_nowait()
        stream.orders.put_nowait(end)

    # The link.

    async def pulse(self) -> None:
        """Say something every second, until cancelled."""
        while True:
            now = time.monotonic()
            for stream in list(self._streams.values()):
                if stream.telemetry and now - stream.told_at >= PULSE_S / 2:
                    self._flush(stream)
            looks = self._looks < _FIRST_LOOKS or now - self._looked_at >= CLOCKS_S
            if looks or now - self._said_at >= PULSE_S / 2:
                self._say(pulse=self._pulse(now, looks=looks))
            await asyncio.sleep(PULSE_S)

    def _pulse(self, now: float, *, looks: bool) -> host_pb2.Pulse:
        pulse, best = host_pb2.Pulse(), self._clocks.best
        if best is not None:
            pulse.clock_offset_s, pulse.clock_error_s = best
        if looks:
            self._looks, self._looked_at = self._looks + 1, now
            pulse.sent_ns = time.time_ns()
        return pulse

    async def close(self, reason: str) -> None:
        """The link is lost: trainers attach again when it is back."""
        self.waiting.end(reason)
        end = host_pb2.LinkEnd(code=grpc.StatusCode.UNAVAILABLE.value[0], details=reason)
        for stream in self._streams.values():
            self._end(stream, end)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _say(self, **payload: Any) -> None:  # noqa: ANN401 - a field of HostReport
        self._said_at = time.monotonic()
        self.waiting.put(host_pb2.HostReport(**payload))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("relay_defect", error=repr(error))


def _report(stream: _Stream, request: trainer_pb2.AttachRequest) -> host_pb2.TrainerReport:
    return host_pb2.TrainerReport(stream=stream.number, request=request)


Now = Callable[[], Relay | None]


class RelayedTrainers(trainer_pb2_grpc.TrainerServiceServicer):
    """`TrainerService` of a host that has joined: all its trainers talk to the supervisor."""

    def __init__(self, now: Now) -> None:
        """`now`: the link's present life; None: the supervisor is not reached."""
        self._now = now

    async def Attach(  # noqa: N802 - gRPC's name
        self, request_iterator: AsyncIterator[trainer_pb2.AttachRequest], context: _Context
    ) -> AsyncIterator[trainer_pb2.AttachResponse]:
        """See trainer.proto."""
        relay = self._now()
        if relay is None:
            # It trains on, and tries again.
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the supervisor is not reached")
            return
        async for response in relay.attached(aiter(request_iterator), context):
            yield response


class RelayedWatch:
    """Passes on what this host's launcher says, over one life of the link."""

    def __init__(self, relay: Relay, acknowledged: int) -> None:
        self._relay = relay
        self._acknowledged = acknowledged

    @property
    def acknowledged(self) -> int:
        """The newest exit that the supervisor has journalled."""
        return self._acknowledged

    async def attached(self, hello: launcher_pb2.LauncherHello) -> None:
        """The launcher's greeting."""
        self._relay.launcher(launcher_pb2.WatchTrainersResponse(hello=hello))

    async def exited(self, record: launcher_pb2.ExitRecord) -> None:
        """A trainer process ended."""
        self._relay.launcher(launcher_pb2.WatchTrainersResponse(exit=record))

    async def lost(self, reason: str) -> None:
        """The watch is over."""
        self._relay.launcher_lost(reason)
