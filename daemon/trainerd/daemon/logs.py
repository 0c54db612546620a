"""How the daemon's log looks: JSON in a file or the journal, pretty on a terminal.

Level, form and place can change while the daemon runs; loggers that exist follow.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from trainerd.daemon.config import ConfigError, LogConfig
from trainerd.daemon.log_file import LogFile, open_log
from trainerd.daemon.reloading import Live
from trainerd.v1.log_lines import json_line
from trainerd.v1.service_manager import PRIORITIES, is_journal


class Log:
    """The log of this process. `host` is in every JSON line that names no other."""

    def __init__(self, config: LogConfig, *, host: str, stderr: int) -> None:
        self._host = host
        self._stderr = stderr
        self._file = LogFile(stderr)
        self._render = self._pretty()
        self._quietest = PRIORITIES["info"]
        self.prepared(config)()

    def configure(self) -> None:
        """Make it the log of every logger there is."""
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                self._pass_or_drop,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                self._line,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
            logger_factory=structlog.WriteLoggerFactory(file=self._file),  # type: ignore[arg-type]
            cache_logger_on_first_use=True,
        )

    def prepared(self, config: LogConfig) -> Callable[[], None]:
        """What has the log be as configured from then on. Raise `ConfigError`.

        A file is opened anew each time, so that it may be moved away before.
        """
        path = Path(config.file) if config.file else None
        if path is not None:
            try:
                os.close(open_log(path))
            except OSError as error:
                raise ConfigError(
                    (f'log.file: "{path}" cannot be opened: {error.strerror}',)
                ) from error
        automatic = "pretty" if path is None and os.isatty(self._stderr) else "json"
        pretty = (automatic if config.format == "auto" else config.format) == "pretty"
        render = self._pretty() if pretty else self._json(in_file=path is not None)

        def apply() -> None:
            self._file.use(path)
            self._render = render
            self._quietest = PRIORITIES[config.level]

        return apply

    def live(self) -> Live:
        """The part of the daemon that takes `[log]` while it runs."""
        return Live(
            keys=frozenset({"log.file", "log.format", "log.level"}),
            prepare=lambda config: self.prepared(config.log),
        )

    def _pretty(self) -> Processor:
        return structlog.dev.ConsoleRenderer(colors=os.isatty(self._stderr))

    def _json(self, *, in_file: bool) -> Processor:
        journal = not in_file and is_journal(self._stderr, os.environ)

        def render(_logger: WrappedLogger, _name: str, event: EventDict) -> str:
            return json_line(event, host=self._host, to_journal=journal)

        return render

    def _pass_or_drop(self, _logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
        if PRIORITIES.get(event["level"], 0) > self._quietest:
            raise structlog.DropEvent
        return event

    def _line(
        self, logger: WrappedLogger, name: str, event: EventDict
    ) -> Mapping[str, object] | str | bytes | bytearray | tuple[object, ...]:
        return self._render(logger, name, event)
