"""A fake daemon: serves TrainerService on a Unix socket, journals in memory, obeys the test."""

from __future__ import annotations

import contextlib
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from fakes.launcher_process import wait_until
from trainerd.v1 import link_pb2, protocol, trainer_pb2, trainer_pb2_grpc
from trainerd.v1.mailbox import Inbox

SECRET = "secret"
_END = object()


@dataclass
class Stream:
    """One Attach call, as the daemon sees it."""

    hello: trainer_pb2.TrainerHello
    envelope: link_pb2.Envelope
    down: queue.Queue[object] = field(default_factory=queue.Queue)


class FakeDaemon(trainer_pb2_grpc.TrainerServiceServicer):
    """Keeps what it hears. `acknowledges` False: journals nothing, so nothing is acknowledged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.token = SECRET
        self.refuses: tuple[grpc.StatusCode, str] | None = None
        self.acknowledges = True
        self.streams: list[Stream] = []
        self.received: list[trainer_pb2.AttachRequest] = []
        self.journal: list[trainer_pb2.AttachRequest] = []
        self.step_reports: list[trainer_pb2.StepReport] = []
        self.heartbeats: list[trainer_pb2.Heartbeat] = []
        self.answers: Callable[[trainer_pb2.AttachRequest], object] = lambda message: None
        self.inbox = Inbox()
        self._server: grpc.Server | None = None

    @property
    def address(self) -> str:
        return f"unix:{self.path}"

    def start(self) -> FakeDaemon:
        self.path.unlink(missing_ok=True)
        self._server = grpc.server(
            futures.ThreadPoolExecutor(max_workers=8), options=protocol.SERVER_OPTIONS
        )
        trainer_pb2_grpc.add_TrainerServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(self.address)
        self._server.start()
        return self

    def stop(self) -> None:
        """The daemon dies: every stream is cut."""
        if self._server is not None:
            for stream in self.streams:
                stream.down.put(_END)
            self._server.stop(grace=0).wait(10)
            self._server = None

    def cut(self) -> None:
        """Cut the newest stream; the daemon itself goes on."""
        self.streams[-1].down.put(_END)

    def send(self, message: trainer_pb2.AttachResponse) -> None:
        self.streams[-1].down.put(message)

    def kinds(self) -> list[str]:
        """The journal, as names of event payloads."""
        return [str(message.event.WhichOneof("payload")) for message in self.journal]

    def events(self, kind: str) -> list[object]:
        return [
            getattr(message.event, kind)
            for message in self.journal
            if message.event.WhichOneof("payload") == kind
        ]

    def wait_event(self, kind: str, deadline_s: float = 20.0) -> object:
        wait_until(lambda: self.events(kind), f"an event {kind}, have {self.kinds()}", deadline_s)
        return self.events(kind)[-1]

    def wait_streams(self, count: int) -> Stream:
        wait_until(lambda: len(self.streams) >= count, f"{count} streams")
        return self.streams[count - 1]

    def Attach(self, request_iterator, context):
        first = next(request_iterator)
        if self.refuses is not None:
            context.abort(*self.refuses)
        if first.hello.token != self.token:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is not of this incarnation")
        stream = Stream(first.hello, first.envelope)
        run, incarnation = first.envelope.run, first.envelope.incarnation
        self.streams.append(stream)
        welcome = trainer_pb2.TrainerWelcome(
            protocol=protocol.protocol(),
            acknowledged_sequence=self.inbox.acknowledged(run, incarnation),
        )
        yield trainer_pb2.AttachResponse(welcome=welcome)
        reader = threading.Thread(
            target=self._read, args=(request_iterator, stream, run, incarnation)
        )
        reader.start()
        context.add_callback(lambda: stream.down.put(_END))
        while (message := stream.down.get()) is not _END:
            yield message
        context.cancel()
        reader.join(10)

    def _read(self, requests, stream: Stream, run: str, incarnation: int) -> None:
        with contextlib.suppress(grpc.RpcError):
            for message in requests:
                self.received.append(message)
                match message.WhichOneof("payload"):
                    case "event":
                        self._lifecycle(message, stream, run, incarnation)
                    case "step_report":
                        self.step_reports.append(message.step_report)
                    case "heartbeat":
                        self.heartbeats.append(message.heartbeat)
        stream.down.put(_END)

    def _lifecycle(self, message, stream: Stream, run: str, incarnation: int) -> None:
        if not self.acknowledges:
            return
        sequence = message.envelope.sequence
        if self.inbox.accept(run, incarnation, sequence):
            self.journal.append(message)
        stream.down.put(
            trainer_pb2.AttachResponse(
                acknowledged=trainer_pb2.Acknowledged(
                    sequence=self.inbox.acknowledged(run, incarnation)
                )
            )
        )
        answer = self.answers(message)
        if answer is not None:
            stream.down.put(answer)


@contextlib.contextmanager
def fake_daemon() -> Iterator[FakeDaemon]:
    """A running fake daemon on a short socket path."""
    root = Path(tempfile.mkdtemp(prefix="td-", dir="/tmp"))
    daemon = FakeDaemon(root / "a.sock").start()
    try:
        yield daemon
    finally:
        daemon.stop()
        shutil.rmtree(root, ignore_errors=True)
