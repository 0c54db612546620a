"""The names that a user of the library imports."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import trainerd.actors

NAMES = {
    "AccumulationStep",
    "Callback",
    "CallbackError",
    "CallbackSignal",
    "CheckpointError",
    "CheckpointSettings",
    "ConsoleLogger",
    "Controls",
    "CsvLogger",
    "DataError",
    "EarlyStopping",
    "EndReason",
    "Engine",
    "EngineError",
    "FaultBudget",
    "FitResult",
    "JsonLinesLogger",
    "Logger",
    "LoggingCallback",
    "LoggingError",
    "MetricError",
    "ModelCheckpoint",
    "Plan",
    "PlanError",
    "Program",
    "ProgramError",
    "Reporter",
    "Result",
    "Rule",
    "Terminated",
    "TrainState",
    "TrainingError",
    "TrainingState",
    "Validation",
    "check_program",
    "create_gradient_accumulation_step_fn",
    "gradient_accumulation_step",
    "load_entry",
    "run_loop",
}


def test_t21_every_name_is_importable_from_the_front_door() -> None:
    assert set(trainerd.actors.__all__) == NAMES
    assert set(dir(trainerd.actors)) >= NAMES
    for name in NAMES:
        found = getattr(trainerd.actors, name)
        assert found.__name__ == name
        assert getattr(importlib.import_module(found.__module__), name) is found


def test_t21_the_front_door_loads_nothing_before_it_is_asked() -> None:
    script = "import trainerd.actors, sys; print('jax' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "False"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Engin'"):
        _ = trainerd.actors.Engin
