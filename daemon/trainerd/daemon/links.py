"""TrainerService: the daemon's end of the links to its trainers.

One bidirectional stream a trainer, whether it comes over this host's socket or over the link to
another host's daemon. Lifecycle reports are journalled before they are acknowledged; duplicates and
reports of past incarnations are counted no-ops. A link that overflows or breaks is closed; the
trainer attaches again and sends what was not acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import structlog

from trainerd.daemon import codec
from trainerd.daemon.clock import Clock
from trainerd.daemon.metrics import Metrics
from trainerd.daemon.progress import first_loss, progressed
from trainerd.daemon.runtime import JournalFullError, Runtime
from trainerd.daemon.supervision.commands import (
    Inject,
    Order,
    Pause,
    Resume,
    Save,
    SetPolicy,
    Stop,
    TakeProfile,
)
from trainerd.daemon.supervision.events import FinishReason, TrainerAttached, TrainerDetached
from trainerd.daemon.supervision.faults import Decision
from trainerd.daemon.telemetry import Pulse, Telemetry
from trainerd.daemon.timesheets import Timesheets, activity_times
from trainerd.daemon.tokens import Tokens
from trainerd.v1 import timesheet_pb2, trainer_pb2, trainer_pb2_grpc
from trainerd.v1.mailbox import MAILBOX_LIMIT, MailboxOverflow
from trainerd.v1.protocol import protocol, refusal

log = structlog.get_logger()

HELLO_S = 10.0
"""Seconds a fresh stream may take to greet."""

_Context = grpc.aio.ServicerContext[trainer_pb2.AttachRequest, trainer_pb2.AttachResponse]


class RefusedError(Exception):
    """A trainer may not attach: the status it is told, and why."""

    def __init__(self, code: grpc.StatusCode, problem: str) -> None:
        super().__init__(problem)
        self.code = code


@dataclass(slots=True)
class _Stream:
    """One open stream: what goes down, and why it ends. None in the queue ends it."""

    run: str
    host: str
    incarnation: int
    down: asyncio.Queue[trainer_pb2.AttachResponse | None] = field(
        default_factory=lambda: asyncio.Queue(MAILBOX_LIMIT)
    )
    reason: str = "the trainer closed the stream"

    def put(self, message: trainer_pb2.AttachResponse) -> None:
        """Queue a message; a stream that does not drain is closed, never waited for."""
        if self.down.full():
            self.end(f"{MAILBOX_LIMIT} messages wait for the trainer, limit {MAILBOX_LIMIT}")
        else:
            self.down.put_nowait(message)

    def end(self, reason: str) -> None:
        """End the stream now, whatever waits."""
        self.reason = reason
        while not self.down.empty():
            self.down.get_nowait()
        self.down.put_nowait(None)


class TrainerLinks(trainer_pb2_grpc.TrainerServiceServicer):
    """Serves `Attach` and sends orders to attached trainers.

    `sharded`: whether no process of that run has its whole state.
    """

    def __init__(
        self,
        runtime: Runtime,
        telemetry: Telemetry,
        metrics: Metrics,
        clock: Clock,
        tokens: Tokens,
        *,
        host: str = "",
        timesheets: Timesheets | None = None,
        sharded: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._runtime = runtime
        self._host = host
        self._telemetry = telemetry
        self._metrics = metrics
        self._clock = clock
        self._tokens = tokens
        self._timesheets = timesheets or Timesheets()
        self._sharded = sharded
        self._streams: dict[tuple[str, str], _Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, run: str, incarnation: int, order: Order, *, host: str = "") -> None:
        """Send an order, if the trainer is attached; a re-attach repeats what matters."""
        stream = self._streams.get((run, host))
        if stream is None or stream.incarnation != incarnation:
            return
        message = order_message(order)
        message.envelope.run, message.envelope.incarnation = run, incarnation
        message.envelope.sender = "supervisor"
        stream.put(message)

    def close(self) -> None:
        """End every stream; the trainers go on and attach to the next daemon."""
        for stream in self._streams.values():
            stream.end("the daemon ends")

    async def settled(self) -> None:
        """Wait until every stream that has ended is told of."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def Attach(  # noqa: N802 - gRPC's name
        self, request_iterator: AsyncIterator[trainer_pb2.AttachRequest], context: _Context
    ) -> AsyncIterator[trainer_pb2.AttachResponse]:
        """See trainer.proto."""
        try:
            async for response in self.attach(self._host, aiter(request_iterator)):
                yield response
        except RefusedError as refusal:
            await context.abort(refusal.code, str(refusal))

    async def attach(
        self, host: str, requests: AsyncIterator[trainer_pb2.AttachRequest]
    ) -> AsyncGenerator[trainer_pb2.AttachResponse, None]:
        """Serve one trainer on that host: what goes down. Raise `RefusedError` at the beginning."""
        first = await self._greeting(host, requests)
        run, incarnation = first.envelope.run, first.envelope.incarnation
        older = self._streams.get((run, host))
        if older is not None:
            older.end("replaced by a newer stream")
        stream = self._streams[run, host] = _Stream(run, host, incarnation)
        welcome = trainer_pb2.TrainerWelcome(
            protocol=protocol(),
            acknowledged_sequence=self._runtime.acknowledged(host, run, incarnation),
        )
        stream.put(trainer_pb2.AttachResponse(welcome=welcome))
        reader = self._begin(self._read(requests, first, stream))
        # A call that its client leaves is cancelled, here and in every wait of a `finally`: what
        # must be done at the end is done by a task of ours.
        reader.add_done_callback(lambda _: self._over(stream))
        try:
            while (message := await stream.down.get()) is not None:
                yield message
        finally:
            reader.cancel()

    async def _greeting(
        self, host: str, requests: AsyncIterator[trainer_pb2.AttachRequest]
    ) -> trainer_pb2.AttachRequest:
        try:
            async with asyncio.timeout(HELLO_S):
                first = await anext(requests)
        except (TimeoutError, StopAsyncIteration):
            raise RefusedError(grpc.StatusCode.DEADLINE_EXCEEDED, "no greeting came") from None
        if first.WhichOneof("payload") != "hello":
            raise RefusedError(
                grpc.StatusCode.INVALID_ARGUMENT, "the first message must be a hello"
            )
        problem = refusal(first.hello.protocol, who="trainer")
        if problem:
            raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, problem)
        run, incarnation = first.envelope.run, first.envelope.incarnation
        if not self._tokens.valid(run, incarnation, first.hello.token):
            raise RefusedError(
                grpc.StatusCode.UNAUTHENTICATED, "the token is not of this run and incarnation"
            )
        known = self._runtime.state.runs.get(run)
        if known is None or known.incarnation != incarnation or host not in known.members:
            now = known.incarnation if known else 0
            raise RefusedError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"incarnation {incarnation} of run {run} is over; the present one is {now}",
            )
        return first

    async def _read(
        self,
        requests: AsyncIterator[trainer_pb2.AttachRequest],
        first: trainer_pb2.AttachRequest,
        stream: _Stream,
    ) -> None:
        """Take everything the trainer says; end the stream when that is over."""
        run = stream.run
        try:
            if not await self._greeted(first, stream):
                return
            async for request in requests:
                if not await self._heard(request, stream):
                    return
            stream.end("the trainer closed the stream")
        except (MailboxOverflow, JournalFullError) as error:
            stream.end(str(error))
        except Exception as error:
            log.exception("link_broken", run=run)
            stream.end(f"{type(error).__name__}: {error}")

    async def _greeted(self, first: trainer_pb2.AttachRequest, stream: _Stream) -> bool:
        for pulse in self._pulses(stream):
            host = first.envelope.sender.rpartition("/")[2]
            pulse.greeted(first.hello, host, self._clock.now())
        if stream.host:
            # The process before it may have had newer ones than this one finds.
            self._telemetry.of(stream.run, stream.host).snapshot_step = 0
        attached = TrainerAttached(
            run=stream.run,
            host=stream.host,
            incarnation=stream.incarnation,
            phase=codec.phase_of(first.hello.phase),
            step=first.hello.step,
            dropped_reports=first.hello.dropped_reports,
            awaits=first.hello.awaits,
            times=activity_times(first.hello.times),
        )
        outcome = await self._runtime.post(attached)
        if outcome.ignored is not None:
            stream.end(outcome.ignored)
        return outcome.ignored is None

    async def _heard(self, request: trainer_pb2.AttachRequest, stream: _Stream) -> bool:
        """Take one message; False: the stream has ended because of it."""
        if request.envelope.incarnation != stream.incarnation:
            self._metrics.stale.labels("AttachRequest").inc()
            return True
        match request.WhichOneof("payload"):
            case "event":
                await self._lifecycle(request, stream)
            case "step_report":
                self._told(request.step_report.times, stream)
                self._step_report(request.step_report, stream)
                await self._progress(request.step_report, stream)
            case "heartbeat":
                self._told(request.heartbeat.times, stream)
                for pulse in self._pulses(stream):
                    pulse.heard_at = self._clock.now()
                    pulse.resident_bytes = request.heartbeat.resident_bytes
                    pulse.device_bytes = request.heartbeat.device_bytes
                self._metrics.heartbeat(request.heartbeat, stream.host)
            case None:
                pass  # Something that a later minor version says.
            case other:
                stream.end(f"an unexpected message: {other}")
                return False
        return True

    async def _lifecycle(self, request: trainer_pb2.AttachRequest, stream: _Stream) -> None:
        sequence, told = request.envelope.sequence, request.event
        told.run, told.incarnation, told.host = stream.run, stream.incarnation, stream.host
        raised = told.fault_raised
        if raised.fault.awaits_decision and not raised.question:
            raised.question = sequence
        event = codec.decode_report(told)
        if event is None:
            # It would come again and again if it were not acknowledged.
            kind = told.WhichOneof("payload")
            log.warning("report_not_understood", run=stream.run, sequence=sequence, payload=kind)
        else:
            for pulse in self._pulses(stream):
                pulse.progress_at = self._clock.now()
            sender = (stream.incarnation, sequence)
            outcome = await self._runtime.post(event, sender=sender)
            if outcome.duplicate:
                self._metrics.stale.labels(type(event).__name__).inc()
        answer = trainer_pb2.Acknowledged(sequence=sequence)
        stream.put(trainer_pb2.AttachResponse(acknowledged=answer))

    def _pulses(self, stream: _Stream) -> tuple[Pulse, ...]:
        """The pulse of the stream's process, and the run's if that process speaks for it."""
        if not stream.host:
            return (self._telemetry.of(stream.run),)
        mine = self._telemetry.of(stream.run, stream.host)
        return (mine, self._telemetry.of(stream.run)) if self._speaks(stream) else (mine,)

    def _speaks(self, stream: _Stream) -> bool:
        """Whether the stream's process speaks for its run: one process of a gang does."""
        run = self._runtime.state.runs.get(stream.run)
        trainer = run.trainer if run is not None else None
        return trainer is None or trainer.host == stream.host

    def _told(self, times: Sequence[timesheet_pb2.ActivityTime], stream: _Stream) -> None:
        now = self._clock.now()
        self._timesheets.told(stream.run, stream.incarnation, times, now, host=stream.host)

    def _step_report(self, report: trainer_pb2.StepReport, stream: _Stream) -> None:
        now, run = self._clock.now(), stream.run
        self._metrics.step_durations(run, report, stream.host)
        if stream.host:
            self._telemetry.of(run, stream.host).moved(report, now)
        if not self._speaks(stream):
            return
        pulse = self._telemetry.of(run)
        recovery_s = pulse.step_report(report, now)
        self._metrics.step_report(run, report, pulse)
        if recovery_s is not None:
            self._metrics.recovered(run, pulse.fault_class, recovery_s)

    async def _progress(self, report: trainer_pb2.StepReport, stream: _Stream) -> None:
        """Journal what of a report must outlive this daemon."""
        run = stream.run
        known = self._runtime.state.runs.get(run)
        if known is None or not self._speaks(stream):
            return
        snapshot = report.snapshot_step
        if self._sharded(run):
            snapshot = self._telemetry.snapshot_of_all(known)
        events = (first_loss(known, report), progressed(known, snapshot))
        for event in events:
            if event is None:
                continue
            try:
                await self._runtime.post(event)
            except (MailboxOverflow, JournalFullError) as error:
                # The next report says it again.
                log.warning("progress_not_recorded", run=run, error=str(error))

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _over(self, stream: _Stream) -> None:
        if self._streams.get((stream.run, stream.host)) is stream:
            del self._streams[stream.run, stream.host]
            self._begin(self._detached(stream))

    async def _detached(self, stream: _Stream) -> None:
        event = TrainerDetached(
            run=stream.run,
            incarnation=stream.incarnation,
            reason=stream.reason,
            host=stream.host,
        )
        try:
            await self._runtime.post(event)
        except (MailboxOverflow, JournalFullError) as error:
            log.warning("detach_not_recorded", run=stream.run, error=str(error))


def order_message(order: Order) -> trainer_pb2.AttachResponse:
    """The message of an order."""
    message = trainer_pb2.AttachResponse()
    match order:
        case Pause():
            message.pause.SetInParent()
        case Resume():
            message.resume.SetInParent()
        case Save(request_id=request_id):
            message.save_checkpoint.request_id = request_id
        case Stop(save=save, reason=reason):
            message.stop.save = save
            message.stop.reason = _finish_reason(message.stop, reason)  # type: ignore[assignment]
        case SetPolicy(message=policy, version=version):
            message.set_policy.policy.ParseFromString(policy)
            message.set_policy.version = version
        case Inject(armed=armed):
            codec.fill(message.inject, armed)
        case TakeProfile():
            codec.fill(message.profile, order)
        case Decision():
            descriptor = message.decision.DESCRIPTOR.fields_by_name["action"]
            message.decision.action = codec.enum_value(descriptor, order.action)  # type: ignore[assignment]
            message.decision.scope = order.scope
            message.decision.delay_s = order.delay_s
            message.decision.reason = order.reason
            message.decision.answers = order.answers
            message.decision.rollback_steps = order.rollback_steps
            message.decision.slot_parts = order.slot_parts
    return message


def _finish_reason(stop: trainer_pb2.StopTrainer, reason: FinishReason) -> int:
    return codec.enum_value(stop.DESCRIPTOR.fields_by_name["reason"], reason)
