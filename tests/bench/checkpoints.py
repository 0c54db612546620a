"""What a restore costs that compares every file with its manifest, against Orbax's own."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from bench.figures import Figure, at_most, figure
from bench.models import Model
from trainerd.actors import checkpoint_manifest
from trainerd.actors.checkpoint_files import META, STATE
from trainerd.actors.checkpoint_meta import CheckpointMeta
from trainerd.actors.checkpoint_restore import restore_newest
from trainerd.actors.checkpoint_tree import to_nested
from trainerd.actors.reports import Fault
from trainerd.actors.state import TrainState
from trainerd.actors.step import abstract_state, data_mesh, fresh_state

RESTORE_BOUND = 1.5
STEP = 0


def figures(model: Model, *, pairs: int) -> list[Figure]:
    """Seconds until the state is on the device, ours over Orbax's, taking turns."""
    mesh = data_mesh(jax.devices()[:1])
    abstract = abstract_state(model.program, 0, mesh)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / str(STEP)
        size_bytes = _saved(model, mesh, path)

        def bare() -> None:
            with ocp.StandardCheckpointer() as reader:
                jax.block_until_ready(reader.restore(path / STATE, to_nested(abstract)))

        def ours() -> None:
            restored = restore_newest([Path(folder)], abstract, _refused)
            if restored is None:
                raise RuntimeError("nothing was restored: this measured something else")
            jax.block_until_ready(restored.state)

        ratios = []
        for pair in range(pairs + 1):
            first, second = (bare, ours) if pair % 2 else (ours, bare)
            took = {first: _seconds(first), second: _seconds(second)}
            ratios.append(took[ours] / took[bare])
    return [
        figure(
            f"restore of {size_bytes / 1e6:.0f} MB with all digests, {model.name}",
            "bare Orbax restore",
            # The first pair warms.
            ratios[1:],
            unit="×",
            bound=at_most(RESTORE_BOUND),
        )
    ]


def _saved(model: Model, mesh: jax.sharding.Mesh, path: Path) -> int:
    state = _filled(fresh_state(model.program, 0, mesh))
    meta = CheckpointMeta(
        run_id="bench",
        batch=0,
        slots=1,
        global_batch=model.global_batch,
        seed=0,
        loss=0.0,
        masked_slots=0,
        skipped_batches=0,
        ledger=(),
    )
    parts: dict[str, Any] = {
        STATE: ocp.args.StandardSave(to_nested(state)),
        META: ocp.args.JsonSave(meta.as_json()),
    }
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as writer:
        writer.save(path, args=ocp.args.Composite(**parts))
    return checkpoint_manifest.write(path).size_bytes


def _filled(state: TrainState) -> TrainState:
    """Moments as training leaves them: those that are all zero take no space on disk."""
    key = jax.random.key(1)
    leaves, structure = jax.tree.flatten(state.opt_state)
    noise = [
        jax.random.normal(jax.random.fold_in(key, place), leaf.shape, leaf.dtype)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
        else leaf
        for place, leaf in enumerate(leaves)
    ]
    return replace(state, opt_state=jax.tree.unflatten(structure, noise))


def _seconds(work: Any) -> float:
    begun_s = time.perf_counter()
    work()
    return time.perf_counter() - begun_s


def _refused(fault: Fault) -> None:
    raise RuntimeError(f"a sound checkpoint was refused: {fault.message}")
