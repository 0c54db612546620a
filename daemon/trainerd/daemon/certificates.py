"""The files of mutual TLS: everything that is wrong with them, and what gRPC is given of them.

`cryptography` is imported when files are read: a daemon without `[api] listen` never does.
"""

from __future__ import annotations

import datetime
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainerd.daemon.api_config import ApiConfig

if TYPE_CHECKING:
    from cryptography import x509

_OTHERS = stat.S_IROTH | stat.S_IWOTH


class CertificateError(Exception):
    """The files cannot be used; a line for each problem, with its key path."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a TLS server needs, PEM. `expires`: when the first of the certificates does, UTC."""

    ca: bytes
    cert: bytes
    key: bytes
    expires: datetime.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFiles:
    """Where the certificates and the key are."""

    ca: Path
    cert: Path
    key: Path

    @classmethod
    def of(cls, api: ApiConfig) -> CertificateFiles:
        """Those of a configuration with `listen`, which has all three."""
        ca, cert, key = api.ca, api.cert, api.key
        if ca is None or cert is None or key is None:
            raise ValueError("api.listen needs api.ca, api.cert and api.key")
        return cls(ca=ca, cert=cert, key=key)

    def stamps(self) -> tuple[tuple[int, int, int], ...]:
        """What changes when a file does; a file that is not there is all zero."""
        found = []
        for path in (self.ca, self.cert, self.key):
            try:
                status = path.stat()
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((status.st_mtime_ns, status.st_ino, status.st_size))
        return tuple(found)

    def read(self, *, now: datetime.datetime) -> Credentials:
        """Read and check all three. Raise `CertificateError` with everything that is wrong.

        Expected: certificates within their validity, one in `ca` that may sign, the key of the
        first one in `cert`, not encrypted and closed to other users.
        """
        problems: list[str] = []
        ca, cert, key = (
            _content(problems, name, path)
            for name, path in (("ca", self.ca), ("cert", self.cert), ("key", self.key))
        )
        signers = _certificates(problems, "ca", self.ca, ca, now)
        own = _certificates(problems, "cert", self.cert, cert, now)
        if signers and not any(_may_sign(each) for each in signers):
            problems.append(f"api.ca: {self.ca}: has no certificate of a CA")
        if own and not _may_serve(own[0]):
            problems.append(f"api.cert: {self.cert}: is not for servers (its extended key usage)")
        if key:
            self._check_key(problems, key, own)
        if problems:
            raise CertificateError(problems)
        expires = min(each.not_valid_after_utc for each in (*signers, *own))
        return Credentials(ca=ca, cert=cert, key=key, expires=expires)

    def _check_key(self, problems: list[str], key: bytes, own: list[x509.Certificate]) -> None:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

        where = f"api.key: {self.key}"
        if self.key.stat().st_mode & _OTHERS:
            problems.append(f"{where}: other users may open it: chmod 600 (or 640) {self.key}")
        try:
            loaded = serialization.load_pem_private_key(key, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            problems.append(f"{where}: is not a private key in PEM, unencrypted: {error}")
            return
        form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        if own and loaded.public_key().public_bytes(*form) != own[0].public_key().public_bytes(
            *form
        ):
            problems.append(f"{where}: is not the key of the certificate in {self.cert}")


def certificate_problems(api: ApiConfig, *, now: datetime.datetime) -> tuple[str, ...]:
    """What is wrong with the files of a configuration; none where TCP is not served."""
    if not api.listen:
        return ()
    try:
        CertificateFiles.of(api).read(now=now)
    except CertificateError as error:
        return error.problems
    return ()


def _content(problems: list[str], name: str, path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        problems.append(f"api.{name}: {path}: {error.strerror}")
        return b""
    if not content:
        problems.append(f"api.{name}: {path}: is empty")
    return content


def _certificates(
    problems: list[str], name: str, path: Path, content: bytes, now: datetime.datetime
) -> list[x509.Certificate]:
    from cryptography import x509  # noqa: PLC0415

    if not content:
        return []
    where = f"api.{name}: {path}"
    try:
        found = x509.load_pem_x509_certificates(content)
    except ValueError as error:
        problems.append(f"{where}: is not a certificate in PEM: {error}")
        return []
    for each in found:
        if now > each.not_valid_after_utc:
            problems.append(f"{where}: expired at {each.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
        if now < each.not_valid_before_utc:
            problems.append(
                f"{where}: is valid from {each.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on"
            )
    return found


def _may_sign(certificate: x509.Certificate) -> bool:
    from cryptography import x509  # noqa: PLC0415

    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except (x509.ExtensionNotFound, ValueError):
        return False


def _may_serve(certificate: x509.Certificate) -> bool:
    from cryptography import x509  # noqa: PLC0415

    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    except ValueError:
        return False
    return x509.oid.ExtendedKeyUsageOID.SERVER_AUTH in usage
