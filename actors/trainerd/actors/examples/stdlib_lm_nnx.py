"""The byte transformer in Flax NNX: the module is split, its parameters are the pytree.

entry = "trainerd.actors.examples.stdlib_lm_nnx:build"
"""

from __future__ import annotations

import functools
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from trainerd.actors.examples.language_model import language_model
from trainerd.actors.examples.stdlib_text import VOCABULARY
from trainerd.actors.program import Program

PyTree: TypeAlias = Any


class Block(nnx.Module):
    """Attention and a feed-forward part, each added to the residual stream."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs) -> None:
        self.norm_in = nnx.RMSNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            num_heads=heads, in_features=width, decode=False, use_bias=False, rngs=rngs
        )
        self.norm_out = nnx.RMSNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, use_bias=False, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, use_bias=False, rngs=rngs)

    def __call__(self, hidden: jax.Array) -> jax.Array:
        """Map `[batch, time, width]` to the same shape."""
        causal = nnx.make_causal_mask(hidden[..., 0])
        hidden = hidden + self.attention(self.norm_in(hidden), mask=causal)
        return hidden + self.down(nnx.gelu(self.up(self.norm_out(hidden))))


class Transformer(nnx.Module):
    """A decoder over bytes; input and output share the embedding."""

    def __init__(
        self, *, width: int, layers: int, heads: int, context: int, rngs: nnx.Rngs
    ) -> None:
        small = nnx.initializers.normal(0.02)
        self.embedding = nnx.Embed(VOCABULARY, width, embedding_init=small, rngs=rngs)
        self.position = nnx.Embed(context, width, embedding_init=small, rngs=rngs)
        self.blocks = nnx.List([Block(width, heads, rngs=rngs) for _ in range(layers)])
        self.norm = nnx.RMSNorm(width, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Map tokens `[batch, time]` to logits `[batch, time, 256]`."""
        hidden = self.embedding(tokens) + self.position(jnp.arange(tokens.shape[1]))
        for block in self.blocks:
            hidden = block(hidden)
        return self.embedding.attend(self.norm(hidden))


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
    make = functools.partial(Transformer, width=width, layers=layers, heads=heads, context=context)
    definition, _ = nnx.split(nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0))))

    def init(key: jax.Array) -> PyTree:
        return nnx.split(make(rngs=nnx.Rngs(key)))[1]

    def logits(params: PyTree, tokens: jax.Array) -> jax.Array:
        predicted: jax.Array = nnx.merge(definition, params)(tokens)
        return predicted

    return language_model(
        init=init,
        logits=logits,
        context=context,
        learning_rate=learning_rate,
        warmup=warmup,
        horizon=horizon,
    )
