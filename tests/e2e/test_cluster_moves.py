"""The supervisor moves to another host with its journal; training does not notice."""

from __future__ import annotations

import pytest

from e2e import oracle
from e2e.cluster import Place, cluster
from trainerd.v1 import run_pb2

pytestmark = pytest.mark.e2e

# Hosts are found by their names here.
HOSTS = ("127.0.0.1", "127.0.0.2")


def test_the_supervisor_moves_with_its_journal_and_the_trainers_train_on() -> None:
    places = [Place(name=name, address=name) for name in HOSTS]
    with cluster(places, standby=False) as hosts:
        spec = hosts.spec(count=2, least=2, steps=100_000, every_steps=50, args={"pace_s": 0.002})
        run = hosts.submit(spec)
        before = hosts.training(run, *HOSTS, beyond=10)

        hosts.supervise_from("127.0.0.2")

        after = hosts.training(run, *HOSTS, beyond=before.step + 20)
        assert [each.pid for each in after.members] == [each.pid for each in before.members]
        assert (after.incarnation, after.restarts) == (1, 0)
        with hosts.client() as client:
            assert {h.name: h.supervisor for h in client.list_hosts().hosts} == {
                "127.0.0.1": False,
                "127.0.0.2": True,
            }
            # What it is told to do it does from there.
            done = client.stop_run(run).run
        assert done.state == run_pb2.RUN_STATE_STOPPED
        spec.train.steps, spec.args["pace_s"].double_value = done.result.step, 0.0
        assert done.result.state_digest == oracle.digest(spec, [])
