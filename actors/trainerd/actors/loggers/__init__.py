"""Loggers: where a run's metrics and events are written."""

from trainerd.actors.loggers.console import ConsoleLogger
from trainerd.actors.loggers.csv_logger import CsvLogger
from trainerd.actors.loggers.errors import LoggingError, MetricError
from trainerd.actors.loggers.fan_out import Loggers
from trainerd.actors.loggers.host import host_metrics
from trainerd.actors.loggers.json_lines import JsonLinesLogger
from trainerd.actors.loggers.logger import Field, Logger

__all__ = [
    "ConsoleLogger",
    "CsvLogger",
    "Field",
    "JsonLinesLogger",
    "Logger",
    "Loggers",
    "LoggingError",
    "MetricError",
    "host_metrics",
]
