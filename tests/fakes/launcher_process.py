"""A real launcher process, and a client of it, for tests. Its trainers are small scripts."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import grpc

from trainerd.v1 import launcher_pb2, launcher_pb2_grpc, protocol

DEADLINE_S = 20.0

_START = """\
import os, sys
from trainerd.actors.launcher.main import main
script = sys.argv[1]
if script == '-':
    sys.exit(main(sys.argv[2:]))
sys.exit(main(sys.argv[2:], command=lambda python: [python, script]))
"""


def wait_until(true: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Return once `true()`; fail the test after the deadline."""
    end = time.monotonic() + deadline_s
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s} s: {what}")
        time.sleep(0.005)


def process_is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


@dataclass
class Watch:
    """An open WatchTrainers stream, read by a thread."""

    call: object
    messages: list[launcher_pb2.WatchTrainersResponse] = field(default_factory=list)
    error: grpc.RpcError | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def read(self) -> None:
        try:
            for message in self.call:  # type: ignore[attr-defined]
                self.messages.append(message)
        except grpc.RpcError as error:
            self.error = error
        self.ended.set()

    @property
    def hello(self) -> launcher_pb2.LauncherHello:
        wait_until(lambda: self.messages or self.ended.is_set(), "a greeting of the launcher")
        if not self.messages:
            raise AssertionError(f"the stream ended: {self.error}")
        return self.messages[0].hello

    @property
    def exits(self) -> list[launcher_pb2.ExitRecord]:
        return [message.exit for message in self.messages[1:]]

    def wait_exits(self, count: int) -> list[launcher_pb2.ExitRecord]:
        wait_until(lambda: len(self.exits) >= count, f"{count} exit records")
        return self.exits


class LauncherProcess:
    """One launcher process on a state directory.

    `compiled`: where launchers that live one after the other keep what their trainers compile;
    None: each by itself.
    """

    compiled: ClassVar[Path | None] = None

    def __init__(self, root: Path, script: str, *flags: str) -> None:
        self.root = root
        self.state = root / "state"
        self.socket = root / "l.sock"
        self.script = root / "trainer.py"
        self.script.write_text(script)
        self.errors = root / "launcher.err"
        self.flags = flags
        self.process: subprocess.Popen[bytes] | None = None
        self._stack = contextlib.ExitStack()

    def command(self) -> list[str]:
        return [
            sys.executable,
            "-c",
            _START,
            str(self.script) if self.script.read_text() else "-",
            *("--state-directory", str(self.state), "--socket", str(self.socket)),
            *("--platform", "cpu", "--host", "testhost", *self.flags),
        ]

    def start(self) -> LauncherProcess:
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=errors, stderr=errors
            )
        self.connect()
        return self

    def connect(self) -> None:
        wait_until(lambda: self._listens() or self.process.poll() is not None, "its socket")
        if self.process.poll() is not None:
            raise AssertionError(f"the launcher ended: {self.errors.read_text()}")
        channel = grpc.insecure_channel(f"unix:{self.socket}", protocol.CHANNEL_OPTIONS)
        self._stack.callback(channel.close)
        self.stub = launcher_pb2_grpc.LauncherServiceStub(channel)
        try:
            grpc.channel_ready_future(channel).result(timeout=DEADLINE_S)
        except grpc.FutureTimeoutError:
            raise AssertionError(f"no launcher: {self.errors.read_text()}") from None

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def assignment(self, run: str = "r-1", incarnation: int = 1) -> launcher_pb2.Assignment:
        assignment = launcher_pb2.Assignment(
            run=run,
            incarnation=incarnation,
            attach_address="unix:/nowhere",
            token="secret",
        )
        assignment.spec.name = "r"
        assignment.spec.entry = "m:f"
        return assignment

    def start_trainer(
        self,
        run: str = "r-1",
        incarnation: int = 1,
        assignment: launcher_pb2.Assignment | None = None,
    ) -> int:
        request = launcher_pb2.StartTrainerRequest(
            assignment=assignment or self.assignment(run, incarnation)
        )
        return self.stub.StartTrainer(request, timeout=DEADLINE_S).pid

    def kill_trainer(
        self,
        run: str = "r-1",
        incarnation: int = 1,
        grace_s: float = 0.0,
        *,
        collect_stacks: bool = False,
    ) -> bool:
        request = launcher_pb2.KillTrainerRequest(
            run=run, incarnation=incarnation, grace_s=grace_s, collect_stacks=collect_stacks
        )
        return self.stub.KillTrainer(request, timeout=DEADLINE_S).found

    def log(self, run: str = "r-1", incarnation: int = 1) -> str:
        path = self.state / "runs" / run / "logs" / f"{incarnation}.log"
        return path.read_text() if path.exists() else ""

    def wait_log(self, text: str, run: str = "r-1", incarnation: int = 1) -> None:
        wait_until(lambda: text in self.log(run, incarnation), f"{text!r} in the log of {run}")

    def watch(self, after_sequence: int = 0) -> Watch:
        call = self.stub.WatchTrainers(
            launcher_pb2.WatchTrainersRequest(
                protocol=protocol.protocol(), after_sequence=after_sequence
            )
        )
        watch = Watch(call)
        thread = threading.Thread(target=watch.read, name="watch")
        thread.start()
        self._stack.callback(thread.join, DEADLINE_S)
        self._stack.callback(call.cancel)
        return watch

    def sigkill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def terminate(self) -> int:
        """SIGTERM; return the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        self._stack.close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE_S)


@contextlib.contextmanager
def launcher(script: str, *flags: str) -> Iterator[LauncherProcess]:
    """A running launcher whose trainers run `script`; gone with all its files afterwards.

    Without a script its trainers are real ones.
    """
    root = Path(tempfile.mkdtemp(prefix="tl-", dir="/tmp"))
    process = LauncherProcess(root, script, *flags)
    try:
        with _compiled_steps(process):
            yield process.start()
    finally:
        process.close()
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def _compiled_steps(process: LauncherProcess) -> Iterator[None]:
    """Lend it what others have compiled; a second launcher at the same time keeps its own."""
    lent, LauncherProcess.compiled = LauncherProcess.compiled, None
    if lent is not None:
        process.state.mkdir(mode=0o700)
        (process.state / "cache").symlink_to(lent)
    try:
        yield
    finally:
        LauncherProcess.compiled = lent


def open_descriptors(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
