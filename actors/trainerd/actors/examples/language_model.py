"""What the three language-model examples share: the task, the optimizer, the evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax

from trainerd.actors.examples.stdlib_text import Windows, read_corpus
from trainerd.actors.program import Program

PyTree: TypeAlias = Any
Logits: TypeAlias = Callable[[PyTree, jax.Array], jax.Array]
"""`(params, bytes [batch, context]) -> logits [batch, context, 256]`."""

_VALIDATION_WINDOWS = 128


def language_model(
    *,
    init: Callable[[jax.Array], PyTree],
    logits: Logits,
    context: int,
    learning_rate: float,
    warmup: int,
    horizon: int,
) -> Program:
    """A program that predicts the next byte of the standard library's source.

    The rate rises over `warmup` updates and falls along a cosine until update `horizon`.
    """
    corpus = read_corpus()

    def loss(params: PyTree, batch: PyTree, key: jax.Array) -> tuple[jax.Array, PyTree]:
        del key  # Nothing is random here; dropout would use it.
        mean = cross_entropy(logits, params, batch["bytes"])
        return mean, {"bits_per_byte": mean / math.log(2)}

    held_out = Windows(corpus.validation, context).sample(_VALIDATION_WINDOWS)
    measure = jax.jit(lambda params: cross_entropy(logits, params, jnp.asarray(held_out)))

    def evaluate(params: PyTree) -> Mapping[str, float]:
        mean = float(measure(params))
        return {"loss": mean, "bits_per_byte": mean / math.log(2)}

    return Program(
        init=init,
        loss=loss,
        optimizer=adamw(learning_rate, warmup=warmup, horizon=horizon),
        data=Windows(corpus.train, context),
        evaluate=evaluate,
    )


def cross_entropy(logits: Logits, params: PyTree, windows: jax.Array) -> jax.Array:
    """Mean loss in nats over all predicted bytes of `windows` (uint8 `[batch, context + 1]`)."""
    tokens = windows.astype(jnp.int32)
    predicted = logits(params, tokens[:, :-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(predicted, tokens[:, 1:])
    return jnp.mean(losses)


def adamw(rate: float, *, warmup: int, horizon: int) -> optax.GradientTransformation:
    """AdamW behind a clip at norm 1; the rate is part of its state, and so of the metrics."""
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=rate,
        warmup_steps=warmup,
        decay_steps=max(horizon, warmup + 1),
        end_value=0.1 * rate,
    )
    optimizer = optax.inject_hyperparams(optax.adamw)(learning_rate=schedule, weight_decay=0.01)
    return optax.chain(optax.clip_by_global_norm(1.0), optimizer)
