"""Along which dimension a leaf is cut over the devices, and which leaves stay whole."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from trainerd.actors.errors import PlanError
from trainerd.actors.plan import Plan
from trainerd.actors.shards import LEAST_ELEMENTS, cut_dimension, cut_leaves, cuts, shardings, spec
from trainerd.actors.slot_sums import WHOLE
from trainerd.actors.step import data_mesh


def leaf(*shape: int, dtype: Any = np.float32) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((64, 512), 1),
        ((512, 64), 0),
        # The largest that eight divides, not the largest; of two equal ones the first.
        ((100, 4, 64), 2),
        ((64, 64), 0),
        # Too small, or indivisible.
        ((LEAST_ELEMENTS - 8,), WHOLE),
        ((LEAST_ELEMENTS,), 0),
        ((101, 99), WHOLE),
        ((), WHOLE),
        ((0, 8), WHOLE),
    ],
)
def test_a_leaf_is_cut_along_its_largest_dimension_that_the_devices_divide(
    shape: tuple[int, ...], axis: int
) -> None:
    assert cut_dimension(leaf(*shape), 8) == axis


def test_nothing_is_cut_over_one_device_and_no_random_key() -> None:
    assert cut_dimension(leaf(64, 512), 1) == WHOLE
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 8192))
    assert cut_dimension(keys, 8) == WHOLE


def test_the_cuts_of_a_placed_tree_are_those_it_was_placed_with() -> None:
    mesh = data_mesh(jax.devices()[:4])
    tree = {"big": leaf(8, 1024), "small": leaf(8)}
    for sharded in (False, True):
        places = shardings(tree, mesh, sharded=sharded)
        placed = jax.tree.map(
            lambda one, place: jax.ShapeDtypeStruct(one.shape, one.dtype, sharding=place),
            tree,
            places,
        )
        assert cuts(placed) == ({"big": 1, "small": WHOLE} if sharded else None)
        assert len(cut_leaves(placed)) == sharded
    assert places["big"].spec == spec(1)


def test_sums_of_whole_gradients_in_order_and_sharded_state_are_refused_with_all_else() -> None:
    with pytest.raises(PlanError) as caught:
        Plan(steps=0, global_batch=8, state="sharded", exact_across_hosts=True)
    assert 'state "sharded" cannot be given together with exact_across_hosts' in str(caught.value)
    assert "steps must be ≥ 1" in str(caught.value)
    with pytest.raises(PlanError, match='state must be "replicated" or "sharded", got \'spread\''):
        Plan(steps=1, global_batch=8, state="spread")
