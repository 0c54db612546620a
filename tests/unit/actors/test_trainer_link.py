"""A trainer's link against a fake daemon: comes, goes, loses nothing, says nothing twice."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc
import pytest

from fakes.daemon import SECRET, FakeDaemon, fake_daemon
from fakes.launcher_process import wait_until
from trainerd.actors.reports import Phase
from trainerd.actors.trainer.link import Identity, Link, Listener
from trainerd.actors.trainer.situation import Situation
from trainerd.v1 import event_pb2, link_pb2, protocol, trainer_pb2
from trainerd.v1.mailbox import Outbox


@dataclass
class Trainer:
    """A link and what it told its process."""

    link: Link
    outbox: Outbox[trainer_pb2.AttachRequest]
    situation: Situation
    commands: list[trainer_pb2.AttachResponse]
    orphaned: threading.Event
    refused: list[str]

    def post(self, slots: int) -> None:
        event = event_pb2.Event(slots_fixed=event_pb2.SlotsFixed(slots=slots))
        self.outbox.post(trainer_pb2.AttachRequest(event=event))


@contextlib.contextmanager
def trainer(
    daemon: FakeDaemon,
    *,
    orphan_grace_s: float = 600.0,
    token: str = SECRET,
    limit: int = 1024,
    clock: Callable[[], float] = time.monotonic,
    awaited: Callable[[], int] = lambda: 0,
    telemetry: Callable[[], trainer_pb2.AttachRequest | None] = lambda: None,
) -> Iterator[Trainer]:
    outbox: Outbox[trainer_pb2.AttachRequest] = Outbox(limit)
    situation = Situation()
    commands: list[trainer_pb2.AttachResponse] = []
    refused: list[str] = []
    orphaned = threading.Event()
    listener = Listener(commanded=commands.append, orphaned=orphaned.set, refused=refused.append)
    identity = Identity(
        run="r-1",
        incarnation=3,
        host="h",
        address=daemon.address,
        token=token,
        pid=42,
        versions={"python": "3"},
    )
    link = Link(
        identity=identity,
        outbox=outbox,
        situation=situation,
        listener=listener,
        orphan_grace_s=orphan_grace_s,
        clock=clock,
        awaited=awaited,
        telemetry=telemetry,
    )
    made = Trainer(link, outbox, situation, commands, orphaned, refused)
    link.start()
    try:
        yield made
    finally:
        link.close()


def slots_of(daemon: FakeDaemon) -> list[int]:
    return [event.slots for event in daemon.events("slots_fixed")]  # type: ignore[attr-defined]


def test_the_greeting_states_who_and_where_it_is():
    with fake_daemon() as daemon, trainer(daemon) as me:
        stream = daemon.wait_streams(1)
        assert stream.hello.protocol == protocol.protocol()
        assert (stream.hello.token, stream.hello.pid) == (SECRET, 42)
        assert stream.hello.phase == 1
        assert stream.hello.versions["python"] == "3"
        envelope = stream.envelope
        assert (envelope.run, envelope.sender, envelope.incarnation) == ("r-1", "trainer/h", 3)
        assert envelope.sequence == 0
        me.situation.enter(Phase.STEP, 17)
        daemon.cut()
        again = daemon.wait_streams(2).hello
        assert (again.phase, again.step) == (6, 17)


def test_every_greeting_names_the_fault_that_waits_for_a_decision():
    waits = [0]
    with fake_daemon() as daemon, trainer(daemon, awaited=lambda: waits[0]):
        assert daemon.wait_streams(1).hello.awaits == 0
        waits[0] = 5
        daemon.cut()
        assert daemon.wait_streams(2).hello.awaits == 5


def test_reports_arrive_in_order_and_are_acknowledged():
    with fake_daemon() as daemon, trainer(daemon) as me:
        for n in range(1, 6):
            me.post(n)
        assert me.link.drain(20.0)
        assert slots_of(daemon) == [1, 2, 3, 4, 5]
        assert [m.envelope.sequence for m in daemon.journal] == [1, 2, 3, 4, 5]


def test_after_a_reconnect_only_what_is_not_journalled_is_sent_again():
    with fake_daemon() as daemon, trainer(daemon) as me:
        me.post(1)
        assert me.link.drain(20.0)
        daemon.acknowledges = False
        me.post(2)
        wait_until(lambda: [m for m in daemon.received if m.envelope.sequence == 2], "report 2")
        before = len(daemon.received)
        daemon.acknowledges = True
        daemon.cut()
        daemon.wait_streams(2)
        assert me.link.drain(20.0)
        assert slots_of(daemon) == [1, 2]
        resent = [m.envelope.sequence for m in daemon.received[before:] if m.HasField("event")]
        assert resent == [2]


def test_reports_made_while_the_daemon_is_gone_arrive_when_it_is_back():
    with fake_daemon() as daemon, trainer(daemon) as me:
        me.post(1)
        assert me.link.drain(20.0)
        daemon.stop()
        me.post(2)
        me.post(3)
        daemon.start()
        assert me.link.drain(20.0)
        assert slots_of(daemon) == [1, 2, 3]
        assert daemon.inbox.duplicates == 0


def test_a_trainer_waits_for_a_daemon_that_is_not_there_yet():
    with fake_daemon() as daemon:
        daemon.stop()
        with trainer(daemon) as me:
            me.post(1)
            daemon.start()
            assert me.link.drain(20.0)
            assert slots_of(daemon) == [1]


def test_posting_never_waits_for_the_daemon():
    with fake_daemon() as daemon:
        daemon.stop()
        with trainer(daemon) as me:
            for n in range(1000):
                me.post(n)
            assert len(me.outbox) == 1000
            assert not me.link.drain(0.0)


def test_heartbeats_say_where_the_trainer_is():
    with fake_daemon() as daemon, trainer(daemon) as me:
        me.situation.enter(Phase.STEP, 5)
        wait_until(lambda: any(b.step == 5 for b in daemon.heartbeats), "a heartbeat")
        beat = next(b for b in daemon.heartbeats if b.step == 5)
        assert beat.phase == 6
        assert beat.resident_bytes > 1_000_000


def test_what_there_is_to_tell_of_steps_is_asked_for_and_told():
    steps = queue.SimpleQueue[int]()

    def telemetry() -> trainer_pb2.AttachRequest | None:
        with contextlib.suppress(queue.Empty):
            report = trainer_pb2.StepReport(step=steps.get_nowait())
            return trainer_pb2.AttachRequest(step_report=report)
        return None

    with fake_daemon() as daemon, trainer(daemon, telemetry=telemetry) as me:
        daemon.wait_streams(1)
        steps.put(7)
        wait_until(lambda: [r.step for r in daemon.step_reports] == [7], "the step")
        # What happened after a step comes after it.
        steps.put(8)
        me.post(1)
        assert me.link.drain(20.0)
        payloads = [m.WhichOneof("payload") for m in daemon.received]
        told = [kind for kind in payloads if kind in ("step_report", "event")]
        assert told == ["step_report", "step_report", "event"]
        assert [r.step for r in daemon.step_reports] == [7, 8]


def test_commands_reach_the_process():
    with fake_daemon() as daemon, trainer(daemon) as me:
        daemon.wait_streams(1)
        daemon.send(trainer_pb2.AttachResponse(pause=trainer_pb2.PauseTrainer()))
        daemon.send(
            trainer_pb2.AttachResponse(
                save_checkpoint=trainer_pb2.SaveCheckpoint(request_id="q"),
                envelope=link_pb2.Envelope(run="r-1"),
            )
        )
        wait_until(lambda: len(me.commands) == 2, "two commands")
        assert [c.WhichOneof("payload") for c in me.commands] == ["pause", "save_checkpoint"]


def test_a_command_for_another_run_is_ignored():
    with fake_daemon() as daemon, trainer(daemon) as me:
        daemon.wait_streams(1)
        stray = trainer_pb2.AttachResponse(
            stop=trainer_pb2.StopTrainer(), envelope=link_pb2.Envelope(run="other")
        )
        daemon.send(stray)
        daemon.send(trainer_pb2.AttachResponse(resume=trainer_pb2.ResumeTrainer()))
        wait_until(lambda: me.commands, "a command")
        assert [c.WhichOneof("payload") for c in me.commands] == ["resume"]


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.FAILED_PRECONDITION]
)
def test_a_refused_greeting_ends_the_link_for_ever(code):
    with fake_daemon() as daemon:
        daemon.refuses = (code, "incarnation 3 is over")
        with trainer(daemon) as me:
            wait_until(lambda: me.refused, "the refusal")
            assert "incarnation 3 is over" in me.refused[0]
            daemon.refuses = None
            me.link.close()
            assert daemon.streams == []


def test_a_wrong_token_is_refused():
    with fake_daemon() as daemon, trainer(daemon, token=SECRET + "?") as me:
        wait_until(lambda: me.refused, "the refusal")
        assert "UNAUTHENTICATED" in me.refused[0]


def test_any_other_failure_of_the_greeting_is_tried_again():
    with fake_daemon() as daemon:
        daemon.refuses = (grpc.StatusCode.INTERNAL, "not yet")
        with trainer(daemon) as me:
            me.post(1)
            assert not me.link.drain(0.3)
            daemon.refuses = None
            assert me.link.drain(20.0)
            assert me.refused == []


def test_without_a_daemon_for_the_grace_the_trainer_is_an_orphan_once():
    with fake_daemon() as daemon:
        daemon.stop()
        with trainer(daemon, orphan_grace_s=0.2) as me:
            assert me.orphaned.wait(20.0)
            me.orphaned.clear()
            me.post(1)
            daemon.start()
            assert me.link.drain(20.0)
            assert not me.orphaned.is_set()


def test_a_daemon_that_comes_back_within_the_grace_begins_it_anew():
    now_s = [0.0]
    with fake_daemon() as daemon, trainer(daemon, clock=lambda: now_s[0]) as me:
        for stream in (1, 2, 3):
            daemon.wait_streams(stream)
            wait_until(lambda n=stream: len(daemon.heartbeats) >= n, "a heartbeat of this stream")
            now_s[0] += 500.0
            daemon.cut()
        daemon.wait_streams(4)
        assert not me.orphaned.is_set()


def test_the_greeting_after_an_overflow_says_how_many_reports_were_dropped():
    with fake_daemon() as daemon, trainer(daemon, limit=2) as me:
        daemon.acknowledges = False
        daemon.wait_streams(1)
        me.post(1)
        me.post(2)
        with contextlib.suppress(Exception):
            me.post(3)
        assert me.outbox.dropped == 3
        daemon.acknowledges = True
        me.link.reset()
        assert daemon.wait_streams(2).hello.dropped_reports == 3
        me.post(4)
        assert me.link.drain(20.0)
        assert slots_of(daemon) == [4]
        daemon.cut()
        assert daemon.wait_streams(3).hello.dropped_reports == 0


def test_a_stream_cut_again_and_again_loses_and_repeats_nothing():
    with fake_daemon() as daemon, trainer(daemon) as me:
        for n in range(1, 7):
            daemon.wait_streams(n)
            me.post(n)
            daemon.cut()
        assert me.link.drain(20.0)
        assert slots_of(daemon) == [1, 2, 3, 4, 5, 6]


def test_closing_ends_every_thread_of_the_link():
    before = set(threading.enumerate())
    with fake_daemon() as daemon, trainer(daemon) as me:
        daemon.wait_streams(1)
        me.link.close()
        wait_until(
            lambda: not [t for t in set(threading.enumerate()) - before if "link" in t.name],
            "the link's threads to end",
        )
