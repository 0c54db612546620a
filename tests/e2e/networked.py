"""A cluster whose hosts are on a network of their own, and what can be done to it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from e2e.cluster import Cluster, Place, cluster
from e2e.host import processes_of
from e2e.network import Network, network

PORT = 7443


@contextmanager
def networked(
    *names: str, prefixes: Mapping[str, Sequence[str]] | None = None
) -> Iterator[tuple[Network, Cluster]]:
    """Hosts of these names, the first of which supervises; `prefixes`: put before commands."""
    with network(*names) as net:
        places = [
            Place(
                name=name,
                address=name,
                prefix=[*net.command(name), *(prefixes or {}).get(name, ())],
                metrics="127.0.0.1",
                port=PORT,
            )
            for name in names
        ]
        with cluster(places) as made:
            yield net, made


def everything_of(hosts: Cluster, name: str) -> list[int]:
    """The processes of a host: daemon, launcher and all its others."""
    host = hosts.hosts[name]
    with host.client() as client:
        return [client.daemon().pid, *processes_of(host.folder)]


def tell(pids: Sequence[int], number: int) -> None:
    """Send a signal to those that live."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def lives(pid: int) -> bool:
    """Whether a process has not ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
