"""Kills at random moments: the final state digest is always that of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator

import pytest

from e2e.host import Host, eventually, host
from trainerd.v1 import run_pb2

pytestmark = pytest.mark.e2e

KILLS = 10
STEPS = 300


def _undisturbed(host: Host) -> run_pb2.Run:
    run = host.completed(host.submit(host.spec("undisturbed", steps=STEPS)))
    assert run.restarts == 0
    return run


def _measured(host: Host, run: str) -> list[tuple[int, int, float, float, int]]:
    """What of a run's step metrics does not depend on when it was measured."""
    return [
        (each.step, each.batch, each.loss, each.gradient_norm, each.examples)
        for each in host.steps(run)
    ]


@pytest.fixture(name="warm")
def _warm() -> Iterator[Host]:
    """A host with standbys."""
    with host() as made:
        yield made


def test_ten_kills_of_the_trainer_at_random_moments_never_change_state_or_metrics(
    warm: Host,
) -> None:
    undisturbed = _undisturbed(warm)
    expected = undisturbed.result.state_digest
    spec = warm.spec("killed", steps=STEPS, every_steps=20, args={"pace_s": 0.0005})
    spec.policy.max_cycles_without_progress = KILLS + 1
    spec.policy.backoff_max_s = 0.01
    run = warm.submit(spec)
    moments = random.Random(20)
    step = 0
    for kill in range(KILLS):
        # From anywhere: while it starts, restores, compiles, steps or saves.
        target = step + moments.randrange(0, STEPS // (KILLS + 2))
        incarnation = kill + 1
        now = warm.until(
            run,
            lambda now, i=incarnation, t=target: (
                bool(now.pid)
                and now.incarnation == i
                and (now.step >= t or moments.random() < 0.01)
            ),
            pause_s=0.02,
        )
        os.kill(now.pid, signal.SIGKILL)
        step = now.step
        warm.until(run, lambda now, i=incarnation: now.incarnation > i)
    done = warm.completed(run)
    assert done.result.state_digest == expected
    assert done.restarts == KILLS
    assert done.incarnation == KILLS + 1
    exits = warm.events(run, "trainer_exited")
    assert [event.trainer_exited.signal for event in exits[:KILLS]] == [signal.SIGKILL] * KILLS
    # Each applied step is there once, as if nobody had been killed.
    measured = _measured(warm, run)
    assert [step for step, *_ in measured] == list(range(1, STEPS + 1))
    assert measured == _measured(warm, undisturbed.id)
    assert {each.incarnation for each in warm.steps(run)} <= set(range(1, KILLS + 2))
    _check_times(warm, run)


@pytest.fixture(name="kept", scope="module")
def _kept() -> Iterator[Host]:
    """A host that each test leaves with a daemon and a launcher, be they others than before."""
    with host(standby=False, kept=True) as made:
        yield made


@pytest.fixture(name="expected", scope="module")
def _expected(kept: Host) -> str:
    """The digest of an undisturbed run."""
    return _undisturbed(kept).result.state_digest


def test_a_killed_daemon_costs_no_step_and_the_next_one_adopts_the_trainer(
    kept: Host, expected: str
) -> None:
    # The pace changes nothing but the time it takes.
    run = kept.submit(kept.spec("orphaned", steps=STEPS, args={"pace_s": 0.001}))
    before = kept.until(run, lambda now: now.step >= 50 and now.durable_step >= 0)
    saved = kept.metric("checkpoint_saves_total", run=run, result="ok")
    kept.kill_daemon(signal.SIGKILL)
    kept.start_daemon()
    # It counts on from what its journal says.
    assert (kept.metric("checkpoint_saves_total", run=run, result="ok") or 0) >= (saved or 1)
    adopted = kept.until(run, lambda now: now.attached)
    assert adopted.pid == before.pid
    assert adopted.first_loss == before.first_loss > 0
    assert kept.metric("trainer_up") == 1
    done = kept.completed(run)
    assert (done.incarnation, done.restarts) == (1, 0)
    assert done.result.state_digest == expected
    assert kept.decided(run) == [("daemon_crash", "continue", 0)]
    assert kept.faults(run) == {("daemon_crash", "continue"): 1}
    assert kept.metric("restarts_total", run=run, class_="crash") == 0
    assert _check_times(kept, run)["restart"] == 0


def test_sigterm_flushes_the_journal_and_the_trainer_goes_on(kept: Host) -> None:
    run = kept.submit(kept.spec("kept", steps=STEPS, args={"pace_s": 0.001}))
    before = kept.until(run, lambda now: now.step >= 20)
    assert kept.kill_daemon(signal.SIGTERM) == 0
    os.kill(before.pid, 0)
    kept.start_daemon()
    done = kept.completed(run)
    assert (done.incarnation, done.result.step) == (1, STEPS)
    assert kept.faults(run) == {}, "a daemon that was told to end is no fault"


def test_a_run_that_ends_while_no_daemon_lives_is_completed_by_the_next_one(kept: Host) -> None:
    run = kept.submit(kept.spec("unwatched", steps=300, args={"pace_s": 0.0005}))
    before = kept.until(run, lambda now: now.step >= 20)
    kept.kill_daemon(signal.SIGKILL)
    # It reports to the next daemon before it ends, and is patient for a while.
    checkpoints = kept.folder / "launcher" / "runs" / run / "checkpoints"
    eventually("the final checkpoint", (checkpoints / "300").is_dir)
    kept.start_daemon()
    done = kept.completed(run)
    assert done.result.step == 300
    assert done.result.state_digest
    assert before.incarnation == done.incarnation


def test_a_killed_launcher_takes_its_trainer_along_and_the_run_goes_on(
    kept: Host, expected: str
) -> None:
    run = kept.submit(kept.spec("uprooted", steps=STEPS, args={"pace_s": 0.001}))
    before = kept.until(run, lambda now: now.step >= 50)
    launcher = kept.launcher_pid()
    os.kill(launcher, signal.SIGKILL)
    eventually("the trainer is gone", lambda: not _alive(before.pid))
    done = kept.completed(run)
    assert done.result.state_digest == expected
    assert done.incarnation == 2
    assert kept.launcher_pid() != launcher


def test_a_stop_saves_and_ends_as_stopped(kept: Host) -> None:
    run = kept.submit(kept.spec("stopped", steps=100_000, every_steps=1000))
    kept.until(run, lambda now: now.step >= 20)
    with kept.client() as client:
        stopped = client.stop_run(run).run
    assert stopped.state == run_pb2.RUN_STATE_STOPPED
    assert stopped.durable_step == stopped.result.step > 0


def _check_times(host: Host, run: str) -> dict[str, float]:
    """The parts of the run's time are the whole; return them."""
    spent_s, lived_s = host.times(run)
    assert abs(sum(spent_s.values()) - lived_s) <= 0.01 * lived_s
    assert spent_s["productive"] > 0
    return spent_s


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
