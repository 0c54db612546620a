"""The launcher's own log: one structured line an event, on standard error."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import stat
import sys

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from trainerd.actors.launcher.config import LauncherConfig
from trainerd.v1 import log_lines, service_manager

LIMIT_BYTES = 8 * 1024 * 1024
"""Bytes of a log file before it begins anew; the file before it is kept."""


class BoundedStderr:
    """Standard error that ends nobody: its reader may go, and a file behind it stays bounded.

    A file that was opened for appending and has grown beyond `limit_bytes` is copied to `….1` and
    begins anew; what the process writes there by other ways is counted too.
    """

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes

    def write(self, text: str) -> int:
        """Write; a log that nobody reads must not end the trainers."""
        written = 0
        with contextlib.suppress(OSError):
            written = sys.stderr.write(text)
        self.flush()
        # Without a place for the copy the file grows on.
        with contextlib.suppress(OSError):
            self._begin_anew_if_full()
        return written

    def flush(self) -> None:
        """Hand everything over."""
        with contextlib.suppress(OSError):
            sys.stderr.flush()

    def _begin_anew_if_full(self) -> None:
        descriptor = sys.stderr.fileno()
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size <= self._limit_bytes:
            return
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            shutil.copyfile(path, f"{path}.1")
            os.ftruncate(descriptor, 0)


def configure_logging(config: LauncherConfig) -> None:
    """Log every event with the time in UTC: JSON, in which the host stands; pretty on a terminal.

    In systemd's journal each line has its level's priority.
    """
    log, terminal = config.log, os.isatty(sys.stderr.fileno())
    pretty = log.format == "pretty" or (log.format == "auto" and terminal)
    if pretty:
        render: Processor = structlog.dev.ConsoleRenderer(colors=terminal)
    else:
        render = _json(config.launcher.host)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[log.level.upper()]
        ),
        logger_factory=structlog.WriteLoggerFactory(file=BoundedStderr()),  # type: ignore[arg-type]
    )


def _json(host: str) -> Processor:
    to_journal = service_manager.is_journal(sys.stderr.fileno(), os.environ)

    def render(_logger: WrappedLogger, _name: str, event: EventDict) -> str:
        return log_lines.json_line(event, host=host, to_journal=to_journal)

    return render
