"""The files of mutual TLS: everything that is wrong with them, and what gRPC is given of them.

OpenSSL is asked, which asyncio has loaded anyway: a handshake in memory with the daemon's own
certificate, and nothing but it trusted, shows whether it may serve and until when.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainerd.daemon.api_config import ApiConfig

HANDSHAKE_TURNS = 4
"""Enough for any version of TLS."""
_OTHERS = stat.S_IROTH | stat.S_IWOTH


class CertificateError(Exception):
    """The files cannot be used; a line for each problem, with its key path."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a TLS server needs, PEM. `expires`: when the first certificate does, Unix seconds."""

    ca: bytes
    cert: bytes
    key: bytes
    expires: float


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

    def read(self) -> Credentials:
        """Read and check all three. Raise `CertificateError` with everything that is wrong.

        Expected: one certificate in `ca` that may sign and has not expired; the first one in `cert`
        for servers, within its validity, with its key, which is not encrypted and closed to others.
        """
        problems: list[str] = []
        ca, cert, key = (
            _content(problems, name, path)
            for name, path in (("ca", self.ca), ("cert", self.cert), ("key", self.key))
        )
        expire = [_authorities_expire(problems, self.ca, ca)] if ca else []
        if cert and _is_certificate(problems, self.cert, cert) and key:
            with _in_memory(cert) as cert_file, _in_memory(key) as key_file:
                server = self._server(problems, cert_file, key_file)
                if server is not None:
                    expire.append(_serves_until(problems, self.cert, cert, server))
        if key and self.key.stat().st_mode & _OTHERS:
            problems.append(
                f"api.key: {self.key}: other users may open it: chmod 600 (or 640) {self.key}"
            )
        if problems:
            raise CertificateError(problems)
        return Credentials(ca=ca, cert=cert, key=key, expires=min(expire))

    def _server(self, problems: list[str], cert: str, key: str) -> ssl.SSLContext | None:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # Without a password OpenSSL would ask for one at the terminal.
            server.load_cert_chain(cert, key, password="")
        except (ssl.SSLError, OSError) as error:
            mismatch = "MISMATCH" in (getattr(error, "reason", None) or "")
            problems.append(
                f"api.key: {self.key}: is not the key of the certificate in {self.cert}"
                if mismatch
                else f"api.key: {self.key}: is not a private key in PEM, unencrypted"
            )
            return None
        return server


def certificate_problems(api: ApiConfig) -> tuple[str, ...]:
    """What is wrong with the files of a configuration; none where TCP is not served."""
    if not api.listen:
        return ()
    try:
        CertificateFiles.of(api).read()
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


def _authorities_expire(problems: list[str], path: Path, content: bytes) -> float:
    """When the last of the authorities does; 0 if there is none to be used."""
    trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        trusted.load_verify_locations(cadata=content.decode("ascii", errors="replace"))
    except ssl.SSLError:
        problems.append(f"api.ca: {path}: is not a certificate in PEM")
        return 0.0
    ends = [
        ssl.cert_time_to_seconds(end)
        for each in trusted.get_ca_certs()
        if isinstance(end := each.get("notAfter"), str)
    ]
    if not ends:
        problems.append(f"api.ca: {path}: has no certificate of a CA")
        return 0.0
    if max(ends) < time.time():
        when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(max(ends)))
        problems.append(f"api.ca: {path}: has expired at {when} UTC")
    return max(ends)


def _is_certificate(problems: list[str], path: Path, content: bytes) -> bool:
    try:
        _trusting(content)
    except ssl.SSLError:
        problems.append(f"api.cert: {path}: is not a certificate in PEM")
        return False
    return True


def _trusting(content: bytes) -> ssl.SSLContext:
    """A client that trusts these certificates, whoever has signed them."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cadata=content.decode("ascii", errors="replace"))
    return client


def _serves_until(problems: list[str], path: Path, content: bytes, server: ssl.SSLContext) -> float:
    """When a certificate expires with which such a client accepts such a server."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = _trusting(content).wrap_bio(to_client, to_server)
    other = server.wrap_bio(to_server, to_client, server_side=True)
    try:
        for _ in range(HANDSHAKE_TURNS):
            for end in (client, other):
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.do_handshake()
        shown = client.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        problems.append(f"api.cert: {path}: cannot serve: {error.verify_message}")
        return 0.0
    except (ssl.SSLError, ValueError) as error:
        problems.append(f"api.cert: {path}: cannot serve: {error}")
        return 0.0
    return ssl.cert_time_to_seconds(str(shown["notAfter"]))


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """A path to just this content, whatever becomes of its file meanwhile."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
