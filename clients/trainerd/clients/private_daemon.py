"""A daemon for one invocation of `trainerctl run`: started by name, ended with it."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from trainerd.clients.errors import Unreachable
from trainerd.clients.wording import printable

DAEMON_COMMAND = (sys.executable, "-m", "trainerd.daemon", "serve", "--private")
"""How a private daemon is started; `--ready-fd N` and perhaps `--address A` are appended."""

READY_TIMEOUT_S = 20.0
END_TIMEOUT_S = 60.0
_KILL_TIMEOUT_S = 10.0
_LOG_LINES = 20
_LONGEST_LOG_END = 65_536
_LONGEST_READY_LINE = 4096


class PrivateDaemon:
    """A running private daemon. Its standard input is a lifeline: at its end the daemon drains
    its runs, stops its launcher and exits, even if this process is killed."""

    def __init__(
        self,
        command: Sequence[str],
        address: str | None,
        *,
        ready_timeout_s: float = READY_TIMEOUT_S,
        end_timeout_s: float = END_TIMEOUT_S,
    ) -> None:
        """Start it and wait until it serves; raises `Unreachable` with its last words."""
        self._log = _log_file()
        self._ready_timeout_s = ready_timeout_s
        self._end_timeout_s = end_timeout_s
        self.killed = False
        """Whether it did not end by itself in time."""
        ready, ready_writer = os.pipe()
        try:
            try:
                self._process = _started(command, address, ready_writer, self._log)
            finally:
                os.close(ready_writer)
            try:
                line = _ready_line(ready, time.monotonic() + ready_timeout_s)
                self.address, self.metrics_address = self._addresses(line)
            except BaseException:
                self._end(0.0)
                raise
        finally:
            os.close(ready)

    def __enter__(self) -> Self:
        """It serves at `address`."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cut the lifeline and wait until it has ended; keep its log if it did not end well."""
        self._end(self._end_timeout_s)
        if self._process.returncode == 0 and not isinstance(exc, Unreachable):
            Path(self._log.name).unlink(missing_ok=True)

    @property
    def log_path(self) -> str:
        """Where its output goes; removed once it has ended well."""
        return self._log.name

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def lives(self) -> bool:
        """Whether its process runs."""
        return self._process.poll() is None

    def last_words(self) -> str:
        """Its exit code, the end of its log, and where the log is."""
        code = self._process.poll()
        end = "still runs" if code is None else f"ended with code {code}"
        with open(self._log.name, "rb") as log:
            log.seek(max(os.fstat(log.fileno()).st_size - _LONGEST_LOG_END, 0))
            lines = printable(log.read().decode(errors="replace")).splitlines()[-_LOG_LINES:]
        return "\n".join([f"{end}; its log is {self._log.name}", *(f"    | {x}" for x in lines)])

    def _addresses(self, line: str) -> tuple[str, str | None]:
        words, _, metrics = line.removesuffix("\n").rpartition(" ")
        mark, _, control = words.partition(" ")
        if mark == "READY" and control and line.endswith("\n"):
            return control, None if metrics == "-" else metrics
        # The end of the pipe is the end of the process, but for a moment.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        said = f" but said {line!r}" if line else ""
        late = f" within {self._ready_timeout_s:g} s" if self.lives() else ""
        raise Unreachable(
            f"the private daemon did not become ready{late}{said}: it {self.last_words()}"
        )

    def _end(self, timeout_s: float) -> None:
        """Cut the lifeline, wait, then use force. Also on a Ctrl-C while waiting."""
        try:
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if self._process.poll() is None:
                self._use_force()
            self._log.close()

    def _use_force(self) -> None:
        self.killed = True
        self._process.terminate()
        try:
            self._process.wait(_KILL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_KILL_TIMEOUT_S)


def _started(
    command: Sequence[str], address: str | None, ready_writer: int, log: IO[bytes]
) -> subprocess.Popen[bytes]:
    arguments = ["--address", address] if address else []
    try:
        return subprocess.Popen(
            [*command, "--ready-fd", str(ready_writer), *arguments],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=[ready_writer],
            # Ctrl-C is for us: the daemon saves before it ends.
            start_new_session=True,
        )
    except OSError as error:
        log.close()
        os.unlink(log.name)
        raise Unreachable(f"cannot start {command[0]}: {error.strerror}") from error


def _log_file() -> IO[bytes]:
    return tempfile.NamedTemporaryFile(prefix="trainerd-daemon-", suffix=".log", delete=False)


def _ready_line(pipe: int, deadline: float) -> str:
    """The line the daemon writes when it serves; what there is of it at its end or deadline."""
    line = b""
    while not line.endswith(b"\n") and len(line) < _LONGEST_READY_LINE:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not select.select([pipe], [], [], left_s)[0]:
            break
        part = os.read(pipe, _LONGEST_READY_LINE)
        if not part:
            break
        line += part
    return line.decode(errors="replace")
