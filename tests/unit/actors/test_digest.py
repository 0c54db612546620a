"""The state digest: equal for equal states, different for any difference."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fakes import training
from trainerd.actors.digest import state_digest
from trainerd.actors.state import initial_state
from trainerd.actors.step import data_mesh, fresh_state

BASE: dict[str, Any] = {"a": {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}, "n": np.int32(1)}


def changed(**leaves: Any) -> dict[str, Any]:
    return {"a": {"w": leaves.get("w", BASE["a"]["w"])}, "n": leaves.get("n", BASE["n"])}


def flipped() -> np.ndarray:
    words = BASE["a"]["w"].copy()
    words.view(np.uint8)[0, 0] ^= 1
    return words


@pytest.mark.parametrize(
    "other",
    [
        changed(w=flipped()),
        changed(w=BASE["a"]["w"].astype(np.float16)),
        changed(w=BASE["a"]["w"].view(np.int32)),
        changed(w=BASE["a"]["w"].reshape(3, 2)),
        changed(w=BASE["a"]["w"].reshape(2, 3, 1)),
        changed(n=np.int32(2)),
        changed(n=np.array([1], np.int32)),
        {"b": BASE["a"], "n": BASE["n"]},
        {**BASE, "more": np.float32(0)},
        {"a": BASE["a"]},
    ],
    ids=["bit", "dtype", "view", "shape", "rank", "value", "vector", "path", "more", "fewer"],
)
def test_any_difference_changes_it(other: Any) -> None:
    assert state_digest(other) != state_digest(BASE)


def test_memory_layout_and_key_order_do_not() -> None:
    same = {"n": jnp.int32(1), "a": {"w": np.asfortranarray(BASE["a"]["w"])}}
    big_endian = changed(w=BASE["a"]["w"].astype(">f4"))
    assert state_digest(same) == state_digest(BASE) == state_digest(big_endian)


def test_it_never_changes() -> None:
    """Digests are compared between releases."""
    assert state_digest(BASE) == "2b69f8700eafcfe3760ea5d0552b9bda8b6dd9397e981744346b7e929dd92e7c"


def test_bytes_cannot_move_between_leaves() -> None:
    one = {"a": np.array([1, 2], np.uint8), "b": np.array([3], np.uint8)}
    two = {"a": np.array([1], np.uint8), "b": np.array([2, 3], np.uint8)}
    assert state_digest(one) != state_digest(two)


def test_the_number_of_devices_does_not_count() -> None:
    program = training.program()
    one = fresh_state(program, 0, data_mesh(jax.devices()[:1]))
    eight = fresh_state(program, 0, data_mesh(jax.devices()))
    assert state_digest(one) == state_digest(eight)


def test_typed_keys_and_bfloat16_count() -> None:
    one = {"k": jax.random.key(0), "w": jnp.ones(2, jnp.bfloat16)}
    two = {"k": jax.random.key(1), "w": jnp.ones(2, jnp.bfloat16)}
    assert state_digest(one) != state_digest(two)


def test_seeds_differ() -> None:
    zero, one = (initial_state(training.program(), seed) for seed in (0, 1))
    assert state_digest(zero) != state_digest(one)
