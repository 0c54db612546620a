"""The byte transformer in Equinox: the model is partitioned, its arrays are the pytree.

entry = "trainerd.actors.examples.stdlib_lm_equinox:build"
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from trainerd.actors.examples.language_model import language_model
from trainerd.actors.examples.stdlib_text import VOCABULARY
from trainerd.actors.program import Program


class Block(eqx.Module):
    """Attention and a feed-forward part, each added to the residual stream."""

    norm_in: eqx.nn.RMSNorm
    attention: eqx.nn.MultiheadAttention
    norm_out: eqx.nn.RMSNorm
    up: eqx.nn.Linear
    down: eqx.nn.Linear

    def __init__(self, width: int, heads: int, *, key: jax.Array) -> None:
        attention, up, down = jax.random.split(key, 3)
        self.norm_in = eqx.nn.RMSNorm(width, use_bias=False)
        self.attention = eqx.nn.MultiheadAttention(heads, width, key=attention)
        self.norm_out = eqx.nn.RMSNorm(width, use_bias=False)
        self.up = eqx.nn.Linear(width, 4 * width, use_bias=False, key=up)
        self.down = eqx.nn.Linear(4 * width, width, use_bias=False, key=down)

    def __call__(self, hidden: jax.Array) -> jax.Array:
        """Map `[time, width]` to the same shape."""
        time = hidden.shape[0]
        causal = jnp.tril(jnp.ones((time, time), bool))
        normed = jax.vmap(self.norm_in)(hidden)
        hidden = hidden + self.attention(normed, normed, normed, mask=causal)
        inner = jax.vmap(self.up)(jax.vmap(self.norm_out)(hidden))
        return hidden + jax.vmap(self.down)(jax.nn.gelu(inner))


class Transformer(eqx.Module):
    """A decoder over bytes; input and output share the embedding."""

    embedding: jax.Array
    position: jax.Array
    blocks: list[Block]
    norm: eqx.nn.RMSNorm

    def __init__(
        self, *, width: int, layers: int, heads: int, context: int, key: jax.Array
    ) -> None:
        embed, position, *blocks = jax.random.split(key, 2 + layers)
        self.embedding = 0.02 * jax.random.normal(embed, (VOCABULARY, width))
        self.position = 0.02 * jax.random.normal(position, (context, width))
        self.blocks = [Block(width, heads, key=block) for block in blocks]
        self.norm = eqx.nn.RMSNorm(width, use_bias=False)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Map tokens `[time]` to logits `[time, 256]`."""
        hidden = self.embedding[tokens] + self.position[: tokens.shape[0]]
        for block in self.blocks:
            hidden = block(hidden)
        return jax.vmap(self.norm)(hidden) @ self.embedding.T


def build(
    *,
    width: int = 128,
    layers: int = 2,
    heads: int = 4,
    context: int = 64,
    learning_rate: float = 4e-3,
    warmup: int = 20,
    horizon: int = 400,
) -> Program:
    """Return the program; `horizon` is the number of updates the learning rate is planned for."""

    def make(key: jax.Array) -> Transformer:
        return Transformer(width=width, layers=layers, heads=heads, context=context, key=key)

    shapes = eqx.filter_eval_shape(make, jax.random.key(0))
    static = eqx.partition(shapes, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))[1]

    def init(key: jax.Array) -> Transformer:
        params: Transformer = eqx.filter(make(key), eqx.is_inexact_array)
        return params

    def logits(params: Transformer, tokens: jax.Array) -> jax.Array:
        predicted: jax.Array = jax.vmap(eqx.combine(params, static))(tokens)
        return predicted

    return language_model(
        init=init,
        logits=logits,
        context=context,
        learning_rate=learning_rate,
        warmup=warmup,
        horizon=horizon,
    )
