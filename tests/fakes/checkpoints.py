"""Checkpoint stores for tests: made, closed, and with an Orbax that does as it is told."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from fakes import training
from trainerd.actors import checkpoint_files as files
from trainerd.actors.checkpoint_meta import CheckpointMeta
from trainerd.actors.checkpoint_restore import Restored, restore_newest
from trainerd.actors.checkpoint_retention import Retention
from trainerd.actors.checkpoints import CheckpointStore
from trainerd.actors.ledger import Entry, Omission
from trainerd.actors.program import Program
from trainerd.actors.reports import FaultClass
from trainerd.actors.state import TrainState, initial_state
from trainerd.actors.step import abstract_state, data_mesh

WAIT_S = 30.0

ENTRY = Entry(
    first_batch=2,
    last_batch=2,
    slots=(1,),
    fault_class=FaultClass.NON_FINITE_MICROBATCH,
    decision=Omission.MASK,
)


def state(step: int, program: Program | None = None) -> TrainState:
    made = initial_state(program or training.program(), seed=step)
    return TrainState(
        params=made.params, opt_state=made.opt_state, step=jnp.int32(step), rng=made.rng
    )


def meta(batch: int, *entries: Entry) -> CheckpointMeta:
    return CheckpointMeta(
        run_id="r",
        batch=batch,
        slots=4,
        global_batch=12,
        seed=0,
        loss=0.1 + 0.2,
        masked_slots=1,
        skipped_batches=0,
        ledger=(ENTRY, *entries),
        made_by={"jax": jax.__version__},
    )


class Stores:
    """Makes stores and closes them."""

    def __init__(self) -> None:
        self.made: list[CheckpointStore] = []
        self._of: dict[Path, CheckpointStore] = {}
        self.recorder = training.Recorder()
        self.now_s = 0.0

    def __call__(self, directory: Path, **options: Any) -> CheckpointStore:
        """One to follow another in the same directory closes that first.

        `keep`, `rollback_steps` and the like are the retention's; `checkpointer` a fake.
        """
        before = self._of.pop(directory, None)
        if before is not None:
            assert before.close(WAIT_S)
            self.made.remove(before)
        rules = {field.name for field in dataclasses.fields(Retention)} & options.keys()
        retention = Retention(**{name: options.pop(name) for name in rules})
        if fake := options.pop("checkpointer", None):
            options["checkpointer"] = fake if callable(fake) else lambda: fake
        store = CheckpointStore(
            directory,
            retention=retention,
            listener=self.recorder,
            clock=lambda: self.now_s,
            **options,
        )
        self.made.append(store)
        self._of[directory] = store
        return store


def save(store: CheckpointStore, step: int, *ids: str, entries: Sequence[Entry] = ()) -> None:
    store.save(step, state(step), meta(step + 1, *entries), ids)
    assert store.drain(WAIT_S)


def restore(*directories: Path, program: Program | None = None, **how: Any) -> Restored | None:
    mesh = data_mesh(jax.devices()[:1])
    recorder = training.Recorder()
    abstract = abstract_state(program or training.program(), 0, mesh)
    return restore_newest(directories, abstract, recorder.faulted, **how)


class FakeOrbax:
    """Commits by hand; `gate` holds a save in flight, `failure` makes it fail."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.failures: list[Exception | None] = []
        self.saved: list[int] = []
        self.closed = False

    def save(self, directory: Path, args: Any) -> None:
        self.saved.append(int(directory.name))
        self.temporary = directory.with_name(directory.name + files.TEMPORARY)
        self.temporary.mkdir()
        for name in ("state", "meta"):
            (self.temporary / name).mkdir()
        for name in ("_CHECKPOINT_METADATA", "state/_METADATA", "meta/metadata"):
            (self.temporary / name).write_text("{}")

    def wait_until_finished(self) -> None:
        assert self.gate.wait(WAIT_S)
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        self.temporary.rename(self.temporary.with_name(str(self.saved[-1])))

    def close(self) -> None:
        self.closed = True
