"""Snapshots in memory: exact, whole or not used, never in the way, none where there is no room."""

from __future__ import annotations

import errno
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from fakes import training
from fakes.checkpoints import meta, state
from trainerd.actors.digest import state_digest
from trainerd.actors.examples import stdlib_lm_equinox, stdlib_lm_nnx
from trainerd.actors.ledger import Entry
from trainerd.actors.program import Program
from trainerd.actors.reports import FaultClass
from trainerd.actors.snapshot_restore import found, load
from trainerd.actors.snapshots import NAMES, SnapshotStore
from trainerd.actors.state import TrainState
from trainerd.actors.step import abstract_state, data_mesh, fresh_state, replicated

pytestmark = pytest.mark.usefixtures("compiled_once")

ROOMY = 1 << 40


class Stores:
    """Makes stores and closes them."""

    def __init__(self) -> None:
        self.made: list[SnapshotStore] = []

    def __call__(self, directory: Path, **options: Any) -> SnapshotStore:
        options = {"most_bytes": ROOMY, "available": lambda: ROOMY, **options}
        store = SnapshotStore(directory, **options)
        self.made.append(store)
        return store

    def ready(
        self, directory: Path, like: TrainState | None = None, **options: Any
    ) -> SnapshotStore:
        store = self(directory, **options)
        store.prepare(abstract(state(0) if like is None else like))
        assert store.settle()
        return store


@pytest.fixture
def stores() -> Iterator[Stores]:
    made = Stores()
    yield made
    for store in made.made:
        store.close()


def abstract(like: TrainState) -> TrainState:
    made: TrainState = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), like
    )
    return made


def take(store: SnapshotStore, step: int, entries: tuple[Entry, ...] = ()) -> None:
    assert store.ready()
    store.take(state(step), step, meta(step + 1, *entries))
    assert store.settle()


def restored(store: SnapshotStore, like: TrainState, faults: list[Any] | None = None) -> Any:
    """The newest that can be loaded, as the trainer would find it."""
    for snapshot in found(store.files, abstract(like)):
        loaded = load(snapshot, abstract(like), (faults if faults is not None else []).append)
        if loaded is not None:
            return loaded
    return None


def plain() -> TrainState:
    return state(5)


def exotic() -> TrainState:
    """Types of every width, a typed key, a scalar, nothing, and leaves larger than a page."""
    params = {
        "narrow": jnp.arange(7, dtype=jnp.bfloat16) / 3,
        "eight": jnp.arange(5, dtype=jnp.float8_e4m3fn),
        "flags": jnp.array([True, False, True]),
        "keys": jax.random.split(jax.random.key(3), 4),
        "odd": jax.random.key(1, impl="rbg"),
        "empty": jnp.zeros((0, 4)),
        "number": jnp.float32(math.pi),
        "large": jax.random.normal(jax.random.key(0), (333, 77)),
        "list": [jnp.int8(-3), (jnp.uint32(2**32 - 1),)],
    }
    made = state(9)
    return TrainState(params=params, opt_state=(), step=made.step, rng=made.rng)


def built(program: Program) -> TrainState:
    made = fresh_state(program, 3, data_mesh(jax.devices()[:1]))
    return jax.tree.map(lambda leaf: leaf, made)


def nnx() -> TrainState:
    return built(stdlib_lm_nnx.build(width=16, layers=1, heads=2, context=8))


def equinox() -> TrainState:
    return built(stdlib_lm_equinox.build(width=16, layers=1, heads=2, context=8))


@pytest.mark.parametrize("make", [plain, exotic, nnx, equinox])
def test_a_state_comes_back_bit_for_bit(
    stores: Stores, tmp_path: Path, make: Callable[[], TrainState]
) -> None:
    original = make()
    digest = state_digest(original)
    store = stores.ready(tmp_path, original)
    store.take(original, int(original.step), meta(8))
    assert store.settle()
    came = restored(stores(tmp_path), original)
    assert state_digest(came.state) == digest
    assert jax.tree.structure(came.state) == jax.tree.structure(original)
    assert [leaf.sharding for leaf in jax.tree.leaves(came.state)] == [
        leaf.sharding for leaf in jax.tree.leaves(original)
    ]
    assert came.meta == meta(8)
    assert came.checkpoint.step == int(original.step)
    assert came.checkpoint.path.parent == tmp_path


def test_a_state_on_eight_devices_comes_back_on_all_of_them(stores: Stores, tmp_path: Path) -> None:
    everywhere = jax.device_put(state(4), replicated(data_mesh(jax.devices())))
    store = stores.ready(tmp_path, everywhere)
    store.take(everywhere, 4, meta(5))
    assert store.settle()
    came = restored(store, everywhere)
    assert state_digest(came.state) == state_digest(everywhere)
    assert all(len(leaf.devices()) == 8 for leaf in jax.tree.leaves(came.state))


def test_a_state_is_donated_after_a_snapshot_as_before(stores: Stores, tmp_path: Path) -> None:
    store = stores.ready(tmp_path)
    step = jax.jit(lambda held: jax.tree.map(jnp.copy, held), donate_argnums=0)
    held = state(1)
    store.take(held, 1, meta(2))
    after = step(held)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(held))
    jax.block_until_ready(after)
    assert store.settle()
    assert state_digest(restored(store, after).state) == state_digest(after)


def test_a_restored_state_shares_no_memory_with_the_file(stores: Stores, tmp_path: Path) -> None:
    store = stores.ready(tmp_path, exotic())
    store.take(exotic(), 9, meta(1))
    assert store.settle()
    came = restored(store, exotic())
    digest = state_digest(came.state)
    for name in NAMES:
        path = tmp_path / name
        length = path.stat().st_size
        with path.open("r+b") as content:
            content.write(b"\xaa" * length)
    assert state_digest(came.state) == digest


def test_two_files_take_turns(stores: Stores, tmp_path: Path) -> None:
    store = stores.ready(tmp_path)
    for step in (3, 6, 9):
        take(store, step)
        assert store.newest_step == step
    assert [x.step for x in found(store.files, abstract(state(0)))] == [9, 6]


def test_one_that_is_being_written_leaves_the_other_whole(stores: Stores, tmp_path: Path) -> None:
    store = stores.ready(tmp_path)
    take(store, 3)
    take(store, 6)
    store.files[0].begin()
    assert restored(stores(tmp_path), state(0)).checkpoint.step == 6


def test_a_run_that_goes_on_never_overwrites_what_it_was_restored_from(
    stores: Stores, tmp_path: Path
) -> None:
    first = stores.ready(tmp_path)
    take(first, 3)
    first.close()
    second = stores.ready(tmp_path)
    (snapshot,) = found(second.files, abstract(state(0)))
    second.keep(snapshot.file, snapshot.step)
    assert second.newest_step == 3
    take(second, 5)
    assert [x.step for x in found(second.files, abstract(state(0)))] == [5, 3]


def test_a_damaged_one_is_reported_and_the_other_one_is_used(
    stores: Stores, tmp_path: Path
) -> None:
    store = stores.ready(tmp_path)
    take(store, 3)
    take(store, 6)
    newest = found(store.files, abstract(state(0)))[0]
    at = newest.layout.leaves[0].at
    with newest.file.path.open("r+b") as content:
        content.seek(at)
        (byte,) = content.read(1)
        content.seek(at)
        content.write(bytes([byte ^ 16]))
    faults: list[Any] = []
    came = restored(store, state(0), faults)
    assert came.checkpoint.step == 3
    assert state_digest(came.state) == state_digest(state(3))
    (fault,) = faults
    assert fault.fault_class is FaultClass.CHECKPOINT_CORRUPT
    assert "snapshot of step 6" in fault.message
    assert "data is damaged" in fault.message


def test_one_of_another_program_is_passed_over(
    stores: Stores, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    take(stores.ready(tmp_path), 3)
    other = built(training.program(optimizer=optax.sgd(0.1)))
    assert found(stores(tmp_path).files, abstract(other)) == []
    assert "holds another state than the program's" in caplog.text


def test_one_that_the_run_has_left_behind_is_passed_over(
    stores: Stores, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = stores.ready(tmp_path)
    take(store, 3)
    take(store, 6)

    def unfit(held: Any) -> str:
        return "trained on a batch that is left out" if held.batch > 5 else ""

    (snapshot,) = found(store.files, abstract(state(0)), unfit=unfit)
    assert snapshot.step == 3
    assert "trained on a batch that is left out" in caplog.text


def test_going_back_discards_what_is_newer(stores: Stores, tmp_path: Path) -> None:
    store = stores.ready(tmp_path)
    take(store, 3)
    take(store, 6)
    store.discard_after(5)
    assert [x.step for x in found(store.files, abstract(state(0)))] == [3]
    assert store.newest_step == 3
    store.discard_after(0)
    assert found(store.files, abstract(state(0))) == []
    assert store.newest_step == -1
    # The files are still there to be written to.
    take(store, 2)
    assert restored(store, state(0)).checkpoint.step == 2


def test_after_going_back_the_older_one_is_not_the_next_to_be_overwritten(
    stores: Stores, tmp_path: Path
) -> None:
    store = stores.ready(tmp_path)
    take(store, 3)
    take(store, 6)
    store.discard_after(5)
    store.files[1].begin()
    assert store.ready()
    take(store, 4)
    assert [x.step for x in found(store.files, abstract(state(0)))] == [4, 3]


def test_what_a_snapshot_cost_is_told_once(stores: Stores, tmp_path: Path) -> None:
    now = iter(range(100))
    store = stores.ready(tmp_path, clock=lambda: float(next(now)))
    assert store.taken() is None
    take(store, 3)
    taken = store.taken()
    assert taken is not None
    assert (taken.step, taken.blocking_s, taken.background_s) == (3, 1.0, 1.0)
    assert store.taken() is None


def no_snapshots(stores: Stores, directory: Path, **options: Any) -> SnapshotStore:
    store = stores.ready(directory, **options)
    assert not store.wanted
    assert not store.ready()
    assert not list(directory.glob("*.snapshot"))
    return store


def once(caplog: pytest.LogCaptureFixture) -> str:
    (record,) = [x for x in caplog.records if x.levelno >= logging.WARNING]
    return record.getMessage()


def test_a_budget_that_is_too_small_means_none(
    stores: Stores, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    no_snapshots(stores, tmp_path, most_bytes=1_000_000)
    assert "1 MiB are allowed" in once(caplog)


def test_a_host_without_memory_to_spare_means_none(
    stores: Stores, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    no_snapshots(stores, tmp_path, available=lambda: 4_000_000)
    assert "a quarter of 4 MiB is allowed" in once(caplog)


def test_memory_that_its_own_files_hold_is_not_held_against_it(
    stores: Stores, tmp_path: Path
) -> None:
    take(stores.ready(tmp_path), 3)
    length = (tmp_path / NAMES[0]).stat().st_size
    store = stores.ready(tmp_path, available=lambda: 6 * length + 4096)
    assert store.ready()


def test_a_full_file_system_means_none(
    stores: Stores, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def full(descriptor: int, length_bytes: int) -> None:
        calls.append(length_bytes)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    no_snapshots(stores, tmp_path, take=full)
    assert "No space left on device" in once(caplog)


def test_a_directory_that_is_gone_means_none(
    stores: Stores, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    no_snapshots(stores, tmp_path / "missing")
    assert "No such file" in once(caplog)


def test_a_state_that_is_cut_over_devices_comes_back_on_the_same_devices_alone(
    stores: Stores, tmp_path: Path
) -> None:
    program = training.program(init=training.wide_init)
    mesh, fewer = (data_mesh(jax.devices()[:count]) for count in (4, 2))
    cut = abstract_state(program, 0, mesh, sharded=True)
    store = stores(tmp_path)
    store.prepare(cut)
    assert store.settle()
    made = fresh_state(program, 0, mesh, cut)
    store.take(made, 0, meta(0))
    assert store.settle()
    for other in (
        abstract_state(program, 0, mesh),
        abstract_state(program, 0, fewer, sharded=True),
        abstract_state(program, 0, data_mesh(jax.devices()[:1])),
    ):
        assert found(store.files, other) == []
    (snapshot,) = found(store.files, cut)
    came = load(snapshot, cut, lambda fault: pytest.fail(str(fault)))
    assert came is not None
    assert state_digest(came.state) == state_digest(made)
    assert came.state.params["a"].sharding == made.params["a"].sharding


def test_a_ledger_that_does_not_fit_ends_them_and_not_the_run(
    stores: Stores, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = stores.ready(tmp_path)
    entries = meta(1).ledger * 20_000
    store.take(state(3), 3, meta(4, *entries))
    assert store.settle()
    assert not store.wanted
    assert not list(tmp_path.glob("*.snapshot"))
    assert "there is room for" in caplog.text


def test_an_abstract_state_of_a_program_is_that_of_its_states(
    stores: Stores, tmp_path: Path
) -> None:
    program = training.program()
    mesh = data_mesh(jax.devices()[:1])
    store = stores(tmp_path)
    store.prepare(abstract_state(program, 0, mesh))
    assert store.settle()
    made = fresh_state(program, 0, mesh)
    store.take(made, 0, meta(0))
    assert store.settle()
    (snapshot,) = found(store.files, abstract_state(program, 0, mesh))
    came = load(snapshot, abstract_state(program, 0, mesh), lambda fault: pytest.fail(str(fault)))
    assert came is not None
    assert state_digest(came.state) == state_digest(made)
