"""The bundled examples learn from real text, in three idioms, and come back exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from fakes import training
from trainerd.actors.check import check_program
from trainerd.actors.examples.stdlib_text import Windows, read_corpus, unigram_bits_per_byte
from trainerd.actors.plan import Plan
from trainerd.actors.program import load_entry
from trainerd.actors.program_loop import run_loop
from trainerd.actors.reports import Controls, FinishReason

pytestmark = pytest.mark.usefixtures("compiled_once")

EXAMPLES = ("stdlib_lm", "stdlib_lm_nnx", "stdlib_lm_equinox")
SMALL = {
    **{"width": 32, "layers": 1, "heads": 2, "context": 16},
    **{"horizon": 30, "warmup": 3, "learning_rate": 0.02},
}
PLAN = Plan(steps=30, global_batch=16, microbatch=8, checkpoint_every_steps=100)


def program(name: str) -> Any:
    return load_entry(f"trainerd.actors.examples.{name}:build", SMALL)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_learns_and_resumes_exactly(name: str, tmp_path: Path) -> None:
    device = jax.devices()[:1]
    recorder = training.Recorder()
    straight = run_loop(
        program(name),
        PLAN,
        checkpoint_directory=tmp_path / "straight",
        reporter=recorder,
        devices=device,
    )
    (_, first), (_, last) = recorder.all("evaluated")
    assert first["bits_per_byte"] == pytest.approx(8, abs=0.5)
    assert last["bits_per_byte"] < first["bits_per_byte"] - 1.5
    assert recorder.steps[0].metrics["learning_rate"] == 0.0
    assert recorder.steps[3].metrics["learning_rate"] == pytest.approx(0.02)

    controls = Controls()
    stopping = training.Recorder(on_step=lambda record: controls.stop(FinishReason.STOPPED))
    places = {"checkpoint_directory": tmp_path / "broken", "devices": device}
    stopped = run_loop(program(name), PLAN, controls=controls, reporter=stopping, **places)
    assert 0 < stopped.step < PLAN.steps
    assert run_loop(program(name), PLAN, **places).state_digest == straight.state_digest


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_defaults_are_sound(name: str) -> None:
    made = load_entry(f"trainerd.actors.examples.{name}:build", {})
    assert check_program(made, Plan(steps=400, global_batch=32, microbatch=8)) == []


def test_the_text_is_real_and_split_by_file() -> None:
    corpus = read_corpus(1 << 20)
    text, held_out = corpus.train.tobytes(), corpus.validation.tobytes()
    assert b"import" in text
    assert 500_000 < len(text) + len(held_out) <= 1 << 20
    assert 0.02 < len(held_out) / len(text) < 0.5
    assert held_out[:4000] not in text
    assert 4.0 < unigram_bits_per_byte(corpus.train) < 5.5


def test_unigram_entropy_is_shannons() -> None:
    assert unigram_bits_per_byte(np.array([1, 1, 2, 3], np.uint8)) == 1.5


def test_windows_cover_the_text_without_gaps() -> None:
    text = np.arange(100, dtype=np.uint8)
    windows = Windows(text, 8)
    assert len(windows) == 12
    assert windows[0]["bytes"].tolist() == list(range(9))
    assert windows[11]["bytes"].tolist() == list(range(88, 97))
    with pytest.raises(IndexError):
        windows[12]
    assert windows.sample(3).shape == (3, 9)
