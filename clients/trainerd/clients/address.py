"""Where a daemon listens, and how a channel to it is opened."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

import grpc

from trainerd.clients.errors import BadInput
from trainerd.v1.protocol import CHANNEL_OPTIONS, MAX_SOCKET_PATH

_OPTIONS = [
    *CHANNEL_OPTIONS,
    # A proxy for the web must not come between a client and its daemon.
    ("grpc.enable_http_proxy", 0),
    # Problems and tracebacks travel in the status of a refused call; the default is 8 KiB.
    ("grpc.max_metadata_size", 262_144),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Files for mutual TLS, PEM. Without `ca` the system's roots are trusted."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


def normalised(address: str) -> str:
    """`address` as gRPC wants it: `unix:` with an absolute path, or `host:port`.

    Accepts `unix:PATH`, `unix:///PATH`, a path with a slash in front, and `host:port`
    (`[::1]:port`). Raises `BadInput` for anything else.
    """
    if address.startswith(("unix:", "/")):
        path = address.removeprefix("unix:")
        path = "/" + path.lstrip("/") if path.startswith("//") else path
        path = os.path.abspath(path) if path else ""
        if not path:
            raise BadInput(f"the address {address!r} names no socket; write unix:/path/to/socket")
        if len(os.fsencode(path)) > MAX_SOCKET_PATH:
            raise BadInput(
                f"the socket path {path} has {len(os.fsencode(path))} bytes, "
                f"at most {MAX_SOCKET_PATH} are possible; choose a shorter one"
            )
        return f"unix:{path}"
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise BadInput(f"the address must be unix:PATH or host:port, got {address!r}")
    return address


def is_unix(address: str) -> bool:
    """Whether a normalised address is a Unix socket."""
    return address.startswith("unix:")


def open_channel(address: str, tls: Tls | None) -> grpc.Channel:
    """A channel to a normalised address. Connects only when it is used.

    Raises `BadInput` for plain TCP to another machine, for TLS on a Unix socket, and for
    certificate files that cannot be read.
    """
    if is_unix(address):
        if tls is not None:
            raise BadInput(f"TLS is for host:port addresses, got {address}; leave --tls-* out")
        return grpc.insecure_channel(address, options=_OPTIONS)
    if tls is None:
        if not _is_loopback(address.rpartition(":")[0].strip("[]")):
            raise BadInput(
                f"{address} is another machine: give --tls-ca, --tls-cert and --tls-key "
                f"(plain TCP is for loopback only)"
            )
        return grpc.insecure_channel(address, options=_OPTIONS)
    if (tls.cert is None) != (tls.key is None):
        raise BadInput("a certificate needs its key: give --tls-cert and --tls-key together")
    credentials = grpc.ssl_channel_credentials(_pem(tls.ca), _pem(tls.key), _pem(tls.cert))
    return grpc.secure_channel(address, credentials, options=_OPTIONS)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _pem(file: Path | None) -> bytes | None:
    if file is None:
        return None
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}") from error
