"""A step that is loaded while the program is built is used for that program alone."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import optax
import pytest

from fakes import training
from trainerd.actors.executables import ExecutableStore
from trainerd.actors.head_start import FILE, HeadStart
from trainerd.actors.plan import Plan
from trainerd.actors.program import Program
from trainerd.actors.program_loop import run_loop
from trainerd.actors.recovery import Recovery
from trainerd.actors.reports import FaultClass, FinishReason, Result

pytestmark = pytest.mark.usefixtures("compiled_once")

ENTRY = "mine:build"
STEPS = 4


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


class Host:
    """Where the processes of one run keep things."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.memory, self.executables = directory / "memory", directory / "executables"
        self.memory.mkdir(exist_ok=True)
        self.tries = 0

    @contextlib.contextmanager
    def begun(self, args: dict[str, Any] | None = None) -> Iterator[HeadStart]:
        with pytest.MonkeyPatch.context() as patch:
            # Names the test: no two would have one environment.
            patch.delenv("PYTEST_CURRENT_TEST")
            store = ExecutableStore(self.executables)
            made = HeadStart.begin(store, self.memory, ENTRY, args or {})
            assert made is not None
            try:
                yield made
            finally:
                made.close()

    def train(self, trained: Program, head_start: HeadStart) -> tuple[Result, training.Recorder]:
        """A process of the run, which finds no checkpoint."""
        self.tries += 1
        recorder = training.Recorder()
        result = run_loop(
            trained,
            Plan(steps=STEPS, global_batch=24, microbatch=3),
            checkpoint_directory=self.directory / f"checkpoints-{self.tries}",
            reporter=recorder,
            devices=jax.devices(),
            recovery=Recovery(executable_directory=self.executables, head_start=head_start),
        )
        return result, recorder

    def left_tries(self) -> list[Path]:
        return list(self.executables.glob("*.tries"))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture(name="trained_once", scope="module")
def _trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the first process of a run leaves."""
    host = Host(tmp_path_factory.mktemp("first"))
    with host.begun() as first:
        host.train(program(), first)
    return host.directory


@pytest.fixture
def begun_before(trained_once: Path, tmp_path: Path) -> Host:
    """A host on which the run's first process has trained."""
    for name in ("memory", "executables"):
        shutil.copytree(trained_once / name, tmp_path / name)
    return Host(tmp_path)


def program(**changes: Any) -> Program:
    """Made anew, as in a new process: Optax's schedules are changed by the first trace of them."""
    made: Program = training.program(**{"optimizer": training.optimizer(), **changes})
    return made


def test_the_second_process_has_the_step_before_it_asks_and_makes_the_same_state(
    host: Host, compilations: list[int]
) -> None:
    with host.begun() as first:
        assert first.note() is None
        compiled, _ = host.train(program(), first)
    with host.begun() as second:
        assert second.note() is not None
        loaded, _ = host.train(program(), second)
    assert len(compilations) == 1
    assert loaded.reason is FinishReason.COMPLETED
    assert loaded.state_digest == compiled.state_digest
    assert host.left_tries() == []


def test_the_form_of_the_state_is_known_without_tracing(begun_before: Host) -> None:
    with begun_before.begun() as second:
        note = second.note()
        assert note is not None
        form = note.form()
    assert form is not None
    whole = jax.eval_shape(training.init, jax.random.key(0))
    expected: Any = jax.tree.structure(whole)
    assert jax.tree.structure(form.params) == expected
    assert [leaf.shape for leaf in jax.tree.leaves(form.params)] == [
        leaf.shape for leaf in jax.tree.leaves(whole)
    ]


def test_another_program_than_expected_is_compiled_and_what_was_loaded_stays(
    begun_before: Host, compilations: list[int]
) -> None:
    with begun_before.begun() as second:
        assert second.note() is not None
        other, _ = begun_before.train(program(optimizer=optax.sgd(0.25)), second)
    assert len(compilations) == 1
    assert begun_before.left_tries() == []
    with begun_before.begun() as alone:
        again, _ = begun_before.train(program(optimizer=optax.sgd(0.25)), alone)
        assert again.state_digest == other.state_digest
    assert len(compilations) == 1


@pytest.mark.parametrize("what", ["arguments", "environment", "jax", "foreign", "cut short"])
def test_there_is_no_head_start_where_anything_else_is_another(
    begun_before: Host, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    hint = begun_before.memory / FILE
    args: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        match what:
            case "arguments":
                args = {"width": 3}
            case "environment":
                monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
            case "jax":
                stack.enter_context(jax.default_matmul_precision("highest"))
            case "foreign":
                hint.write_text(json.dumps({"key": "../../etc/passwd"}))
            case "cut short":
                hint.write_text(hint.read_text()[:-20])
        with begun_before.begun(args) as second:
            assert second.note() is None
    assert not hint.exists()


def test_a_process_that_dies_on_the_way_leaves_nothing_to_the_next(begun_before: Host) -> None:
    with begun_before.begun():
        pass
    with begun_before.begun() as third:
        assert third.note() is None


def test_a_program_that_changes_what_jax_reads_at_its_start_has_no_head_start(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    with host.begun() as first:
        # What its entry function does.
        monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
        host.train(program(), first)
    assert not (host.memory / FILE).exists()


def test_one_that_does_so_for_the_first_time_is_begun_again(
    begun_before: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    with begun_before.begun() as second:
        monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
        result, recorder = begun_before.train(program(), second)
    assert result.reason is FinishReason.DECIDED
    (fault,) = recorder.all("decide")
    assert fault.fault_class is FaultClass.DEVICE_ERROR
    assert "environment" in fault.message


def test_what_cannot_be_loaded_is_removed_and_compiled(
    host: Host, compilations: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    with host.begun() as first:
        compiled, _ = host.train(program(), first)
    (file,) = host.executables.glob("*.executable")
    store = ExecutableStore(host.executables)
    held = store.load(file.stem)
    assert held is not None
    store.keep(file.stem, replace(held, executable=held.executable[:1000]))
    with host.begun() as second:
        again, _ = host.train(program(), second)
    assert len(compilations) == 2
    assert again.state_digest == compiled.state_digest
    assert "is removed" in caplog.text
