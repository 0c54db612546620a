"""Who may call what: identities have roles, each RPC names the least one.

An operator may do all that a viewer may; a host may join the supervisor and nothing else.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from trainerd.daemon.api_config import RolesConfig


class Role(enum.Enum):
    """What an identity may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    HOST = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who calls. `transport`: "unix" or "tls"."""

    identity: str
    roles: frozenset[Role]
    transport: str

    def may(self, least: Role | None) -> bool:
        """Whether this is enough; None: any role is."""
        if least is None:
            return bool(self.roles)
        enough = {least, Role.OPERATOR} if least is Role.VIEWER else {least}
        return bool(enough & self.roles)

    @property
    def role(self) -> str:
        """Its roles in words."""
        if self.roles == frozenset(Role):
            return "all"
        return "+".join(sorted(role.value for role in self.roles)) or "none"


UNIX = Peer(identity="unix", roles=frozenset(Role), transport="unix")
"""Whoever may open the socket: its mode and its group are the check. gRPC does not say who."""


class _Names(Protocol):
    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """What the handshake has shown of the peer."""


class Roles:
    """The roles of certificates."""

    def __init__(self, config: RolesConfig) -> None:
        self.apply(config)

    def apply(self, config: RolesConfig) -> None:
        """Go by these lists from now on: for each call, whenever its connection was made."""
        self._lists = {role: getattr(config, role.value) for role in Role}

    def peer(self, context: _Names) -> Peer:
        """Who calls over TLS: the first name of the certificate that has a role, else its first.

        Names are the certificate's URIs, its DNS names, its common name, in that order. The
        handshake has verified it.
        """
        shown = context.auth_context()
        names = [
            f"{prefix}{value.decode(errors='replace')}"
            for key, prefix in (
                ("peer_uri", ""),
                ("peer_dns", "dns:"),
                ("x509_common_name", "cn:"),
            )
            for value in shown.get(key, ())
        ]
        for name in names:
            roles = frozenset(
                role
                for role, allowed in self._lists.items()
                if any(_matches(name, each) for each in allowed)
            )
            if roles:
                return Peer(identity=name, roles=roles, transport="tls")
        identity = names[0] if names else "nameless"
        return Peer(identity=identity, roles=frozenset(), transport="tls")


def _matches(name: str, allowed: str) -> bool:
    if allowed.endswith("/*"):
        return name.startswith(allowed[:-1]) and len(name) > len(allowed) - 1
    return name == allowed


def _control(role: Role, *methods: str) -> dict[str, Role]:
    return {f"/trainerd.v1.ControlService/{method}": role for method in methods}


LEAST: Mapping[str, Role | None] = MappingProxyType(
    {
        **_control(
            Role.VIEWER,
            "GetDaemon",
            "GetRun",
            "ListRuns",
            "ListCheckpoints",
            "WatchRun",
            "ListEvents",
            "ExplainRun",
            "ListIncidents",
            "GetIncident",
            "GetPolicy",
            "SimulatePolicy",
            "ReadRunLog",
            "ListStepMetrics",
        ),
        **_control(
            Role.OPERATOR,
            # These change no run, but run the user's code, signal it, or write on the host.
            "CheckRun",
            "ProfileRun",
            "CollectRunStacks",
            "ReplayRunIncident",
            "VerifyCheckpoints",
            "AdoptCheckpoint",
            "ExportCheckpoint",
            "SubmitRun",
            "DeleteRun",
            "PauseRun",
            "ResumeRun",
            "StopRun",
            "RestartRun",
            "CheckpointRun",
            "SetPolicy",
            "InjectFault",
        ),
        "/trainerd.v1.HostService/Join": Role.HOST,
        "/grpc.health.v1.Health/Check": None,
        "/grpc.health.v1.Health/List": None,
        "/grpc.health.v1.Health/Watch": None,
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Role.VIEWER,
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": Role.VIEWER,
    }
)
"""The least role of each RPC; None: any. What is not here is nobody's."""


def changes_something(method: str) -> bool:
    """Whether a call of this RPC, by its path, belongs in the audit log."""
    return LEAST.get(method) in (Role.OPERATOR, Role.HOST)
