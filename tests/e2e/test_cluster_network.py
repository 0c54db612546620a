"""Hosts whose links fail: cut, deaf, dumb, lossy; frozen; with a wrong clock; one that supervises.

One cluster and one run see all of it. Mutual TLS between the daemons, Gloo between the trainers.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from e2e.cluster import Cluster
from e2e.host import eventually
from e2e.network import Network, why_not
from e2e.networked import everything_of, lives, networked, tell
from trainerd.actors import checkpoint_manifest, fence
from trainerd.actors.checkpoint_files import durable
from trainerd.clients import Refused
from trainerd.daemon.cluster.supervising import SILENT_S
from trainerd.v1 import fault_pb2, run_pb2

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]

SUPERVISOR, OTHER, FAR = NAMES = ("h0", "h1", "h2")
AHEAD_S = 3600.0
"""How much the clock of the daemon and the launcher on `FAR` is ahead, in all these tests."""
SKEWED = Path(__file__).parents[1] / "fakes" / "skewed"
EVERY = 50
FOR_EVER = 10_000_000


@pytest.fixture(name="both", scope="module")
def _both() -> Iterator[tuple[Network, Cluster]]:
    ahead = ["env", f"PYTHONPATH={SKEWED}", f"CLOCK_AHEAD_S={AHEAD_S}"]
    with networked(*NAMES, prefixes={FAR: ahead}) as made:
        yield made


@pytest.fixture(name="net", scope="module")
def _net(both: tuple[Network, Cluster]) -> Network:
    return both[0]


@pytest.fixture(name="hosts", scope="module")
def _hosts(both: tuple[Network, Cluster]) -> Cluster:
    return both[1]


@pytest.fixture(name="gang", scope="module")
def _gang(hosts: Cluster) -> str:
    """A run on all hosts that never ends by itself; a step takes a hundredth of a second."""
    spec = hosts.spec(
        count=3, steps=FOR_EVER, every_steps=EVERY, args={"pace_s": 0.002}, exact=False
    )
    # Hosts are lost all the time here.
    spec.policy.host_lost.limit = 100
    spec.policy.max_cycles_without_progress = 100
    return hosts.submit(spec)


@pytest.fixture(name="run")
def _run(net: Network, hosts: Cluster, gang: str) -> Iterator[str]:
    """The run, training on all hosts."""
    hosts.training(gang, *NAMES)
    yield gang
    net.heal()


def moves_on(hosts: Cluster, run: str, steps: int) -> run_pb2.Run:
    """The run, so many steps later."""
    reached = hosts.run(run).step
    return hosts.until(run, lambda now: now.step > reached + steps)


def told(what: str, since: float) -> None:
    print(f"{what}: {time.monotonic() - since:.2f} s")


def lost(hosts: Cluster, run: str, host: str, since: float) -> int:
    """Wait until the gang trains on without a host; return the incarnation that it was lost from.

    It was lost once, and nothing else is charged.
    """
    before = hosts.run(run)
    hosts.until(run, lambda now: now.reason.startswith("host_lost") or host not in members(now))
    told("detected", since)
    others = [name for name in NAMES if name != host]
    hosts.training(run, *others, beyond=before.step)
    told("training again", since)
    charged = [
        (fault_pb2.FaultClass.Name(getattr(each.decision_made.fault, "class")), each.host)
        for each in hosts.supervisor.events(run, "decision_made")
        if each.incarnation == before.incarnation
    ]
    assert charged == [("FAULT_CLASS_HOST_LOST", host)]
    return before.incarnation


def members(now: run_pb2.Run) -> set[str]:
    return {member.host for member in now.members}


def grown(hosts: Cluster, run: str, since: float) -> run_pb2.Run:
    """The run once it trains on all hosts again."""
    now = hosts.training(run, *NAMES, beyond=hosts.run(run).step)
    told("all train again", since)
    return now


@pytest.mark.parametrize("fault", ["cut", "dumb", "deaf"])
def test_a_host_that_cannot_be_reached_is_done_without_until_it_can(
    net: Network, hosts: Cluster, run: str, fault: str
) -> None:
    before, pid = hosts.run(run), hosts.pid(run, FAR)
    began = time.monotonic()
    match fault:
        case "cut":
            net.cut(FAR)
        case "dumb":
            net.lose(100, source=FAR)
        case "deaf":
            net.lose(100, target=FAR)
    assert lost(hosts, run, FAR, began) == before.incarnation
    healed = time.monotonic()
    net.heal()
    # It learns that its incarnation is over.
    eventually("its trainer is ended", lambda: not lives(pid))
    told("ended there", healed)
    now = grown(hosts, run, healed)
    assert now.incarnation == before.incarnation + 2
    assert (now.restarts, now.step > before.step) == (before.restarts + 1, True)


def test_a_frozen_host_is_done_without_and_learns_so_when_it_thaws(
    hosts: Cluster, run: str
) -> None:
    before, pid = hosts.run(run), hosts.pid(run, FAR)
    frozen = everything_of(hosts, FAR)
    began = time.monotonic()
    tell(frozen, signal.SIGSTOP)
    try:
        lost(hosts, run, FAR, began)
    finally:
        tell(frozen, signal.SIGCONT)
    eventually("its trainer is ended", lambda: not lives(pid))
    assert grown(hosts, run, began).incarnation == before.incarnation + 2


def test_a_supervisors_host_that_freezes_is_waited_for(hosts: Cluster, run: str) -> None:
    before = hosts.run(run)
    frozen = everything_of(hosts, SUPERVISOR)
    tell(frozen, signal.SIGSTOP)
    try:
        # Much longer than any other host may say nothing.
        time.sleep(2 * SILENT_S)
    finally:
        tell(frozen, signal.SIGCONT)
    hosts.linked()
    now = moves_on(hosts, run, 20)
    assert (now.incarnation, now.restarts) == (before.incarnation, before.restarts)


def test_a_link_that_loses_one_frame_in_twenty_slows_a_gang_down_and_breaks_nothing(
    net: Network, hosts: Cluster, run: str
) -> None:
    before = hosts.run(run)
    net.lose(5)
    now = moves_on(hosts, run, 25)
    net.heal()
    hosts.linked()
    assert (now.incarnation, now.restarts) == (before.incarnation, before.restarts)


def test_a_clock_that_is_wrong_is_shown(hosts: Cluster, run: str) -> None:
    """What it might harm all other tests of this file would show."""
    shown = hosts.host(FAR)
    assert abs(shown.clock_offset_s - AHEAD_S) < shown.clock_error_s + 1.0
    assert abs(hosts.host(OTHER).clock_offset_s) < 1.0
    command = [sys.executable, "-m", "trainerd.clients", "hosts"]
    environment = {**os.environ, "TRAINERD_ADDRESS": hosts.supervisor.address}
    table = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    (row,) = [line for line in table.stdout.splitlines() if line.startswith(FAR)]
    assert "+1h" in row.replace(" ", "")
    assert hosts.run(run).state == run_pb2.RUN_STATE_RUNNING


@pytest.fixture(name="outside")
def _outside(net: Network, hosts: Cluster, run: str) -> Iterator[str]:
    """The run, training on the hosts that do not supervise."""
    with hosts.client() as client:
        client.drain_host(SUPERVISOR)
    hosts.training(run, OTHER, FAR)
    yield run
    net.heal()
    # Or it is not drained any more.
    with suppress(Refused), hosts.client() as client:
        client.undrain_host(SUPERVISOR)


def saved(hosts: Cluster, run: str) -> list[tuple[int, int]]:
    """All durable checkpoints in the shared directory: step and incarnation, the newest last."""
    found = []
    for checkpoint in durable(hosts.shared / run):
        with suppress(checkpoint_manifest.Unverified):  # It is removed just now.
            found.append((checkpoint.step, checkpoint_manifest.writer(checkpoint.path)))
    return sorted(found)


def trains_by_itself(hosts: Cluster, run: str) -> int:
    """Wait until the gang has saved three times while nobody supervises it; return its step."""
    for name in (OTHER, FAR):
        eventually("the supervisor misses it", lambda n=name: not hosts.host(n).linked)
    newest = saved(hosts, run)[-1][0]
    eventually("it saves", lambda: saved(hosts, run)[-1][0] > newest + 2 * EVERY)
    return saved(hosts, run)[-1][0]


def test_a_gang_that_has_merely_lost_its_supervisor_goes_on(
    net: Network, hosts: Cluster, outside: str
) -> None:
    before = hosts.run(outside)
    net.unplug(SUPERVISOR)
    alone = trains_by_itself(hosts, outside)
    net.heal()
    hosts.linked()
    now = hosts.training(outside, OTHER, FAR, beyond=alone)
    assert (now.incarnation, now.restarts) == (before.incarnation, before.restarts)
    every_step_once(hosts, outside)


def every_step_once(hosts: Cluster, run: str) -> None:
    steps = [each.step for each in hosts.supervisor.steps(run)]
    assert steps == list(range(1, len(steps) + 1))


def test_a_gang_that_was_given_up_saves_nothing_that_counts_and_ends(
    net: Network, hosts: Cluster, outside: str
) -> None:
    old = hosts.run(outside).incarnation
    pids = [hosts.pid(outside, name) for name in (OTHER, FAR)]
    net.cut(SUPERVISOR)
    trains_by_itself(hosts, outside)
    # Now there is a host that could do instead.
    with hosts.client() as client:
        client.undrain_host(SUPERVISOR)
    began = time.monotonic()
    now = hosts.training(outside, SUPERVISOR)
    told("given up", began)
    assert now.incarnation == old + 1
    eventually("those given up end", lambda: not any(lives(pid) for pid in pids))
    raised = fence.read(hosts.shared / outside)
    assert raised is not None
    assert raised.incarnation == old + 1
    assert [
        each for each in saved(hosts, outside) if each[1] <= old and each not in raised.durable
    ] == []
    (restored,) = [
        each.state_restored
        for each in hosts.supervisor.events(outside, "state_restored")
        if each.incarnation == old + 1
    ]
    assert (restored.step, old) in raised.durable
    healed = time.monotonic()
    net.heal()
    grown(hosts, outside, healed)
