"""A step that was loaded is the step that was compiled, and never another program's."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from fakes import training
from trainerd.actors import control
from trainerd.actors.arithmetic import Arithmetic
from trainerd.actors.compiled import CompiledStep, compile_step
from trainerd.actors.data import open_batches
from trainerd.actors.digest import state_digest
from trainerd.actors.executables import ExecutableStore
from trainerd.actors.faults import classify
from trainerd.actors.program import Program
from trainerd.actors.reports import FaultClass, Phase
from trainerd.actors.slots import SlotPlan, plan_slots
from trainerd.actors.step import Settings, abstract_state, data_mesh, fresh_state
from trainerd.actors.step_executable import StepStore

pytestmark = pytest.mark.usefixtures("compiled_once")

SETTINGS = Settings.of(steps=1000, mask=True)


def plan(global_batch: int = 12, microbatch: int = 3, devices: int = 1) -> SlotPlan:
    return plan_slots(global_batch=global_batch, devices=devices, microbatch=microbatch)


def made(
    directory: Path,
    program: Program,
    slot_plan: SlotPlan | None = None,
    devices: Sequence[jax.Device] = (),
    arithmetic: Arithmetic | None = None,
) -> CompiledStep:
    devices = devices or jax.devices()[:1]
    slot_plan = slot_plan or plan(devices=len(devices))
    mesh = data_mesh(devices)
    batches = open_batches(program.data, global_batch=slot_plan.slots * 3, seed=0)
    with pytest.MonkeyPatch.context() as patch:
        # Names the test: no two would have one environment.
        patch.delenv("PYTEST_CURRENT_TEST")
        return compile_step(
            program,
            slot_plan,
            mesh,
            abstract_state(program, 0, mesh),
            batches.template,
            arithmetic=arithmetic,
            kept=StepStore.of(ExecutableStore(directory), program, devices),
        )


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts what is compiled ahead of time."""
    count: list[int] = []
    compile_it = jax.stages.Lowered.compile

    def compiled(self: Any, *args: Any, **options: Any) -> Any:
        count.append(1)
        return compile_it(self, *args, **options)

    monkeypatch.setattr(jax.stages.Lowered, "compile", compiled)
    return count


def trained(step: CompiledStep, program: Program, steps: int = 5) -> tuple[str, list[Any]]:
    state = fresh_state(program, 0, step.mesh)
    batches = open_batches(program.data, global_batch=step.plan.slots * 3, seed=0)
    losses = []
    for batch in range(steps):
        slots = step.plan.cut(batches.read(batch))
        weights = step.place(step.plan.weigh(slots, None))
        before = state
        state, packed = step(
            state, step.place(slots), weights, step.mask(()), SETTINGS, control.word()
        )
        outputs = packed.read()
        losses.append((outputs.step, outputs.loss, outputs.gradient_norm, outputs.metrics))
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    return state_digest(state), losses


def program(by: float = 1.0, **options: Any) -> Program:
    """Made anew: Optax's schedules are changed by the first trace of them."""
    ordinary = training.program(**{"optimizer": training.optimizer(), **options})
    plain_loss = ordinary.loss

    def loss(params: Any, batch: Any, key: Any) -> Any:
        value = plain_loss(params, batch, key)
        return value[0] * by if isinstance(value, tuple) else value * by

    return replace(ordinary, loss=loss)


@pytest.mark.parametrize("devices", [1, 4])
def test_a_loaded_step_gives_the_same_bits_as_a_compiled_one(
    tmp_path: Path, compilations: list[int], devices: int
) -> None:
    which = jax.devices()[:devices]
    compiled = made(tmp_path, program(), devices=which)
    loaded = made(tmp_path, program(), devices=which)
    assert len(compilations) == 1
    assert trained(loaded, program()) == trained(compiled, program())
    assert loaded.memory() == compiled.memory() != ""


def another_module(value: int, tmp_path: Path) -> None:
    """A module of the user's, loaded, that has nothing to do with the loss as far as one sees."""
    path = tmp_path / "of_the_users.py"
    path.write_text(f"VALUE = {value}\n")
    module = ModuleType("of_the_users")
    module.__file__ = str(path)
    sys.modules["of_the_users"] = module


OTHERS: dict[str, Callable[[Path, pytest.MonkeyPatch], Any]] = {
    "a constant in a closure": lambda *_: {"program": program(by=2.0)},
    "an optimizer's number": lambda *_: {"program": program(optimizer=optax.sgd(0.25))},
    "another optimizer": lambda *_: {"program": program(optimizer=optax.adam(0.5))},
    "clipping": lambda *_: {"arithmetic": Arithmetic(clip_norm=1.0)},
    "precision": lambda *_: {"arithmetic": Arithmetic(precision="bfloat16")},
    "remat": lambda *_: {"arithmetic": Arithmetic(remat=True)},
    "other slots": lambda *_: {"slot_plan": plan(global_batch=24)},
    "more devices": lambda *_: {"devices": jax.devices()[:4]},
    "another device": lambda *_: {"devices": jax.devices()[1:2]},
    "XLA's flags": lambda _, patch: patch.setenv(
        "XLA_FLAGS", os.environ["XLA_FLAGS"] + " --xla_cpu_enable_fast_math=true"
    ),
    "a variable of the environment": lambda _, patch: patch.setenv("MY_SCALE", "2"),
    "a module's source": lambda path, _: another_module(2, path),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the module of the user's, under which the step of `program` is kept."""
    directory = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        as_kept(patch, directory)
        made(directory / "cache", program())
    return directory


def as_kept(patch: pytest.MonkeyPatch, directory: Path) -> None:
    """Bring about the conditions under which the step is kept."""
    patch.setitem(sys.modules, "of_the_users", ModuleType("of_the_users"))
    another_module(1, directory)


class Compiles(Exception):
    """Somebody wants to compile, which a test need not wait for."""


@pytest.fixture
def copied(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of where the step is kept, under its conditions."""
    as_kept(monkeypatch, kept)
    return Path(shutil.copytree(kept / "cache", tmp_path / "cache"))


@pytest.fixture
def found(copied: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, and nothing is compiled."""

    def compiles(*_: Any, **__: Any) -> Any:
        raise Compiles

    monkeypatch.setattr(jax.stages.Lowered, "compile", compiles)
    return copied


@pytest.mark.parametrize("what", OTHERS)
def test_anything_else_that_counts_is_never_a_hit(
    kept: Path, found: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    made(found, program())
    changed = OTHERS[what](kept, monkeypatch) or {}
    with pytest.raises(Compiles):
        made(found, **{"program": program(), **changed})


def test_jax_s_configuration_counts(found: Path) -> None:
    made(found, program())
    with jax.default_matmul_precision("highest"), pytest.raises(Compiles):
        made(found, program())


def test_a_damaged_file_is_compiled_anew(copied: Path, compilations: list[int]) -> None:
    loaded = made(copied, program())
    assert len(compilations) == 0
    (file,) = copied.glob("*.executable")
    content = bytearray(file.read_bytes())
    content[-100] ^= 4
    file.write_bytes(content)
    again = made(copied, program())
    assert len(compilations) == 1
    assert trained(again, program()) == trained(loaded, program())
    made(copied, program())
    assert len(compilations) == 1


def test_a_file_that_xla_cannot_load_is_compiled_anew(
    copied: Path, compilations: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    store = ExecutableStore(copied)
    (file,) = copied.glob("*.executable")
    held = store.load(file.stem)
    assert held is not None
    store.keep(file.stem, replace(held, executable=held.executable[:1000]))
    made(copied, program())
    assert len(compilations) == 1
    assert "is removed" in caplog.text


def test_a_program_that_looks_at_a_file_is_compiled_each_time(
    tmp_path: Path, compilations: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    scale = tmp_path / "scale"
    scale.write_text("2.0")
    ordinary = training.program()

    def loss(params: Any, batch: Any, key: Any) -> Any:
        with open(scale) as file:
            return jnp.mean(params["w"]) * float(file.read()) if "w" in params else 0.0

    for _ in range(2):
        assert (
            StepStore.of(ExecutableStore(tmp_path), replace(ordinary, loss=loss), jax.devices()[:1])
            is None
        )
    assert "uses open()" in caplog.text


def test_a_step_that_calls_back_into_python_is_not_kept(
    tmp_path: Path, compilations: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    ordinary = training.program()

    def loss(params: Any, batch: Any, key: Any) -> Any:
        jax.debug.callback(print, 1)
        return ordinary.loss(params, batch, key)

    for _ in range(2):
        made(tmp_path, replace(ordinary, loss=loss))
    assert len(compilations) == 2
    assert "not kept" in caplog.text


def test_a_step_that_jax_s_own_cache_has_is_compiled_and_kept_whole(
    tmp_path: Path, compilations: list[int]
) -> None:
    """What is loaded from there cannot be serialised again: XLA finds its functions no more."""
    before = jax.config.jax_compilation_cache_dir
    made(tmp_path / "one", program())
    made(tmp_path / "other", program())
    loaded = made(tmp_path / "other", program())
    assert len(compilations) == 2
    assert trained(loaded, program())[0]
    assert jax.config.jax_compilation_cache_dir == before


def test_a_loaded_step_that_fails_when_it_is_run_is_thrown_away_and_not_the_program_s_fault(
    copied: Path, compilations: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = made(copied, program())

    def failing(*_: Any) -> Any:
        raise jax.errors.JaxRuntimeError("NOT_FOUND: Function add_fusion not found")

    monkeypatch.setattr(loaded, "function", failing)
    with pytest.raises(jax.errors.JaxRuntimeError) as raised:
        trained(loaded, program(), steps=1)
    fault = classify(raised.value, phase=Phase.FIRST_STEP, step=0, state_intact=False)
    assert fault.fault_class is FaultClass.DEVICE_ERROR
    assert not list(copied.glob("*.executable"))
    made(copied, program())
    assert len(compilations) == 1
