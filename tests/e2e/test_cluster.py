"""Several hosts train one run: they die, freeze, lose each other and come back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.cluster import Cluster, cluster, loopback


@pytest.fixture(name="hosts", scope="module")
def _hosts() -> Iterator[Cluster]:
    """Three hosts; each test leaves them running and free."""
    with cluster(loopback(3)) as made:
        yield made


@pytest.fixture(name="alone", scope="module")
def _alone(hosts: Cluster) -> str:
    """The digest after 200 steps of a run that one process trains undisturbed."""
    return hosts.completed(hosts.submit(hosts.spec("alone", count=1))).result.state_digest


def test_three_hosts_come_to_the_state_of_one(hosts: Cluster, alone: str) -> None:
    done = hosts.completed(hosts.submit(hosts.spec(count=3)))
    assert done.result.state_digest == alone
    assert (done.restarts, done.incarnation) == (0, 1)
