"""list, status, events, logs and the control verbs against a fake service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from trainerd.v1 import control_pb2 as api
from trainerd.v1 import event_pb2, fault_pb2, run_pb2
from unit.clients.ended import Ended
from unit.clients.fake_control import FakeControl, a_run, completed

Ctl = Callable[..., Ended]


def evaluation(step: int, **metrics: float) -> run_pb2.Evaluation:
    return run_pb2.Evaluation(step=step, metrics=metrics)


def failed() -> run_pb2.Run:
    run = a_run("failed", reason="the program raised", restarts=2, checkpoint_failures=1)
    run.first_evaluation.CopyFrom(evaluation(0, bits_per_byte=8.0))
    run.last_evaluation.CopyFrom(evaluation(200, bits_per_byte=3.25, loss=2.25))
    fault = run.last_fault
    setattr(fault, "class", fault_pb2.FAULT_CLASS_STEP_EXCEPTION)
    fault.message = "ValueError: shapes differ"
    fault.suggestion = "make them equal"
    fault.detail = 'Traceback:\n  File "my.py", line 3\nValueError: shapes differ'
    fault.step = 199
    run.submitted_at.CopyFrom(Timestamp(seconds=1_700_000_000))
    run.ended_at.CopyFrom(Timestamp(seconds=1_700_000_100))
    return run


@pytest.mark.parametrize(
    ("verb", "method"),
    [
        ("pause", "PauseRun"),
        ("resume", "ResumeRun"),
        ("stop", "StopRun"),
        ("restart", "RestartRun"),
    ],
)
def test_control_verbs_print_the_state_that_was_reached(
    fake: FakeControl, ctl: Ctl, verb: str, method: str
) -> None:
    response = getattr(api, f"{method}Response")(run=a_run("paused"))
    fake.answer(method, response)
    ended = ctl(verb, "demo", "--address", fake.address)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "demo-1a2b: paused at step 200\n"
    assert fake.requests[method][0].run == "demo"
    assert not fake.requests[method][0].no_wait
    ended = ctl(verb, "demo", "--address", fake.address, "--no-wait")
    assert ended.out == f"demo-1a2b: asked to {verb}; now paused at step 200\n"
    ended = ctl("--address", fake.address, verb, "demo", "--no-wait", "--json")
    assert fake.requests[method][2].no_wait
    assert ended.document["run"]["id"] == "demo-1a2b"
    assert ended.document["run"]["state"] == "RUN_STATE_PAUSED"


def test_stop_can_leave_the_checkpoint_out(fake: FakeControl, ctl: Ctl) -> None:
    fake.answer("StopRun", api.StopRunResponse(run=a_run("stopped")))
    ctl("stop", "demo", "--address", fake.address)
    ctl("stop", "demo", "--address", fake.address, "--no-checkpoint")
    assert [request.no_checkpoint for request in fake.requests["StopRun"]] == [False, True]


def test_checkpoint_says_where_it_is(fake: FakeControl, ctl: Ctl) -> None:
    response = api.CheckpointRunResponse(run=a_run(), step=201, path="/c/201")
    fake.answer("CheckpointRun", response)
    ended = ctl("checkpoint", "demo", "--address", fake.address)
    assert "checkpoint of step 201 is durable: /c/201" in ended.out
    ended = ctl("checkpoint", "demo", "--address", fake.address, "--no-wait")
    assert "asked for a checkpoint" in ended.out
    assert "durable" not in ended.out


def test_delete(fake: FakeControl, ctl: Ctl) -> None:
    fake.answer("DeleteRun", api.DeleteRunResponse())
    ended = ctl("delete", "demo-1a2b", "--address", fake.address)
    assert ended.out == "deleted demo-1a2b\n"
    assert "its files are still there: they go when a launcher can remove them" in ended.err
    ended = ctl("delete", "demo-1a2b", "--no-wait", "--address", fake.address)
    assert (ended.out, ended.err) == ("deleted demo-1a2b\n", "")
    assert [each.no_wait for each in fake.requests["DeleteRun"]] == [False, True]
    fake.answer("DeleteRun", api.DeleteRunResponse(files_removed=True))
    assert ctl("delete", "demo-1a2b", "--address", fake.address).err == ""
    ended = ctl("delete", "demo-1a2b", "--address", fake.address, "--json")
    assert ended.document == {"filesRemoved": True}


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (grpc.StatusCode.NOT_FOUND, 3),
        (grpc.StatusCode.FAILED_PRECONDITION, 4),
        (grpc.StatusCode.PERMISSION_DENIED, 6),
        (grpc.StatusCode.INTERNAL, 5),
    ],
)
@pytest.mark.parametrize(
    "command",
    ["status", "watch", "why", "incidents", "incident", "events", "logs", "pause", "resume",
     "restart", "checkpoint", "stop", "delete"],
)  # fmt: skip
def test_every_command_on_a_run_passes_refusals_on(
    fake: FakeControl, ctl: Ctl, command: str, status: grpc.StatusCode, code: int
) -> None:
    for method in ("GetRun", "ExplainRun", "ListEvents", "ReadRunLog", "PauseRun", "ResumeRun",
                   "RestartRun", "ListIncidents", "GetIncident", "CheckpointRun", "StopRun",
                   "DeleteRun", "WatchRun"):  # fmt: skip
        fake.refuse(method, status, "the daemon says no")
    ended = ctl(command, "demo", "--address", fake.address)
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.startswith("trainerctl: ")
    assert "the daemon says no" in ended.err
    assert ended.err.count("\n") == 1
    ended = ctl(command, "demo", "--address", fake.address, "--json")
    assert (ended.code, ended.error["exitCode"]) == (code, code)
    assert "the daemon says no" in ended.error["message"]


@pytest.mark.parametrize(
    "command",
    [["list"], *([name, "x"] for name in ("status", "watch", "events", "logs", "pause", "delete"))],
)
def test_without_a_daemon_there_is_one_clear_line(ctl: Ctl, command: list[str]) -> None:
    ended = ctl(*command)
    assert (ended.code, ended.out) == (5, "")
    assert ended.err == (
        "trainerctl: no daemon answers at unix:/nonexistent/trainerd.sock: "
        "start one with 'trainerd serve', or use 'trainerctl run'\n"
    )
    ended = ctl(*command, "--json")
    assert (ended.code, ended.out, ended.error["kind"]) == (5, "", "unreachable")


def test_a_slow_daemon_ends_at_the_timeout(fake: FakeControl, ctl: Ctl) -> None:
    fake.answers["GetRun"] = lambda request, context: fake.closing.wait(30)
    ended = ctl("--timeout", "0.2", "status", "demo", "--address", fake.address)
    fake.closing.set()
    assert ended.code == 5
    assert "did not answer within 0.2 s; give a longer --timeout" in ended.err


def test_list_is_a_table_over_all_pages(fake: FakeControl, ctl: Ctl) -> None:
    def pages(request: Any, context: Any) -> api.ListRunsResponse:
        if not request.page_token:
            return api.ListRunsResponse(runs=[a_run()], next_page_token="2")
        return api.ListRunsResponse(runs=[completed(), a_run("queued", id="x")])

    fake.answers["ListRuns"] = pages
    ended = ctl("list", "--address", fake.address)
    lines = ended.out.splitlines()
    assert lines[0].split() == ["RUN", "STATE", "STEP", "LOSS", "RESTARTS", "CHECKPOINT", "AGE"]
    assert lines[1].split() == ["demo-1a2b", "running", "200/400", "2.5000", "0", "150", "-"]
    assert lines[2].split()[1:3] == ["completed", "400/400"]
    columns = [lines[0].index("STATE"), lines[1].index("running"), lines[2].index("completed")]
    assert len(set(columns)) == 1
    assert len(lines) == 4
    document = ctl("list", "--address", fake.address, "--json").document
    assert [run["state"] for run in document["runs"]] == [
        "RUN_STATE_RUNNING", "RUN_STATE_COMPLETED", "RUN_STATE_QUEUED",
    ]  # fmt: skip
    assert document["nextPageToken"] == ""


def test_list_stops_at_its_limit_and_says_so(fake: FakeControl, ctl: Ctl) -> None:
    fake.answer("ListRuns", api.ListRunsResponse(runs=[a_run()], next_page_token="more"))
    ended = ctl("list", "--address", fake.address, "--limit", "2")
    assert [request.page_size for request in fake.requests["ListRuns"]] == [2, 1]
    assert len(ended.out.splitlines()) == 3
    assert "more than 2 runs" in ended.err


def test_list_without_runs_says_so(fake: FakeControl, ctl: Ctl) -> None:
    fake.answer("ListRuns", api.ListRunsResponse())
    assert ctl("list", "--address", fake.address).out == "no runs\n"
    assert ctl("list", "--address", fake.address, "--json").document["runs"] == []


def test_status_says_where_checkpoints_go_how_often_and_what_the_disk_has_left(
    fake: FakeControl, ctl: Ctl
) -> None:
    run = a_run(checkpoint_failures=2)
    run.spec.checkpoint.auto_interval = True
    status = run.checkpoint
    status.path, status.fallback, status.every_steps = "/spare/demo/150", True, 120
    status.disk_bytes, status.disk_free_bytes = 300_000_000, 5_000_000_000
    status.disk_full_at.CopyFrom(Timestamp(seconds=1_700_000_000))
    status.failure = "step 200 was not saved to /data/demo: no space left on the device"
    fake.answer("GetRun", api.GetRunResponse(run=run))
    out = ctl("status", "demo", "--address", fake.address).out
    assert "step 150 is durable; 2 saves failed in a row; in the fallback directory" in out
    assert "/spare/demo/150" in out
    assert "every 120 steps, chosen from what saves cost" in out
    assert "300.0 MB kept, 5.0 GB free; the disk is full at 2023-11-1" in out
    assert "no space left on the device" in out


def test_status_of_a_failed_run_tells_the_story(fake: FakeControl, ctl: Ctl) -> None:
    fake.answer("GetRun", api.GetRunResponse(run=failed()))
    ended = ctl("status", "demo", "--address", fake.address)
    assert ended.code == 0
    for text in (
        "state       failed",
        "why         the program raised",
        "step        200 of 400 (50 %)",
        "loss        2.5000 (first 5.5000)",
        "evaluation  step 200: bits_per_byte 3.2500, loss 2.2500",
        "            first, step 0: bits_per_byte 8.0000",
        "restarts    2",
        "checkpoint  step 150 is durable; 1 save failed in a row",
        "in memory   every 12 steps, the newest of step 192",
        "last fault  step_exception at step 199: ValueError: shapes differ",
        "            what to do: make them equal",
        '    |   File "my.py", line 3',
        "submitted   2023-11-",
        "ended       2023-11-",
    ):
        assert text in ended.out
    assert ctl("status", "demo", "--address", fake.address, "--json").document["run"][
        "lastFault"
    ]["class"] == "FAULT_CLASS_STEP_EXCEPTION"  # fmt: skip


def test_status_of_a_running_run_has_no_traceback_but_the_rate(fake: FakeControl, ctl: Ctl) -> None:
    run = failed()
    run.state = run_pb2.RUN_STATE_RUNNING
    run.steps_per_second, run.examples_per_second, run.eta_s = 12.34, 394.9, 75
    fake.answer("GetRun", api.GetRunResponse(run=run))
    ended = ctl("status", "demo", "--address", fake.address)
    assert (
        "step        200 of 400 (50 %), 12.3 steps/s, 395 examples/s, 1 min 15 s to go" in ended.out
    )
    assert "ValueError: shapes differ" in ended.out
    assert "my.py" not in ended.out
    assert "trainer     incarnation 1, pid 4711, phase" in ended.out


def test_status_of_a_completed_run_has_the_digest(fake: FakeControl, ctl: Ctl) -> None:
    fake.answer("GetRun", api.GetRunResponse(run=completed()))
    ended = ctl("status", "demo", "--address", fake.address)
    assert "result      step 400, 401 batches read, 1 batch skipped, 0 slots masked" in ended.out
    assert "digest      " + "ab" * 32 in ended.out
    assert "saved       step 400: /ckpt/400" in ended.out


def an_event(sequence: int, run: str = "demo-1a2b", **payload: Any) -> api.ListEventsResponse:
    time = Timestamp(seconds=1_700_000_000 + sequence)
    return api.ListEventsResponse(
        event=event_pb2.Event(sequence=sequence, run=run, time=time, **payload)
    )


def test_events_are_one_line_each(fake: FakeControl, ctl: Ctl) -> None:
    fake.answer(
        "ListEvents",
        [
            an_event(1, pause_requested=event_pb2.PauseRequested()),
            an_event(2, slots_fixed=event_pb2.SlotsFixed(slots=4)),
        ],
    )
    ended = ctl("events", "demo", "--address", fake.address, "--after", "7")
    first, second = ended.out.splitlines()
    assert first.startswith("2023-11-")
    assert first.endswith("  pause_requested       a pause was asked for")
    assert second.endswith("  slots_fixed           a batch is cut into 4 slots")
    request = fake.requests["ListEvents"][0]
    assert (request.run, request.after_sequence, request.follow) == ("demo", 7, False)
    documents = ctl("events", "demo", "-f", "--json", "--address", fake.address).documents
    assert [document["event"]["sequence"] for document in documents] == ["1", "2"]
    assert fake.requests["ListEvents"][1].follow


def test_events_of_all_runs_name_the_run(fake: FakeControl, ctl: Ctl) -> None:
    fake.answer(
        "ListEvents", [an_event(1, run="a-1", resume_requested=event_pb2.ResumeRequested())]
    )
    assert "a-1: going on was asked for" in ctl("events", "--address", fake.address).out
    assert fake.requests["ListEvents"][0].run == ""


class Logs:
    """Logs that grow: each reading of `grow` at a log's end adds to one, or ends the run."""

    def __init__(self, fake: FakeControl, logs: dict[int, bytes]) -> None:
        self.logs = dict(logs)
        self.newest = max(logs)
        self.ended = True
        self.steps: list[Callable[[], None]] = []
        fake.answers["ReadRunLog"] = self.read
        fake.answers["GetRun"] = self.get

    def read(self, request: Any, context: Any) -> api.ReadRunLogResponse:
        incarnation = request.incarnation or self.newest
        if incarnation not in self.logs:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such log")
        data = self.logs[incarnation][request.offset : request.offset + 5]
        return api.ReadRunLogResponse(
            data=data, next_offset=request.offset + len(data), incarnation=incarnation
        )

    def get(self, request: Any, context: Any) -> api.GetRunResponse:
        if self.steps:
            self.steps.pop(0)()
        state = "completed" if self.ended else "running"
        return api.GetRunResponse(run=a_run(state, incarnation=self.newest))


def test_logs_prints_the_newest_log_byte_for_byte(fake: FakeControl, ctl: Ctl) -> None:
    Logs(fake, {1: b"old", 2: "grün, and more\n".encode()})
    assert ctl("logs", "demo", "--address", fake.address).out == "grün, and more\n"
    assert ctl("logs", "demo", "--incarnation", "1", "--address", fake.address).out == "old"
    ended = ctl("logs", "demo", "--incarnation", "3", "--address", fake.address)
    assert (ended.code, ended.out) == (3, "")
    documents = ctl("logs", "demo", "--json", "--address", fake.address).documents
    assert [document["nextOffset"] for document in documents] == ["5", "10", "15", "16"]


def test_logs_f_follows_growth_and_later_incarnations_to_the_end(
    fake: FakeControl, ctl: Ctl
) -> None:
    logs = Logs(fake, {1: b"one,"})
    logs.ended = False

    def grow() -> None:
        logs.logs[1] += b"more,"

    def restart() -> None:
        # Its last words come together with the restart.
        logs.logs[1] += b"crash;"
        logs.newest = 2

    def start() -> None:
        logs.logs[2] = b"two"

    def end() -> None:
        logs.logs[2] += b",end"
        logs.ended = True

    nothing: Callable[[], None] = lambda: None  # noqa: E731
    logs.steps = [nothing, grow, restart, nothing, nothing, start, nothing, end]
    ended = ctl("logs", "demo", "-f", "--address", fake.address)
    assert (ended.code, ended.out) == (0, "one,more,crash;two,end")
    assert "incarnation 2" in ended.err


def test_logs_f_of_one_incarnation_ends_with_it(fake: FakeControl, ctl: Ctl) -> None:
    logs = Logs(fake, {1: b"one", 2: b"two"})
    logs.ended = False
    ended = ctl("logs", "demo", "-f", "--incarnation", "1", "--address", fake.address)
    assert (ended.code, ended.out) == (0, "one")


def test_logs_f_of_an_unknown_run_ends_with_3(fake: FakeControl, ctl: Ctl) -> None:
    fake.refuse("ReadRunLog", grpc.StatusCode.NOT_FOUND, "no log")
    fake.refuse("GetRun", grpc.StatusCode.NOT_FOUND, "there is no run x")
    ended = ctl("logs", "x", "-f", "--address", fake.address)
    assert (ended.code, ended.err) == (3, "trainerctl: there is no run x\n")
