"""What can go wrong with numbers on their way out."""

from __future__ import annotations

from trainerd.actors.errors import EngineError, TrainingError


class MetricError(TrainingError):
    """A metric is not one number; the text names it, what came and what to do."""


class LoggingError(EngineError):
    """A logger failed where the caller asked to hear of it. The text begins `logging failed: `."""
