"""A daemon as a process of its own."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DEADLINE_S = 20.0


@dataclass
class DaemonProcess:
    process: subprocess.Popen[bytes]
    ready: str
    ready_s: float
    errors: Path

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)

    def status(self, name: str) -> int:
        """A number of /proc/PID/status, such as VmRSS in KiB."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
        raise KeyError(name)


def configured(root: Path, **launcher: object) -> Path:
    """A configuration file with every path below `root`; no launcher unless one is given."""
    path = root / "daemon.toml"
    lines = [f"{name} = {str(value).lower()}" for name, value in launcher.items()]
    path.write_text(
        "[daemon]\n"
        'state_directory = "state"\ncontrol_socket = "c.sock"\nattach_socket = "link/a.sock"\n'
        '[launcher]\nsocket = "launcher/l.sock"\nstate_directory = "launcher-state"\n'
        + "\n".join(lines or ["start = false"])
        + '\n[metrics]\naddress = "127.0.0.1:0"\n'
    )
    return path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "trainerd.daemon", *arguments]


@contextlib.contextmanager
def daemon_process(config: Path, *flags: str) -> Iterator[DaemonProcess]:
    """`trainerd serve` once it is ready."""
    read, write = os.pipe()
    began = time.monotonic()
    errors = config.parent / "daemon.err"
    with errors.open("ab") as stderr:
        process = subprocess.Popen(
            command("serve", "--config", str(config), "--ready-fd", str(write), *flags),
            pass_fds=(write,),
            stdin=subprocess.PIPE,
            stderr=stderr,
        )
    os.close(write)
    try:
        line = b""
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([read], [], [], DEADLINE_S)
            part = os.read(read, 4096) if readable else b""
            assert part, f"no daemon: {errors.read_text()}"
            line += part
        yield DaemonProcess(process, line.decode().strip(), time.monotonic() - began, errors)
    finally:
        os.close(read)
        if process.stdin:
            process.stdin.close()
        if process.poll() is None:
            process.kill()
        process.wait(DEADLINE_S)
