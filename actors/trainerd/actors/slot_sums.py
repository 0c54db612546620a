"""Gradients of a device's slots, and their sum over all devices.

The fast way adds a device's slots to zeros one after the other and then sums once over the devices:
the result depends, in the last bits, on how many there are. The ordered way keeps what each slot
adds, gathers that from all devices, and adds slot after slot in one order on each of them: the same
bits on any number of devices and processes of a kind, for the memory and the traffic of all slots'
gradients.

Where the state is cut over the devices, each of them ends up with its part of the sum: the fast way
then scatters what it has summed, instead of giving all of it to all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import optax

from trainerd.actors import control
from trainerd.actors.loss import GradientFunction
from trainerd.actors.state import PyTree, TrainState, select

AXIS = "data"
WHOLE = -1
"""Stands for the dimension of what is not cut over the devices."""
SPIKE = 1000.0
"""How many times too large loss and gradient of a slot are that is spoilt on purpose."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("loss", "gradients", "weight", "metrics", "finite", "counted", "absent"),
    meta_fields=(),
)
@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Of all slots: weighted sums over those that counted, and one number a slot: 1 where it is
    `finite`, `counted`, or `absent`, as in `step.Outputs`."""

    loss: Any
    gradients: PyTree
    weight: Any
    metrics: Mapping[str, Any]
    finite: Any
    counted: Any
    absent: Any


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("loss", "gradients", "size", "metrics", "finite", "counted", "absent"),
    meta_fields=(),
)
@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one slot adds where it `counted`: loss and gradients times its weight, its `size`.

    `metrics` are zero where it did not count.
    """

    loss: Any
    gradients: PyTree
    size: Any
    metrics: Mapping[str, Any]
    finite: Any
    counted: Any
    absent: Any


SlotFunction = Callable[[Any], Part]
"""`(index on this device, examples, scale, size, spoilt, forced) -> part`."""


def slot_sums(  # noqa: PLR0917
    gradient: GradientFunction,
    ordered: bool,
    cuts: PyTree | None,
    state: TrainState,
    slots: PyTree,
    weights: jax.Array,
    forced_mask: jax.Array,
    mask: jax.Array,
    words: jax.Array,
) -> tuple[Sums, jax.Array]:
    """One device's part of a step, under `shard_map`: the sums, and the reduced control word.

    `cuts`: the dimension that each gradient is cut along afterwards, or `WHOLE`; None: none is. It
    is not for the ordered way. The parameters are whole.
    """
    step_key = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)
    local = weights.shape[0]
    first = jax.lax.axis_index(AXIS) * local

    def part(slot: Any) -> Part:
        index, examples, scale, size, spoilt, forced = slot
        key = jax.random.fold_in(step_key, first + index)
        (loss, metrics), gradients = gradient(state.params, examples, key)
        # The norm is not finite where any element is not; computing it costs least.
        finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(gradients)) & ~spoilt
        counted = (size > 0) & ~forced & (finite | ~mask)
        loss, gradients = jax.tree.map(
            lambda leaf: scale * leaf.astype(jnp.float32), (loss, gradients)
        )
        return Part(
            loss=loss,
            gradients=gradients,
            size=size,
            metrics={
                name: jnp.where(counted, size * value, 0.0) for name, value in metrics.items()
            },
            finite=finite | ~(size > 0),
            counted=counted,
            absent=(size > 0) & ~counted,
        )

    spoilt = jnp.isnan(weights)
    size = jnp.where(spoilt, 1.0, jnp.abs(weights))
    scale = jnp.where(weights < 0, -SPIKE * weights, weights)
    feed = (jnp.arange(local), slots, scale, size, spoilt, forced_mask)
    zeros = (
        jnp.float32(0.0),
        jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), state.params),
        jnp.float32(0.0),
    )
    if ordered:
        sums = _in_order(part, feed, zeros, words)
    else:
        sums = _summed(_at_once(part, feed, zeros, first), cuts)
    return sums, jax.lax.pmax(words[0], AXIS)


def _summed(own: Sums, cuts: PyTree | None) -> Sums:
    """The sums over the devices, of which each keeps its part of what is cut."""
    if cuts is None:
        sums: Sums = jax.lax.psum(own, AXIS)
        return sums

    def summed(leaf: jax.Array, axis: int) -> jax.Array:
        if axis == WHOLE:
            whole: jax.Array = jax.lax.psum(leaf, AXIS)
            return whole
        part: jax.Array = jax.lax.psum_scatter(leaf, AXIS, scatter_dimension=axis, tiled=True)
        return part

    gradients = jax.tree.map(summed, own.gradients, cuts)
    others: Sums = jax.lax.psum(replace(own, gradients=()), AXIS)
    return replace(others, gradients=gradients)


def _at_once(part: SlotFunction, feed: Any, zeros: Any, first: jax.Array) -> Sums:
    """Add up the device's slots."""

    def body(carry: Any, slot: Any) -> tuple[Any, Any]:
        made = part(slot)
        added = jax.tree.map(jnp.add, carry, (made.loss, made.gradients, made.size))
        said = made.metrics, made.finite, made.counted, made.absent
        return select(made.counted, added, carry), said

    (loss, gradients, weight), (shares, *flags) = jax.lax.scan(body, zeros, feed)
    local = flags[0].shape[0]
    every = jnp.zeros(local * jax.lax.axis_size(AXIS), jnp.float32)
    finite, counted, absent = (
        jax.lax.dynamic_update_slice(every, flag.astype(jnp.float32), (first,)) for flag in flags
    )
    return Sums(
        loss=loss,
        gradients=gradients,
        weight=weight,
        metrics={name: jnp.sum(share) for name, share in shares.items()},
        finite=finite,
        counted=counted,
        absent=absent,
    )


def _in_order(part: SlotFunction, feed: Any, zeros: Any, words: jax.Array) -> Sums:
    """Gather what each slot adds, and add slot after slot."""
    parts: Part = jax.lax.all_gather(_each(part, feed, words), AXIS, tiled=True)
    nothing = *zeros, jax.tree.map(lambda _: jnp.float32(0.0), parts.metrics)

    def body(carry: Any, made: Part) -> tuple[Any, None]:
        added = jax.tree.map(jnp.add, carry, (made.loss, made.gradients, made.size, made.metrics))
        return select(made.counted, added, carry), None

    (loss, gradients, weight, metrics), _ = jax.lax.scan(body, nothing, parts)
    return Sums(
        loss=loss,
        gradients=gradients,
        weight=weight,
        metrics=metrics,
        finite=parts.finite.astype(jnp.float32),
        counted=parts.counted.astype(jnp.float32),
        absent=parts.absent.astype(jnp.float32),
    )


def _each(part: SlotFunction, feed: Any, words: jax.Array) -> Part:
    """What each slot of the device adds, along a leading axis.

    XLA must not know how many slots a device has: it would compile a loop of one in another way
    than a loop of three, and the bits would differ. A lane of the control word is never negative,
    which XLA does not know either.
    """

    def at(index: Any) -> Any:
        return jax.tree.map(
            lambda leaf: jax.lax.dynamic_index_in_dim(leaf, index, keepdims=False), feed
        )

    # Traced once, as in a scan: to know the shapes, and to be run.
    traced, shapes = jax.make_jaxpr(part, return_shape=True)(at(0))
    run = jax.extend.core.jaxpr_as_fun(traced)
    structure = jax.tree.structure(shapes)
    local = feed[0].shape[0]

    def body(index: Any, held: list[jax.Array]) -> list[jax.Array]:
        made = run(*jax.tree.leaves(at(index)))
        return [
            jax.lax.dynamic_update_index_in_dim(every, one, index, 0)
            for every, one in zip(held, made, strict=True)
        ]

    held = [jnp.zeros((local, *leaf.shape), leaf.dtype) for leaf in jax.tree.leaves(shapes)]
    count = local + jnp.minimum(words[0, control.PAUSE], 0)
    parts: Part = jax.tree.unflatten(structure, jax.lax.fori_loop(0, count, body, held))
    return parts
