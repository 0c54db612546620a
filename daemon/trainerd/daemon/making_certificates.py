"""`trainerd certs DIR`: a certificate authority of one's own, to begin with.

ECDSA P-256 throughout. The authority's key lies beside the certificates it has made: whoever has it
may name himself operator. Nothing that exists is ever written over.
"""

from __future__ import annotations

import argparse
import datetime
import ipaddress
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
EARLY = datetime.timedelta(minutes=5)
"""Certificates are valid from a little earlier on, for clocks that are late."""
LOCAL = ("localhost", "127.0.0.1", "::1")
_STEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HOST = re.compile(r"(\*\.)?([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.?)+")


class NotMade(Exception):
    """Nothing was made; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked for. `hosts`: names and addresses under which the daemon is reached."""

    directory: Path
    daemon: str = "daemon"
    hosts: tuple[str, ...] = ()
    days: int = 365


@dataclass(frozen=True, slots=True, kw_only=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def certs(arguments: argparse.Namespace) -> int:
    """The subcommand; return its exit code."""
    wanted = Wanted(
        directory=arguments.directory,
        daemon=arguments.daemon,
        hosts=tuple(arguments.host),
        days=arguments.days,
    )
    try:
        made = make(wanted, now=datetime.datetime.now(datetime.UTC))
    except NotMade as error:
        print(f"trainerd: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = error.filename or wanted.directory
        print(f"trainerd: {where}: {error.strerror}", file=sys.stderr)
        return 1
    print(told(wanted, made))
    return 0


def make(wanted: Wanted, *, now: datetime.datetime) -> list[str]:
    """Make what is not there yet; return the names. Raise `NotMade`, OSError.

    The authority is made once. A daemon's certificate is asked for by its name, so one that exists
    is refused; the operator's and the viewer's are left as they are.
    """
    _check(wanted)
    wanted.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = []
    authority = _existing_authority(wanted.directory, now)
    if authority is None:
        authority = _new_authority(now)
        _write(wanted.directory, "ca", authority.key, authority.certificate)
        made.append("ca")
    both = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
    # It is a client too: of the daemon that it names as its supervisor.
    hosts = (*LOCAL, *wanted.hosts)
    daemon = _signed(authority, wanted, f"host/{wanted.daemon}", both, now=now, hosts=hosts)
    _write(wanted.directory, wanted.daemon, *daemon)
    made.append(wanted.daemon)
    for role in ("operator", "viewer"):
        if not _exists(wanted.directory, role):
            client = _signed(authority, wanted, role, both[1:], now=now)
            _write(wanted.directory, role, *client)
            made.append(role)
    return made


def told(wanted: Wanted, made: Sequence[str]) -> str:
    """What was made, and what to do with it."""
    at = wanted.directory.resolve()
    host = wanted.hosts[0] if wanted.hosts else "localhost"
    names = ", ".join(f"{name}.crt and {name}.key" for name in made)
    return f"""\
made in {at}: {names}

the daemon's configuration:
  [api]
  listen = "0.0.0.0:7443"
  ca = "{at / "ca.crt"}"
  cert = "{at / f"{wanted.daemon}.crt"}"
  key = "{at / f"{wanted.daemon}.key"}"

a client, as operator (or viewer, who may only look):
  trainerctl --address {host}:7443 --tls-ca {at / "ca.crt"} \\
    --tls-cert {at / "operator.crt"} --tls-key {at / "operator.key"} list

ca.key makes operators: keep it off the hosts. Give each client ca.crt and its own two files only.
A further daemon: trainerd certs {at} --daemon NAME --host ADDRESS"""


def _check(wanted: Wanted) -> None:
    if not _STEM.fullmatch(wanted.daemon) or wanted.daemon in ("ca", "operator", "viewer"):
        raise NotMade(
            f"--daemon must be letters, digits, '.', '_' and '-', and not ca, operator or "
            f'viewer, got "{wanted.daemon}"'
        )
    if not 1 <= wanted.days <= AUTHORITY_DAYS:
        raise NotMade(f"--days must be 1 to {AUTHORITY_DAYS}, got {wanted.days}")
    for host in wanted.hosts:
        if _address(host) is None and not _HOST.fullmatch(host):
            raise NotMade(f'--host must be a DNS name or an IP address, got "{host}"')
    if _exists(wanted.directory, wanted.daemon):
        raise NotMade(
            f"{wanted.directory / wanted.daemon}.crt (or .key) exists and is left as it is: move "
            f"both away for new ones, or name another daemon: --daemon NAME"
        )


def _exists(directory: Path, stem: str) -> bool:
    return any(os.path.lexists(directory / f"{stem}.{end}") for end in ("crt", "key"))


def _existing_authority(directory: Path, now: datetime.datetime) -> _Authority | None:
    if not _exists(directory, "ca"):
        return None
    try:
        certificate = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
        key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), None)
    except FileNotFoundError as error:
        raise NotMade(
            f"{error.filename} is missing: bring it back, or move {directory} away"
        ) from None
    except (ValueError, TypeError) as error:
        raise NotMade(f"the authority in {directory} cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise NotMade(f"{directory / 'ca.key'} is no key that 'trainerd certs' has made")
    if key.public_key() != certificate.public_key():
        raise NotMade(f"{directory / 'ca.key'} is not the key of ca.crt")
    if now > certificate.not_valid_after_utc:
        raise NotMade(f"{directory / 'ca.crt'} has expired: move {directory} away")
    return _Authority(certificate=certificate, key=key)


def _new_authority(now: datetime.datetime) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("trainerd development CA")
    builder = _begun(name, name, key.public_key(), now, AUTHORITY_DAYS)
    signing = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(signing, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _Authority(certificate=certificate, key=key)


def _signed(
    authority: _Authority,
    wanted: Wanted,
    identity: str,
    usages: Sequence[x509.ObjectIdentifier],
    *,
    now: datetime.datetime,
    hosts: Sequence[str] = (),
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    until = authority.certificate.not_valid_after_utc - now
    days = min(wanted.days, until.days)
    issuer, subject = authority.certificate.subject, _name(identity.rpartition("/")[2])
    builder = _begun(subject, issuer, key.public_key(), now, days)
    names: list[x509.GeneralName] = [
        x509.UniformResourceIdentifier(f"spiffe://trainerd/{identity}")
    ]
    for host in dict.fromkeys(hosts):
        address = _address(host)
        names.append(x509.DNSName(host) if address is None else x509.IPAddress(address))
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(signer, critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return key, certificate


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLY)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _write(
    directory: Path, stem: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
) -> None:
    form = serialization.PrivateFormat.PKCS8
    bare = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, form, bare)
    public = certificate.public_bytes(serialization.Encoding.PEM)
    for end, content, mode in (("key", private, 0o600), ("crt", public, 0o644)):
        # Exclusive: nothing is written over, nor through a link.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(directory / f"{stem}.{end}", flags, mode), "wb") as stream:
            stream.write(content)
