"""Lists in pages: bounded, each entry once, and tokens that are good for their own list only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from fakes.launcher import FakeLauncher
from trainerd.daemon.pages import page_token
from trainerd.v1 import checkpoint_pb2, control_pb2, incident_pb2, launcher_pb2, run_pb2
from unit.daemon.house import House, house, play, short_directory
from unit.daemon.statuses import refused

CODE = grpc.StatusCode
STEPS = (9, 8, 8, 8, 5, 4, 0)


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def filled(run: str) -> FakeLauncher:
    fake = FakeLauncher()
    for number in range(1, 8):
        incident = incident_pb2.Incident(run=run, number=number)
        fake.incidents.append(launcher_pb2.WriteIncidentRequest(incident=incident))
    fake.checkpoints = [
        checkpoint_pb2.StoredCheckpoint(step=step, path=f"/{place}")
        for place, step in enumerate(STEPS)
    ]
    fake.steps = [run_pb2.StepMetrics(step=step, loss=1 / step) for step in range(1, 8)]
    return fake


Call = Callable[..., Any]
LISTS = {
    "ListIncidents": ("incidents", control_pb2.ListIncidentsRequest),
    "ListCheckpoints": ("checkpoints", control_pb2.ListCheckpointsRequest),
    "ListStepMetrics": ("steps", control_pb2.ListStepMetricsRequest),
}


async def pages(at: House, method: str, run: str, size: int) -> list[list[Any]]:
    name, request = LISTS[method]
    token, found = "", []
    while True:
        call = getattr(at.control, method)
        answer = await call(request(run=run, page_size=size, page_token=token))
        found.append(list(getattr(answer, name)))
        token = answer.next_page_token
        if not token:
            return found


async def with_entries(at: House) -> str:
    run = await at.submit()
    fake = filled(run)
    at.launcher.incidents = fake.incidents
    at.launcher.checkpoints = fake.checkpoints
    at.launcher.steps = fake.steps
    return run


@pytest.mark.parametrize("method", LISTS)
@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_every_entry_is_on_one_page(root: Path, method: str, size: int) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await with_entries(at)
            (whole,) = await pages(at, method, run, 0)
            parts = await pages(at, method, run, size)
            assert [each for part in parts for each in part] == whole
            assert len(whole) == 7
            most = 3 if method == "ListCheckpoints" else 1
            # Checkpoints of one step come together.
            assert all(len(part) <= max(size, most + size - 1) for part in parts)
            assert len(parts) == 1 if size >= 7 else len(parts) > 1

    play(scene)


@pytest.mark.parametrize("method", LISTS)
def test_bad_pages_are_refused_with_the_field(root: Path, method: str) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await with_entries(at)
            _, request = LISTS[method]
            call = getattr(at.control, method)
            other = page_token("runs", 3)
            for bad in ("x", "9" * 5000, other, other[:-1], "é", "===="):
                error = await refused(
                    call(request(run=run, page_token=bad)), CODE.INVALID_ARGUMENT, "BAD_PAGE"
                )
                assert "page_token" in str(error.details())
            error = await refused(
                call(request(run=run, page_size=-1)), CODE.INVALID_ARGUMENT, "BAD_PAGE"
            )
            assert "page_size must be ≥ 0, got -1" in str(error.details())

    play(scene)


def test_a_token_says_nothing_and_names_its_list() -> None:
    assert page_token("runs", 3) != page_token("incidents of a", 3)
    assert "3" not in page_token("runs", 3) or len(page_token("runs", 3)) > 16


def test_step_metrics_begin_behind_a_step_and_say_what_was_lost(root: Path) -> None:
    async def scene() -> None:
        async with house(root) as at:
            run = await with_entries(at)
            request = control_pb2.ListStepMetricsRequest(run=run, after_step=5, page_size=1)
            answer = await at.control.ListStepMetrics(request)
            assert [each.step for each in answer.steps] == [6]
            assert (list(answer.names), answer.lost) == (["rate"], 3)
            request.page_token = answer.next_page_token
            answer = await at.control.ListStepMetrics(request)
            assert [each.step for each in answer.steps] == [7]
            assert answer.next_page_token == ""

    play(scene)
