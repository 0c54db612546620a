"""Sharded state on one process's devices: the same run, for a part of the memory on each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fakes import training
from trainerd.actors import Controls, run_loop
from trainerd.actors.compiled import compile_step
from trainerd.actors.data import Batches
from trainerd.actors.plan import Plan
from trainerd.actors.recovery import Recovery
from trainerd.actors.reports import FinishReason, Result, StepRecord
from trainerd.actors.slots import plan_slots
from trainerd.actors.step import abstract_state, data_mesh

pytestmark = pytest.mark.usefixtures("compiled_once")

DEVICES = 4


class Runs:
    """Runs of one program in one place."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.recorder = training.Recorder()

    def run(
        self,
        *,
        state: str = "sharded",
        devices: int = DEVICES,
        stop_at: int = 0,
        place: str = "checkpoints",
        memory: str = "memory",
        **plan: Any,
    ) -> Result:
        controls = Controls()
        snapshots = self.root / memory

        def on_step(record: StepRecord) -> None:
            if record.step == training.ROOM_AT and stop_at:
                training.wait_for_room(snapshots)
            if record.step == stop_at:
                controls.stop(FinishReason.PREEMPTED, save=False)

        self.recorder = training.Recorder(on_step=on_step)
        snapshots.mkdir(mode=0o700, exist_ok=True)
        return run_loop(
            training.program(
                init=training.wide_init, data=training.Data(spoil=plan.pop("spoil", {}))
            ),
            Plan(
                **{
                    "steps": 6,
                    "global_batch": 24,
                    "microbatch": 3,
                    "checkpoint_every_steps": 100,
                    "state": state,
                    **plan,
                }
            ),
            checkpoint_directory=self.root / place,
            reporter=self.recorder,
            controls=controls,
            devices=jax.devices()[:devices],
            recovery=Recovery(
                snapshot_directory=snapshots,
                snapshot_bytes=1 << 26,
            ),
        )

    @property
    def losses(self) -> list[float]:
        return [record.loss for record in self.recorder.steps if record.applied]

    @property
    def restored(self) -> tuple[int, str]:
        step, _, source = self.recorder.all("restored")[-1]
        return step, source


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def test_each_device_holds_its_part_of_parameters_and_moments() -> None:
    mesh = data_mesh(jax.devices()[:DEVICES])
    program = training.program(init=training.wide_init)
    whole = abstract_state(program, 0, mesh)
    cut = abstract_state(program, 0, mesh, sharded=True)

    def a_device(state: Any) -> int:
        return sum(
            int(np.prod(leaf.sharding.shard_shape(leaf.shape))) for leaf in jax.tree.leaves(state)
        )

    assert cut.params["a"].sharding.shard_shape((5, 960)) == (5, 960 // DEVICES)
    assert cut.params["b"].sharding.is_fully_replicated
    assert a_device(cut) - 3 * 960 < (a_device(whole) - 3 * 960) / (DEVICES - 0.1)


def test_at_its_peak_a_step_needs_little_more_than_half_the_memory_of_a_device() -> None:
    """With AdamW: two copies of the parameters and a part of three, instead of five copies."""

    def init(key: jax.Array) -> Any:
        return {"w": jax.random.normal(key, (64 * training.INPUTS, 1024)) / 50}

    def loss(params: Any, batch: Any, key: jax.Array) -> Any:
        hidden = jnp.tanh(jnp.tile(batch["x"], (1, 64)) @ params["w"])
        return jnp.mean((hidden.mean(axis=1) - batch["y"]) ** 2)

    mesh, plan = data_mesh(jax.devices()), plan_slots(global_batch=8, devices=8, microbatch=1)
    program = training.program(init=init, loss=loss)
    template = Batches(program.data, global_batch=8, seed=0).template
    states, peaks = [], []
    for sharded in (False, True):
        state = abstract_state(program, 0, mesh, sharded=sharded)
        needed = compile_step(program, plan, mesh, state, template).function.memory_analysis()
        states.append(needed.argument_size_in_bytes)
        peaks.append(needed.argument_size_in_bytes + needed.temp_size_in_bytes)
    assert states[1] / states[0] < 0.13
    assert peaks[1] / peaks[0] < 0.7


def test_masks_skips_and_losses_are_those_of_the_replicated_run(runs: Runs) -> None:
    spoil = {3: "nan", 50: OSError("disk")}
    whole = runs.run(state="replicated", place="whole", memory="1", spoil=spoil)
    losses = runs.losses
    cut = runs.run(place="cut", memory="2", spoil=spoil)
    np.testing.assert_allclose(runs.losses, losses, rtol=1e-5)
    assert (whole.step, whole.masked_slots, whole.skipped_batches) == (
        cut.step,
        cut.masked_slots,
        cut.skipped_batches,
    )
    assert cut.masked_slots > 0
    assert cut.skipped_batches > 0


def test_checkpoints_are_restored_bit_for_bit_replicated_sharded_and_on_other_devices(
    runs: Runs,
) -> None:
    begun = runs.run(steps=3)
    digest = begun.state_digest
    assert begun.durable
    for number, (state, devices) in enumerate(
        [("replicated", DEVICES), ("sharded", 2), ("replicated", 1), ("sharded", DEVICES)]
    ):
        # A run that has reached its last step restores it, and says what it is.
        again = runs.run(state=state, devices=devices, steps=3, memory=str(number))
        assert runs.restored[0] == 3
        assert again.state_digest == digest
    replicated = runs.run(state="replicated", steps=4)
    assert runs.run(steps=4, memory="last").state_digest == replicated.state_digest


def test_snapshots_serve_the_same_devices_alone(runs: Runs) -> None:
    undisturbed = runs.run(place="undisturbed", memory="other").state_digest
    for devices, state, serves in (
        (DEVICES, "sharded", True),
        (2, "sharded", False),
        (DEVICES, "replicated", False),
    ):
        runs.run(steps=100, stop_at=4)
        result = runs.run(devices=devices, state=state)
        step, source = runs.restored
        assert (source.startswith(str(runs.root / "memory")), step > 0) == (serves, serves)
        assert result.state_digest == undisturbed or not serves
        for path in (runs.root / "memory").iterdir():
            path.unlink()
        for path in (runs.root / "checkpoints").rglob("*.manifest"):
            path.unlink()
