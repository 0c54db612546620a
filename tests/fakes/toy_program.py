"""Small programs for trainers in tests: a linear model that any machine trains in no time."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import optax

from trainerd.actors.program import Program


class Examples:
    """64 examples; each takes `delay_s` to read."""

    def __init__(self, width: int, delay_s: float) -> None:
        self.x = np.random.default_rng(0).normal(size=(64, width)).astype(np.float32)
        self.delay_s = delay_s

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        time.sleep(self.delay_s)
        return {"x": self.x[index], "y": self.x[index].sum()}


def build(width: int = 4, delay_s: float = 0.0, rate: float = 0.05) -> Program:
    return Program(
        init=lambda key: {"w": jnp.zeros(width)},
        loss=lambda params, batch, key: jnp.mean((batch["x"] @ params["w"] - batch["y"]) ** 2),
        optimizer=optax.sgd(rate),
        data=Examples(width, delay_s),
    )


def looks_around() -> Program:
    """Prints what a program that is started from here inherits."""
    print("standard input:", os.readlink("/proc/self/fd/0"))
    listing = (
        "import os; print('descriptors:', *sorted(map(os.path.realpath, "
        "('/proc/self/fd/' + n for n in os.listdir('/proc/self/fd')))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, check=True, close_fds=False
    )
    print(done.stdout)
    return build()


def raises() -> Program:
    raise ValueError("no such width")


def exits() -> Program:
    sys.exit(3)


def dies() -> Program:
    os._exit(9)


def never_returns() -> Program:
    while True:
        time.sleep(60)


def prints() -> Program:
    print("hello from the user")
    return build()


def loses_a_key() -> Program:
    return Program(
        init=lambda key: {"w": jnp.zeros(4)},
        loss=lambda params, batch, key: params["nope"],
        optimizer=optax.sgd(0.05),
        data=Examples(4, 0.0),
    )
