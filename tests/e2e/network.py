"""Several hosts on this machine: network namespaces at one bridge, whose links fail on request.

The bridge has a namespace of its own, and so have the hosts' names: nothing of this machine's
network is touched. Processes are where they always are, with the same files and process ids.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

GUARD = Path(__file__).with_name("network_guard.sh")
NET = "10.77.0"
"""The first three numbers of all addresses; the hosts are 1, 2, 3 and so on."""
MOST_HOSTS = 32
READY_S = 20.0
END_S = 20.0
COMMAND_S = 10.0
_PARTS = ("unshare", "nsenter", "ip", "nft", "mount", "hostname")
_PROBE = """\
ip link add name hub type bridge
ip link add name up type veth peer name down
nft add table bridge probe
"""


@functools.cache
def why_not() -> str:
    """Why no network can be made here; empty: it can."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [part for part in _PARTS if shutil.which(part) is None]
    if missing:
        return f"needs {', '.join(missing)} (Debian: iproute2, nftables)"
    command = ["unshare", "--mount", "--net", "--uts", "sh", "-ec", _PROBE]
    probe = subprocess.run(command, capture_output=True, text=True, check=False)
    said = probe.stderr.strip().splitlines()
    return "" if probe.returncode == 0 else f"needs bridges, veth and nftables: {said}"


class Network:
    """A network that stands. Names are what each host calls itself, and finds the others by."""

    def __init__(self, guard: subprocess.Popen[bytes], names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._guard = guard
        self._lost: dict[tuple[str, str], int] = {}

    def address(self, host: str) -> str:
        """The address of a host."""
        return _addresses(self.names)[host]

    def command(self, host: str) -> list[str]:
        """What to put before a command to have it run on a host; it works in `/` there."""
        there = f"/proc/{self._guard.pid}"
        return [
            "nsenter",
            f"--mount={there}/ns/mnt",
            f"--net={there}/root/run/netns/{host}",
            f"--uts={there}/root/run/netns/uts/{host}",
        ]

    def unplug(self, host: str) -> None:
        """Pull a host's cable: its own kernel sees it. `heal` puts it back."""
        self._link(host, "down")

    def cut(self, host: str) -> None:
        """Let nothing through to a host or from it; nobody is told."""
        self._lost[host, ""] = self._lost["", host] = 100
        self._apply()

    def lose(self, percent: int, *, source: str = "", target: str = "") -> None:
        """Lose so many of a hundred frames from one host to another; empty: from or to any."""
        self._lost[source, target] = percent
        self._apply()

    def heal(self) -> None:
        """Everything reaches everybody again."""
        self._lost.clear()
        self._apply()
        for host in self.names:
            self._link(host, "up")

    def _link(self, host: str, state: str) -> None:
        self._run("ip", "link", "set", f"to-{host}", state)

    def _apply(self) -> None:
        rules = [
            " ".join(
                [
                    *([f'iifname "to-{source}"'] if source else []),
                    *([f'oifname "to-{target}"'] if target else []),
                    *([f"numgen random mod 100 < {percent}"] if percent < 100 else []),
                    "drop",
                ]
            )
            for (source, target), percent in self._lost.items()
            if percent
        ]
        # In one transaction; the first line lets the second find something.
        lines = [
            "table bridge faults",
            "delete table bridge faults",
            "table bridge faults {",
            "chain forward {",
            "type filter hook forward priority 0",
            "policy accept",
            *rules,
            "}",
            "}",
        ]
        self._run("nft", "-f", "-", told="\n".join(lines) + "\n")

    def _run(self, *command: str, told: str = "") -> None:
        """Run a command where the bridge is."""
        done = subprocess.run(
            ["nsenter", f"--net=/proc/{self._guard.pid}/ns/net", *command],
            input=told,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}\n{told}"


@contextmanager
def network(*names: str) -> Iterator[Network]:
    """A network of hosts of these names. Afterwards it is gone, and every process on it.

    So it is when this process is killed: whoever guards it sees that it has gone.
    """
    assert 1 <= len(names) <= MOST_HOSTS, f"1 to {MOST_HOSTS} hosts, got {len(names)}"
    addresses = _addresses(names)
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile("w+"))
        guard = subprocess.Popen(
            [
                *("unshare", "--mount", "--net", "--uts", "sh", str(GUARD)),
                *(f"{name}={address}/24" for name, address in addresses.items()),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        stack.callback(_ended, guard)
        assert guard.stdout is not None
        readable, _, _ = select.select([guard.stdout], [], [], READY_S)
        said = guard.stdout.readline() if readable else b""
        log.seek(0)
        assert said == b"ready\n", f"no network: {log.read()}"
        yield Network(guard, names)


def _addresses(names: Sequence[str]) -> dict[str, str]:
    return {name: f"{NET}.{number}" for number, name in enumerate(names, start=1)}


def _ended(guard: subprocess.Popen[bytes]) -> None:
    assert guard.stdin is not None
    assert guard.stdout is not None
    guard.stdin.close()
    guard.stdout.close()
    try:
        guard.wait(END_S)
    except subprocess.TimeoutExpired:
        os.killpg(guard.pid, signal.SIGKILL)
        guard.wait(END_S)
        raise
