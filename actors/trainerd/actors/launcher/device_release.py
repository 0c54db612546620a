"""Waiting until a dead trainer's GPU memory is free: the driver may need longer than the kernel."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable

import structlog

from trainerd.actors.launcher.processes import Children

RELEASE_S = 10.0
"""Seconds to wait; then the next trainer is started all the same, and may run out of memory."""
QUERY_S = 5.0
"""Seconds one look may take."""
LOOK_S = 0.05
MAX_BYTES = 64 * 1024
_QUERY = ("--query-compute-apps=pid", "--format=csv,noheader")

_log = structlog.get_logger("trainerd.launcher")


async def wait_released(
    pid: int,
    children: Children,
    *,
    program: Callable[[], str | None] = lambda: shutil.which("nvidia-smi"),
    release_s: float = RELEASE_S,
) -> bool:
    """Wait until no GPU belongs to the dead process `pid`; return whether that is so.

    Without NVIDIA's query program nothing can be known, and nothing is waited for.
    """
    path = program()
    if path is None:
        return True
    deadline_s = asyncio.get_running_loop().time() + release_s
    while True:
        users = await _users(path, children)
        if users is None or pid not in users:
            return users is not None
        if asyncio.get_running_loop().time() > deadline_s:
            _log.warning("devices_not_released", pid=pid, waited_s=release_s)
            return False
        await asyncio.sleep(LOOK_S)


async def _users(path: str, children: Children) -> set[int] | None:
    """Processes that use a GPU; None: it cannot be known."""
    output = os.memfd_create("users", os.MFD_CLOEXEC)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        child = children.spawn(
            [path, *_QUERY],
            environment={"PATH": os.path.dirname(path)},
            directory="/",
            stdin=null,
            stdout=output,
            stderr=null,
        )
        await asyncio.wait([child.ended], timeout=QUERY_S)
        if not child.ended.done() or child.ended.result().exit_code != 0:
            child.kill()
            _log.warning("devices_not_queried", program=path)
            return None
        words = os.pread(output, MAX_BYTES, 0).decode("ascii", "replace").split()
        return {int(word) for word in words if word.isdigit()}
    except OSError as error:
        _log.warning("devices_not_queried", program=path, error=str(error))
        return None
    finally:
        os.close(null)
        os.close(output)
