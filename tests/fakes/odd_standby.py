"""A standby that imports nothing and misbehaves on request; `ODD` in its environment says how.

Used as the interpreter of a `Wanted`: it is called with a standby's command line.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time

from trainerd.actors.standby.messages import (
    MAX_BYTES,
    Forked,
    Ready,
    Refused,
    Unfit,
    decoded,
    encoded,
)

MIB = 1 << 20


def main() -> None:
    odd = os.environ["ODD"]
    link = socket.socket(fileno=int(sys.argv[sys.argv.index("--socket") + 1]))
    decoded(link.recv(MAX_BYTES))
    print(f"prepared {os.getpid()}", flush=True)
    match odd:
        case "unfit":
            files = {os.environ["REASON"]: None}
            link.send(encoded(Unfit(reason="it is odd", lasting=True, files=files)))
            return
        case "broken":
            link.send(encoded(Unfit(reason="it is broken", lasting=False)))
            return
        case "large":
            link.send(encoded(Ready(resident_bytes=1 << 40, took_s=0.0)))
            signal.pause()
        case "silent":
            signal.pause()
        case "dies":
            return
    link.send(encoded(Ready(resident_bytes=MIB, took_s=0.0)))
    while True:
        asked, descriptors, _, _ = socket.recv_fds(link, MAX_BYTES, 4)
        if not asked:
            return
        match odd:
            case "deaf":
                signal.pause()
            case "nonsense":
                link.send(b"{}")
            case "stranger":
                link.send(encoded(Forked(pid=2**22 + 1, resident_bytes=MIB)))
            case "refuses":
                link.send(encoded(Refused(reason="something has changed")))
                return
            case _:
                _fork(link, descriptors, grown=100 * MIB if odd == "grows" else 0)


def _fork(link: socket.socket, descriptors: list[int], *, grown: int) -> None:
    reading, writing = os.pipe()
    middle = os.fork()
    if middle == 0:
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            _train(*descriptors)
        # The child does the same; whoever comes first, as in the true one.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.setpgid(pid, pid)
        os.write(writing, str(pid).encode())
        os._exit(0)
    os.waitpid(middle, 0)
    pid = int(os.read(reading, 32))
    for descriptor in (reading, writing, *descriptors):
        os.close(descriptor)
    if os.environ["ODD"] == "late":
        print(f"forked {pid}", flush=True)
        # As good as never: the launcher has lost its patience.
        time.sleep(float(os.environ["LATE_S"]))
    link.send(encoded(Forked(pid=pid, resident_bytes=MIB + grown)))


def _train(_assignment: int, log: int, _lock: int, consent: int) -> None:
    if os.read(consent, 1):
        os.write(log, b"trains\n")
        os._exit(7)
    os.write(log, b"not wanted\n")
    os._exit(0)


if __name__ == "__main__":
    main()
