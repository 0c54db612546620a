"""`python -m fakes.snapshot_writer DIRECTORY KILLS SEED`: writers of snapshots, killed at random.

Prints a line for each kill: the newest step that the writer had said to be whole, then, for each
file that verifies, `step:content`, where content is the step that all of its data says.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import jax
import numpy as np

from trainerd.actors.checkpoint_meta import CheckpointMeta
from trainerd.actors.snapshot_format import SnapshotDamaged
from trainerd.actors.snapshots import SnapshotStore
from trainerd.actors.state import TrainState

SIZE = 200_000
ROOMY = 1 << 40


def write(directory: Path, first: int, told: int) -> None:
    """Take snapshots one after the other; say the step of each that is whole."""
    store = SnapshotStore(directory, most_bytes=ROOMY)
    for step in range(first, first + 100_000):
        state = TrainState(
            # Placed, not computed: nothing is compiled.
            params={"w": jax.device_put(np.full(SIZE, step, np.int32))},
            opt_state=(),
            step=jax.device_put(np.int32(step)),
            rng=jax.device_put(np.full(2, step, np.uint32)),
        )
        if step == first:
            store.prepare(
                jax.tree.map(
                    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
                )
            )
            assert store.settle()
            assert store.ready()
        store.take(state, step, meta(step))
        assert store.settle()
        os.write(told, step.to_bytes(8, "little"))


def meta(step: int) -> CheckpointMeta:
    return CheckpointMeta(
        run_id="r",
        batch=step,
        slots=1,
        global_batch=1,
        seed=0,
        loss=0.0,
        masked_slots=0,
        skipped_batches=0,
        ledger=(),
    )


def verified(directory: Path) -> list[tuple[int, int]]:
    """The snapshots that are whole, and what their data says, newest first."""
    whole = []
    for file in SnapshotStore(directory, most_bytes=0).files:
        try:
            prefix, layout, held = file.read()
            with file.data(prefix) as content:
                numbers = [content[x.at : x.at + x.bytes].view(np.int32) for x in layout.leaves]
                (said,) = {int(n) for leaf in numbers for n in np.unique(leaf)}
        except SnapshotDamaged:
            continue
        assert held["batch"] == prefix.step
        whole.append((prefix.step, said))
    return sorted(whole, reverse=True)


def main(directory: Path, kills: int, seed: int) -> None:
    """Fork, which is safe before JAX has a backend, let the child write, and kill it."""
    chance = random.Random(seed)
    newest = 0
    for _ in range(kills):
        heard, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            write(directory, newest + 1, told)
        os.close(told)
        first = os.read(heard, 8)
        time.sleep(chance.uniform(0.0, 0.02))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        said = first
        while more := os.read(heard, 65536):
            said += more
        os.close(heard)
        last = int.from_bytes(said[-8:], "little")
        whole = verified(directory)
        print(last, *(f"{step}:{content}" for step, content in whole), flush=True)
        newest = max([newest, *(step for step, _ in whole)])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
