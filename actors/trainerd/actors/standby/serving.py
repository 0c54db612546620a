"""The standby's life: import, then one request after the other until the launcher goes."""

from __future__ import annotations

import array
import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from trainerd.actors.standby import stamps
from trainerd.actors.standby.messages import (
    MAX_BYTES,
    Fork,
    Forked,
    Prepare,
    Ready,
    Refused,
    Unfit,
    decoded,
    encoded,
)
from trainerd.actors.standby.preloading import CannotServe, Preloaded, preload, resident_bytes

END = 0
EXIT_UNFIT = 3


def serve(link: socket.socket, *, limit: str | None) -> int:
    """Serve the launcher at the other end of `link`; return the exit code.

    `limit`: what the run's environment says of OpenBLAS's threads; here there is one.
    """
    began_s = time.monotonic()
    asked = decoded(link.recv(MAX_BYTES))
    if not isinstance(asked, Prepare):
        raise ValueError(f"expected to be told what to prepare, got {asked}")
    try:
        preloaded = preload(asked.path, asked.module)
    except CannotServe as error:
        _say(link, error.unfit)
        return EXIT_UNFIT
    took_s = time.monotonic() - began_s
    _say(link, Ready(resident_bytes=resident_bytes(), took_s=took_s))
    # It waits for ever: the launcher ends it, or takes it along.
    while packet := link.recvmsg(MAX_BYTES, _ROOM, socket.MSG_CMSG_CLOEXEC)[:2]:
        data, ancillary = packet
        if not data:
            break
        answer = _answer(data, ancillary, link, preloaded, limit)
        _say(link, answer)
        if isinstance(answer, Refused):
            break
    return END


_ROOM = socket.CMSG_SPACE(len(Fork.DESCRIPTORS) * array.array("i").itemsize)


def _say(link: socket.socket, message: Ready | Unfit | Forked | Refused) -> None:
    link.sendall(encoded(message))


def _answer(
    data: bytes,
    ancillary: list[tuple[int, int, bytes]],
    link: socket.socket,
    preloaded: Preloaded,
    limit: str | None,
) -> Forked | Refused:
    from trainerd.actors.standby import imprint, newborn  # noqa: PLC0415

    asked = decoded(data)
    descriptors = array.array("i")
    for _, _, held in ancillary:
        descriptors.frombytes(held)
    if not isinstance(asked, Fork) or len(descriptors) != len(Fork.DESCRIPTORS):
        raise ValueError(f"expected a request with {Fork.DESCRIPTORS}, got {asked}")
    received = newborn.Received(**dict(zip(Fork.DESCRIPTORS, descriptors, strict=True)))
    try:
        changed = stamps.changed(preloaded.files)
        if changed is not None:
            return Refused(reason=f"{changed} has changed")
        try:
            imprint.check_still()
        except imprint.NotForkable as error:
            return Refused(reason=f"the standby is no longer fit: {error}")
        pid = _fork_twice(lambda: newborn.live(asked, received, link, limit))
    finally:
        received.close()
    return Forked(pid=pid, resident_bytes=resident_bytes())


def _fork_twice(live: Callable[[], NoReturn]) -> int:
    """Fork a grandchild and see to it that the launcher, a subreaper, is its parent."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    middle = os.fork()
    if middle == 0:
        _be_forgotten(live, reading, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        said = stream.read()
    # Once it is gone its child has been given to the launcher.
    os.waitpid(middle, 0)
    return int(said)


def _be_forgotten(live: Callable[[], NoReturn], reading: int, writing: int) -> NoReturn:
    try:
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            os.close(writing)
            live()
        # The child does the same; whoever comes first.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.setpgid(pid, pid)
        os.write(writing, str(pid).encode())
    finally:
        sys.stderr.flush()
        os._exit(0)
