"""The supervisor's end of the link to one host: its launcher and its trainers as if they were here.

What the launcher's watch says is posted in its order. Each trainer's stream is served as one that
came over this host's own socket. Calls go down with a number and come back as answers.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import grpc
import structlog

from trainerd.daemon.cluster.facts import HostFacts
from trainerd.daemon.cluster.tunnel import error_of, stub
from trainerd.daemon.cluster.waiting import Waiting
from trainerd.daemon.launcher_calls import LauncherCalls
from trainerd.daemon.launcher_watch import LauncherWatch
from trainerd.daemon.links import RefusedError, TrainerLinks
from trainerd.daemon.runtime import JournalFullError
from trainerd.v1 import host_pb2, launcher_pb2, launcher_pb2_grpc, trainer_pb2
from trainerd.v1.mailbox import MAILBOX_LIMIT, MailboxOverflow
from trainerd.v1.protocol import refusal

log = structlog.get_logger()

MAX_CALLS = 256
"""Calls of one launcher that may wait for their answers."""
MAX_STREAMS = 64
"""Trainers that may be attached over one link."""
ANSWER_S = 5.0
"""Seconds beyond a call's own deadline after which no answer is expected any more."""

_Said = launcher_pb2.WatchTrainersResponse | host_pb2.LinkEnd
_Requests = asyncio.Queue[trainer_pb2.AttachRequest | None]


class HostLink:
    """One joined host, for the life of its link."""

    def __init__(
        self,
        host: str,
        watch: LauncherWatch,
        trainers: TrainerLinks,
        facts: HostFacts,
        *,
        instance: str = "",
        peer: str = "",
    ) -> None:
        """`instance`: of the host's daemon; `peer`: where it is."""
        self.host, self.instance, self.peer = host, instance, peer
        self.waiting: Waiting[host_pb2.HostOrder] = Waiting()
        self.calls = LauncherCalls(self._linked)
        self._stub = stub(self._carry)
        self._watch = watch
        self._trainers = trainers
        self._facts = facts
        self._launcher_linked = False
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[bytes]] = {}
        self._streams: dict[int, _Requests] = {}
        self._said: asyncio.Queue[_Said] = asyncio.Queue(MAILBOX_LIMIT)
        self._tasks: set[asyncio.Task[None]] = set()
        self._begin(self._watched())

    def heard(self, report: host_pb2.HostReport) -> None:
        """Take one thing that the host says. Must not block; what is too much ends the link."""
        match report.WhichOneof("payload"):
            case "pulse":
                self._pulse(report.pulse)
            case "trainer":
                self._trainer(report.trainer)
            case "answer":
                self._answer(report.answer)
            case "launcher":
                self._launcher(report.launcher)
            case "launcher_end":
                self._launcher(report.launcher_end)
            case _:
                pass  # Something that a later minor version says.

    async def close(self, reason: str) -> None:
        """The link is lost: whoever waits for something over it is told; trainers are detached."""
        self.waiting.end(reason)
        self._launcher_linked = False
        end = host_pb2.LinkEnd(code=grpc.StatusCode.UNAVAILABLE.value[0], details=reason)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(error_of(end))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # The launcher.

    def _linked(self) -> launcher_pb2_grpc.LauncherServiceAsyncStub:
        if not self._launcher_linked:
            raise OSError(f"the launcher of host {self.host} is not linked")
        return self._stub

    async def _carry(self, call: host_pb2.LauncherCall) -> bytes:
        if len(self._answers) >= MAX_CALLS:
            raise OSError(f"{MAX_CALLS} calls wait for host {self.host}, limit {MAX_CALLS}")
        call.call = next(self._numbers)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answers[call.call] = answer
        self.waiting.put(host_pb2.HostOrder(call=call))
        try:
            async with asyncio.timeout(call.timeout_s + ANSWER_S):
                return await answer
        except TimeoutError:
            end = host_pb2.LinkEnd(
                code=grpc.StatusCode.DEADLINE_EXCEEDED.value[0],
                details=f"host {self.host} did not answer",
            )
            raise error_of(end) from None
        finally:
            del self._answers[call.call]

    def _answer(self, message: host_pb2.LauncherAnswer) -> None:
        answer = self._answers.get(message.call)
        if answer is None or answer.done():
            return  # Nobody waits for it any more.
        if message.WhichOneof("answer") == "response":
            answer.set_result(message.response)
        else:
            answer.set_exception(error_of(message.failed))

    def _launcher(self, said: _Said) -> None:
        if self._said.full():
            self.waiting.end(f"{MAILBOX_LIMIT} messages of its launcher wait")
        else:
            self._said.put_nowait(said)

    async def _watched(self) -> None:
        """Post what the launcher's watch says, one after the other."""
        while True:
            said = await self._said.get()
            try:
                await self._tell(said)
            except (MailboxOverflow, JournalFullError) as error:
                # The next link begins with the whole situation.
                self.waiting.end(str(error))
                return

    async def _tell(self, said: _Said) -> None:
        if isinstance(said, host_pb2.LinkEnd):
            if self._launcher_linked:
                self._launcher_linked = False
                await self._watch.lost(said.details)
        elif said.WhichOneof("payload") == "hello":
            problem = refusal(said.hello.protocol, who=f"launcher of host {self.host}")
            if problem:
                log.warning("launcher_refused", host=self.host, problem=problem)
                return
            # Whoever is told of it may ask for something at once.
            self._launcher_linked = True
            await self._watch.attached(said.hello)
        else:
            await self._watch.exited(said.exit)

    # Trainers.

    def _trainer(self, report: host_pb2.TrainerReport) -> None:
        requests = self._streams.get(report.stream)
        if report.WhichOneof("payload") == "end":
            if requests is not None:
                _end(requests)
            return
        if requests is None:
            if report.request.WhichOneof("payload") != "hello":
                return  # The rest of a stream that has ended here.
            if len(self._streams) >= MAX_STREAMS:
                return self._over(report.stream, grpc.StatusCode.RESOURCE_EXHAUSTED, "too many")
            requests = self._streams[report.stream] = asyncio.Queue(MAILBOX_LIMIT)
            self._begin(self._serve(report.stream, requests))
        if requests.full():
            _end(requests)
        else:
            requests.put_nowait(report.request)
        return None

    async def _serve(self, stream: int, requests: _Requests) -> None:
        """One trainer's stream, until either end closes it."""
        code, details = grpc.StatusCode.OK, ""
        responses = self._trainers.attach(self.host, _each(requests))
        try:
            async for response in responses:
                order = host_pb2.TrainerOrder(stream=stream, response=response)
                self.waiting.put(host_pb2.HostOrder(trainer=order))
        except RefusedError as error:
            code, details = error.code, str(error)
        finally:
            # Its `finally` runs now, not when somebody collects it.
            await responses.aclose()
            del self._streams[stream]
        self._over(stream, code, details)

    def _over(self, stream: int, code: grpc.StatusCode, details: str) -> None:
        order = host_pb2.TrainerOrder(stream=stream)
        order.end.code, order.end.details = code.value[0], details
        self.waiting.put(host_pb2.HostOrder(trainer=order))

    # The host itself.

    def _pulse(self, pulse: host_pb2.Pulse) -> None:
        self._facts.pulse(self.host, pulse)
        if pulse.sent_ns:
            now = time.time_ns()
            answer = host_pb2.PulseAnswer(sent_ns=pulse.sent_ns, received_ns=now, answered_ns=now)
            self.waiting.put(host_pb2.HostOrder(time=answer))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("host_link_defect", host=self.host, error=repr(error))
            self.waiting.end(f"a defect of trainerd: {error!r}")


async def _each(requests: _Requests) -> AsyncIterator[trainer_pb2.AttachRequest]:
    while (request := await requests.get()) is not None:
        yield request


def _end(requests: _Requests) -> None:
    """Let a stream end: what waits is lost, and will be said again."""
    while not requests.empty():
        requests.get_nowait()
    requests.put_nowait(None)
