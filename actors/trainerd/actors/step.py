"""The compiled step: gradients of all slots, one reduction, guard, update, selection.

The order of operations is the contract. Every device scans over its slots in order and adds each
slot's weighted gradient to float32 zeros; one sum over the devices follows; then one division by
the weight that counted, one optimizer update, one selection between the old state and the new.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from trainerd.actors import control
from trainerd.actors.errors import ProgramError
from trainerd.actors.program import Program
from trainerd.actors.slots import SlotPlan
from trainerd.actors.state import PyTree, TrainState, apply_optimizer, initial_state, select

AXIS = "data"


@partial(jax.tree_util.register_dataclass, data_fields=("steps", "mask"), meta_fields=())
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What may change without a new compilation: traced inputs of the step.

    `steps` (int32): applied updates beyond which a step is a no-op. `mask` (bool): whether a slot
    that is not finite is left out of the mean; otherwise it spoils, and skips, its whole step.
    """

    steps: Any
    mask: Any

    @staticmethod
    def of(*, steps: int, mask: bool) -> Settings:
        """Make settings from Python values."""
        return Settings(steps=np.int32(steps), mask=np.bool_(mask))


@partial(
    jax.tree_util.register_dataclass,
    data_fields=(
        "step",
        "live",
        "applied",
        "loss",
        "gradient_norm",
        "metrics",
        "finite",
        "counted",
        "weight",
        "control",
    ),
    meta_fields=(),
)
@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What a step says, replicated on every device.

    `step`: applied updates after it. `live`: whether it was within `Settings.steps`. `applied`:
    whether the state changed. `loss`, `gradient_norm`, `metrics`: weighted means over the slots
    that counted, NaN where none did. `finite`, `counted`: one bool a slot, padding included.
    `weight`: the weight that counted. `control`: the control word, reduced by maximum.
    """

    step: Any
    live: Any
    applied: Any
    loss: Any
    gradient_norm: Any
    metrics: Mapping[str, Any]
    finite: Any
    counted: Any
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


def make_step(program: Program, mesh: Mesh) -> StepFunction:
    """Make `(state, slots, weights, forced_mask, settings, control) -> (state, outputs)`.

    `slots`: leaves `(padded, slot_examples, …)`; `weights`: `(padded,)` float32, zero for padding;
    `forced_mask`: `(padded,)` bool, slots that never count; `control`: `(devices, LANES)` int32.
    All four are cut over the mesh along their first axis. Calls `program.loss` once.
    """
    over_devices = jax.shard_map(
        partial(_sums, program),
        mesh=mesh,
        in_specs=(
            PartitionSpec(),
            PartitionSpec(AXIS),
            PartitionSpec(AXIS),
            PartitionSpec(AXIS),
            PartitionSpec(),
            PartitionSpec(AXIS),
        ),
        out_specs=PartitionSpec(),
        # Gradients are taken device by device and reduced once, after the scan; with the check
        # on, JAX would reduce them inside it.
        check_vma=False,
    )

    def step(  # noqa: PLR0917
        state: TrainState,
        slots: PyTree,
        weights: jax.Array,
        forced_mask: jax.Array,
        settings: Settings,
        words: jax.Array,
    ) -> tuple[TrainState, Outputs]:
        sums, word = over_devices(state, slots, weights, forced_mask, settings.mask, words)
        some = sums.weight > 0
        divisor = jnp.where(some, sums.weight, 1.0)
        loss = jnp.where(some, sums.loss / divisor, jnp.nan)
        gradients = jax.tree.map(lambda total: total / divisor, sums.gradients)
        norm = optax.tree.norm(gradients)
        live = state.step < settings.steps
        good = some & jnp.isfinite(loss) & jnp.isfinite(norm)
        applied = live & good & (word[control.BAD_DATA] == 0)
        updated = apply_optimizer(program.optimizer, state, gradients)
        after = select(applied, updated, state)
        return after, Outputs(
            step=after.step,
            live=live,
            applied=applied,
            loss=loss,
            gradient_norm=jnp.where(some, norm, jnp.nan),
            metrics={k: jnp.where(some, v / divisor, jnp.nan) for k, v in sums.metrics.items()}
            | _learning_rate(updated.opt_state),
            finite=sums.finite > 0,
            counted=sums.counted > 0,
            weight=sums.weight,
            control=word,
        )

    return step


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("loss", "gradients", "weight", "metrics", "finite", "counted"),
    meta_fields=(),
)
@dataclass(frozen=True, slots=True, kw_only=True)
class _Sums:
    loss: Any
    gradients: PyTree
    weight: Any
    metrics: Mapping[str, Any]
    finite: Any
    counted: Any


def _sums(  # noqa: PLR0917
    program: Program,
    state: TrainState,
    slots: PyTree,
    weights: jax.Array,
    forced_mask: jax.Array,
    mask: jax.Array,
    words: jax.Array,
) -> tuple[_Sums, jax.Array]:
    """One device's part: scan over its slots, then the one sum over all devices."""
    gradient = jax.value_and_grad(partial(checked_loss, program), has_aux=True)
    root = jax.random.wrap_key_data(state.rng)
    step_key = jax.random.fold_in(root, state.step)
    local = weights.shape[0]
    first = jax.lax.axis_index(AXIS) * local

    def body(carry: Any, slot: Any) -> tuple[Any, Any]:
        index, examples, weight, forced = slot
        key = jax.random.fold_in(step_key, first + index)
        (loss, metrics), gradients = gradient(state.params, examples, key)
        finite = jnp.isfinite(loss) & _all_finite(gradients)
        counted = (weight > 0) & ~forced & (finite | ~mask)
        added = jax.tree.map(
            lambda total, part: total + weight * part.astype(jnp.float32),
            carry,
            (loss, gradients, jnp.float32(1.0)),
        )
        shares = {name: jnp.where(counted, weight * value, 0.0) for name, value in metrics.items()}
        return select(counted, added, carry), (shares, finite | ~(weight > 0), counted)

    zeros = (
        jnp.float32(0.0),
        jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), state.params),
        jnp.float32(0.0),
    )
    (loss, gradients, weight), (shares, finite, counted) = jax.lax.scan(
        body, zeros, (jnp.arange(local), slots, weights, forced_mask)
    )
    every = jnp.zeros(local * jax.lax.axis_size(AXIS), jnp.float32)
    place = partial(jax.lax.dynamic_update_slice, every, start_indices=(first,))
    sums = jax.lax.psum(
        _Sums(
            loss=loss,
            gradients=gradients,
            weight=weight,
            metrics={name: jnp.sum(share) for name, share in shares.items()},
            finite=place(finite.astype(jnp.float32)),
            counted=place(counted.astype(jnp.float32)),
        ),
        AXIS,
    )
    return sums, jax.lax.pmax(words[0], AXIS)


def checked_loss(
    program: Program, params: PyTree, batch: PyTree, key: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Call the user's loss; accept `loss` or `(loss, metrics)`, refuse anything else by name."""
    returned = program.loss(params, batch, key)
    loss, metrics = returned if isinstance(returned, tuple) else (returned, {})
    loss = jnp.asarray(loss)
    if loss.shape != () or not jnp.issubdtype(loss.dtype, jnp.floating):
        raise ProgramError(
            f"loss must return a floating-point scalar, got {loss.dtype}{list(loss.shape)}",
            suggestion="return the mean over the slot's examples, e.g. jnp.mean(losses)",
        )
    if not isinstance(metrics, Mapping):
        raise ProgramError(
            f"loss must return a dict of metrics beside the loss, got {type(metrics).__name__}"
        )
    scalars = {str(name): jnp.asarray(value) for name, value in metrics.items()}
    for name, value in scalars.items():
        if value.shape != ():
            raise ProgramError(
                f'metric "{name}" must be a scalar, got shape {list(value.shape)}',
                suggestion="return its mean over the slot's examples",
            )
    floats = {name: value.astype(jnp.float32) for name, value in scalars.items()}
    return loss.astype(jnp.float32), floats


def _all_finite(tree: PyTree) -> jax.Array:
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(finite)) if finite else jnp.bool_(True)


def _learning_rate(opt_state: PyTree) -> dict[str, jax.Array]:
    """The rate of this update, where the optimizer exposes it (`optax.inject_hyperparams`)."""
    found = [
        value
        for _, value in optax.tree.get_all_with_path(opt_state, "learning_rate")
        if isinstance(value, jax.Array) and value.shape == ()
    ]
    return {"learning_rate": found[0].astype(jnp.float32)} if len(found) == 1 else {}


def abstract_state(program: Program, seed: int, mesh: Mesh) -> TrainState:
    """Shapes, dtypes and shardings of the state, without computing anything."""
    shapes: TrainState = jax.eval_shape(lambda: initial_state(program, seed))
    sharding = replicated(mesh)
    made: TrainState = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes
    )
    return made


def fresh_state(program: Program, seed: int, mesh: Mesh) -> TrainState:
    """Compute the initial state on the mesh's devices; no buffer of the caller's is shared."""
    made = jax.jit(lambda: initial_state(program, seed), out_shardings=replicated(mesh))
    state: TrainState = made()
    return state


@dataclass(frozen=True, slots=True)
class CompiledStep:
    """A step compiled for one mesh and one plan. Its state argument is donated."""

    function: Callable[..., tuple[TrainState, Outputs]]
    mesh: Mesh
    plan: SlotPlan

    def place(self, host: PyTree) -> PyTree:
        """Put slots, weights or masks onto the devices, each leaf cut along its first axis."""
        return jax.device_put(host, spread(self.mesh))

    def __call__(  # noqa: PLR0917
        self,
        state: TrainState,
        slots: PyTree,
        weights: PyTree,
        forced_mask: PyTree,
        settings: Settings,
        word: control.Word,
    ) -> tuple[TrainState, Outputs]:
        """Dispatch one step with this process's control word; returns before it has run."""
        words = np.zeros((self.plan.devices, control.LANES), np.int32)
        words[:] = word
        return self.function(state, slots, weights, forced_mask, settings, words)


def compile_step(
    program: Program, plan: SlotPlan, mesh: Mesh, state: TrainState, template: PyTree
) -> CompiledStep:
    """Trace, lower and compile the step once, ahead of the first batch.

    `state` may be abstract; `template` is one example's leaves (shape and dtype).
    """
    cut, whole = spread(mesh), replicated(mesh)

    def abstract(shape: tuple[int, ...], dtype: Any, sharding: NamedSharding) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    slots = jax.tree.map(
        lambda leaf: abstract((plan.padded, plan.slot_examples, *leaf.shape), leaf.dtype, cut),
        template,
    )
    lowered = jax.jit(
        make_step(program, mesh), donate_argnums=0, out_shardings=(whole, whole)
    ).lower(
        jax.tree.map(lambda leaf: abstract(leaf.shape, leaf.dtype, whole), state),
        slots,
        abstract((plan.padded,), np.float32, cut),
        abstract((plan.padded,), np.bool_, cut),
        Settings(steps=abstract((), np.int32, whole), mask=abstract((), np.bool_, whole)),
        abstract((plan.devices, control.LANES), np.int32, cut),
    )
    return CompiledStep(lowered.compile(), mesh, plan)
