"""The compiled step: gradients of all slots, one reduction, guard, update, selection.

The order of operations is the contract. Every device goes through its slots in order and adds each
slot's weighted gradient to float32 zeros; one sum over the devices follows (`slot_sums`, which has
another way where the bits must not depend on the devices); then one division by
the weight that counted, the guard's norm, clipping, one optimizer update, one selection between the
old state and the new.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from trainerd.actors import control
from trainerd.actors.arithmetic import Arithmetic
from trainerd.actors.loss import gradient_function
from trainerd.actors.program import Program
from trainerd.actors.shards import cuts, shardings, spec
from trainerd.actors.slot_sums import AXIS, Sums, slot_sums
from trainerd.actors.state import (
    PyTree,
    TrainState,
    apply_optimizer,
    initial_state,
    learning_rate,
)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("steps", "mask", "spike_step", "spike_limits"),
    meta_fields=(),
)
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What may change without a new compilation: traced inputs of the step.

    `steps` (int32): applied updates beyond which a step is a no-op. `mask` (bool): whether a slot
    that is not finite is left out of the mean; otherwise it spoils, and skips, its whole step.
    `spike_limits` (float32, `(2,)`): a loss above is a spike and skips its step; the first is for
    a state of `spike_step` (int32) updates, the second for later ones, because the host does not
    know yet whether the step in flight is applied.
    """

    steps: Any
    mask: Any
    spike_step: Any
    spike_limits: Any

    @staticmethod
    def of(
        *,
        steps: int,
        mask: bool,
        spike_step: int = 0,
        spike_limits: tuple[float, float] = (math.inf, math.inf),
    ) -> Settings:
        """Make settings from Python values; without limits no loss is a spike."""
        return Settings(
            steps=np.int32(steps),
            mask=np.bool_(mask),
            spike_step=np.int32(spike_step),
            spike_limits=np.asarray(spike_limits, np.float32),
        )


@partial(
    jax.tree_util.register_dataclass,
    data_fields=(
        "step",
        "live",
        "applied",
        "loss",
        "gradient_norm",
        "metrics",
        "spiked",
        "finite",
        "counted",
        "absent",
        "count",
        "absences",
        "weight",
        "control",
    ),
    meta_fields=(),
)
@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What a step says: traced inside it, on the host afterwards.

    `step`: applied updates after it. `live`: whether it was within `Settings.steps`. `applied`:
    whether the state changed. `loss`, `gradient_norm` (before clipping), `metrics`: weighted means
    over the slots that counted, NaN where none did. `spiked`: whether the loss, finite, was above
    its limit. `finite`, `counted`, `absent`: one bool a slot, padding included; a slot is absent
    that has weight and did not count. `count`: how many slots counted, `weight`: with what weight;
    `absences`: how many were absent. `control`: the control word, reduced by maximum.
    """

    step: Any
    live: Any
    applied: Any
    loss: Any
    gradient_norm: Any
    metrics: Mapping[str, Any]
    spiked: Any
    finite: Any
    counted: Any
    absent: Any
    count: Any
    absences: Any
    weight: Any
    control: Any


StepFunction = Callable[
    [TrainState, PyTree, jax.Array, jax.Array, Settings, jax.Array], tuple[TrainState, Outputs]
]


def data_mesh(devices: Sequence[jax.Device]) -> Mesh:
    """Lay `devices` out along the one axis that slots are spread over."""
    return Mesh(np.asarray(devices), (AXIS,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of state, settings and outputs."""
    return NamedSharding(mesh, PartitionSpec())


def spread(mesh: Mesh) -> NamedSharding:
    """The sharding of slots, weights, masks and control words: cut along the first axis."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def make_step(
    program: Program,
    mesh: Mesh,
    arithmetic: Arithmetic,
    *,
    parts: int = 1,
    params: PyTree | None = None,
) -> StepFunction:
    """Make `(state, slots, weights, forced_mask, settings, control) -> (state, outputs)`.

    `slots`: leaves `(padded, slot_examples, …)`; `weights`: `(padded,)` float32, zero for padding;
    `forced_mask`: `(padded,)` bool, slots that never count; `control`: `(devices, LANES)` int32.
    All four are cut over the mesh along their first axis. Each slot is computed in `parts` equal
    parts; see `gradient_function`. Calls `program.loss` once.

    `params`, abstract, says where the parameters lie; None: they are the same on all devices. Those
    that are cut are gathered before the first slot, and their gradients, once summed, are cut as
    they are, so that each device updates its part of the state.

    A weight that is NaN says that its slot is to count as one whose loss is not finite; one below
    zero that loss and gradient of its slot, of that size, are to count `SPIKE` times: faults on
    purpose, which nothing but a drill makes. Weights above zero are what they are, to the bit.
    """
    scattered = None if params is None else cuts(params)
    gradient = gradient_function(program, arithmetic, parts)
    over_devices = jax.shard_map(
        partial(slot_sums, gradient, arithmetic.ordered, scattered),
        mesh=mesh,
        in_specs=(
            PartitionSpec(),
            PartitionSpec(AXIS),
            PartitionSpec(AXIS),
            PartitionSpec(AXIS),
            PartitionSpec(),
            PartitionSpec(AXIS),
        ),
        out_specs=(_specs(scattered), PartitionSpec()),
        # Gradients are taken device by device and reduced once, after the scan; with the check
        # on, JAX would reduce them inside it.
        check_vma=False,
    )

    def update(state: TrainState, total: PyTree, divisor: jax.Array, norm: jax.Array) -> TrainState:
        gradients = jax.tree.map(lambda leaf: leaf / divisor, total)
        clipped = _clipped(gradients, norm, arithmetic.clip_norm)
        return apply_optimizer(program.optimizer, state, clipped)

    def step(  # noqa: PLR0917
        state: TrainState,
        slots: PyTree,
        weights: jax.Array,
        forced_mask: jax.Array,
        settings: Settings,
        words: jax.Array,
    ) -> tuple[TrainState, Outputs]:
        # Nothing is gathered that no slot looks at.
        seen = replace(state, opt_state=())
        sums, word = over_devices(seen, slots, weights, forced_mask, settings.mask, words)
        some = sums.weight > 0
        divisor = jnp.where(some, sums.weight, 1.0)
        loss = jnp.where(some, sums.loss / divisor, jnp.nan)
        norm = optax.tree.norm(sums.gradients) / divisor
        live = state.step < settings.steps
        good = some & jnp.isfinite(loss) & jnp.isfinite(norm)
        later = jnp.clip(state.step - settings.spike_step, 0, 1)
        spiked = good & (loss > settings.spike_limits[later])
        applied = live & good & ~spiked & (word[control.BAD_DATA] == 0)
        # A branch not taken leaves no trace, and unlike a selection after the update it lets the
        # donated state be changed in place.
        after = jax.lax.cond(
            applied, update, lambda state, *_: state, state, sums.gradients, divisor, norm
        )
        return after, Outputs(
            step=after.step,
            live=live,
            applied=applied,
            loss=loss,
            gradient_norm=jnp.where(some, norm, jnp.nan),
            metrics={k: jnp.where(some, v / divisor, jnp.nan) for k, v in sums.metrics.items()}
            | learning_rate(after.opt_state),
            spiked=spiked,
            finite=sums.finite > 0,
            counted=sums.counted > 0,
            absent=sums.absent > 0,
            count=jnp.sum(sums.counted > 0, dtype=jnp.int32),
            absences=jnp.sum(sums.absent > 0, dtype=jnp.int32),
            weight=sums.weight,
            control=word,
        )

    return step


def _clipped(gradients: PyTree, norm: jax.Array, longest: float | None) -> PyTree:
    """Scale `gradients` of global norm `norm` down to norm `longest`; shorter ones stay exact."""
    if longest is None:
        return gradients
    return jax.tree.map(lambda g: jnp.where(norm < longest, g, g / norm * longest), gradients)


def _specs(scattered: PyTree | None) -> Any:
    """How the sums lie: gradients as `scattered` says, all else the same on all devices."""
    whole: Any = PartitionSpec()
    if scattered is None:
        return whole
    return Sums(
        loss=whole,
        gradients=jax.tree.map(spec, scattered),
        weight=whole,
        metrics=whole,
        finite=whole,
        counted=whole,
        absent=whole,
    )


def abstract_state(
    program: Program,
    seed: int,
    mesh: Mesh,
    known: TrainState | None = None,
    *,
    sharded: bool = False,
) -> TrainState:
    """Shapes, dtypes and shardings of the state, without computing anything.

    `known`: the shapes and dtypes, where they need not be found by tracing. `sharded`: large leaves
    are cut over the mesh (`shards`).
    """
    shapes: TrainState = known or jax.eval_shape(lambda: initial_state(program, seed))
    made: TrainState = jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
        shardings(shapes, mesh, sharded=sharded),
    )
    return made


def fresh_state(
    program: Program,
    seed: int,
    mesh: Mesh,
    abstract: TrainState | None = None,
    *,
    compiled: Callable[[], None] | None = None,
) -> TrainState:
    """Compute the initial state on the mesh's devices; no buffer of the caller's is shared.

    `abstract`: where its leaves are to lie; None: the same on all devices. `compiled`, if there is
    any, is called before the computation, in which processes may have to wait for each other.
    """
    places = replicated(mesh)
    if abstract is not None:
        places = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    jitted = jax.jit(lambda: initial_state(program, seed), out_shardings=places)
    state: TrainState
    if compiled is None:
        state = jitted()
    else:
        made = jitted.lower().compile()
        compiled()
        state = made()
    return state
