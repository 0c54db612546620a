"""A small regression whose data misbehave on request; a step takes about a millisecond."""

import os
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from trainerd.actors import Program

EXAMPLES = 512


class Data:
    """Random access to 512 examples. `pace_s`: seconds each example takes; `slow_s` while there is
    a file at `slow_while`."""

    def __init__(
        self, nan_index: int, raise_index: int, pace_s: float, slow_while: str, slow_s: float
    ) -> None:
        generator = np.random.default_rng(0)
        self.x = generator.normal(size=(EXAMPLES, 8)).astype(np.float32)
        self.y = np.sin(self.x.sum(axis=1)).astype(np.float32)
        self.nan_index, self.raise_index, self.pace_s = nan_index, raise_index, pace_s
        self.slow_while, self.slow_s = slow_while, slow_s

    def __len__(self) -> int:
        return EXAMPLES

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if index == self.raise_index:
            raise ValueError(f"example {index} cannot be read")
        pace_s = self.pace_s
        if self.slow_while and os.path.exists(self.slow_while):
            pace_s = self.slow_s
        if pace_s:
            time.sleep(pace_s)
        y = np.float32(np.nan) if index == self.nan_index else self.y[index]
        return {"x": self.x[index], "y": y}


def build(
    width: int = 16,
    nan_index: int = -1,
    raise_index: int = -1,
    pace_s: float = 0.0,
    slow_while: str = "",
    slow_s: float = 0.08,
    raise_in_build: bool = False,
    bad_shapes: bool = False,
    evaluate_raises_at: int = -1,
    exit_once: str = "",
) -> Program:
    if raise_in_build:
        raise RuntimeError("the data set is not where it should be")

    def drawn(key, rows, columns):
        # As good as random here, and each trainer that begins anew compiles it in no time.
        seed = (jax.random.key_data(key)[-1] % 1000).astype(jnp.float32)
        return jnp.sin(seed + jnp.arange(1.0 * rows * columns) ** 2).reshape(rows, columns)

    def init(key):
        weights = drawn(key, 9, width)
        return {"a": weights[:8] / 2, "b": weights[8] / 3}

    def loss(params, batch, key):
        b = params["b"][:3] if bad_shapes else params["b"]
        hidden = jnp.tanh(batch["x"] @ params["a"])
        hidden += 0.01 * drawn(key, *hidden.shape)
        return jnp.mean((hidden @ b - batch["y"]) ** 2)

    calls = {"n": 0}

    def evaluate(params):
        calls["n"] += 1
        if calls["n"] == evaluate_raises_at:
            raise KeyError("bits")
        if exit_once and calls["n"] == 3 and not os.path.exists(exit_once):
            with open(exit_once, "x"):
                os._exit(9)
        return {"norm": float(jnp.linalg.norm(params["a"]))}

    return Program(
        init=init,
        loss=loss,
        optimizer=optax.adam(1e-2),
        data=Data(nan_index, raise_index, pace_s, slow_while, slow_s),
        evaluate=evaluate,
    )
