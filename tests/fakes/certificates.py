"""Certificates for tests: a good authority, and every way of being none."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from trainerd.daemon.api_config import ApiConfig
from trainerd.v1.protocol import CHANNEL_OPTIONS

NOW = datetime.datetime.now(datetime.UTC)
BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A certificate and its key, PEM."""

    cert: bytes
    key: bytes

    def write(self, directory: Path, stem: str) -> None:
        """Each is renamed into place, the key closed to others."""
        for end, content in (("crt", self.cert), ("key", self.key)):
            scratch = directory / f"{stem}.{end}.new"
            scratch.write_bytes(content)
            scratch.chmod(0o600)
            os.replace(scratch, directory / f"{stem}.{end}")


class Authority:
    """Signs what it is told."""

    def __init__(self, name: str = "test CA", *, days: float = 30) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.cert = _pem(
            self._builder(self._name, self._key, days=days)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def pair(
        self,
        identity: str = "",
        *,
        common_name: str = "somebody",
        days: float = 10,
        from_days: float = -1,
        usages: Sequence[x509.ObjectIdentifier] = BOTH,
        self_signed: bool = False,
    ) -> Pair:
        """A certificate for localhost with this URI."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        names: list[x509.GeneralName] = [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
        if identity:
            names.append(x509.UniformResourceIdentifier(identity))
        builder = (
            self._builder(name, key, days=days, from_days=from_days, self_signed=self_signed)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        signed = builder.sign(key if self_signed else self._key, hashes.SHA256())
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return Pair(cert=_pem(signed), key=private)

    def _builder(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        days: float,
        from_days: float = -1,
        self_signed: bool = False,
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name if self_signed else self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + datetime.timedelta(days=from_days))
            .not_valid_after(NOW + datetime.timedelta(days=days))
        )


def api(root: Path, authority: Authority, daemon: Pair | None = None, **more: object) -> ApiConfig:
    """The files of a daemon below `root`, and the section that names them; any free port."""
    (root / "ca.crt").write_bytes(authority.cert)
    (daemon or authority.pair("spiffe://trainerd/host/daemon")).write(root, "daemon")
    return ApiConfig(
        listen="127.0.0.1:0",
        ca=root / "ca.crt",
        cert=root / "daemon.crt",
        key=root / "daemon.key",
        **more,  # type: ignore[arg-type]
    )


def channel(address: str, authority: Authority, pair: Pair | None) -> grpc.aio.Channel:
    """A channel with this certificate, or with none."""
    cert, key = (pair.cert, pair.key) if pair else (None, None)
    credentials = grpc.ssl_channel_credentials(authority.cert, key, cert)
    return grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
