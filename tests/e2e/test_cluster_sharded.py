"""Hosts that hold a part of the state each: what a lost trainer costs, and what a lost host."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster import Cluster, cluster, loopback
from trainerd.v1 import event_pb2, run_pb2
from trainerd.v1.protocol import SNAPSHOT_SUFFIX

pytestmark = pytest.mark.e2e

PAIR, ALL = ("localhost", "h1"), ("localhost", "h1", "h2")
STEPS = 200
WIDTH = 1536
"""Parameters enough to be cut over two devices, and over three."""


@pytest.fixture(name="hosts", scope="module")
def _hosts() -> Iterator[Cluster]:
    """Three hosts, of which the third takes part once it is undrained."""
    with cluster(loopback(3)) as made:
        with made.client() as client:
            client.drain_host("h2")
        yield made


@pytest.fixture(name="undisturbed", scope="module")
def _undisturbed(hosts: Cluster) -> run_pb2.Run:
    """What two hosts come to that nothing disturbs."""
    return hosts.completed(hosts.submit(sharded(hosts, "calm", count=2)))


def sharded(hosts: Cluster, name: str, *, count: int, **args: object) -> run_pb2.RunSpec:
    """It saves on request and at its end only, and goes on with two hosts."""
    spec = hosts.spec(
        name,
        count=count,
        least=2,
        exact=False,
        steps=STEPS,
        every_steps=100 * STEPS,
        args={"width": WIDTH, **args},
    )
    spec.train.state = run_pb2.STATE_LAYOUT_SHARDED
    return spec


class Paced:
    """A run that takes its time until it may hurry, so that it can be disturbed on its way."""

    def __init__(self, hosts: Cluster, folder: Path, *names: str) -> None:
        self.hosts, self.names, self._slow = hosts, names, folder / "slow"
        self._slow.touch()
        spec = sharded(hosts, "paced", count=len(names), slow_while=self._slow, slow_s=0.02)
        self.id = hosts.submit(spec)

    def ahead(self) -> run_pb2.Run:
        """The run once all have a snapshot of a step that is newer than its only checkpoint."""
        self.hosts.training(self.id, *self.names, beyond=5)
        with self.hosts.client() as client:
            client.checkpoint_run(self.id)
        durable = self.hosts.until(self.id, lambda now: now.durable_step > 0)
        ahead = self.hosts.until(self.id, lambda now: now.snapshot_step > durable.durable_step)
        assert ahead.durable_step == durable.durable_step
        return ahead

    def again(self) -> run_pb2.Run:
        """The run once its second incarnation has made a new step."""
        now = self.hosts.until(self.id, lambda now: now.incarnation > 1)
        again = self.hosts.training(self.id, *PAIR, beyond=now.step)
        assert (again.incarnation, again.restarts) == (2, 1)
        return again

    def done(self) -> run_pb2.Run:
        """The run when it has completed: every step was made once, of all examples there are."""
        self._slow.unlink()
        done = self.hosts.completed(self.id)
        steps = self.hosts.supervisor.steps(self.id)
        made = [(each.step, each.batch) for each in steps]
        assert made == [(step, step - 1) for step in range(1, STEPS + 1)]
        assert {each.examples for each in steps} == {done.spec.train.global_batch}
        return done

    def restored(self) -> dict[str, event_pb2.StateRestored]:
        """What the second incarnation went on from, by host."""
        return {
            each.host: each.state_restored
            for each in self.hosts.supervisor.events(self.id, "state_restored")
            if each.incarnation == 2
        }


def losses(hosts: Cluster, run: str) -> list[float]:
    return [each.loss for each in hosts.supervisor.steps(run)]


def test_a_killed_trainer_costs_no_more_than_the_steps_since_the_snapshots_of_all(
    hosts: Cluster, undisturbed: run_pb2.Run, tmp_path: Path
) -> None:
    run = Paced(hosts, tmp_path, *PAIR)
    before = run.ahead()
    os.kill(hosts.pid(run.id, "h1"), signal.SIGKILL)
    run.again()
    restored = run.restored()
    assert restored.keys() == set(PAIR)
    (step,) = {each.step for each in restored.values()}
    assert step >= before.snapshot_step > before.durable_step
    assert all(each.source.endswith(SNAPSHOT_SUFFIX) for each in restored.values()), restored
    assert run.done().result.state_digest == undisturbed.result.state_digest


def test_a_host_lost_for_good_takes_its_part_along_and_the_rest_go_on_from_the_checkpoint(
    hosts: Cluster, undisturbed: run_pb2.Run, tmp_path: Path
) -> None:
    with hosts.client() as client:
        client.undrain_host("h2")
    run = Paced(hosts, tmp_path, *ALL)
    before = run.ahead()
    hosts.kill("h2")
    assert run.again().last_fault.message == "host h2 cannot be reached"
    # What the two have in memory is newer, and of no use.
    checkpoint = (before.durable_step, str(hosts.shared / run.id / str(before.durable_step)))
    restored = {host: (each.step, each.source) for host, each in run.restored().items()}
    assert restored == dict.fromkeys(PAIR, checkpoint)
    assert run.done().result.batches == STEPS
    # The same batches in the same slots, on three hosts and then on two.
    assert losses(hosts, run.id) == pytest.approx(losses(hosts, undisturbed.id), rel=1e-5)
