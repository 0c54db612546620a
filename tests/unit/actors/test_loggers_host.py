"""The host boundary: what a metric may be, and what converting it waits for."""

from __future__ import annotations

import math
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trainerd.actors.loggers import MetricError, host_metrics

WAIT_S = 30.0


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1.5, 1.5),
        (3, 3.0),
        (True, 1.0),
        (np.float32(0.5), 0.5),
        (np.asarray(2, np.int16), 2.0),
        (np.bool_(False), 0.0),
    ],
)
def test_w29_numbers_of_the_host_become_floats(value, number) -> None:
    (came,) = host_metrics({"m": value}).values()
    assert type(came) is float
    assert came == number


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int32", "uint8", "bool"])
def test_w29_arrays_of_every_real_dtype_become_floats(dtype) -> None:
    came = host_metrics({"m": jnp.ones((), dtype)})
    assert came == {"m": 1.0}
    assert type(came["m"]) is float


def test_w29_nan_and_infinities_are_numbers() -> None:
    came = host_metrics({"a": jnp.nan * jnp.ones(()), "b": jnp.float32(jnp.inf)})
    assert math.isnan(came["a"])
    assert came["b"] == math.inf


def test_w29_an_array_on_all_devices_is_one_number() -> None:
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    assert host_metrics({"m": jax.device_put(jnp.float32(4), everywhere)}) == {"m": 4.0}


@pytest.mark.parametrize(
    ("value", "came"),
    [
        (np.ones(3, np.float32), r"float32\[3\]"),
        (np.ones(1), r"float64\[1\]"),
        ([1.0, 2.0], r"a list of shape \(2,\)"),
        ("0.5", "'0.5'"),
        (None, "None"),
        (1j, "complex"),
        (np.complex64(1), "complex64"),
        (object(), "object"),
        (10**400, "int too large"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_w29_what_is_not_one_number_is_refused_by_name(value, came) -> None:
    with pytest.raises(MetricError, match=f'metric "x" must be one real number, got .*{came}'):
        host_metrics({"loss": 1.0, "x": value})


@pytest.mark.parametrize("backend", ["cpu", "cuda"])
def test_w29_arrays_that_are_not_one_number_are_refused_all_by_name(
    backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Elsewhere than on a CPU all copies are begun before the first is waited for.
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert host_metrics({"a": jnp.float32(1), "b": jnp.int32(2)}) == {"a": 1.0, "b": 2.0}
    gone = jnp.float32(1.0)
    gone.delete()
    metrics = {
        "one": jnp.ones((1,)),
        "many": jnp.ones((8, 2)),
        "complex": jnp.complex64(1),
        "key": jax.random.key(0),
        "gone": gone,
    }
    with pytest.raises(MetricError) as raised:
        host_metrics(metrics)
    for name, came in (
        ("one", "float32[1]"),
        ("many", "float32[8, 2]"),
        ("complex", "complex64[]"),
        ("key", "key<"),
        ("gone", "deleted"),
    ):
        assert f'metric "{name}" must be one real number' in str(raised.value)
        assert name == "key" or came in str(raised.value)


def test_w29_converting_the_landed_step_does_not_wait_for_the_step_in_flight() -> None:
    let = threading.Event()
    entered = threading.Event()

    def hold(x: np.ndarray) -> np.ndarray:
        entered.set()
        assert let.wait(WAIT_S)
        return x

    @jax.jit
    def step(x: jax.Array) -> jax.Array:
        return jax.pure_callback(hold, jax.ShapeDtypeStruct((), jnp.float32), x)

    landed = jax.block_until_ready(jnp.float32(0.25))
    outcome: list[float] = []
    # On a CPU a step with a callback is run by the thread that dispatches it.
    in_flight = threading.Thread(target=lambda: outcome.append(float(step(landed))))
    in_flight.start()
    try:
        assert entered.wait(WAIT_S)
        converted: list[dict[str, float]] = []
        boundary = threading.Thread(target=lambda: converted.append(host_metrics({"l": landed})))
        boundary.start()
        boundary.join(WAIT_S / 3)
        assert not let.is_set()
        assert converted == [{"l": 0.25}]
        assert outcome == []
    finally:
        let.set()
        in_flight.join(WAIT_S)
        boundary.join(WAIT_S)
    assert outcome == [0.25]
