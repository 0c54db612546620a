"""A trainer's link to its daemon: comes and goes, and never holds up a step.

One thread owns it. It connects, greets with the whole situation, sends what the outbox holds and a
heartbeat a second, and connects again when the stream is lost, for as long as the process lives.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from trainerd.actors.trainer.connection import Connection, Ending
from trainerd.actors.trainer.messages import phase_name
from trainerd.actors.trainer.situation import Situation, resident_bytes
from trainerd.v1 import link_pb2, protocol, timesheet_pb2, trainer_pb2
from trainerd.v1.mailbox import Numbered, Outbox

HEARTBEAT_S = 1.0
WELCOME_TIMEOUT_S = 10.0
BACKOFF_S = 0.1
BACKOFF_MAX_S = 1.0
CLOSE_TIMEOUT_S = 10.0
_SLICE_S = 0.1
"""How long a lost stream may go unnoticed by the sending thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who speaks, to whom, and the secret that proves it."""

    run: str
    incarnation: int
    host: str
    address: str
    token: str = field(repr=False)
    pid: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """What the link tells its process; called from the link's threads, must not block."""

    commanded: Callable[[trainer_pb2.AttachResponse], None]
    orphaned: Callable[[], None]
    refused: Callable[[str], None]


class Link:
    """Keeps a trainer attached. `orphan_grace_s` without a daemon: `orphaned`, once.

    `awaited`: the question that waits for a decision now, or 0; the greeting says it. `telemetry`:
    asked ten times a second and before each report for what there is to tell beside the outbox.
    `times`: how the process has spent its time. `look` is called at least every few seconds,
    linked or not; from the link's thread, as the others.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        outbox: Outbox[trainer_pb2.AttachRequest],
        situation: Situation,
        listener: Listener,
        orphan_grace_s: float,
        awaited: Callable[[], int] = lambda: 0,
        telemetry: Callable[[], trainer_pb2.AttachRequest | None] = lambda: None,
        times: Callable[[], Sequence[timesheet_pb2.ActivityTime]] = lambda: (),
        look: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._identity = identity
        self._outbox = outbox
        self._situation = situation
        self._listener = listener
        self._orphan_grace_s = orphan_grace_s
        self._awaited = awaited
        self._telemetry = telemetry
        self._times = times
        self._look = look
        self._clock = clock
        self._closing = threading.Event()
        self._reset = threading.Event()
        self._last_contact = clock()
        self._orphaned = False
        self._dropped_told = 0
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._thread.start()

    def reset(self) -> None:
        """Close the connection; the next greeting states the situation anew."""
        self._reset.set()

    def drain(self, timeout_s: float) -> bool:
        """Wait until the daemon has journalled every lifecycle report; whether it has."""
        self._outbox.wait_acknowledged(timeout_s)
        return len(self._outbox) == 0

    def close(self) -> None:
        """End the link and its threads."""
        self._closing.set()
        self._outbox.close()
        connection = self._connection
        if connection is not None:
            connection.cancel()
        if self._thread.is_alive():
            self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        backoff_s = BACKOFF_S
        while not self._closing.is_set():
            self._reset.clear()
            self._look()
            try:
                welcomed, refusal = self._connect()
            except Exception:
                # Training goes on without a link; a defect here must be seen, and tried again.
                traceback.print_exc()
                welcomed, refusal = False, None
            if self._closing.is_set():
                return
            if refusal is not None:
                self._listener.refused(refusal)
                return
            if welcomed:
                backoff_s = BACKOFF_S
            self._notice_orphanhood()
            self._closing.wait(backoff_s)
            backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)

    def _connect(self) -> tuple[bool, str | None]:
        """One connection from start to end: whether there was a welcome, or why never again."""
        self._connection = connection = Connection(self._identity.address, self._hear)
        try:
            # `close` sets the flag before it looks for a connection to cancel.
            welcomed = not self._closing.is_set() and self._converse(connection)
        finally:
            connection.close()
        if welcomed and not self._closing.is_set():
            print(f"trainerd: link to the daemon lost: {connection.reason}", file=sys.stderr)
        return welcomed, connection.reason if connection.ending is Ending.REFUSED else None

    def _converse(self, connection: Connection) -> bool:
        """Talk until the stream is lost; return whether there was a welcome."""
        dropped = self._outbox.dropped
        welcome = connection.greet(self._hello(dropped - self._dropped_told), WELCOME_TIMEOUT_S)
        if welcome is None:
            return False
        self._dropped_told = dropped
        self._outbox.rewind(welcome.acknowledged_sequence)
        next_heartbeat = self._clock()
        while not (connection.over or self._closing.is_set() or self._reset.is_set()):
            self._last_contact = self._clock()
            lifecycle, telemetry = self._outbox.take(_SLICE_S)
            if (latest := self._telemetry()) is not None:
                telemetry.append(latest)
            self._look()
            # Steps first: a fault or an end comes after the steps before it.
            messages = [self._enveloped(message, 0) for message in telemetry]
            messages += [self._numbered(report) for report in lifecycle]
            if self._clock() >= next_heartbeat:
                next_heartbeat = self._clock() + HEARTBEAT_S
                messages.append(self._heartbeat())
            if not all(connection.say(message) for message in messages):
                break
        return True

    def _hear(self, message: trainer_pb2.AttachResponse) -> None:
        run = message.envelope.run
        if run and run != self._identity.run:
            print(f"trainerd: a message for {run!r} came here and is ignored", file=sys.stderr)
        elif message.WhichOneof("payload") == "acknowledged":
            self._outbox.acknowledge(message.acknowledged.sequence)
        else:
            self._listener.commanded(message)

    def _notice_orphanhood(self) -> None:
        alone_s = self._clock() - self._last_contact
        if not self._orphaned and alone_s >= self._orphan_grace_s:
            self._orphaned = True
            print(f"trainerd: no daemon for {alone_s:.0f} s: saving and ending", file=sys.stderr)
            self._listener.orphaned()

    def _hello(self, dropped: int) -> trainer_pb2.AttachRequest:
        phase, step = self._situation.now()
        hello = trainer_pb2.TrainerHello(
            protocol=protocol.protocol(),
            token=self._identity.token,
            phase=phase_name(phase),
            step=step,
            pid=self._identity.pid,
            dropped_reports=dropped,
            versions=self._identity.versions,
            awaits=self._awaited(),
            times=self._times(),
        )
        return self._enveloped(trainer_pb2.AttachRequest(hello=hello), 0)

    def _heartbeat(self) -> trainer_pb2.AttachRequest:
        phase, step = self._situation.now()
        beat = trainer_pb2.Heartbeat(
            phase=phase_name(phase),
            step=step,
            resident_bytes=resident_bytes(),
            times=self._times(),
        )
        return self._enveloped(trainer_pb2.AttachRequest(heartbeat=beat), 0)

    def _numbered(self, report: Numbered[trainer_pb2.AttachRequest]) -> trainer_pb2.AttachRequest:
        return self._enveloped(report.message, report.sequence)

    def _enveloped(
        self, message: trainer_pb2.AttachRequest, sequence: int
    ) -> trainer_pb2.AttachRequest:
        enveloped = trainer_pb2.AttachRequest()
        enveloped.CopyFrom(message)
        enveloped.envelope.CopyFrom(
            link_pb2.Envelope(
                run=self._identity.run,
                sender=f"trainer/{self._identity.host}",
                incarnation=self._identity.incarnation,
                sequence=sequence,
            )
        )
        return enveloped
