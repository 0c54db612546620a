"""The two models everything is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from trainerd.actors.examples import stdlib_lm
from trainerd.actors.program import Program


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A program with its batch. `window`: steps measured at a stretch, `pause`: steps before."""

    name: str
    program: Program
    global_batch: int
    microbatch: int
    window: int
    pause: int


class Rows:
    """Random access to 512 records of 64 rows each: reading costs little, as it should."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        self._x = generator.normal(size=(512, 64, 32)).astype(np.float32)
        self._y = np.sin(self._x.sum(axis=2))

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {"x": self._x[index], "y": self._y[index]}


def mlp() -> Model:
    """Two hidden layers of 256: 74,496 parameters; a step takes about a millisecond."""

    def init(key: jax.Array) -> Any:
        a, b, c = jax.random.split(key, 3)
        return {
            "a": jax.random.normal(a, (32, 256)) / 6,
            "b": jax.random.normal(b, (256, 256)) / 16,
            "c": jax.random.normal(c, (256,)) / 16,
        }

    def loss(params: Any, batch: Any, key: jax.Array) -> Any:
        del key
        hidden = jnp.tanh(jnp.tanh(batch["x"] @ params["a"]) @ params["b"])
        return jnp.mean((hidden @ params["c"] - batch["y"]) ** 2)

    program = Program(init=init, loss=loss, optimizer=optax.adamw(1e-3), data=Rows())
    return Model(name="MLP", program=program, global_batch=4, microbatch=1, window=300, pause=20)


def transformer() -> Model:
    """The bundled language model, 8 layers of 320: 9.9 million parameters."""
    program = stdlib_lm.build(width=320, layers=8, heads=8, context=64, horizon=10_000)
    return Model(
        name="transformer", program=program, global_batch=16, microbatch=4, window=4, pause=2
    )


MODELS = {"mlp": mlp, "transformer": transformer}
