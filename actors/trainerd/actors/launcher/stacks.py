"""Where a process hangs: the stacks of its threads, as far as they can be had in a second.

Three sources, none of which needs the process's cooperation in Python: what the kernel says of each
thread; `faulthandler`, whose signal handler in C writes all threads' Python frames to the log even
while another thread holds the interpreter's lock; and `py-spy`, where it is installed, for native
frames. A stopped process answers to none but the first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from trainerd.actors.launcher.logs import read_part
from trainerd.actors.launcher.processes import Child, Children

COLLECT_S = 1.0
"""Seconds in which everything is collected, or left out."""
QUIET_S = 0.1
"""A dump that has not grown for so long is complete."""
MAX_BYTES = 64 * 1024
MAX_THREADS = 256
_POLL_S = 0.02
_DUMP = b"most recent call first"
"""Stands in every dump of faulthandler's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stacks:
    """What each source says; empty: it says nothing."""

    threads: str = ""
    python: str = ""
    native: str = ""

    def text(self) -> str:
        """All of it: at most `MAX_BYTES`."""
        sections = [
            ("threads, as the kernel sees them", self.threads),
            ("native frames (py-spy)", self.native),
            ("Python frames (faulthandler)", self.python),
        ]
        text = "\n\n".join(f"== {heading}\n{body}" for heading, body in sections if body)
        return text.encode()[:MAX_BYTES].decode(errors="ignore")


async def collect(child: Child, log: Path, children: Children) -> Stacks:
    """The stacks of a child whose output goes to `log`."""
    deadline = asyncio.get_running_loop().time() + COLLECT_S
    python, native = await asyncio.gather(
        _python_stacks(child, log, deadline), _native_stacks(child, children, deadline)
    )
    return Stacks(threads=_threads(child.pid), python=python, native=native)


def _threads(pid: int) -> str:
    """Number, name, state and the kernel function each thread waits in."""
    lines = []
    with contextlib.suppress(OSError):  # it has ended meanwhile
        threads = sorted(Path(f"/proc/{pid}/task").iterdir(), key=lambda path: int(path.name))
        for thread in threads[:MAX_THREADS]:
            name = _read(thread / "comm")
            state = _read(thread / "stat").rpartition(")")[2].split()[:1]
            lines.append(
                f"{thread.name} {name} {''.join(state)} {_read(thread / 'wchan')}".rstrip()
            )
    return "\n".join(lines)


async def _python_stacks(child: Child, log: Path, deadline: float) -> str:
    if not _listens(child.pid):
        return ""
    size = os.stat(log).st_size
    child.send(signal.SIGUSR1)
    loop = asyncio.get_running_loop()
    dump, grown_at = b"", loop.time()
    while loop.time() < deadline and not child.ended.done():
        await asyncio.sleep(_POLL_S)
        data = read_part(log, offset=size, max_bytes=MAX_BYTES).data
        if len(data) > len(dump):
            dump, grown_at = data, loop.time()
        elif _DUMP in dump and loop.time() - grown_at >= QUIET_S:
            break
    return dump.decode("utf-8", errors="replace").strip()


def _listens(pid: int) -> bool:
    """Whether the process has a handler for SIGUSR1: without one the signal would end it."""
    for line in _read(Path(f"/proc/{pid}/status")).splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (signal.SIGUSR1 - 1) & 1)
    return False


async def _native_stacks(child: Child, children: Children, deadline: float) -> str:
    program = shutil.which("py-spy")
    if program is None:
        return ""
    output = os.memfd_create("stacks", os.MFD_CLOEXEC)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        spy = children.spawn(
            [program, "dump", "--native", "--pid", str(child.pid)],
            environment={"PATH": os.environ.get("PATH", "")},
            directory="/",
            stdin=null,
            stdout=output,
            stderr=output,
        )
        left_s = deadline - asyncio.get_running_loop().time()
        await asyncio.wait([spy.ended], timeout=max(0.0, left_s))
        spy.kill()
        return os.pread(output, MAX_BYTES // 2, 0).decode("utf-8", errors="replace").strip()
    except OSError as error:
        return f"py-spy could not be started: {error}"
    finally:
        os.close(null)
        os.close(output)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
