"""Where, when and which states an `Engine` saves: the keys of a run file's table `[checkpoint]`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainerd.actors.checkpoint_retention import LOSS
from trainerd.actors.errors import EngineError
from trainerd.actors.settings import at_least_one

_EVERY_STEPS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSettings:
    """Where and how often states are saved, which are kept, and what happens if they cannot be.

    Names and meanings are those of a run file. A save falls due after every `every_steps` applied
    updates (50, where nothing else says when) and every `every_s` seconds, or with `auto_interval`
    as often as saves are worth what they cost; the last state is saved in any case. While
    `directory` fails saves go to `fallback_directory`; to resume from the former looks into both.

    The newest `keep` stay, every one whose step is a multiple of `keep_every_steps`, and the
    `keep_best` best by `best_metric`: "loss", a metric of the step, or `val_<name>` of a
    `Validation`; `best_mode` says which values are best.

    A failed save does not stop training, unless there is a limit: `max_failures` in a row, or
    `max_age_s` seconds without a durable one, whether saves fail or do not end. A run whose last
    state is not on disk within `final_save_timeout_s` is a failure. Raises `EngineError` for
    everything that is impossible.
    """

    directory: str | Path
    fallback_directory: str | Path | None = None
    every_steps: int | None = None
    every_s: float | None = None
    auto_interval: bool = False
    keep: int = 3
    keep_every_steps: int | None = None
    keep_best: int | None = None
    best_metric: str | None = None
    best_mode: Literal["lowest", "highest"] | None = None
    max_failures: int | None = None
    max_age_s: float | None = None
    final_save_timeout_s: float = 120.0

    def __post_init__(self) -> None:
        for name in ("every_steps", "keep", "keep_every_steps", "keep_best", "max_failures"):
            value = getattr(self, name)
            if value is not None or name == "keep":
                at_least_one(f"checkpoint.{name}", value)
        for name in ("every_s", "max_age_s", "final_save_timeout_s"):
            if (value := getattr(self, name)) is not None:
                _positive(f"checkpoint.{name}", value)
        for name in ("every_steps", "every_s"):
            if self.auto_interval and getattr(self, name) is not None:
                raise EngineError(
                    f"checkpoint.auto_interval cannot be given together with checkpoint.{name}: "
                    "both say when to save",
                    suggestion="keep one of the two",
                )
        if self.best_mode not in (None, "lowest", "highest"):
            raise EngineError(
                f'checkpoint.best_mode must be "lowest" or "highest", got {self.best_mode!r}'
            )
        for name in ("best_metric", "best_mode"):
            if getattr(self, name) is not None and self.keep_best is None:
                raise EngineError(
                    f"checkpoint.{name} is given, but nothing is kept by it",
                    suggestion="say how many: checkpoint.keep_best",
                )
        if self.fallback == self.path:
            raise EngineError(
                "checkpoint.fallback_directory is checkpoint.directory itself: where one fails the "
                "other does too",
                suggestion="name a directory on another device",
            )

    @property
    def path(self) -> Path:
        """The directory, absolute: a run does not move when its process does."""
        return Path(self.directory).absolute()

    @property
    def fallback(self) -> Path | None:
        """The fallback directory, absolute; None: there is none."""
        given = self.fallback_directory
        return None if given is None else Path(given).absolute()

    def in_plan(self) -> dict[str, Any]:
        """Fields of a `Plan`."""
        timed = self.every_s is not None or self.auto_interval
        every_steps = 0 if timed else _EVERY_STEPS
        return {
            "checkpoint_every_steps": self.every_steps or every_steps,
            "checkpoint_every_s": self.every_s or 0.0,
            "checkpoint_auto": self.auto_interval,
            "checkpoint_keep": self.keep,
            "checkpoint_keep_every_steps": self.keep_every_steps or 0,
            "checkpoint_keep_best": self.keep_best or 0,
            "checkpoint_best_metric": self.best_metric or LOSS,
            "checkpoint_best_highest": self.best_mode == "highest",
            "final_save_timeout_s": self.final_save_timeout_s,
        }


def _positive(name: str, value: Any) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number and 0 < value < math.inf):
        raise EngineError(f"{name} must be > 0 and finite, got {value!r}")
