"""Slots in parts: the same slot, weight, mask and curve with less memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fakes import training
from trainerd.actors import program_loop
from trainerd.actors.arithmetic import Arithmetic
from trainerd.actors.compiled import CompiledStep, compile_step
from trainerd.actors.control import word
from trainerd.actors.data import Batches
from trainerd.actors.errors import PlanError
from trainerd.actors.loss import gradient_function
from trainerd.actors.plan import Plan
from trainerd.actors.program import Program
from trainerd.actors.program_loop import run_loop
from trainerd.actors.reports import Fault, FaultClass, Phase, Result
from trainerd.actors.slots import plan_slots
from trainerd.actors.state import TrainState
from trainerd.actors.step import Outputs, Settings, data_mesh, fresh_state

pytestmark = pytest.mark.usefixtures("compiled_once")

GLOBAL_BATCH = 24


def keyless(params: Any, batch: Any, key: jax.Array) -> Any:
    error = jnp.mean((jnp.tanh(batch["x"] @ params["a"]) @ params["b"] - batch["y"]) ** 2)
    return error, {"double": 2 * error}


def compiled(program: Program, parts: int, *, devices: int = 1) -> CompiledStep:
    mesh = data_mesh(jax.devices()[:devices])
    plan = plan_slots(global_batch=GLOBAL_BATCH, devices=devices, microbatch=8, parts=parts)
    state = fresh_state(program, 0, mesh)
    template = Batches(program.data, global_batch=GLOBAL_BATCH, seed=0).template
    return compile_step(program, plan, mesh, state, template)


def stepped(
    program: Program, parts: int, *, spoil: bool = False, mask: bool = True
) -> tuple[TrainState, Outputs]:
    step = compiled(program, parts)
    slots = step.plan.cut(Batches(program.data, global_batch=GLOBAL_BATCH, seed=0).read(0))
    if spoil:
        # One example, in the last part of slot 1.
        slots["y"][1, 7] = np.nan
    after, told = step(
        fresh_state(program, 0, step.mesh),
        step.place(slots),
        step.place(step.plan.weigh(slots, lambda slot: float(abs(slot["x"]).sum()))),
        step.mask((2,)),
        Settings.of(steps=9, mask=mask),
        word(),
    )
    return jax.device_get(after), told.read()


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("remat", [False, True])
def test_gradients_are_those_of_the_whole_slot_but_for_rounding(
    parts: int, precision: str, remat: bool
) -> None:
    program = training.program(loss=keyless)
    arithmetic = Arithmetic(precision=precision, remat=remat)
    params = training.init(jax.random.key(0))
    data = program.data
    slot = jax.tree.map(lambda *rows: np.stack(rows), *[data[index] for index in range(8)])
    key = jax.random.key(1)
    whole, cut = (
        jax.jit(gradient_function(program, arithmetic, count))(params, slot, key)
        for count in (1, parts)
    )
    tolerance = 1e-5 if precision == "float32" else 2e-2
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=1e-3), whole, cut
    )
    assert jax.tree.structure(whole) == jax.tree.structure(cut)


@pytest.mark.parametrize("parts", [2, 4])
def test_a_step_in_parts_is_a_step(parts: int) -> None:
    program = training.program(loss=keyless, optimizer=optax.sgd(0.1))
    (state, whole), (parted, cut) = stepped(program, 1), stepped(program, parts)
    assert cut.applied
    assert cut.loss == pytest.approx(whole.loss, rel=1e-5)
    assert cut.gradient_norm == pytest.approx(whole.gradient_norm, rel=1e-5)
    assert cut.metrics["double"] == pytest.approx(2 * cut.loss, rel=1e-5)
    assert cut.weight == whole.weight
    assert list(cut.counted) == list(whole.counted) == [True, True, False]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        state.params,
        parted.params,
    )


def test_each_part_has_a_key_of_its_own() -> None:
    """`fold_in(slot_key, part)`."""

    def loss(params: Any, batch: Any, key: jax.Array) -> Any:
        return params["w"] * jax.random.uniform(key)

    program = training.program(init=lambda key: {"w": jnp.float32(1.0)}, loss=loss)
    key = jax.random.key(5)
    (came, _), _ = gradient_function(program, Arithmetic(), 4)(
        {"w": jnp.float32(1.0)}, {"x": np.zeros((8, 2), np.float32)}, key
    )
    drawn = [float(jax.random.uniform(jax.random.fold_in(key, part))) for part in range(4)]
    assert float(came) == pytest.approx(np.mean(drawn), rel=1e-6)


def test_parts_are_cut_in_order() -> None:
    def loss(params: Any, batch: Any, key: jax.Array) -> Any:
        return params["w"] * batch["x"][0, 0]

    program = training.program(init=lambda key: {"w": jnp.float32(1.0)}, loss=loss)
    slot = {"x": np.arange(8, dtype=np.float32).reshape(8, 1)}
    (came, _), _ = gradient_function(program, Arithmetic(), 4)(
        {"w": jnp.float32(1.0)}, slot, jax.random.key(0)
    )
    assert float(came) == np.mean([0.0, 2.0, 4.0, 6.0])


@pytest.mark.parametrize("mask", [True, False])
def test_the_guard_sees_a_bad_example_in_any_part(mask: bool) -> None:
    program = training.program(loss=keyless)
    _, outputs = stepped(program, 4, spoil=True, mask=mask)
    assert list(outputs.finite) == [True, False, True]
    assert outputs.applied is mask
    assert list(outputs.counted) == [True, not mask, False]


def test_the_loss_is_traced_once_however_many_parts_there_are() -> None:
    traces = []

    def counted(params: Any, batch: Any, key: Any) -> Any:
        traces.append(batch["y"].shape)
        return keyless(params, batch, key)

    compiled(training.program(loss=counted), 4)
    assert traces == [(2,)]


def test_parts_need_less_memory() -> None:
    def wide(params: Any, batch: Any, key: jax.Array) -> Any:
        hidden = batch["x"] @ params["a"]
        for _ in range(4):
            hidden = jnp.tanh(hidden @ params["m"])
        return jnp.mean((hidden.sum(axis=1) - batch["y"]) ** 2)

    def init(key: jax.Array) -> Any:
        return {"a": jnp.ones((training.INPUTS, 16)), "m": jnp.ones((16, 16)) / 16}

    # Long examples, so that activations outweigh everything else.
    long = training.Data(24)
    long.x = np.ones((24, 512, training.INPUTS), np.float32)
    long.y = np.ones((24, 16), np.float32)
    program = training.program(init=init, loss=wide, data=long, optimizer=optax.sgd(0.1))
    needed = [
        compiled(program, parts).function.memory_analysis().temp_size_in_bytes
        for parts in (1, 2, 4)
    ]
    assert needed[1] < 0.7 * needed[0]
    assert needed[2] < 0.7 * needed[1]


def test_parts_that_do_not_divide_a_slot_are_refused() -> None:
    with pytest.raises(PlanError, match="a slot of 3 examples cannot be computed in 2 equal parts"):
        plan_slots(global_batch=12, devices=1, microbatch=3, parts=2)
    with pytest.raises(PlanError, match="slot_parts must be ≥ 1, got 0"):
        Plan(steps=1, global_batch=1, slot_parts=0)


def run(
    tmp_path: Path, program: Program, *, recorder: training.Recorder | None = None, **numbers: Any
) -> tuple[Result, training.Recorder]:
    recorder = recorder or training.Recorder()
    base = {"steps": 6, "global_batch": GLOBAL_BATCH, "microbatch": 8}
    result = run_loop(
        program,
        Plan(**{**base, "checkpoint_every_steps": 3, **numbers}),
        checkpoint_directory=tmp_path / "run",
        reporter=recorder,
        devices=jax.devices()[:1],
    )
    return result, recorder


def test_a_run_goes_on_in_parts_from_a_checkpoint_of_whole_slots(tmp_path: Path) -> None:
    program = training.program(loss=keyless)
    run(tmp_path, program, steps=3)
    parted, recorder = run(tmp_path, program, slot_parts=4)
    whole, _ = run(tmp_path / "whole", program)
    assert recorder.all("restored")[0][0] == 3
    assert parted.loss == pytest.approx(whole.loss, rel=1e-4)


def exhausted(*_: Any) -> Any:
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory while compiling")


@pytest.mark.parametrize(("parts", "reason"), [(1, ""), (4, ""), (8, "indivisible")])
def test_memory_that_runs_out_while_compiling_is_said_to_be_divisible_or_not(
    tmp_path: Path, parts: int, reason: str
) -> None:
    _, recorder = run(tmp_path, training.program(loss=exhausted), slot_parts=parts)
    (fault,) = recorder.all("decide")
    assert (fault.fault_class, fault.phase) == (FaultClass.DEVICE_OOM, Phase.COMPILE)
    assert fault.reason == reason


@pytest.mark.parametrize("applied", [0, 3])
def test_memory_that_runs_out_in_a_step_comes_with_what_the_step_needs(
    tmp_path: Path, applied: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = CompiledStep.__call__

    def refusing(self: CompiledStep, state: TrainState, *inputs: Any) -> Any:
        if int(state.step) >= applied:
            exhausted()
        return call(self, state, *inputs)

    monkeypatch.setattr(CompiledStep, "__call__", refusing)
    _, recorder = run(tmp_path, training.program(loss=keyless))
    (fault,) = recorder.all("decide")
    assert fault.fault_class is FaultClass.DEVICE_OOM
    assert (fault.step, fault.batch, fault.reason) == (applied, applied, "")
    assert fault.phase is (Phase.STEP if applied else Phase.FIRST_STEP)
    assert "bytes a device" in fault.detail.splitlines()[-1]


def test_other_faults_are_left_alone() -> None:
    fault = Fault(fault_class=FaultClass.STEP_EXCEPTION, message="boom", detail="where")
    plan = plan_slots(global_batch=3, devices=1)
    assert program_loop.short_of_memory(fault, plan, "much") is fault
    oom = replace(fault, fault_class=FaultClass.DEVICE_OOM)
    told = program_loop.short_of_memory(oom, plan, "much")
    assert (told.reason, told.detail) == ("indivisible", "where\nmuch")
