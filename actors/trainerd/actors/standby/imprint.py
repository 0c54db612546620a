"""What importing a program must leave alone in a process that is to be forked."""

from __future__ import annotations

import os
import random
import signal
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax._src import xla_bridge


class NotForkable(Exception):
    """A fork of this process would not be what a new process is; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imprint:
    """This process's descriptors, signal handlers and generators at one moment."""

    descriptors: frozenset[str]
    handlers: tuple[Any, ...]
    generators: tuple[object, ...]

    @classmethod
    def now(cls) -> Imprint:
        """Look at this process."""
        return cls(
            descriptors=_descriptors(),
            handlers=tuple(signal.getsignal(number) for number in sorted(signal.valid_signals())),
            generators=(random.getstate(), _numpy_state()),
        )

    def check_since(self) -> None:
        """Raise `NotForkable` if what was imported since does not bear a fork."""
        check_still()
        now = Imprint.now()
        opened = sorted(now.descriptors - self.descriptors)
        if opened:
            raise NotForkable(f"it keeps {', '.join(opened)} open, which forks would share")
        if now.handlers != self.handlers:
            raise NotForkable("it installs a signal handler")
        if now.generators != self.generators:
            raise NotForkable(
                "it seeds or uses the global random generator of Python or numpy; do so in the "
                "entry function"
            )


def check_still() -> None:
    """Raise `NotForkable` unless there is one thread, no child process and no JAX backend."""
    if xla_bridge.backends_are_initialized():
        raise NotForkable("it computes with JAX or asks for its devices, which takes them")
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise NotForkable(f"it starts threads: there are {threads}")
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return
    raise NotForkable("it starts a process")


def _numpy_state() -> object:
    generator = np.random.get_state(legacy=False)
    assert isinstance(generator, dict)
    state = generator["state"]
    return state["key"].tobytes(), state["pos"], generator["has_gauss"], generator["gauss"]


def _descriptors() -> frozenset[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{os.readlink(f'/proc/self/fd/{name}')} (descriptor {name})")
        except FileNotFoundError:
            continue  # the listing's own
    return frozenset(found)
