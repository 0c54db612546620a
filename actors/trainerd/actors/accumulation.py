"""Gradient accumulation for training functions of one's own: one scan, one update.

The arithmetic is the compiled step's: each microbatch's weighted gradient is added in order to
zeros of float32 (or better), then one division by the weight that counted, one update, one
selection between the old state and the new. A microbatch whose loss or gradient is not finite is
left out of the mean; where none is left, nothing is applied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax

from trainerd.actors.errors import EngineError
from trainerd.actors.microbatches import checked, checked_count, stacked, stacked_on_host
from trainerd.actors.state import PyTree, TrainState, learning_rate, select
from trainerd.actors.state_shapes import same_structure, updated

GradFunction: TypeAlias = Callable[[PyTree, PyTree], tuple[Any, PyTree]]
"""`(params, microbatch) -> (loss, grads)`, or `((loss, metrics), grads)` as
`jax.value_and_grad(…, has_aux=True)` returns them."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=(
        "applied",
        "loss",
        "gradient_norm",
        "metrics",
        "finite",
        "counted",
        "absent",
        "count",
        "absences",
        "weight",
    ),
    meta_fields=(),
)
@dataclass(frozen=True, slots=True, kw_only=True)
class Accumulated:
    """What became of one batch. Means over the microbatches that counted, NaN where none did.

    `finite`, `counted`, `absent`: one bool a microbatch; one is absent that has weight and did not
    count. `count`: how many counted, `weight`: how much; `absences`: how many were absent.
    """

    applied: Any
    loss: Any
    gradient_norm: Any
    metrics: Mapping[str, Any]
    finite: Any
    counted: Any
    absent: Any
    count: Any
    absences: Any
    weight: Any

    def as_metrics(self) -> dict[str, Any]:
        """Return the metrics of a step function."""
        return {
            **self.metrics,
            "loss": self.loss,
            "gradient_norm": self.gradient_norm,
            "microbatches": self.count,
            "applied": self.applied,
        }


def gradient_accumulation_step(
    grad_fn: GradFunction,
    apply_fn: Callable[[Any, PyTree], Any],
    state: Any,
    microbatches: Any,
    accumulate_steps: int,
    *,
    weights: Any = None,
    drop_remainder: bool = False,
) -> tuple[Any, dict[str, Any]]:
    """Return the state after one update with the mean gradient, and metrics. Traceable.

    `grad_fn(state.params, microbatch)` gives loss and gradients, `apply_fn(state, grads)` the
    updated state. `microbatches` is a list of equally shaped pytrees, or one pytree whose leaves
    have a leading axis; `weights`, `(accumulate_steps,)` numbers ≥ 0, say how much each counts: its
    number of real examples, where they differ. Surplus ones are refused unless `drop_remainder`.

    Metrics: `loss`, `gradient_norm`, the means of `grad_fn`'s own, `microbatches` (how many
    counted) and `applied`. Raises `EngineError` before any compute where numbers do not fit.
    """
    batch = stacked(checked(microbatches, accumulate_steps, drop_remainder=drop_remainder))
    after, done = accumulate(grad_fn, apply_fn, state, batch, accumulate_steps, weights)
    return after, done.as_metrics()


def accumulate(  # noqa: PLR0917
    grad_fn: GradFunction,
    apply_fn: Callable[[Any, PyTree], Any],
    state: Any,
    batch: PyTree,
    steps: int,
    weights: Any,
) -> tuple[Any, Accumulated]:
    """The same, over a pytree of leading axis `steps`; says more of what happened."""
    params = state.params
    weights = jnp.ones(steps, jnp.float32) if weights is None else _weights(weights, steps)

    def body(carry: Any, slot: Any) -> tuple[Any, Any]:
        microbatch, weight = slot
        returned, gradients = grad_fn(params, microbatch)
        loss, metrics = returned if isinstance(returned, tuple) else (returned, {})
        _same_structure(gradients, params)
        finite = jnp.isfinite(loss) & _all_finite(gradients)
        counted = (weight > 0) & finite
        added = jax.tree.map(
            lambda total, part: total + weight.astype(total.dtype) * part.astype(total.dtype),
            carry,
            (jnp.asarray(loss), gradients, jnp.float32(1.0)),
        )
        shares = {
            str(name): jnp.where(counted, weight * value, 0.0) for name, value in metrics.items()
        }
        return select(counted, added, carry), (shares, finite | ~(weight > 0), counted)

    zeros = (
        jnp.float32(0.0),
        jax.tree.map(lambda leaf: jnp.zeros(jnp.shape(leaf), _wide(leaf)), params),
        jnp.float32(0.0),
    )
    (loss, gradients, weight), (shares, finite, counted) = _scan(body, zeros, (batch, weights))
    some = weight > 0
    divisor = jnp.where(some, weight, 1.0)

    def mean(total: jax.Array) -> jax.Array:
        return total / divisor.astype(total.dtype)

    def update() -> Any:
        # Divided here once more: handed in, the means would be written out and read again.
        return apply_fn(state, jax.tree.map(_narrow, jax.tree.map(mean, gradients), params))

    loss = jnp.where(some, loss / divisor, jnp.nan)
    norm = optax.tree.norm(jax.tree.map(mean, gradients))
    applied = some & jnp.isfinite(loss) & jnp.isfinite(norm)
    after = updated(applied, update, state)
    rate = learning_rate(after.opt_state) if isinstance(after, TrainState) else {}
    return after, Accumulated(
        applied=applied,
        loss=loss,
        gradient_norm=jnp.where(some, norm, jnp.nan),
        metrics={
            name: jnp.where(some, jnp.sum(share) / divisor, jnp.nan)
            for name, share in shares.items()
        }
        | rate,
        finite=finite,
        counted=counted,
        # What has no weight counts as finite.
        absent=~finite,
        count=jnp.sum(counted, dtype=jnp.int32),
        absences=jnp.sum(~finite, dtype=jnp.int32),
        weight=weight,
    )


@dataclass(frozen=True)
class AccumulationStep:
    """A guarded step function `(state, batch) -> (state, metrics)`.

    Called by itself it is compiled once for each shape of batch, and donates nothing; `Engine.fit`
    compiles it anew with its own copy of the state donated.
    """

    loss_fn: Callable[..., Any]
    accumulate_steps: int
    has_aux: bool
    loss_scale: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "_compiled", jax.jit(self._metrics))

    def __call__(self, state: Any, batch: Any) -> tuple[Any, dict[str, Any]]:
        """Return the state after one update, and metrics as `gradient_accumulation_step` does."""
        batch, weights = self.cut(batch)
        return self._compiled(state, batch, weights)  # type: ignore[attr-defined,no-any-return]

    def cut(self, batch: Any) -> tuple[Any, Any]:
        """Check a batch, on the host; return its microbatches and their weights.

        Raises `EngineError` where `microbatches` are missing or are not as many as they must be.
        """
        if self.accumulate_steps == 1:
            return batch, None
        batch, weights = microbatches_of(batch, self.accumulate_steps)
        return stacked_on_host(batch), weights

    def run(self, state: Any, batch: Any, weights: Any) -> tuple[Any, Accumulated]:
        """The step on what `cut` returned. Traceable."""
        steps = self.accumulate_steps
        if steps == 1:
            batch = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], batch)
        return accumulate(self._gradient, _apply, state, stacked(batch), steps, weights)

    def _metrics(self, state: Any, batch: Any, weights: Any) -> tuple[Any, dict[str, Any]]:
        after, done = self.run(state, batch, weights)
        return after, done.as_metrics()

    def _gradient(self, params: PyTree, microbatch: PyTree) -> tuple[Any, PyTree]:
        def scaled(params: PyTree) -> tuple[Any, Any]:
            returned = self.loss_fn(params, microbatch)
            loss, metrics = _loss(returned, has_aux=self.has_aux)
            return loss * self.loss_scale, (loss, metrics)

        gradients, said = jax.grad(scaled, has_aux=True)(params)
        if self.loss_scale != 1.0:
            # In float32: scaled up so as not to vanish, they must not vanish on the way back.
            gradients = jax.tree.map(lambda g: g.astype(_wide(g)) / self.loss_scale, gradients)
        return said, gradients


def create_gradient_accumulation_step_fn(
    loss_fn: Callable[..., Any],
    accumulate_steps: int = 1,
    *,
    has_aux: bool = False,
    loss_scale: float = 1.0,
) -> AccumulationStep:
    """Make a step function of `loss_fn(params, batch) -> loss`, the mean over its examples.

    With `has_aux` it returns `(loss, metrics)`, a flat dict of scalars. The state must have
    `params` and `apply_gradients(grads=…)`, as `TrainState` has. With `accumulate_steps` above 1 a
    batch is a mapping with the key `microbatches`, and `weights` if they count differently;
    otherwise it is handed to `loss_fn` as it is. The loss is multiplied by `loss_scale` before
    gradients are taken, and the gradients divided by it, for types of little range.
    """
    checked_count(accumulate_steps)
    if not callable(loss_fn):
        raise EngineError(f"loss_fn must be a function, got {type(loss_fn).__name__}")
    if isinstance(loss_scale, bool) or not 0 < loss_scale < float("inf"):
        raise EngineError(f"loss_scale must be a finite number > 0, got {loss_scale!r}")
    return AccumulationStep(loss_fn, accumulate_steps, has_aux, float(loss_scale))


def _scan(body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, slots: Any) -> tuple[Any, Any]:
    """`lax.scan`, but for a single slot, where XLA fuses the body with what is around it."""
    if len(jax.tree.leaves(slots)[0]) > 1:
        scanned: tuple[Any, Any] = jax.lax.scan(body, carry, slots)
        return scanned
    carry, said = body(carry, jax.tree.map(lambda leaf: leaf[0], slots))
    return carry, jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], said)


def microbatches_of(batch: Any, steps: int) -> tuple[Any, Any]:
    """Check a batch for `accumulate_steps` microbatches; return those, and their weights."""
    if not isinstance(batch, Mapping) or "microbatches" not in batch:
        came = (
            f"the keys {sorted(map(str, batch))}"
            if isinstance(batch, Mapping)
            else (f"a {type(batch).__name__}")
        )
        raise EngineError(
            f"accumulate_steps is {steps}, so a batch needs the key 'microbatches', got {came}",
            suggestion=f"yield {{'microbatches': [{steps} microbatches]}}, "
            "or set accumulate_steps to 1",
        )
    return checked(batch["microbatches"], steps), batch.get("weights")


def _apply(state: Any, gradients: PyTree) -> Any:
    return state.apply_gradients(grads=gradients)


def _loss(returned: Any, *, has_aux: bool) -> tuple[jax.Array, Mapping[str, Any]]:
    pair = isinstance(returned, tuple) and len(returned) == 2
    if pair != has_aux:
        raise EngineError(
            f"loss_fn must return {'(loss, metrics)' if has_aux else 'a loss'} with "
            f"has_aux={has_aux}, got {type(returned).__name__}",
            suggestion=f"pass has_aux={not has_aux} to create_gradient_accumulation_step_fn",
        )
    loss, metrics = returned if pair else (returned, {})
    loss = jnp.asarray(loss)
    if loss.shape != () or not jnp.issubdtype(loss.dtype, jnp.floating):
        raise EngineError(
            f"loss_fn must return a floating-point scalar, got {loss.dtype}{list(loss.shape)}",
            suggestion="return the mean over the examples, e.g. jnp.mean(losses)",
        )
    if not isinstance(metrics, Mapping):
        raise EngineError(
            f"loss_fn must return a dict of metrics beside the loss, got {type(metrics).__name__}"
        )
    return loss.astype(_wide(loss)), metrics


def _weights(weights: Any, steps: int) -> jax.Array:
    array = jnp.asarray(weights, jnp.float32)
    if array.shape != (steps,):
        raise EngineError(f"weights must be {steps} numbers, got shape {list(array.shape)}")
    return array


def _same_structure(gradients: PyTree, params: PyTree) -> None:
    came, expected = jax.tree.structure(gradients), jax.tree.structure(params)
    if not same_structure(came, expected):
        raise EngineError(
            f"grad_fn must return gradients of the structure {expected}, got {came}",
            suggestion="return (loss, grads), as jax.value_and_grad does",
        )


def _all_finite(tree: PyTree) -> jax.Array:
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(finite)) if finite else jnp.bool_(True)


def _narrow(gradient: jax.Array, parameter: Any) -> jax.Array:
    return gradient.astype(jnp.asarray(parameter).dtype)


def _wide(leaf: Any) -> Any:
    """The type that values like `leaf` are added up in: float32, or more where they are more."""
    return jnp.promote_types(jnp.asarray(leaf).dtype, jnp.float32)
