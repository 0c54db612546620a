"""Whom a daemon tells that it serves."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from trainerd.daemon.config import Config, load
from trainerd.daemon.notify import tell_parent
from trainerd.daemon.reloading import Live
from trainerd.v1.service_manager import sd_notify

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a daemon serves: private to its parent or not, and whom it tells that it is ready.

    load: reads the configuration again. live: parts beside the daemon's own that take a new one.
    """

    private: bool = False
    ready_fd: int | None = None
    load: Callable[[], Config] = lambda: load(None)
    live: tuple[Live, ...] = ()


def announce(config: Config, manner: Manner, *, api: str, metrics: str) -> None:
    """Say that the daemon serves."""
    control = f"unix:{config.daemon.control_socket}"
    log.info("daemon_ready", control=control, api=api, metrics=metrics, pid=os.getpid())
    sd_notify("READY=1")
    if manner.ready_fd is not None:
        tell_parent(manner.ready_fd, f"READY {control} {metrics or '-'}")
