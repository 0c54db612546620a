"""watch: plain lines, JSON, the live picture; a daemon that goes away; signals."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from trainerd.clients import Client, NotFound, Unreachable
from trainerd.clients.live_view import LiveView, rendered
from trainerd.clients.plain_view import PlainView
from trainerd.clients.session import Session
from trainerd.clients.watching import View, Watching, leave
from trainerd.v1 import control_pb2 as api
from trainerd.v1 import event_pb2, fault_pb2, run_pb2
from unit.clients.ended import Ended
from unit.clients.fake_control import FakeControl, a_run, completed

Ctl = Callable[..., Ended]


def at(second: int, **payload: Any) -> event_pb2.Event:
    return event_pb2.Event(time=Timestamp(seconds=1_700_000_000 + second), **payload)


def saved(step: int) -> event_pb2.Event:
    return at(step, checkpoint_saved=event_pb2.CheckpointSaved(step=step, path=f"/c/{step}"))


def changed(to: str, second: int = 0) -> event_pb2.Event:
    state = run_pb2.RunState.Value(f"RUN_STATE_{to.upper()}")
    return at(second, run_state_changed=event_pb2.RunStateChanged(to=state, reason="because"))


class Recording:
    """A view that keeps what it is shown."""

    def __init__(self) -> None:
        self.shown: list[api.WatchRunResponse] = []
        self.notes: list[str] = []
        self.closed = 0

    def show(self, response: api.WatchRunResponse) -> None:
        self.shown.append(response)

    def tick(self) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize(("state", "code"), [("completed", 0), ("failed", 1), ("stopped", 75)])
def test_watch_exits_with_the_runs_result(
    fake: FakeControl, ctl: Ctl, state: str, code: int
) -> None:
    fake.answer("GetRun", api.GetRunResponse(run=a_run()))
    run = a_run(state, reason="so it ended")
    run.last_fault.message = "ValueError: no"
    run.last_fault.detail = 'File "my.py"'
    fake.answer("WatchRun", [api.WatchRunResponse(run=a_run()), api.WatchRunResponse(run=run)])
    ended = ctl("watch", "dem", "--address", fake.address)
    assert ended.code == code
    assert f"demo-1a2b {state} at step 200 of 400: so it ended\n" in ended.out
    assert ('    | File "my.py"' in ended.out) == (state == "failed")
    assert ("--resume " in ended.out) == (state == "stopped")
    assert fake.requests["WatchRun"][0].run == "demo-1a2b", "the whole id, found by its beginning"


def test_watch_without_a_terminal_prints_plain_lines(fake: FakeControl, ctl: Ctl) -> None:
    fault = fault_pb2.Fault(message="killed")
    fake.answer("GetRun", api.GetRunResponse(run=a_run()))
    fake.answer(
        "WatchRun",
        [
            api.WatchRunResponse(run=a_run(steps_per_second=12.0)),
            api.WatchRunResponse(
                run=a_run("recovering", reason="restarts"),
                events=[
                    saved(200),
                    at(0, phase_entered=event_pb2.PhaseEntered()),
                    at(1, fault_raised=event_pb2.FaultRaised(fault=fault)),
                    at(2, decision_made=event_pb2.DecisionMade()),
                ],
            ),
            api.WatchRunResponse(run=completed(), events=[changed("completed")]),
        ],
    )
    ended = ctl("watch", "demo", "--address", fake.address)
    lines = [line.partition("  ")[2] for line in ended.out.splitlines()]
    assert lines[:2] == [
        "running: trains",
        "step 200 of 400 (50 %), 12.0 steps/s, 0.00 examples/s, loss 2.5000",
    ]
    assert lines[2].startswith("checkpoint of step 200 is durable")
    assert lines[3].startswith("fault: unspecified: killed")
    assert lines[4].startswith("decision on")
    assert lines[5] == "recovering: restarts"
    assert lines[6] == "completed: because", "told once, as the event"
    assert ended.out.splitlines()[7].startswith("demo-1a2b completed at step 400 of 400")
    assert "\x1b" not in ended.out


def test_watch_as_json_is_one_line_a_message_and_nothing_else(fake: FakeControl, ctl: Ctl) -> None:
    fake.answer("GetRun", api.GetRunResponse(run=a_run()))
    fake.answer(
        "WatchRun",
        [api.WatchRunResponse(run=a_run(), events=[saved(5)]),
         api.WatchRunResponse(run=completed())],
    )  # fmt: skip
    ended = ctl("--json", "watch", "demo", "--address", fake.address)
    assert (ended.code, ended.err) == (0, "")
    first, last = ended.documents
    assert first["events"][0]["checkpointSaved"]["step"] == "5"
    assert last["run"]["result"]["stateDigest"] == "ab" * 32


class Plain:
    """A plain view with a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.out = io.StringIO()
        session = Session(
            address=None, timeout_s=None, tls=None, as_json=False, live=False, out=self.out,
            err=io.StringIO(), daemon_command=(),
        )  # fmt: skip
        self.view = PlainView(session, monotonic=lambda: self.now)

    def show(self, run: run_pb2.Run, *events: event_pb2.Event, dropped: int = 0) -> list[str]:
        self.out.truncate(self.out.seek(0))
        response = api.WatchRunResponse(run=run, events=events, dropped_events=dropped)
        self.view.show(response)
        return [line.partition("  ")[2] for line in self.out.getvalue().splitlines()]


def test_plain_progress_comes_every_ten_seconds_and_only_when_there_is_some() -> None:
    plain = Plain()
    plain.show(a_run(step=1))
    plain.now = 9.9
    assert plain.show(a_run(step=100)) == []
    plain.now = 10.0
    assert plain.show(a_run(step=120)) == ["step 120 of 400 (30 %), loss 2.5000"]
    plain.now = 25.0
    assert plain.show(a_run(step=120)) == []
    assert len(plain.show(a_run(step=121))) == 1


def test_plain_checkpoints_and_skips_are_thinned_out_and_counted() -> None:
    plain = Plain()
    plain.show(a_run())
    assert len(plain.show(a_run(), saved(1), saved(2))) == 1
    plain.now = 4.9
    assert plain.show(a_run(), saved(3)) == []
    plain.now = 5.0
    (line,) = plain.show(a_run(), saved(4))
    assert "step 4" in line
    assert line.endswith("(2 more since the last such line)")
    skip = fault_pb2.Fault(delegated=fault_pb2.ACTION_SKIP)
    skips = [at(0, fault_raised=event_pb2.FaultRaised(fault=skip))] * 3
    assert len(plain.show(a_run(), *skips)) == 1
    crash = at(0, fault_raised=event_pb2.FaultRaised(fault=fault_pb2.Fault()))
    assert len(plain.show(a_run(), crash, crash)) == 2, "a fault that is decided on is always told"


def test_plain_shows_state_changes_between_two_messages_and_gaps() -> None:
    plain = Plain()
    plain.show(a_run())
    lines = plain.show(a_run(), changed("recovering"), changed("running"), dropped=3)
    assert lines[0].endswith("recovering: because")
    assert lines[1].endswith("running: because")
    assert lines[2:] == ["3 events not shown; see 'trainerctl events'"]


def picture(run: run_pb2.Run, recent: list[str], width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    console.print(rendered(run, recent))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_the_live_picture_fits_into_80_columns() -> None:
    run = a_run(
        reason="trains since step 150", steps_per_second=12.1, examples_per_second=387.2,
        eta_s=16.4, restarts=1, last_recovery_s=1.24, skipped_batches=2,
        last_evaluation=run_pb2.Evaluation(
            step=200, metrics={"accuracy": 0.5, "bits_per_byte": 3.2109}
        ),
    )  # fmt: skip
    recent = ["10:12:14  " + "checkpoint of step 200 is durable " * 4, "10:12:15  [bold]fault[/]"]
    lines = picture(run, recent)
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].split() == ["demo-1a2b", "running", "trains", "since", "step", "150"]
    assert lines[1].rstrip().endswith("200/400 50 %  16 s to go")
    assert "━" in lines[1]
    assert lines[2].split("  ")[0] == "loss 2.5000"
    text = "\n".join(lines)
    for wanted in ("12.1 steps/s", "387 examples/s", "checkpoint: step 150 is durable",
                   "restarts 1 (1.2 s)", "skipped 2", "bits per byte 3.2109", "at step 200",
                   "[bold]fault[/]"):  # fmt: skip
        assert wanted in text
    assert lines[-2].endswith("…"), "a long event is cut, not wrapped"
    assert len(lines) <= 12


def test_the_live_picture_of_a_run_that_has_not_begun() -> None:
    text = "\n".join(
        picture(run_pb2.Run(id="x", state=run_pb2.RUN_STATE_QUEUED, durable_step=-1), [])
    )
    assert "queued" in text
    assert "loss -" in text
    assert "checkpoint: none yet" in text


def test_the_live_view_redraws_and_keeps_the_last_picture() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    view = LiveView(console)
    timer = at(0, timer_fired=event_pb2.TimerFired())
    view.show(api.WatchRunResponse(run=a_run(), events=[saved(150), timer]))
    view.tick()
    view.note("something to know")
    view.show(api.WatchRunResponse(run=completed()))
    view.close()
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "200/400" in text
    assert "checkpoint of step 150" in text
    assert "timer" not in text
    assert "something to know" in text
    assert "400/400" in text.rpartition("completed")[2]


def watch(fake: FakeControl, how: Watching, view: View) -> Any:
    with Client(fake.address) as client:
        return how.to_end(client, a_run(), view)


def test_a_daemon_that_comes_back_is_waited_for(fake: FakeControl) -> None:
    streams: Iterator[Any] = iter(["lost", "unreachable", "ended"])

    def stream(request: Any, context: grpc.ServicerContext) -> Iterator[api.WatchRunResponse]:
        match next(streams):
            case "lost":
                yield api.WatchRunResponse(run=a_run())
            case "unreachable":
                context.abort(grpc.StatusCode.UNAVAILABLE, "starting")
            case "ended":
                yield api.WatchRunResponse(run=completed())

    fake.answers["WatchRun"] = stream
    view, slept = Recording(), []
    watched = watch(fake, Watching(interrupted=leave, sleep=slept.append), view)
    assert watched.run.state == run_pb2.RUN_STATE_COMPLETED
    assert watched.left_by is None
    assert len(slept) == 2
    assert [note.partition(";")[0] for note in view.notes] == [
        "the daemon does not answer", "the daemon answers again",
    ]  # fmt: skip
    assert view.closed == 1


def test_a_daemon_that_stays_away_is_given_up(fake: FakeControl) -> None:
    fake.refuse("WatchRun", grpc.StatusCode.UNAVAILABLE, "no")
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    how = Watching(interrupted=leave, patience_s=3, clock=lambda: now[0], sleep=sleep)
    with pytest.raises(Unreachable):
        watch(fake, how, Recording())
    assert 3 <= now[0] < 4


def test_a_daemon_that_cannot_come_back_is_not_waited_for(fake: FakeControl) -> None:
    fake.refuse("WatchRun", grpc.StatusCode.UNAVAILABLE, "no")
    slept: list[float] = []
    how = Watching(interrupted=leave, daemon_lives=lambda: False, sleep=slept.append)
    with pytest.raises(Unreachable):
        watch(fake, how, Recording())
    assert slept == []


def test_a_run_that_is_deleted_meanwhile_is_not_found(fake: FakeControl) -> None:
    fake.refuse("WatchRun", grpc.StatusCode.NOT_FOUND, "deleted")
    with pytest.raises(NotFound):
        watch(fake, Watching(interrupted=leave), Recording())


def endless(fake: FakeControl) -> Callable[..., Iterator[api.WatchRunResponse]]:
    """A run that goes on until a StopRun arrives; its first message triggers `SIGINT`."""

    def stream(request: Any, context: Any) -> Iterator[api.WatchRunResponse]:
        yield api.WatchRunResponse(run=a_run())
        os.kill(os.getpid(), signal.SIGINT)
        fake.closing.wait(30)
        yield api.WatchRunResponse(run=a_run("stopped"))

    return stream


def test_signals_are_counted_and_answered_by_the_caller(fake: FakeControl) -> None:
    fake.answers["WatchRun"] = endless(fake)
    heard = []

    def interrupted(count: int, view: View) -> float:
        heard.append(count)
        view.note("stopping")
        fake.closing.set()
        return 60.0

    view = Recording()
    before = signal.getsignal(signal.SIGINT)
    watched = watch(fake, Watching(interrupted=interrupted), view)
    assert heard == [1]
    assert view.notes == ["stopping"]
    assert watched.run.state == run_pb2.RUN_STATE_STOPPED
    assert watched.left_by is None
    assert signal.getsignal(signal.SIGINT) is before


def test_patience_after_a_signal_is_limited(fake: FakeControl) -> None:
    fake.answers["WatchRun"] = endless(fake)
    watched = watch(fake, Watching(interrupted=lambda count, view: 0.3), Recording())
    fake.closing.set()
    assert watched.left_by == signal.SIGINT
    assert watched.run.state == run_pb2.RUN_STATE_RUNNING


@pytest.mark.parametrize(
    ("command", "code"), [(["watch", "demo"], 0), (["submit", "RUN", "--wait"], 130)]
)
def test_ctrl_c_leaves_a_run_alone_and_says_how_to_come_back(
    fake: FakeControl, ctl: Ctl, run_file: Callable[[], Any], command: list[str], code: int
) -> None:
    fake.answer("GetRun", api.GetRunResponse(run=a_run()))
    fake.answer("SubmitRun", api.SubmitRunResponse(run=a_run("queued")))
    fake.answers["WatchRun"] = endless(fake)
    line = [str(run_file()) if word == "RUN" else word for word in command]
    ended = ctl(*line, "--address", fake.address)
    fake.closing.set()
    assert ended.code == code
    assert "the run goes on; come back with: trainerctl watch demo-1a2b" in ended.err
    assert fake.requests["StopRun"] == []


def test_a_slow_reader_does_not_lose_messages_and_leaves_no_thread(fake: FakeControl) -> None:
    runs = [a_run(step=step) for step in range(1, 300)]
    fake.answer("WatchRun", [api.WatchRunResponse(run=run) for run in [*runs, completed()]])
    view = Recording()
    watch(fake, Watching(interrupted=leave), view)
    assert [response.run.step for response in view.shown[:-1]] == list(range(1, 300))
    assert not [thread for thread in threading.enumerate() if thread.name == "feed"]
