"""`[cluster]`: who supervises, and under which name this host joins."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_FILES = ("ca", "cert", "key")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """`[cluster]`: the same on every host but for `name`, where that is not the machine's.

    supervisor: host:port at which the supervisor's daemon answers; "": there is no cluster. Where
    its host is this host's name, this daemon is the supervisor, and needs `[api] listen`. name:
    this host's name in the cluster; "": the machine's. ca, cert, key: with what a host joins; PEM.
    """

    supervisor: str = ""
    name: str = ""
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @property
    def host(self) -> str:
        """This host's name in the cluster; empty: there is none."""
        return (self.name or socket.gethostname()) if self.supervisor else ""

    @property
    def supervises(self) -> bool:
        """Whether this daemon is the one the others join."""
        return bool(self.supervisor) and self.supervisor.rpartition(":")[0] == self.host

    @property
    def joins(self) -> bool:
        """Whether this daemon joins another one."""
        return bool(self.supervisor) and not self.supervises


def is_name(text: str) -> bool:
    """Whether a host may be called that: what a host name may be, at most 63 characters."""
    return _NAME.fullmatch(text) is not None


def cluster_problems(cluster: ClusterConfig, *, listens: bool) -> Iterator[str]:
    """What is impossible in `[cluster]`. `listens`: whether the control service answers on TCP."""
    given = [name for name in ("name", *_FILES) if getattr(cluster, name)]
    if not cluster.supervisor:
        if given:
            yield f"cluster.{given[0]} without cluster.supervisor: say who supervises"
        return
    host, _, port = cluster.supervisor.rpartition(":")
    if not (host and port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        yield f'cluster.supervisor must be "host:port" or "", got "{cluster.supervisor}"'
    if not is_name(cluster.host):
        yield (
            f"cluster.name must be 1 to 63 letters, digits, '.', '_' and '-', got "
            f'"{cluster.host}"'
        )
    if cluster.supervises and not listens:
        yield (
            f"cluster.supervisor names this host ({cluster.host}): give api.listen, at which the "
            f"others join"
        )
    missing = [f"cluster.{name}" for name in _FILES if getattr(cluster, name) is None]
    if cluster.joins and missing:
        yield f"{', '.join(missing)} must be given: a host joins with mutual TLS only"
