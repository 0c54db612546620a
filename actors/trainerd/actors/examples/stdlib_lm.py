"""A small decoder-only transformer over bytes, in plain JAX.

entry = "trainerd.actors.examples.stdlib_lm:build"
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from trainerd.actors.examples.language_model import language_model
from trainerd.actors.examples.stdlib_text import VOCABULARY
from trainerd.actors.program import Program

Params: TypeAlias = dict[str, Any]


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
    if width % heads:
        raise ValueError(f"width must be a multiple of heads ({heads}), got {width}")
    return language_model(
        init=lambda key: init(key, width=width, layers=layers, context=context),
        logits=lambda params, tokens: logits(params, tokens, heads=heads),
        context=context,
        learning_rate=learning_rate,
        warmup=warmup,
        horizon=horizon,
    )


def init(key: jax.Array, *, width: int, layers: int, context: int) -> Params:
    """Return the parameters: embeddings, and one dict a block."""
    embed_key, position_key, *block_keys = jax.random.split(key, 2 + layers)
    return {
        "embedding": 0.02 * jax.random.normal(embed_key, (VOCABULARY, width)),
        "position": 0.02 * jax.random.normal(position_key, (context, width)),
        "blocks": [_init_block(block_key, width, layers) for block_key in block_keys],
        "scale": jnp.ones(width),
    }


def logits(params: Params, tokens: jax.Array, *, heads: int) -> jax.Array:
    """Return `[batch, time, 256]` for tokens `[batch, time]`; input and output share a matrix."""
    hidden = params["embedding"][tokens] + params["position"][: tokens.shape[1]]
    for block in params["blocks"]:
        hidden = hidden + _attend(block, _normalise(hidden, block["scale_in"]), heads)
        inner = _normalise(hidden, block["scale_out"]) @ block["up"]
        hidden = hidden + jax.nn.gelu(inner) @ block["down"]
    output: jax.Array = _normalise(hidden, params["scale"]) @ params["embedding"].T
    return output


def _init_block(key: jax.Array, width: int, layers: int) -> Params:
    qkv, out, up, down = jax.random.split(key, 4)
    narrow = 1 / math.sqrt(width)
    # Each block adds to the residual stream twice; this keeps its variance at one.
    residual = narrow / math.sqrt(2 * layers)
    return {
        "scale_in": jnp.ones(width),
        "qkv": narrow * jax.random.normal(qkv, (width, 3 * width)),
        "out": residual * jax.random.normal(out, (width, width)),
        "scale_out": jnp.ones(width),
        "up": narrow * jax.random.normal(up, (width, 4 * width)),
        "down": residual / 2 * jax.random.normal(down, (4 * width, width)),
    }


def _attend(block: Params, hidden: jax.Array, heads: int) -> jax.Array:
    batch, time, width = hidden.shape
    parts = jnp.split(hidden @ block["qkv"], 3, axis=-1)
    query, key, value = (part.reshape(batch, time, heads, width // heads) for part in parts)
    mixed = jax.nn.dot_product_attention(query, key, value, is_causal=True)
    output: jax.Array = mixed.reshape(batch, time, width) @ block["out"]
    return output


def _normalise(hidden: jax.Array, scale: jax.Array) -> jax.Array:
    """Root-mean-square norm (Zhang and Sennrich, 2019)."""
    mean_square = jnp.mean(jnp.square(hidden), axis=-1, keepdims=True)
    return scale * hidden * jax.lax.rsqrt(mean_square + 1e-6)
