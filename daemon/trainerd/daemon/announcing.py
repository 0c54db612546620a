"""Whom a daemon tells that it serves."""

from __future__ import annotations

import os
from dataclasses import dataclass

import structlog

from trainerd.daemon.config import Config
from trainerd.daemon.notify import sd_notify, tell_parent

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a daemon serves: private to its parent or not, and whom it tells that it is ready."""

    private: bool = False
    ready_fd: int | None = None


def announce(config: Config, manner: Manner, *, api: str, metrics: str) -> None:
    """Say that the daemon serves."""
    control = f"unix:{config.daemon.control_socket}"
    log.info("daemon_ready", control=control, api=api, metrics=metrics, pid=os.getpid())
    sd_notify("READY=1")
    if manner.ready_fd is not None:
        tell_parent(manner.ready_fd, f"READY {control} {metrics or '-'}")
