"""The training library's front door. Names are loaded when they are first used: the launcher
lives in this package and must not import JAX."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainerd.actors.accumulation import AccumulationStep as AccumulationStep
    from trainerd.actors.accumulation import (
        create_gradient_accumulation_step_fn as create_gradient_accumulation_step_fn,
    )
    from trainerd.actors.accumulation import (
        gradient_accumulation_step as gradient_accumulation_step,
    )
    from trainerd.actors.callbacks import Callback as Callback
    from trainerd.actors.callbacks import CallbackError as CallbackError
    from trainerd.actors.callbacks import CallbackSignal as CallbackSignal
    from trainerd.actors.callbacks import EarlyStopping as EarlyStopping
    from trainerd.actors.callbacks import LoggingCallback as LoggingCallback
    from trainerd.actors.callbacks import ModelCheckpoint as ModelCheckpoint
    from trainerd.actors.callbacks import TrainingState as TrainingState
    from trainerd.actors.check import check_program as check_program
    from trainerd.actors.checkpoint_settings import CheckpointSettings as CheckpointSettings
    from trainerd.actors.engine import Engine as Engine
    from trainerd.actors.errors import CheckpointError as CheckpointError
    from trainerd.actors.errors import DataError as DataError
    from trainerd.actors.errors import EngineError as EngineError
    from trainerd.actors.errors import PlanError as PlanError
    from trainerd.actors.errors import ProgramError as ProgramError
    from trainerd.actors.errors import Terminated as Terminated
    from trainerd.actors.errors import TrainingError as TrainingError
    from trainerd.actors.fit_result import EndReason as EndReason
    from trainerd.actors.fit_result import FitResult as FitResult
    from trainerd.actors.loggers import ConsoleLogger as ConsoleLogger
    from trainerd.actors.loggers import CsvLogger as CsvLogger
    from trainerd.actors.loggers import JsonLinesLogger as JsonLinesLogger
    from trainerd.actors.loggers import Logger as Logger
    from trainerd.actors.loggers import LoggingError as LoggingError
    from trainerd.actors.loggers import MetricError as MetricError
    from trainerd.actors.plan import Plan as Plan
    from trainerd.actors.program import Program as Program
    from trainerd.actors.program import load_entry as load_entry
    from trainerd.actors.program_loop import run_loop as run_loop
    from trainerd.actors.reports import Controls as Controls
    from trainerd.actors.reports import Reporter as Reporter
    from trainerd.actors.reports import Result as Result
    from trainerd.actors.rules import Rule as Rule
    from trainerd.actors.settings import FaultBudget as FaultBudget
    from trainerd.actors.settings import Validation as Validation
    from trainerd.actors.state import TrainState as TrainState

_NAMES = {
    "accumulation": (
        "AccumulationStep",
        "create_gradient_accumulation_step_fn",
        "gradient_accumulation_step",
    ),
    "callbacks": (
        "Callback",
        "CallbackError",
        "CallbackSignal",
        "EarlyStopping",
        "LoggingCallback",
        "ModelCheckpoint",
        "TrainingState",
    ),
    "check": ("check_program",),
    "checkpoint_settings": ("CheckpointSettings",),
    "engine": ("Engine",),
    "errors": (
        "CheckpointError",
        "DataError",
        "EngineError",
        "PlanError",
        "ProgramError",
        "Terminated",
        "TrainingError",
    ),
    "fit_result": ("EndReason", "FitResult"),
    "loggers": (
        "ConsoleLogger",
        "CsvLogger",
        "JsonLinesLogger",
        "Logger",
        "LoggingError",
        "MetricError",
    ),
    "plan": ("Plan",),
    "program": ("Program", "load_entry"),
    "program_loop": ("run_loop",),
    "reports": ("Controls", "Reporter", "Result"),
    "rules": ("Rule",),
    "settings": ("FaultBudget", "Validation"),
    "state": ("TrainState",),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}

__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
