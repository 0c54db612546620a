"""TrainerService: the daemon's end of the links to its trainers.

One bidirectional stream a trainer. Lifecycle reports are journalled before they are acknowledged;
duplicates and reports of past incarnations are counted no-ops. A link that overflows or breaks is
closed; the trainer attaches again and sends what was not acknowledged.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import structlog

from trainerd.daemon import codec
from trainerd.daemon.clock import Clock
from trainerd.daemon.metrics import Metrics
from trainerd.daemon.runtime import JournalFullError, Runtime
from trainerd.daemon.supervision.commands import Order, Pause, Resume, Save, Stop
from trainerd.daemon.supervision.events import (
    Event,
    FinishReason,
    TrainerAttached,
    TrainerDetached,
)
from trainerd.daemon.supervision.faults import Decision
from trainerd.daemon.telemetry import Telemetry
from trainerd.v1 import trainer_pb2, trainer_pb2_grpc
from trainerd.v1.mailbox import MAILBOX_LIMIT, MailboxOverflow
from trainerd.v1.protocol import protocol, refusal

log = structlog.get_logger()

HELLO_S = 10.0
"""Seconds a fresh stream may take to greet."""

_Context = grpc.aio.ServicerContext[trainer_pb2.AttachRequest, trainer_pb2.AttachResponse]


class Tokens:
    """The secret of each incarnation, derived from one key on disk: nothing to store or to lose."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.touch(mode=0o600)
            path.write_bytes(secrets.token_bytes(32))
        self._key = path.read_bytes()

    def of(self, run: str, incarnation: int) -> str:
        """The token of this incarnation, in hexadecimal."""
        text = f"{run}:{incarnation}".encode()
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()

    def valid(self, run: str, incarnation: int, token: str) -> bool:
        """Whether this is that token; in constant time."""
        return hmac.compare_digest(self.of(run, incarnation), token)


class TrainerLinks(trainer_pb2_grpc.TrainerServiceServicer):
    """Serves `Attach` and sends orders to attached trainers."""

    def __init__(
        self, runtime: Runtime, telemetry: Telemetry, metrics: Metrics, clock: Clock, tokens: Tokens
    ) -> None:
        self._runtime = runtime
        self._telemetry = telemetry
        self._metrics = metrics
        self._clock = clock
        self._tokens = tokens
        self._down: dict[str, asyncio.Queue[trainer_pb2.AttachResponse | None]] = {}

    def send(self, run: str, incarnation: int, order: Order) -> None:
        """Send an order, if the trainer is attached; a re-attach repeats what matters."""
        queue = self._down.get(run)
        if queue is None:
            return
        message = order_message(order)
        message.envelope.run, message.envelope.incarnation = run, incarnation
        message.envelope.sender = "supervisor"
        self._put(queue, message)

    def close(self) -> None:
        """End every stream; the trainers go on and attach to the next daemon."""
        for queue in self._down.values():
            self._put(queue, None)

    async def Attach(  # noqa: N802 - gRPC's name
        self, request_iterator: AsyncIterator[trainer_pb2.AttachRequest], context: _Context
    ) -> AsyncIterator[trainer_pb2.AttachResponse]:
        """See trainer.proto."""
        first = await self._greeting(request_iterator, context)
        run, incarnation = first.envelope.run, first.envelope.incarnation
        queue: asyncio.Queue[trainer_pb2.AttachResponse | None] = asyncio.Queue(MAILBOX_LIMIT)
        older = self._down.get(run)
        if older is not None:
            self._put(older, None)
        self._down[run] = queue
        reason = "the trainer closed the stream"
        welcome = trainer_pb2.TrainerWelcome(
            protocol=protocol(),
            acknowledged_sequence=self._runtime.inbox.acknowledged(run, incarnation),
        )
        yield trainer_pb2.AttachResponse(welcome=welcome)
        reader = asyncio.create_task(self._read(request_iterator, first, queue))
        try:
            while (message := await queue.get()) is not None:
                yield message
            reason = "replaced by a newer stream, or overflowed"
        finally:
            if not reader.done():
                reader.cancel()
            try:
                reason = await reader
            except asyncio.CancelledError:
                pass
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
            if self._down.get(run) is queue:
                del self._down[run]
                await self._detached(run, incarnation, reason)

    async def _greeting(
        self, requests: AsyncIterator[trainer_pb2.AttachRequest], context: _Context
    ) -> trainer_pb2.AttachRequest:
        try:
            async with asyncio.timeout(HELLO_S):
                first = await anext(aiter(requests))
        except (TimeoutError, StopAsyncIteration):
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "no greeting came")
        if first.WhichOneof("payload") != "hello":
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, "the first message must be a hello"
            )
        problem = refusal(first.hello.protocol, who="trainer")
        if problem:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, problem)
        run, incarnation = first.envelope.run, first.envelope.incarnation
        if not self._tokens.valid(run, incarnation, first.hello.token):
            await context.abort(
                grpc.StatusCode.UNAUTHENTICATED, "the token is not of this run and incarnation"
            )
        known = self._runtime.state.runs.get(run)
        if known is None or known.trainer is None or known.incarnation != incarnation:
            now = known.incarnation if known else 0
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"incarnation {incarnation} of run {run} is over; the present one is {now}",
            )
        return first

    async def _read(
        self,
        requests: AsyncIterator[trainer_pb2.AttachRequest],
        first: trainer_pb2.AttachRequest,
        queue: asyncio.Queue[trainer_pb2.AttachResponse | None],
    ) -> str:
        """Take everything the trainer says; return why it stopped. Ends the writer too."""
        run, incarnation = first.envelope.run, first.envelope.incarnation
        pulse = self._telemetry.of(run)
        pulse.heard_at = pulse.progress_at = self._clock.now()
        attached = TrainerAttached(
            run=run,
            incarnation=incarnation,
            phase=codec.phase_of(first.hello.phase),
            step=first.hello.step,
            dropped_reports=first.hello.dropped_reports,
        )
        try:
            await self._runtime.post(attached)
            async for request in requests:
                match request.WhichOneof("payload"):
                    case "event":
                        await self._lifecycle(run, incarnation, request, queue)
                    case "step_report":
                        self._step_report(run, request.step_report)
                    case "heartbeat":
                        pulse.heard_at = self._clock.now()
                        pulse.resident_bytes = request.heartbeat.resident_bytes
                        pulse.device_bytes = request.heartbeat.device_bytes
                    case other:
                        return f"an unexpected message: {other}"
            return "the trainer closed the stream"
        except (MailboxOverflow, JournalFullError) as error:
            return str(error)
        finally:
            self._put(queue, None)

    async def _lifecycle(
        self,
        run: str,
        incarnation: int,
        request: trainer_pb2.AttachRequest,
        queue: asyncio.Queue[trainer_pb2.AttachResponse | None],
    ) -> None:
        sequence = request.envelope.sequence
        request.event.run, request.event.incarnation = run, incarnation
        acknowledged = self._runtime.inbox.acknowledged(run, incarnation)
        if sequence > acknowledged:
            event: Event = codec.decode(request.event)  # type: ignore[assignment]
            self._telemetry.of(run).progress_at = self._clock.now()
            await self._runtime.post(event, sender=(incarnation, sequence))
        self._runtime.inbox.accept(run, incarnation, sequence)
        answer = trainer_pb2.Acknowledged(sequence=max(sequence, acknowledged))
        self._put(queue, trainer_pb2.AttachResponse(acknowledged=answer))

    def _step_report(self, run: str, report: trainer_pb2.StepReport) -> None:
        pulse = self._telemetry.of(run)
        recovery_s = pulse.step_report(report, self._clock.now())
        self._metrics.step_report(run, report, pulse)
        if recovery_s is not None:
            self._metrics.recovered(run, pulse.fault_class, recovery_s)

    async def _detached(self, run: str, incarnation: int, reason: str) -> None:
        event = TrainerDetached(run=run, incarnation=incarnation, reason=reason)
        try:
            await self._runtime.post(event)
        except (MailboxOverflow, JournalFullError) as error:
            log.warning("detach_not_recorded", run=run, error=str(error))

    def _put(
        self,
        queue: asyncio.Queue[trainer_pb2.AttachResponse | None],
        message: trainer_pb2.AttachResponse | None,
    ) -> None:
        """Queue a message for a stream; a stream that does not drain is closed, never waited for."""
        try:
            queue.put_nowait(message)
        except asyncio.QueueFull:
            while not queue.empty():
                queue.get_nowait()
            queue.put_nowait(None)


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
        case Decision():
            descriptor = message.decision.DESCRIPTOR.fields_by_name["action"]
            message.decision.action = codec.enum_value(descriptor, order.action)  # type: ignore[assignment]
            message.decision.scope = order.scope
            message.decision.delay_s = order.delay_s
            message.decision.reason = order.reason
    return message


def _finish_reason(stop: trainer_pb2.StopTrainer, reason: FinishReason) -> int:
    return codec.enum_value(stop.DESCRIPTOR.fields_by_name["reason"], reason)
