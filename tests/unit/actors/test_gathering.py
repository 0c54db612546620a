"""The whole of a state that is cut over devices: who keeps it, for how long, and its digest."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trainerd.actors import gathering
from trainerd.actors.digest import state_digest
from trainerd.actors.errors import PeerLostError
from trainerd.actors.gathering import Gathering
from trainerd.actors.shards import shardings
from trainerd.actors.state import TrainState
from trainerd.actors.step import data_mesh

MESH = data_mesh(jax.devices()[:4])


@pytest.fixture(scope="module")
def state() -> TrainState:
    held = TrainState(
        params={"w": jnp.arange(8192.0).reshape(2, 4096), "b": jnp.ones(3)},
        opt_state={"key": jax.random.key(3)},
        step=jnp.int32(7),
        rng=jnp.zeros(2, jnp.uint32),
    )
    return jax.device_put(held, shardings(held, MESH, sharded=True))


def test_the_process_that_saves_holds_the_whole_state_until_the_run_goes_on(
    state: TrainState,
) -> None:
    own = Gathering(MESH, keeps=True)
    own.gather(state, 7)
    held = own.held(7)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(held))
    assert np.array_equal(held.params["w"], np.arange(8192.0).reshape(2, 4096))
    assert own.digest(state, 7) == state_digest(state)
    assert own.digest(state, 8) == ""
    own.forget()
    assert own.digest(state, 7) == ""


def test_the_others_keep_it_where_all_are_to_tell_its_digest(state: TrainState) -> None:
    own = Gathering(MESH, keeps=False)
    own.gather(state, 7)
    assert own.digest(state, 7) == ""
    own.gather(state, 7, by_all=True)
    assert own.digest(state, 7) == state_digest(state)


def test_all_gather_again_or_none_does_whoever_has_kept_it(
    state: TrainState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that alone gathered would wait for the others for ever."""
    told: dict[bool, list[int]] = {True: [], False: []}
    for keeps, leaves in told.items():
        own = Gathering(MESH, keeps=keeps)
        monkeypatch.setattr(
            own, "_fetched", lambda leaf, *, keeps, leaves=leaves: leaves.append(leaf.size)
        )
        for by_all in (False, False, True, True, False):
            own.gather(state, 7, by_all=by_all)
            leaves.append(-1)
    assert told[True] == told[False]
    assert told[True].count(2) == 2


@pytest.mark.parametrize(
    ("text", "raised"),
    [
        ("UNKNOWN: Gloo all-gather failed: Connection reset by peer", PeerLostError),
        ("RESOURCE_EXHAUSTED: out of memory", jax.errors.JaxRuntimeError),
    ],
)
def test_a_failed_exchange_is_a_lost_peer_and_no_exception_of_the_program(
    state: TrainState, monkeypatch: pytest.MonkeyPatch, text: str, raised: type[Exception]
) -> None:
    def fails(_whole: object, _tree: object) -> None:
        raise jax.errors.JaxRuntimeError(text)

    monkeypatch.setattr(gathering.Whole, "__call__", fails)
    own = Gathering(MESH, keeps=True)
    with pytest.raises(raised, match=text.partition(":")[0]):
        own.gather(state, 7)
    assert own.digest(state, 7) == ""
