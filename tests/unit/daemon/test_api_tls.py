"""TCP with mutual TLS: who gets in, who may do what, and certificates that change."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from google.rpc import error_details_pb2
from prometheus_client.parser import text_string_to_metric_families

from fakes.certificates import Authority, Pair, api, channel
from trainerd.daemon.api_config import RolesConfig
from trainerd.v1 import control_pb2, control_pb2_grpc
from unit.daemon.house import House, house, play, short_directory, spec
from unit.daemon.statuses import details, refused

CODE = grpc.StatusCode
OPERATOR = "spiffe://trainerd/operator"
VIEWER = "spiffe://trainerd/viewer"


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


async def asked(at: House, authority: Authority, pair: Pair | None) -> str:
    """What a client with this certificate is answered: a run's id, or the status's name."""
    async with channel(at.api_address, authority, pair) as open_channel:
        stub: Any = control_pb2_grpc.ControlServiceStub(open_channel)
        request = control_pb2.SubmitRunRequest(spec=spec("a"), skip_program_check=True)
        try:
            return str((await stub.SubmitRun(request, timeout=10)).run.id)
        except grpc.aio.AioRpcError as error:
            return error.code().name


def test_each_role_may_do_what_it_is_for_and_nothing_else(root: Path, authority: Authority) -> None:
    async def allowed(at: House, identity: str) -> list[bool]:
        """Reading, changing, looking at the health."""
        codes = []
        async with channel(at.api_address, authority, authority.pair(identity)) as open_channel:
            stub: Any = control_pb2_grpc.ControlServiceStub(open_channel)
            health = open_channel.unary_unary("/grpc.health.v1.Health/Check")
            for call in (
                stub.ListRuns(control_pb2.ListRunsRequest(), timeout=10),
                stub.PauseRun(control_pb2.PauseRunRequest(run="none"), timeout=10),
                health(b"", timeout=10),
            ):
                try:
                    await call
                except grpc.aio.AioRpcError as error:
                    codes.append(error.code())
                else:
                    codes.append(CODE.OK)
        # There is no such run: whoever is told so was let in.
        assert set(codes) <= {CODE.OK, CODE.NOT_FOUND, CODE.PERMISSION_DENIED}
        return [code is not CODE.PERMISSION_DENIED for code in codes]

    async def scene() -> None:
        async with house(root, api=api(root, authority)) as at:
            assert await allowed(at, "spiffe://trainerd/operator/jo") == [True, True, True]
            assert await allowed(at, VIEWER) == [True, False, True]
            assert await allowed(at, "spiffe://trainerd/host/b") == [False, False, True]
            assert await allowed(at, "spiffe://elsewhere/operator") == [False, False, False]

    play(scene)


def test_a_refusal_names_the_identity_its_role_and_what_is_needed(
    root: Path, authority: Authority
) -> None:
    async def scene() -> None:
        async with (
            house(root, api=api(root, authority)) as at,
            channel(at.api_address, authority, authority.pair(VIEWER)) as open_channel,
        ):
            stub: Any = control_pb2_grpc.ControlServiceStub(open_channel)
            call = stub.StopRun(control_pb2.StopRunRequest(run="a"), timeout=10)
            error = await refused(call, CODE.PERMISSION_DENIED, "ROLE_REQUIRED")
            told = details(error, error_details_pb2.ErrorInfo)
            assert dict(told.metadata) == {
                "identity": VIEWER,
                "role": "viewer",
                "needed": "operator",
            }
            assert VIEWER in str(error.details())

    play(scene)


def test_roles_follow_the_configured_identities(root: Path, authority: Authority) -> None:
    roles = RolesConfig(operator=("https://corp.example/sre/*", "cn:deploy"))

    async def scene() -> None:
        async with house(root, api=api(root, authority, roles=roles)) as at:
            sre = authority.pair("https://corp.example/sre/jo")
            assert (await asked(at, authority, sre)).startswith("a-")
            named = authority.pair(common_name="deploy")
            assert (await asked(at, authority, named)).startswith("a-")
            for stranger in (
                authority.pair(OPERATOR),
                authority.pair("https://corp.example/sre/"),
                authority.pair("https://corp.example/sredeploy"),
                authority.pair(common_name="deployer"),
            ):
                assert await asked(at, authority, stranger) == "PERMISSION_DENIED"

    play(scene)


def test_only_a_good_certificate_of_the_authority_gets_a_connection(
    root: Path, authority: Authority
) -> None:
    other = Authority("another CA")
    bad = {
        "none": None,
        "of another authority": other.pair(OPERATOR),
        "of one with the same name": Authority("test CA").pair(OPERATOR),
        "self-signed": authority.pair(OPERATOR, self_signed=True),
        "expired": authority.pair(OPERATOR, days=-0.5),
        "not valid yet": authority.pair(OPERATOR, from_days=1),
        "for servers": authority.pair(OPERATOR, usages=[ExtendedKeyUsageOID.SERVER_AUTH]),
    }

    async def scene() -> None:
        async with house(root, api=api(root, authority)) as at:
            for name, pair in bad.items():
                assert await asked(at, authority, pair) == "UNAVAILABLE", name
            # A client does not take the daemon of another authority for its own.
            good = authority.pair(OPERATOR)
            assert await asked(at, other, good) == "UNAVAILABLE"
            assert (await asked(at, authority, good)).startswith("a-")

    play(scene)


def test_plain_text_on_the_tls_port_is_not_answered(root: Path, authority: Authority) -> None:
    async def scene() -> None:
        async with (
            house(root, api=api(root, authority)) as at,
            grpc.aio.insecure_channel(at.api_address) as open_channel,
        ):
            stub: Any = control_pb2_grpc.ControlServiceStub(open_channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.GetDaemon(control_pb2.GetDaemonRequest(), timeout=5)
            assert caught.value.code() in (CODE.UNAVAILABLE, CODE.DEADLINE_EXCEEDED)

    play(scene)


def test_changed_certificates_serve_the_next_connection_and_bad_ones_are_left_out(
    root: Path, authority: Authority
) -> None:
    def metric(at: House, name: str) -> float:
        import urllib.request

        with urllib.request.urlopen(f"http://{at.metrics_address}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        return next(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
        )

    async def scene() -> None:
        mine = api(root, authority)
        async with house(root, metrics="127.0.0.1:0", api=mine) as at:
            async with channel(at.api_address, authority, authority.pair(OPERATOR)) as before:
                old: Any = control_pb2_grpc.ControlServiceStub(before)
                await old.GetDaemon(control_pb2.GetDaemonRequest(), timeout=10)

                # Another authority altogether: its clients get in, the old ones no longer do.
                newer = Authority("a newer CA")
                newer.pair("spiffe://trainerd/host/daemon").write(root, "daemon")
                (root / "ca.new").write_bytes(newer.cert)
                (root / "ca.new").rename(root / "ca.crt")
                assert (await asked(at, newer, newer.pair(OPERATOR))).startswith("a-")
                assert await asked(at, newer, authority.pair(OPERATOR)) == "UNAVAILABLE"
                # A connection that is open goes on.
                await old.GetDaemon(control_pb2.GetDaemonRequest(), timeout=10)

            name = "trainerd_api_certificate_reload_failures_total"
            failures = await asyncio.to_thread(metric, at, name)
            for bad in (
                Pair(cert=b"junk", key=b"junk"),
                newer.pair(OPERATOR, days=-0.5),
                Pair(cert=newer.pair(OPERATOR).cert, key=newer.pair(OPERATOR).key),
            ):
                bad.write(root, "daemon")
                for _ in range(2):
                    assert (await asked(at, newer, newer.pair(OPERATOR))).startswith("a-")
            # Each once, however many connections came.
            found = await asyncio.to_thread(metric, at, name) - failures
            assert found == 3

            (root / "daemon.key").unlink()
            assert (await asked(at, newer, newer.pair(OPERATOR))).startswith("a-")

    play(scene)


def test_the_unix_socket_needs_no_certificate(root: Path, authority: Authority) -> None:
    async def scene() -> None:
        async with house(root, api=api(root, authority)) as at:
            assert (await at.submit()).startswith("a-")
            assert at.config.daemon.control_socket.stat().st_mode & 0o777 == 0o660

    play(scene)


def test_a_daemon_whose_certificates_are_bad_does_not_start(
    root: Path, authority: Authority
) -> None:
    async def scene() -> None:
        section = api(root, authority, authority.pair(days=-0.5))
        with pytest.raises(OSError, match=r"api.cert: .* certificate has expired"):
            async with house(root, api=section):
                pass

    play(scene)
