"""The live picture at every width that people have, with everything as long as it gets."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from trainerd.clients.live_view import rendered
from trainerd.v1 import run_pb2
from unit.clients.fake_control import a_run, completed


def picture(run: run_pb2.Run, recent: list[str], width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    console.print(rendered(run, recent))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def usual() -> run_pb2.Run:
    return a_run(
        reason="training since step 150", steps_per_second=12.1, examples_per_second=387.2,
        eta_s=16.4, restarts=1, last_recovery_s=1.24, skipped_batches=2,
        last_evaluation=run_pb2.Evaluation(step=200, metrics={"bits_per_byte": 3.2109}),
    )  # fmt: skip


def extreme() -> run_pb2.Run:
    run = a_run(
        "recovering",
        id=f"{'a-very-long-name-of-a-run-' * 3}1a2b3c",
        reason="crash: the trainer was killed by signal 9 — restart in 30 s: 7 in 600 s, limit 10, "
        "and 2 in a row; it goes on from the checkpoint of step 123,456,000, which is the newest "
        "one that is whole",
        step=123_456_789, loss=math.nan, steps_per_second=12_345.6,
        examples_per_second=98_765_432.1, eta_s=400_000, restarts=1234, rollbacks=17,
        last_recovery_s=75.0, skipped_batches=12_345, masked_slots=678_901,
        durable_step=123_456_000, checkpoint_failures=12,
        last_evaluation=run_pb2.Evaluation(
            step=123_456_000, metrics={"a_metric_with_a_name_that_goes_on_and_on": -1.25e-9}
        ),
    )  # fmt: skip
    run.spec.train.steps = 1_000_000_000
    run.checkpoint.fallback = True
    return run


EVENTS = ["10:12:14  " + "checkpoint of step 200 is durable " * 6, "10:12:15  [bold]fault[/]"]

USUAL_80 = """\
demo-1a2b  running  training since step 150
loss 2.5000                12.1 steps/s               387 examples/s
checkpoint: step 150 is durable   restarts 1 (1.2 s)   skipped 2
bits per byte 3.2109       at step 200
"""


def test_the_usual_picture_in_80_columns() -> None:
    first, bar, *rest = picture(usual(), [], 80)
    assert [first, *rest] == USUAL_80.splitlines()
    assert bar.startswith("━━━━")
    assert bar.endswith("200/400 50 %  16 s to go")
    assert len(bar) == 80


@pytest.mark.parametrize("width", [40, 60, 72, 80, 100, 132, 200])
@pytest.mark.parametrize("make", [usual, extreme, completed, lambda: run_pb2.Run(id="x")])
def test_no_line_is_too_long_and_there_are_never_too_many(
    make: Callable[[], Any], width: int
) -> None:
    lines = picture(make(), EVENTS, width)
    assert all(cell_len(line) <= width for line in lines)
    assert len(lines) <= (16 if width >= 60 else 20)


@pytest.mark.parametrize("width", [60, 80])
def test_what_matters_is_there_however_long_everything_is(width: int) -> None:
    lines = picture(extreme(), EVENTS, width)
    text = "\n".join(lines)
    assert lines[0].endswith("-1a2b3c  recovering"), "the id's end and the state"
    assert lines[1].startswith("  crash: the trainer was killed by signal 9")
    for wanted in (
        "123,456,789/1,000,000,000 12 %",
        "4 d 15 h to go",
        "loss nan",
        "12,346 steps/s",
        "98,765,432 examples/s",
        "checkpoint: step 123,456,000 is durable; 12 saves",
        "restarts 1234, rollbacks 17 (1 min 15 s)",
        "12,345 batches skipped, 678,901 slots masked",
        "-1.25e-09",
        "at step 123,456,000",
        "[bold]fault[/]",
    ):
        assert wanted in text, text
    assert any("━" in line for line in lines), "a bar"


def test_a_reason_that_is_too_long_ends_with_a_mark() -> None:
    lines = picture(extreme(), [], 60)
    assert lines[2].endswith("…")
    assert lines[2].startswith("  ")


def test_wide_characters_do_not_break_the_picture() -> None:
    run = a_run(reason="訓練" * 60)
    for width in (60, 80):
        assert all(
            cell_len(line) <= width for line in picture(run, ["10:00:00  " + "訓" * 90], width)
        )
