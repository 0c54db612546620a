"""Real processes that train as one, on this machine: a coordination service and its members."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DEADLINE_S = 120.0
TESTS = Path(__file__).resolve().parents[1]
MEMBER = Path(__file__).with_name("gang_member.py")


class Member:
    """One process; a thread reads what it says."""

    def __init__(self, number: int, count: int, address: str, environment: dict[str, str]) -> None:
        self.number = number
        self.process = subprocess.Popen(
            [sys.executable, str(MEMBER), str(number), str(count), address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.errors: list[str] = []
        self._threads = [
            threading.Thread(target=self._listen, name=f"member-{number}"),
            threading.Thread(target=self._overhear, name=f"member-{number}-errors"),
        ]
        for thread in self._threads:
            thread.start()

    def tell(self, told: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(told) + "\n")
            self.process.stdin.flush()

    def hear(self, deadline_s: float = DEADLINE_S) -> dict[str, Any]:
        """The next line; fails the test if there is none in time, or the process ended."""
        try:
            line = self._said.get(timeout=deadline_s)
        except queue.Empty:
            line = ""
        if not line:
            text = "".join(self.errors)[-6000:]
            raise AssertionError(f"member {self.number} says nothing more: {text}")
        said: dict[str, Any] = json.loads(line)
        return said

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        return self.process.wait(deadline_s)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join(DEADLINE_S)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            # Gloo has something to say there, too.
            if line.startswith("{"):
                self._said.put(line)
        self._said.put("")

    def _overhear(self) -> None:
        assert self.process.stderr is not None
        self.errors.extend(self.process.stderr)


class Members:
    """A gang that trains one run after the other; what it compiles is kept in `executables`."""

    def __init__(self, members: list[Member], executables: Path | None) -> None:
        self.members, self._executables = members, executables

    def train(self, **told: Any) -> list[dict[str, Any]]:
        """Let all train the same; return what each says."""
        self.begin(**told)
        return [member.hear() for member in self.members]

    def begin(self, **told: Any) -> None:
        kept = {} if self._executables is None else {"executables": str(self._executables)}
        for member in self.members:
            member.tell({**kept, **told})


@contextlib.contextmanager
def gang(
    count: int,
    *,
    devices: int = 1,
    collective_timeout_s: float = 60.0,
    executables: Path | None = None,
) -> Iterator[Members]:
    """`count` processes of `devices` devices each, which have met; gone afterwards.

    What they compile is kept in `executables`, which may be several gangs'.
    """
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "COLLECTIVE_TIMEOUT_S": str(collective_timeout_s),
    }
    if executables is not None:
        # What is compiled beside the step, as the first state, is the same in each run, too.
        environment |= {
            "JAX_COMPILATION_CACHE_DIR": str(executables / "others"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(coordinator(count)) if count > 1 else ""
        members = []
        for number in range(count):
            members.append(Member(number, count, address, environment))
            stack.callback(members[-1].close)
        yield Members(members, executables)


@contextlib.contextmanager
def coordinator(count: int) -> Iterator[str]:
    """The address of a coordination service for so many processes."""
    command = [sys.executable, "-m", "trainerd.actors.coordinator", "--bind", "127.0.0.1"]
    command += ["--processes", str(count), "--heartbeat-timeout-s", "100", "--launcher", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port.isdigit(), "the coordination service did not start"
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
