"""Streams that outlive their daemon, and what a person sees while something takes long."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from fakes.launcher_process import wait_until
from trainerd.clients import Client, NotFound, Patience, Unreachable, follow_events
from trainerd.clients import progress as progress_module
from trainerd.clients.commands import history
from trainerd.clients.loglines import LogReader
from trainerd.clients.progress import waiting
from trainerd.clients.session import Session
from trainerd.clients.watching import Watching, leave
from trainerd.v1 import control_pb2 as api
from trainerd.v1 import event_pb2
from unit.clients.ended import Ended
from unit.clients.fake_control import FakeControl, a_run, completed

Ctl = Callable[..., Ended]


def records(*sequences: int) -> list[api.ListEventsResponse]:
    return [
        api.ListEventsResponse(
            event=event_pb2.Event(sequence=each, resume_requested=event_pb2.ResumeRequested())
        )
        for each in sequences
    ]


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.notes: list[str] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def patience(self, seconds: float = 60.0) -> Patience:
        return Patience(
            self.notes.append, patience_s=seconds, clock=lambda: self.now, sleep=self.sleep
        )


def breaking(fake: FakeControl, *streams: list[api.ListEventsResponse]) -> None:
    """Each stream but the last breaks after its records."""
    left = list(streams)

    def answer(request: Any, context: grpc.ServicerContext) -> Iterator[api.ListEventsResponse]:
        yield from left.pop(0)
        if left:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the daemon is gone")

    fake.answers["ListEvents"] = answer


def test_a_follower_goes_on_behind_the_last_record_it_has(fake: FakeControl) -> None:
    breaking(fake, records(3, 5), [], records(6), records(8, 9))
    clock = Clock()
    with Client(fake.address) as client:
        followed = follow_events(client, "demo", after_sequence=2, patience=clock.patience())
        assert [each.event.sequence for each in followed] == [3, 5, 6, 8, 9]
    assert [each.after_sequence for each in fake.requests["ListEvents"]] == [2, 5, 5, 6]
    assert all(each.follow for each in fake.requests["ListEvents"])
    assert [note.partition(";")[0] for note in clock.notes] == [
        "the daemon does not answer", "the daemon answers again",
        "the daemon does not answer", "the daemon answers again",
    ]  # fmt: skip


def test_a_follower_gives_a_daemon_up_that_stays_away(fake: FakeControl) -> None:
    fake.refuse("ListEvents", grpc.StatusCode.UNAVAILABLE, "no")
    clock = Clock()
    with Client(fake.address) as client, pytest.raises(Unreachable):
        list(follow_events(client, "demo", patience=clock.patience(3.0)))
    assert 3 <= clock.now < 4


def test_a_follower_of_a_run_that_is_not_there_is_told_at_once(fake: FakeControl) -> None:
    fake.refuse("ListEvents", grpc.StatusCode.NOT_FOUND, "no such run")
    with Client(fake.address) as client, pytest.raises(NotFound):
        list(follow_events(client, "demo", patience=Clock().patience()))


def test_a_watcher_goes_on_behind_the_last_record_it_has(fake: FakeControl) -> None:
    streams: Iterator[Any] = iter([7, None])

    def stream(request: Any, context: grpc.ServicerContext) -> Iterator[api.WatchRunResponse]:
        sequence = next(streams)
        if sequence is None:
            yield api.WatchRunResponse(run=completed(), sequence=9)
            return
        yield api.WatchRunResponse(run=a_run(), sequence=sequence)
        context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    class Silent:
        def show(self, response: Any) -> None: ...
        def tick(self) -> None: ...
        def note(self, text: str) -> None: ...
        def close(self) -> None: ...

    fake.answers["WatchRun"] = stream
    with Client(fake.address) as client:
        how = Watching(interrupted=leave, sleep=lambda _: None)
        how.to_end(client, a_run(), Silent())
    assert [each.after_sequence for each in fake.requests["WatchRun"]] == [0, 7]


def test_a_log_is_followed_over_a_daemon_that_goes(fake: FakeControl) -> None:
    answers: list[Any] = [b"one,", None, None, b"two,", b"", b""]

    def read(request: Any, context: grpc.ServicerContext) -> api.ReadRunLogResponse:
        data = answers.pop(0)
        if data is None:
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        return api.ReadRunLogResponse(
            data=data,
            next_offset=request.offset + len(data),
            incarnation=1,
            offset=request.offset,
        )

    fake.answers["ReadRunLog"] = read
    fake.answer("GetRun", api.GetRunResponse(run=a_run("completed")))
    clock = Clock()
    with Client(fake.address) as client:
        reader = LogReader(
            client, "demo", incarnation=1, follow=True, host="h", patience=clock.patience(),
            sleep=clock.sleep,
        )  # fmt: skip
        assert b"".join(part.data for part in reader.parts()) == b"one,two,"
    assert len(clock.notes) == 2
    assert {each.host for each in fake.requests["ReadRunLog"]} == {"h"}


def test_what_is_gone_of_a_log_is_said(fake: FakeControl, ctl: Ctl) -> None:
    parts = {0: (5_000_000, b"new"), 5_000_003: (5_000_003, b"")}

    def read(request: Any, context: grpc.ServicerContext) -> api.ReadRunLogResponse:
        offset, data = parts[request.offset]
        return api.ReadRunLogResponse(
            data=data, offset=offset, next_offset=offset + len(data), incarnation=1
        )

    fake.answers["ReadRunLog"] = read
    ended = ctl("logs", "demo", "--address", fake.address)
    assert (ended.code, ended.out) == (0, "new")
    assert ended.err == "trainerctl: 5.0 MB before this are gone: the log is cut\n"


def test_ctrl_c_while_following_says_how_to_go_on(
    fake: FakeControl, ctl: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = threading.Event()

    def line(event: event_pb2.Event, *, with_run: bool) -> str:
        printed.set()
        return "what happened"

    def stream(request: Any, context: Any) -> Iterator[api.ListEventsResponse]:
        yield from records(41)
        assert printed.wait(20)
        os.kill(os.getpid(), signal.SIGINT)
        fake.closing.wait(30)

    monkeypatch.setattr(history, "event_line", line)
    fake.answers["ListEvents"] = stream
    ended = ctl("events", "demo", "-f", "--address", fake.address)
    fake.closing.set()
    assert ended.code == 0
    assert ended.err.endswith("to go on from here: trainerctl events demo -f --after 41\n")


class Terminal(io.StringIO):
    """What a person sees."""

    def isatty(self) -> bool:
        return True


def session(err: io.StringIO, *, progress: bool) -> Session:
    return Session(
        address=None, timeout_s=None, tls=None, as_json=False, live=False, out=io.StringIO(),
        err=err, daemon_command=(), progress=progress,
    )  # fmt: skip


def test_a_long_call_shows_a_line_that_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "_FIRST_S", 0.0)
    err = Terminal()
    with waiting(session(err, progress=True), "reading the checkpoints of demo"):
        wait_until(lambda: "reading the checkpoints of demo … " in err.getvalue(), "the line")
    assert err.getvalue().endswith("\r\x1b[K")


def test_a_quick_call_and_a_pipe_show_nothing() -> None:
    for progress in (True, False):
        err = Terminal()
        with waiting(session(err, progress=progress), "reading"):
            pass
        assert err.getvalue() == ""


def test_a_line_is_never_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "_FIRST_S", 0.0)
    monkeypatch.setenv("COLUMNS", "40")
    err = Terminal()
    with waiting(session(err, progress=True), "x" * 100):
        wait_until(lambda: "x" in err.getvalue(), "the line")
    assert max(len(each) for each in err.getvalue().replace("\x1b[K", "").split("\r")) < 40


def test_ctrl_c_says_what_goes_on() -> None:
    err = io.StringIO()
    with (
        pytest.raises(KeyboardInterrupt),
        waiting(session(err, progress=False), "stopping", parting="the stop goes on"),
    ):
        raise KeyboardInterrupt
    assert err.getvalue() == "trainerctl: the stop goes on\n"


def test_ctrl_c_while_a_run_is_stopped_leaves_the_stop_be(fake: FakeControl, ctl: Ctl) -> None:
    def slow(request: Any, context: Any) -> api.StopRunResponse:
        os.kill(os.getpid(), signal.SIGINT)
        fake.closing.wait(30)
        return api.StopRunResponse(run=a_run("stopped"))

    fake.answers["StopRun"] = slow
    ended = ctl("stop", "demo", "--address", fake.address)
    fake.closing.set()
    assert ended.code == 130
    assert "the stop goes on; see: trainerctl status demo" in ended.err
