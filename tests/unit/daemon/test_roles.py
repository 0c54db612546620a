"""Roles of RPCs and of identities."""

from __future__ import annotations

import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from trainerd.daemon.api_config import RolesConfig
from trainerd.daemon.roles import LEAST, UNIX, Peer, Role, Roles
from trainerd.v1 import control_pb2, host_pb2

SERVED = (
    control_pb2.DESCRIPTOR,
    host_pb2.DESCRIPTOR,
    health_pb2.DESCRIPTOR,
    reflection_pb2.DESCRIPTOR,
)
READING = ("Get", "List", "Watch", "Explain", "Simulate", "Read")


def rpcs() -> list[str]:
    return [
        f"/{service.full_name}/{method.name}"
        for file in SERVED
        for service in file.services_by_name.values()
        for method in service.methods
    ]


def test_every_rpc_that_is_served_names_its_least_role() -> None:
    assert [rpc for rpc in rpcs() if rpc not in LEAST] == []
    # The newer name of reflection is the one that is not served.
    assert {rpc for rpc in LEAST if rpc not in rpcs()} == {
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    }


def test_what_only_reads_is_the_viewers_and_all_else_the_operators() -> None:
    for rpc in rpcs():
        service, _, method = rpc.rpartition("/")
        if service == "/trainerd.v1.ControlService":
            reads = method.startswith(READING)
            assert LEAST[rpc] is (Role.VIEWER if reads else Role.OPERATOR), rpc


class Shown:
    """What a handshake has shown."""

    def __init__(self, **context: list[bytes]) -> None:
        self._context = context

    def auth_context(self) -> dict[str, list[bytes]]:
        return self._context


@pytest.mark.parametrize(
    ("names", "identity", "role"),
    [
        ({"peer_uri": [b"spiffe://trainerd/viewer"]}, "spiffe://trainerd/viewer", "viewer"),
        ({"peer_uri": [b"spiffe://trainerd/viewer/"]}, "spiffe://trainerd/viewer/", "none"),
        ({"peer_uri": [b"spiffe://trainerd/viewers"]}, "spiffe://trainerd/viewers", "none"),
        # A name of another kind with the same text is another name.
        ({"peer_dns": [b"spiffe://trainerd/operator"]}, "dns:spiffe://trainerd/operator", "none"),
        ({"x509_common_name": [b"operator"]}, "cn:operator", "none"),
        # The first name that has a role counts, and its roles alone.
        (
            {"peer_uri": [b"x://y", b"spiffe://trainerd/viewer", b"spiffe://trainerd/operator"]},
            "spiffe://trainerd/viewer",
            "viewer",
        ),
        ({"peer_uri": [b"\xff\xfe"]}, "\ufffd\ufffd", "none"),
        ({}, "nameless", "none"),
    ],
)
def test_a_certificate_has_the_role_of_its_first_known_name(
    names: dict[str, list[bytes]], identity: str, role: str
) -> None:
    peer = Roles(RolesConfig()).peer(Shown(**names))

    assert (peer.identity, peer.role, peer.transport) == (identity, role, "tls")


def test_other_lists_count_from_the_next_call_on() -> None:
    roles = Roles(RolesConfig())
    jo = Shown(peer_uri=[b"spiffe://corp/jo"])
    before = roles.peer(jo).role
    roles.apply(RolesConfig(operator=("spiffe://corp/*",)))
    after = roles.peer(jo).role
    roles.apply(RolesConfig(operator=()))
    assert (before, after, roles.peer(jo).role) == ("none", "operator", "none")


def test_an_operator_may_look_and_a_host_may_not() -> None:
    def may(role: Role) -> list[bool]:
        peer = Peer(identity="x", roles=frozenset([role]), transport="tls")
        return [peer.may(least) for least in (None, Role.VIEWER, Role.OPERATOR, Role.HOST)]

    assert may(Role.VIEWER) == [True, True, False, False]
    assert may(Role.OPERATOR) == [True, True, True, False]
    assert may(Role.HOST) == [True, False, False, True]
    assert not Peer(identity="x", roles=frozenset(), transport="tls").may(None)
    assert all(UNIX.may(least) for least in (None, *Role))
