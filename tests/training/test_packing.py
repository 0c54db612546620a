"""Numbers that cross from a compiled step to the host together: exact, whatever their type."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from trainerd.actors.packing import pack

NUMBERS: dict[str, Any] = {
    "bool": True,
    "int8": -128,
    "uint8": 255,
    "int16": -(2**15),
    "uint16": 2**16 - 1,
    "int32": -(2**31),
    "uint32": 2**32 - 1,
    "float16": 65504.0,
    "bfloat16": 1 + 2**-7,
    "float32": 1 + 2**-23,
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_of_each_type_crosses_exactly(name: str) -> None:
    value = jnp.asarray(NUMBERS[name], name)
    (came,) = jax.jit(lambda number: pack([number]))(value).read()
    assert came == NUMBERS[name]
    assert type(came) is type(NUMBERS[name])


def test_long_numbers_cross_exactly_among_short_ones() -> None:
    with jax.enable_x64(True):
        tree = {
            "a": jnp.bool_(False),
            "b": jnp.int64(2**62 + 1),
            "c": jnp.float64(0.1),
            "d": jnp.int32(-1),
            "e": jnp.uint64(2**64 - 1),
        }
        came = jax.jit(pack)(tree).read()
    assert came == {"a": False, "b": 2**62 + 1, "c": 0.1, "d": -1, "e": 2**64 - 1}


FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True)
FIRST = jax.jit(pack)


@settings(deadline=None)
@given(st.tuples(FLOATS, st.integers(-(2**31), 2**31 - 1), FLOATS))
def test_every_bit_crosses(numbers: tuple[float, int, float]) -> None:
    came = FIRST(tuple(map(np.asarray, _typed(numbers)))).read()
    assert [np.asarray(a).tobytes() for a in _typed(came)] == [
        np.asarray(b).tobytes() for b in _typed(numbers)
    ]


def _typed(numbers: Any) -> tuple[np.float32, np.int32, np.float32]:
    first, second, third = numbers
    return np.float32(first), np.int32(second), np.float32(third)


def test_arrays_stay_arrays_in_their_places() -> None:
    tree = {"a": jnp.arange(3), "b": 1.5, "c": {"d": jnp.ones(2, jnp.bool_), "e": jnp.int32(4)}}
    came = jax.jit(pack)(tree).read()
    assert came["a"].tolist() == [0, 1, 2]
    assert came["c"]["d"].tolist() == [True, True]
    assert (came["b"], came["c"]["e"]) == (1.5, 4)


def test_a_tree_without_numbers_can_be_read() -> None:
    assert jax.jit(pack)({}).read() == {}


def test_what_lies_on_several_devices_is_read_too() -> None:
    whole = NamedSharding(Mesh(np.asarray(jax.devices()), ("data",)), PartitionSpec())
    packed = jax.jit(pack, out_shardings=whole)((jnp.float32(0.5), jnp.int32(3)))
    assert len(packed.words.sharding.device_set) == 8
    assert packed.read() == (0.5, 3)


def test_a_failed_computation_says_so_when_it_is_read() -> None:
    def fail(value: Any) -> Any:
        raise ValueError("no such number")

    def failing(value: jax.Array) -> Any:
        made = jax.ShapeDtypeStruct((), jnp.float32)
        return pack([jax.pure_callback(fail, made, value)])

    # Where a computation runs at once it is the call that raises.
    with pytest.raises(Exception, match="no such number"):
        jax.jit(failing)(1.0).read()


@pytest.mark.parametrize("value", [jnp.complex64(1), jax.random.key(0)])
def test_what_is_no_real_number_is_refused_by_its_type(value: Any) -> None:
    with pytest.raises(TypeError, match=r"real numbers, got (complex64|key)"):
        jax.jit(pack)([value])
