"""The launcher's own log: one structured line an event, on standard error."""

from __future__ import annotations

import contextlib
import sys

import structlog


class _UnbreakableStderr:
    """Standard error whose reader may go: a log that nobody reads must not end the trainers."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            return sys.stderr.write(text)
        return 0

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()


def configure_logging() -> None:
    """Log every event as `key=value` pairs with the time in UTC."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(
                key_order=["timestamp", "level", "event"], bool_as_flag=False
            ),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=_UnbreakableStderr()),  # type: ignore[arg-type]
    )
