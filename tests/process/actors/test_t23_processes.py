"""The same run on one device, on eight, and on two processes that share its slots."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from fakes import fitting, training
from trainerd.actors import Engine, Plan

pytestmark = pytest.mark.usefixtures("compiled_once")

TIMEOUT_S = 120.0
STEPS = 6
NUMBERS = {"global_batch": 24, "microbatch": 3, "checkpoint_every_steps": 100}

SCRIPT = """
import json, os, sys
from pathlib import Path
import jax
rank, port, directory, numbers = int(sys.argv[1]), sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{port}", 2, rank)
from fakes import training
from trainerd.actors import Controls, Plan, run_loop
from trainerd.actors.recovery import Recovery
from trainerd.actors.reports import FinishReason

def run(name, controls, on_step=lambda record: None):
    recorder = training.Recorder(on_step=on_step)
    result = run_loop(
        training.program(optimizer=training.optimizer()),
        Plan(**numbers),
        checkpoint_directory=Path(directory, name),
        reporter=recorder,
        controls=controls,
        # The second run loads what the first has compiled.
        recovery=Recovery(executable_directory=Path(directory, "steps")),
    )
    return {
        "losses": [record.loss for record in recorder.steps],
        "reason": result.reason.value,
        "step": result.step,
        "digest": result.state_digest,
        "durable": result.durable,
    }

def stop_at_two(record):
    if rank == 1 and record.step == 2:
        asked.stop(FinishReason.STOPPED)

asked = Controls()
said = {"whole": run("whole", Controls()), "stopped": run("stopped", asked, stop_at_two)}
print(json.dumps(said), flush=True)
# Leave together: the service of JAX lives in the first process.
jax.distributed.shutdown()
sys.stdout.flush()
os._exit(0)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pair(directory: Path) -> list[dict[str, Any]]:
    """Run the script in two processes; return what each says."""
    tests = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])
    # One device each, and nobody waits for ever for the other.
    flags = "--xla_cpu_collective_timeout_seconds=60"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path, "XLA_FLAGS": flags}
    port, numbers = str(free_port()), json.dumps({"steps": STEPS, **NUMBERS})
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(rank), port, str(directory), numbers],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in range(2)
    ]
    try:
        # Both at once: one that waits for its output to be read keeps the other waiting.
        with ThreadPoolExecutor(len(processes)) as readers:
            ended = list(readers.map(lambda each: each.communicate(timeout=TIMEOUT_S), processes))
    finally:
        for process in processes:
            process.kill()
            process.wait()
    codes = [process.returncode for process in processes]
    assert codes == [0, 0], "\n".join(errors for _, errors in ended)
    return [json.loads(output.splitlines()[-1]) for output, _ in ended]


def losses_on(devices: int) -> list[float]:
    seen = fitting.Recording()
    Engine(callbacks=[seen]).fit_program(
        training.program(), Plan(steps=STEPS, **NUMBERS), devices=jax.devices()[:devices]
    )
    return [state.metrics["loss"] for hook, state in seen.heard if hook == "step_end"]


def test_t23_losses_are_the_same_on_one_device_on_eight_and_on_two_processes(
    tmp_path: Path,
) -> None:
    """Slots, weights and keys belong to the run, not to what it runs on."""
    alone = losses_on(1)
    assert len(alone) == STEPS
    np.testing.assert_allclose(losses_on(8), alone, rtol=1e-6)

    first, second = pair(tmp_path)
    assert first == second
    assert (first["whole"]["step"], first["whole"]["durable"]) == (STEPS, True)
    np.testing.assert_allclose(first["whole"]["losses"], alone, rtol=1e-6)

    # One of the two was asked to stop: the control word tells both at the same step.
    assert first["stopped"]["reason"] == "stopped"
    assert 2 <= first["stopped"]["step"] < STEPS
    assert first["stopped"]["durable"]
