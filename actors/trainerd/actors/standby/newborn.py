"""A fork of the standby becomes the trainer that a new process would have become."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import traceback
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from trainerd.actors.standby import blas, title
from trainerd.actors.standby.messages import Fork
from trainerd.actors.trainer import birth, codes, main

CONSENT_S = 10.0
"""Seconds to wait until the launcher has taken note of this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """Descriptors that came with a request."""

    assignment: int
    log: int
    lock: int
    consent: int

    def close(self) -> None:
        """They are the child's now, or nobody's."""
        for descriptor in (self.assignment, self.log, self.lock, self.consent):
            os.close(descriptor)


def live(asked: Fork, received: Received, link: socket.socket, limit: str | None) -> NoReturn:
    """Be a trainer, from a fork of the standby to the exit. `limit`: OpenBLAS's, as it was."""
    code = codes.DEFECT
    try:
        os.setpgid(0, 0)
        link.close()
        os.dup2(received.log, 1)
        os.dup2(received.log, 2)
        os.close(received.log)
        if not _consented(received.consent):
            os._exit(codes.DEFECT)
        # Not earlier: until its first parent was gone, that one's death would have ended it.
        birth.die_with_launcher()
        data = _read(received.assignment)
        _differ_from_siblings(limit)
        command = [sys.executable, "-m", "trainerd.actors.trainer", "--run", asked.run]
        title.retitle([*command, "--incarnation", str(asked.incarnation)])
        main.main(data, imported=True)
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def _consented(descriptor: int) -> bool:
    """Whether the launcher has this process on its list; else another may have been started."""
    ready, _, _ = select.select([descriptor], [], [], CONSENT_S)
    consented = bool(ready) and os.read(descriptor, 1) != b""
    os.close(descriptor)
    return consented


def _read(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as stream:
        stream.seek(0)
        return stream.read()


def _differ_from_siblings(limit: str | None) -> None:
    """What a new process draws from the system or reads from its environment."""
    if limit is None:
        os.environ.pop(blas.LIMIT_VARIABLE, None)
    else:
        os.environ[blas.LIMIT_VARIABLE] = limit
    blas.set_threads(blas.usual_threads(os.environ))
    # Python seeds its own generator anew in every fork.
    np.random.seed()
    signal.set_wakeup_fd(-1)
