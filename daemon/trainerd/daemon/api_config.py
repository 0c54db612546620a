"""`[api]`, `[limits]` and `[audit]`: who may call the control service, and how much of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

FILES = ("ca", "cert", "key")


def _below(role: str) -> tuple[str, ...]:
    return (f"spiffe://trainerd/{role}", f"spiffe://trainerd/{role}/*")


@dataclass(frozen=True, slots=True, kw_only=True)
class RolesConfig:
    """`[api.roles]`: whose certificate has which role.

    An identity is the certificate's URI (`spiffe://…`, a final `/*` stands for all below it),
    `dns:NAME` or `cn:NAME`. A list that is given replaces the default, which is what
    `trainerd certs` writes into its certificates.
    """

    viewer: tuple[str, ...] = _below("viewer")
    operator: tuple[str, ...] = _below("operator")
    host: tuple[str, ...] = _below("host")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiConfig:
    """`[api]`: TCP with mutual TLS, beside the Unix socket.

    listen: host:port, port 0 for any free one; "": no TCP. ca: signs the certificates of clients;
    cert, key: the daemon's own; all PEM, read again when they change.
    """

    listen: str = ""
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    roles: RolesConfig = field(default_factory=RolesConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """`[limits]`: what clients may hold of this daemon; all ≥ 1.

    request_bytes: of one request (a run specification of 1,000 injections has 60 KiB).
    metadata_bytes: of one call's headers. calls, streams: at once, of all clients;
    calls_per_client, streams_per_client: of one identity, and all of the Unix socket are one.
    call_s: of a call whose client gave no deadline (streams have none). runs: kept, ended ones
    included; queued: that wait for the devices.
    """

    request_bytes: int = 1024 * 1024
    metadata_bytes: int = 16 * 1024
    calls: int = 256
    calls_per_client: int = 128
    streams: int = 512
    streams_per_client: int = 256
    call_s: float = 600.0
    runs: int = 1000
    queued: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditConfig:
    """`[audit]`: how much of `audit.jsonl` is kept: files, each of at most max_bytes."""

    max_bytes: int = 8 * 1024 * 1024
    files: int = 8


def api_problems(api: ApiConfig) -> Iterator[str]:
    """What is impossible in `[api]`, its files aside."""
    missing = [f"api.{name}" for name in FILES if getattr(api, name) is None]
    given = [f"api.{name}" for name in FILES if getattr(api, name) is not None]
    if api.listen and missing:
        yield (
            f"api.listen needs {', '.join(missing)}: TCP is served with mutual TLS only; "
            f"'trainerd certs DIR' makes certificates to begin with"
        )
    if given and not api.listen:
        yield f'{", ".join(given)} without api.listen: give its "host:port", or leave them out'
    host, _, port = api.listen.rpartition(":")
    if api.listen and not (host and port.isascii() and port.isdecimal() and int(port) < 65536):
        yield f'api.listen must be "host:port" or "", got "{api.listen}"'
    for role in dataclasses.fields(api.roles):
        for identity in getattr(api.roles, role.name):
            kind, _, rest = identity.partition(":")
            # A lone "*" would be everybody whom the CA knows.
            named = rest.strip("/*") and (kind in ("dns", "cn") or rest.startswith("//"))
            if not named or "*" in identity.removesuffix("/*"):
                yield (
                    f"api.roles.{role.name}: an identity is a URI such as spiffe://example/a "
                    f'(or …/* for all below it), "dns:NAME" or "cn:NAME", got "{identity}"'
                )


def limit_problems(section: str, limits: LimitsConfig | AuditConfig) -> Iterator[str]:
    """Which limits are below 1."""
    for each in dataclasses.fields(limits):
        value = getattr(limits, each.name)
        if not 1 <= value < float("inf"):
            yield f"{section}.{each.name} must be ≥ 1, got {value}"
