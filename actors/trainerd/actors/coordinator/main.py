"""One coordination service, from the port it finds to the signal that ends it.

Until it is told how many processes it serves, it waits with all it needs already imported.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import NoReturn

from trainerd.actors.trainer import birth

ANSWER_S = 10.0
"""Seconds the service may take until it answers."""
SHUTDOWN_S = 1


def main() -> NoReturn:
    """Serve until a signal ends this process; say the port on standard output first."""
    parser = argparse.ArgumentParser(prog="python -m trainerd.actors.coordinator")
    parser.add_argument("--bind", required=True, help="address to listen on")
    parser.add_argument(
        "--processes", type=int, help="how many will come; default: a line of standard input"
    )
    parser.add_argument("--heartbeat-timeout-s", required=True, type=int)
    parser.add_argument("--launcher", required=True, type=int, help="process id of the launcher")
    asked = parser.parse_args()
    if not birth.launcher_lives(asked.launcher):
        sys.exit("trainerd coordinator: the launcher is gone already")
    # Its absence ends all who have met here: there is nothing to save.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Imports numpy, and nothing of JAX that would touch a device.
    from jaxlib import _jax  # noqa: PLC0415

    processes = asked.processes or _asked_for()
    try:
        with _place(asked.bind) as (host, port):
            service = _jax.get_distributed_runtime_service(
                f"{_bracketed(host)}:{port}",
                processes,
                heartbeat_timeout=asked.heartbeat_timeout_s,
                shutdown_timeout=SHUTDOWN_S,
                # One that is lost is no reason to end the others: whoever sees to them does.
                recoverable=True,
            )
            socket.create_connection((host, port), ANSWER_S).close()
            print(port, flush=True)
            # For ever: the launcher ends it, or takes it along.
            threading.Event().wait()
            del service
    except OSError as error:
        sys.exit(f"trainerd coordinator: {asked.bind}: {error}")
    sys.exit(0)


def _asked_for() -> int:
    """Wait until somebody says how many will come; whoever never will closes standard input."""
    line = sys.stdin.readline().strip()
    if not line.isdigit():
        sys.exit(0)
    return int(line)


@contextlib.contextmanager
def _place(address: str) -> Iterator[tuple[str, int]]:
    """An address as numbers, and a port of it that nobody else who asks for any is given meanwhile.

    The service listens on it beside this socket, which only holds the place.
    """
    family, kind, protocol, _, where = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as holding:
        holding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holding.bind(where)
        host, port = holding.getsockname()[:2]
        yield str(host), int(port)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
