"""What both ends of every trainerd link must agree on, beside the messages themselves."""

from __future__ import annotations

import os
from pathlib import Path

from trainerd.v1 import link_pb2

PROTOCOL_MAJOR = 1
PROTOCOL_MINOR = 0
SOFTWARE = "0.1.0"

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Largest gRPC message in bytes, in either direction."""

MAX_SOCKET_PATH = 107
"""Longest path of a Unix socket in bytes (`sun_path` without its final NUL)."""

SNAPSHOT_SUFFIX = ".snapshot"
"""How the path of a snapshot in memory ends, which is gone with its host: no durable state."""

CHANNEL_OPTIONS: list[tuple[str, int]] = [
    # Without keepalive a cut stream is silent until TCP retransmits; see ops/docs/architecture.md.
    ("grpc.keepalive_time_ms", 1_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Despite its name: how long one attempt to connect may take, the peer's first answer included.
    # A daemon on a loaded host is slow to give it; who refuses a connection does so at once.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A dead address must fail at once, not wait for a subchannel shared with an earlier attempt.
    ("grpc.use_local_subchannel_pool", 1),
]

SERVER_OPTIONS: list[tuple[str, int]] = [
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
]


def protocol() -> link_pb2.ProtocolVersion:
    """The protocol version this software speaks."""
    return link_pb2.ProtocolVersion(major=PROTOCOL_MAJOR, minor=PROTOCOL_MINOR, software=SOFTWARE)


def refusal(peer: link_pb2.ProtocolVersion, *, who: str) -> str | None:
    """Say why a peer's protocol cannot be spoken, or None if it can.

    `who` names the peer ("trainer", "client"). Only the major version must be equal: a minor
    version adds fields that the other end ignores.
    """
    if peer.major == PROTOCOL_MAJOR:
        return None
    came = f"protocol {peer.major}.{peer.minor} (trainerd {peer.software or 'unknown'})"
    return (
        f"the {who} speaks {came}, expected protocol {PROTOCOL_MAJOR}.x (trainerd {SOFTWARE}); "
        f"install the same trainerd release on both ends"
    )


def runtime_directory() -> Path:
    """Directory of the user's sockets: `/run` for root, else the XDG runtime directory.

    Without `XDG_RUNTIME_DIR` (no login session) the state directory is used.
    """
    if os.geteuid() == 0:
        return Path("/run")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) if runtime else state_directory() / "trainerd-run"


def state_directory() -> Path:
    """Parent of the state directories: `/var/lib` for root, else the XDG state directory."""
    if os.geteuid() == 0:
        return Path("/var/lib")
    state = os.environ.get("XDG_STATE_HOME")
    return Path(state) if state else Path.home() / ".local" / "state"


def default_control_address() -> str:
    """Address of the control service when nobody says otherwise."""
    return f"unix:{runtime_directory() / 'trainerd' / 'trainerd.sock'}"


def client_address(machine: Path = Path("/run/trainerd")) -> str:
    """Address that a client tries when nobody says otherwise.

    The user's own daemon; where that has no socket and the machine has one as a service, whose
    sockets lie in `machine`, that one.
    """
    own = default_control_address()
    if not Path(own.removeprefix("unix:")).exists() and machine.is_dir():
        return f"unix:{machine / 'trainerd.sock'}"
    return own
