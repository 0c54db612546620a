"""metrics, profile, stacks: what the API says, as tables, CSV, JSON and lines."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from trainerd.v1 import control_pb2 as api
from trainerd.v1 import fault_pb2, run_pb2
from unit.clients.ended import Ended
from unit.clients.fake_control import FakeControl, a_run

Ctl = Callable[..., Ended]


def step(number: int, *, loss: float | None = None, **metrics: float) -> run_pb2.StepMetrics:
    made = run_pb2.StepMetrics(
        step=number,
        batch=number - 1,
        loss=1 / number if loss is None else loss,
        gradient_norm=0.5,
        metrics=metrics,
        duration_s=0.25,
        data_wait_s=0.001,
        examples=32,
        incarnation=2,
    )
    made.time.FromSeconds(1_700_000_000 + number)
    return made


def serve_steps(fake: FakeControl, *steps: run_pb2.StepMetrics, lost: int = 0) -> None:
    names = sorted({name for each in steps for name in each.metrics})

    def answer(request: Any, context: Any) -> api.ListStepMetricsResponse:
        after = int(request.page_token or request.after_step)
        rest = [each for each in steps if each.step > after]
        page = rest[: min(request.page_size, 2)]
        token = str(page[-1].step) if len(rest) > len(page) else ""
        return api.ListStepMetricsResponse(
            steps=page, next_page_token=token, names=names, lost=lost
        )

    fake.answers["ListStepMetrics"] = answer


def test_metrics_is_a_table_over_all_pages(fake: FakeControl, ctl: Ctl) -> None:
    serve_steps(fake, *(step(number, rate=0.1) for number in range(1, 6)))
    ended = ctl("metrics", "demo", "--address", fake.address)
    lines = [line.split() for line in ended.out.splitlines()]
    assert ended.code == 0
    assert lines[0] == ["step", "loss", "grad", "norm", "took", "examples", "at", "rate"]
    assert [line[0] for line in lines[1:]] == ["1", "2", "3", "4", "5"]
    assert lines[1][1:4] == ["1.0000", "0.5000", "0.25"]
    assert len({len(line) for line in ended.out.splitlines()}) == 1, "the columns are aligned"


def test_metrics_as_csv_has_every_digit_and_every_name(fake: FakeControl, ctl: Ctl) -> None:
    serve_steps(fake, step(1), step(2), step(3, loss=math.nan, late=1 / 3))
    ended = ctl("metrics", "demo", "--csv", "--address", fake.address)
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert float(rows[1]["loss"]) == 0.5
    assert math.isnan(float(rows[2]["loss"]))
    assert (rows[0]["late"], float(rows[2]["late"])) == ("", 1 / 3)
    assert rows[0]["time"].startswith("2023-11-14T22:13:21")
    assert "\x1b" not in ended.out


def test_metrics_as_json_is_a_page_a_line(fake: FakeControl, ctl: Ctl) -> None:
    serve_steps(fake, step(1), step(2), step(3))
    documents = ctl("metrics", "demo", "--json", "--address", fake.address).documents
    assert [[each["step"] for each in page["steps"]] for page in documents] == [["1", "2"], ["3"]]


def test_metrics_can_begin_later_and_end_early(fake: FakeControl, ctl: Ctl) -> None:
    serve_steps(fake, *(step(number) for number in range(1, 8)))
    ended = ctl("metrics", "demo", "--after", "2", "--limit", "3", "--address", fake.address)
    assert [line.split()[0] for line in ended.out.splitlines()[1:]] == ["3", "4", "5"]


def test_metrics_says_what_is_missing(fake: FakeControl, ctl: Ctl) -> None:
    serve_steps(fake, lost=12)
    ended = ctl("metrics", "demo", "--address", fake.address)
    assert (ended.code, ended.out) == (0, "no steps\n")
    assert "12 steps could not be kept" in ended.err


def test_profile_prints_where_it_is_and_nothing_else_on_standard_output(
    fake: FakeControl, ctl: Ctl, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    response = api.ProfileRunResponse(run=a_run(), path="/runs/x/profiles/201", step=201, steps=3)
    fake.answer("ProfileRun", response)
    ended = ctl("profile", "demo", "--steps", "3", "--output", "mine", "--address", fake.address)
    assert (ended.code, ended.out) == (0, "/runs/x/profiles/201\n")
    assert "3 steps, 201 to 203" in ended.err
    (request,) = fake.requests["ProfileRun"]
    assert (request.run, request.steps, request.directory) == ("demo", 3, str(tmp_path / "mine"))
    ended = ctl("profile", "demo", "--steps", "3", "--no-wait", "--address", fake.address)
    assert "trainerctl events demo-1a2b will say where it is" in ended.out
    assert fake.requests["ProfileRun"][1].no_wait


def test_stacks_are_readable_and_python_comes_first(fake: FakeControl, ctl: Ctl) -> None:
    stacks = run_pb2.ThreadStacks(
        threads="7 main S futex",
        python='Thread 7:\n  File "my.py", line 3 in loss',
        native="\x1b[1m",
    )
    run = a_run(phase=fault_pb2.PHASE_STEP)
    fake.answer("CollectRunStacks", api.CollectRunStacksResponse(run=run, stacks=stacks))
    ended = ctl("stacks", "demo", "--address", fake.address)
    lines = ended.out.splitlines()
    assert lines[0] == "demo-1a2b: pid 4711, incarnation 1, phase step, step 200"
    assert lines[2].startswith("Python frames")
    assert lines[4] == '    File "my.py", line 3 in loss'
    assert "\x1b" not in ended.out
    assert "  7 main S futex" in lines
    document = ctl("stacks", "demo", "--json", "--address", fake.address).document
    assert document["stacks"]["threads"] == "7 main S futex"


def test_a_trainer_that_does_not_answer_is_said_to_be_so(fake: FakeControl, ctl: Ctl) -> None:
    stacks = run_pb2.ThreadStacks(threads="7 main T")
    fake.answer("CollectRunStacks", api.CollectRunStacksResponse(run=a_run(), stacks=stacks))
    assert (
        "no Python frames: the process is stopped"
        in ctl("stacks", "demo", "--address", fake.address).out
    )


@pytest.mark.parametrize(
    ("command", "method"),
    [
        (["metrics", "demo"], "ListStepMetrics"),
        (["metrics", "demo", "--csv"], "ListStepMetrics"),
        (["profile", "demo", "--steps", "3"], "ProfileRun"),
        (["stacks", "demo"], "CollectRunStacks"),
        (["checkpoints", "demo"], "ListCheckpoints"),
        (["checkpoints", "demo", "--verify"], "VerifyCheckpoints"),
        (["replay", "demo"], "ReplayRunIncident"),
    ],
)
def test_refusals_are_passed_on(
    fake: FakeControl, ctl: Ctl, command: list[str], method: str
) -> None:
    fake.refuse(method, grpc.StatusCode.FAILED_PRECONDITION, "the daemon says no")
    ended = ctl(*command, "--address", fake.address)
    assert (ended.code, ended.out) == (4, "")
    assert ended.err == "trainerctl: the daemon says no\n"
    ended = ctl(*command, "--json", "--address", fake.address)
    assert (ended.code, ended.error["kind"], ended.error["exitCode"]) == (4, "refused", 4)
