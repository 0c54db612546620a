"""Pause, resume, checkpoint and restart of a live run, over the API."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.host import Host
from trainerd.clients import InvalidRun, NotFound, Refused
from trainerd.v1 import run_pb2

pytestmark = pytest.mark.e2e

STEPS = 300


@pytest.fixture(scope="module", name="expected")
def _expected(shared: Host) -> str:
    """The digest of an undisturbed run; its pace would change nothing."""
    return shared.completed(shared.submit(shared.spec("plain", steps=STEPS))).result.state_digest


def test_pausing_resuming_saving_and_restarting_do_not_change_the_final_state(
    shared: Host, expected: str
) -> None:
    run = shared.submit(shared.spec("handled", steps=STEPS, args={"pace_s": 0.003}))
    shared.until(run, lambda now: now.step >= 20)
    with shared.client() as client:
        paused = client.pause_run(run).run
        assert paused.state == run_pb2.RUN_STATE_PAUSED
        assert paused.durable_step == paused.step > 0
        assert client.get_run(run).run.pid == paused.pid
        saved = client.checkpoint_run(run)
        assert saved.step == paused.step
        with pytest.raises(Refused, match="is paused: it makes no steps to profile"):
            client.profile_run(run, 3)
        resumed = client.resume_run(run).run
        assert resumed.state == run_pb2.RUN_STATE_RUNNING
        stacks = client.collect_run_stacks(run).stacks
        assert "trainerd/actors/loop.py" in stacks.python
        assert str(resumed.pid) in stacks.threads
        profile = client.profile_run(run, 3)
        assert (profile.steps, profile.run.id) == (3, run)
        assert list(Path(profile.path).rglob("*.xplane.pb")), "a trace that XProf reads"
        saved = client.checkpoint_run(run)
        assert saved.step >= paused.step
        restarted = client.restart_run(run).run
        assert restarted.incarnation == 2
    done = shared.completed(run)
    assert done.result.state_digest == expected
    assert [each.step for each in shared.steps(run)] == list(range(1, STEPS + 1))
    assert done.restarts == 0, "a restart on request is not charged"
    assert shared.decided(run) == [("voluntary", "restart", 0)]
    assert shared.faults(run) == {("voluntary", "restart"): 1}
    assert shared.metric("restarts_total", run=run, class_="voluntary") == 1
    assert shared.metric("restarts_total", run=run, class_="crash") == 0


def test_a_second_run_waits_for_the_first_one(shared: Host) -> None:
    first = shared.submit(shared.spec("first", steps=100_000))
    second = shared.submit(shared.spec("second", steps=20))
    shared.until(first, lambda now: now.step > 0)
    assert shared.run(second).state == run_pb2.RUN_STATE_QUEUED
    with shared.client() as client:
        client.stop_run(first, no_checkpoint=True)
    shared.completed(second)


def test_an_ended_run_is_deleted_with_its_files(shared: Host) -> None:
    run = shared.submit(shared.spec("gone", steps=20))
    shared.completed(run)
    files = shared.folder / "launcher" / "runs" / run
    assert (files / "checkpoints" / "20").is_dir()
    with shared.client() as client:
        assert client.delete_run(run).files_removed
        assert not files.exists()
        with pytest.raises(NotFound):
            client.get_run(run)
        with pytest.raises(NotFound):
            client.delete_run(run)


def test_what_cannot_be_done_now_is_refused_with_the_reason(shared: Host) -> None:
    run = shared.submit(shared.spec("ended", steps=20))
    shared.completed(run)
    with shared.client() as client:
        with pytest.raises(Refused, match=f"submit RUN.toml --resume {run}"):
            client.resume_run(run)
        with pytest.raises(Refused, match="it is completed"):
            client.pause_run(run)
        with pytest.raises(Refused, match="it is completed"):
            client.checkpoint_run(run)


def test_a_stopped_run_is_continued_by_a_new_one_to_the_state_of_an_undisturbed_run(
    shared: Host, expected: str
) -> None:
    spec = shared.spec("half", steps=STEPS, every_steps=1000, args={"pace_s": 0.001})
    first = shared.submit(spec)
    shared.until(first, lambda now: now.step >= 50)
    with shared.client() as client:
        with pytest.raises(Refused, match="has not ended"):
            client.submit_run(spec, skip_program_check=True, resume_run=first)
        stopped = client.stop_run(first).run
        other = shared.spec("half", steps=STEPS)
        other.train.seed = 7
        with pytest.raises(InvalidRun, match=r"train\.seed must be that of"):
            client.submit_run(other, skip_program_check=True, resume_run=first)
        second = client.submit_run(spec, skip_program_check=True, resume_run=first).run.id
    done = shared.completed(second)
    (restored,) = shared.events(second, "state_restored")
    assert restored.state_restored.step == stopped.result.step
    assert done.resumed_run == first
    assert done.result.state_digest == expected
