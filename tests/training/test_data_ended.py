"""A trainer whose data ends too early: its work is saved, and the supervisor is told why."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fakes import training
from trainerd.actors.reports import Controls, FaultClass, FinishReason
from trainerd.actors.trainer.situation import Situation
from trainerd.actors.trainer.training import train
from trainerd.v1 import launcher_pb2

pytestmark = pytest.mark.usefixtures("compiled_once")

PROGRAM = """
from fakes import training

def build():
    data = training.Data()
    return training.program(data=training.Stream(data[index] for index in range(52)))
"""


def test_a_trainer_asks_what_to_do_when_its_data_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "short_of_data.py").write_text(PROGRAM)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assignment = launcher_pb2.Assignment(
        run="r-1", incarnation=1, checkpoint_directory=str(tmp_path / "checkpoints")
    )
    assignment.spec.entry = "short_of_data:build"
    assignment.spec.train.steps = 9
    assignment.spec.train.global_batch = 16
    assignment.spec.checkpoint.every_steps = 50
    assignment.spec.checkpoint.keep = 3
    recorder = training.Recorder()
    result = train(assignment, recorder, Controls(), Situation())
    (fault,) = recorder.all("decide")
    assert fault.fault_class is FaultClass.DATA_ERROR
    assert fault.message == "the data ended after 3 batches: 3 of 9 steps are applied"
    assert "train.steps" in fault.suggestion
    assert result.reason is FinishReason.DECIDED
    assert (result.step, result.durable_step) == (3, 3)
