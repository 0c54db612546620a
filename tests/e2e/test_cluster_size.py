"""A run on several hosts has the state of one process, whatever its hosts do meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e import oracle
from e2e.cluster import Cluster, cluster, loopback
from trainerd.v1 import inject_pb2, run_pb2

pytestmark = pytest.mark.e2e

HOSTS = ("localhost", "h1", "h2", "h3")
STEPS = 200


@pytest.fixture(name="hosts", scope="module")
def _hosts() -> Iterator[Cluster]:
    """Four hosts; each test leaves them running and free."""
    with cluster(loopback(4), injection=True) as made:
        yield made


@pytest.fixture(name="undisturbed", scope="module")
def _undisturbed(hosts: Cluster) -> run_pb2.RunResult:
    """What one process comes to that nothing disturbs."""
    return hosts.completed(hosts.submit(hosts.spec("alone", count=1, steps=STEPS))).result


def test_hosts_leave_and_return_and_the_state_is_that_of_one_process(
    hosts: Cluster, undisturbed: run_pb2.RunResult
) -> None:
    # However long it takes a loaded machine to prepare two standbys, the run is not over before.
    slow = hosts.folder / "slow"
    args = {"pace_s": 0.008, "slow_while": str(slow)}
    spec = hosts.spec(count=4, least=2, steps=STEPS, every_steps=20, args=args)
    run = hosts.submit(spec)
    before = hosts.training(run, *HOSTS, beyond=20)
    left = list(HOSTS)
    for name in ("h1", "h3"):
        hosts.kill(name)
        left.remove(name)
        before = hosts.training(run, *left, beyond=before.step)
        assert before.last_fault.message == f"host {name} cannot be reached"
    slow.touch()
    hosts.start("h1", "h3")
    # It grows by itself, where its state is saved.
    now = hosts.training(run, *HOSTS, beyond=before.step)
    slow.unlink()
    assert now.restarts == before.restarts == 2
    # Nobody waited for those to import everything.
    spawned = hosts.supervisor.events(run, "trainer_spawned")
    last = {each.host: each.trainer_spawned.warm for each in spawned}
    assert (last["h1"], last["h3"]) == (True, True)
    sources = [
        each.state_restored.source for each in hosts.supervisor.events(run, "state_restored")
    ]
    assert sources[-1].startswith(str(hosts.shared))
    done = hosts.completed(run)
    assert done.result.state_digest == undisturbed.state_digest
    assert [each.step for each in hosts.supervisor.steps(run)] == list(range(1, STEPS + 1))
    spent_s, lived_s = hosts.supervisor.times(run)
    assert sum(spent_s.values()) == pytest.approx(lived_s, rel=0.01)


def test_without_a_fixed_order_of_sums_the_loss_is_as_good_as_equal(
    hosts: Cluster, undisturbed: run_pb2.RunResult
) -> None:
    done = hosts.completed(hosts.submit(hosts.spec(count=3, exact=False, steps=STEPS)))
    assert done.result.loss == pytest.approx(undisturbed.loss, rel=1e-5)
    assert done.result.batches == STEPS


def test_faults_on_purpose_befall_a_gang_once(hosts: Cluster) -> None:
    spec = hosts.spec(count=2, steps=60)
    fault = inject_pb2.Injection
    spec.inject.faults.extend(
        [
            # The slot of the second host; the batch of the first one's source; the first one.
            fault(fault=inject_pb2.INJECTED_FAULT_NAN, step=20, slots=[3]),
            fault(fault=inject_pb2.INJECTED_FAULT_DATA_ERROR, step=30),
            fault(fault=inject_pb2.INJECTED_FAULT_SIGKILL, step=40),
        ]
    )
    run = hosts.submit(spec)
    done = hosts.completed(run)
    every = hosts.supervisor.decided(run)
    decided = [(each, action) for each, action, _ in every if action != "continue"]
    # Nobody asked for those: a gang waits for its drills to be journalled, and on a machine that
    # stands still meanwhile a host cannot be reached.
    lost = decided.count(("host_lost", "reform"))
    assert [each for each in decided if each != ("host_lost", "reform")] == [
        ("non_finite_microbatch", "mask"),
        ("data_error", "skip"),
        ("crash", "restart"),
    ]
    counted = (done.masked_slots, done.skipped_batches, done.restarts)
    assert counted == (1, 1, 1 + lost), every
    told = [each.fault_injected for each in hosts.supervisor.events(run, "fault_injected")]
    assert len({(each.injection, each.batch) for each in told}) == 3
    assert [each.injection for each in told].count(3) == 1
    with hosts.client() as client:
        entries = oracle.ledger(response.event for response in client.list_events(run))
    spec.ClearField("inject")
    assert done.result.state_digest == oracle.digest(spec, entries)
