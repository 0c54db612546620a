"""One logger in front of many: a value is converted once, and no logger can hurt another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import structlog

from trainerd.actors.loggers.errors import LoggingError
from trainerd.actors.loggers.host import split_metrics
from trainerd.actors.loggers.logger import Field, Logger

_log = structlog.get_logger("trainerd.loggers")


@final
class Loggers:
    """Hands everything to each of `loggers`, in order; is a `Logger` itself and owns them.

    `log` takes JAX and NumPy scalars too and converts each once; see `host_metrics` for what it
    waits for. A logger that raises does not keep the value from the others. By default training
    goes on: the first failure of a kind (logger, method, error type) is warned about, all are
    counted, and `close` tells the counts. A metric that is not one number is such a failure too,
    and the other metrics are logged. With `strict` the first failure of a call is raised as
    `LoggingError` (`logging failed: …`) once all loggers have had their turn.
    """

    def __init__(self, loggers: Sequence[Logger], *, strict: bool = False) -> None:
        self._loggers = [(_name(loggers, index), each) for index, each in enumerate(loggers)]
        self._strict = strict
        self._failures: Counter[tuple[str, str, str]] = Counter()
        self._closed = False

    @property
    def failures(self) -> Mapping[str, int]:
        """How often what failed, by `logger.method: error type`."""
        return {
            f"{name}.{method}: {kind}": count
            for (name, method, kind), count in self._failures.items()
        }

    @property
    def error_count(self) -> int:
        """How often a logger failed or a metric was refused."""
        return self._failures.total()

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Log `metrics` of `step` everywhere."""
        floats, refused = split_metrics(metrics)
        first: LoggingError | None = None
        for name, error in refused.items():
            failure = self._failed("host_metrics", name, step, error)
            first = first or failure
        if floats or not metrics:
            self._each("log", step, lambda logger: logger.log(step, dict(floats)), first)
        elif first is not None and self._strict:
            raise first

    def event(self, step: int, name: str, fields: Mapping[str, Field]) -> None:
        """Log an event everywhere."""
        self._each("event", step, lambda logger: logger.event(step, name, dict(fields)))

    def close(self) -> None:
        """Close every logger, then tell what failed more than once. Again: does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            self._each("close", None, lambda logger: logger.close())
        finally:
            for (name, method, kind), count in self._failures.items():
                if count > 1:
                    _log.warning(
                        "logger failed repeatedly",
                        logger_name=name,
                        method=method,
                        error=kind,
                        count=count,
                    )

    def _each(
        self,
        method: str,
        step: int | None,
        call: Callable[[Logger], None],
        first: LoggingError | None = None,
    ) -> None:
        for name, logger in self._loggers:
            try:
                call(logger)
            except Exception as error:
                failure = self._failed(name, method, step, error)
                first = first or failure
        if first is not None and self._strict:
            raise first

    def _failed(self, name: str, method: str, step: int | None, error: Exception) -> LoggingError:
        """Count it, warn if it is the first of its kind, and make what strict mode raises."""
        kind = (name, method, type(error).__name__)
        self._failures[kind] += 1
        if self._failures[kind] == 1:
            _log.warning(
                "logger failed",
                logger_name=name,
                method=method,
                step=step,
                error=f"{type(error).__name__}: {error}",
            )
        failure = LoggingError(f"logging failed: {name}.{method}: {type(error).__name__}: {error}")
        failure.__cause__ = error
        return failure


def _name(loggers: Sequence[Logger], index: int) -> str:
    """The class's name, numbered where there are several of it."""
    kind = type(loggers[index])
    earlier = sum(type(other) is kind for other in loggers[:index])
    return f"{kind.__name__}#{earlier + 1}" if earlier else kind.__name__
