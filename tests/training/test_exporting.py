"""Exports: the parameters of a verified checkpoint, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from fakes.checkpoints import WAIT_S, Stores, meta, state
from trainerd.actors.checkpoint_manifest import MANIFEST
from trainerd.actors.errors import CheckpointError
from trainerd.actors.exporting import export_parameters
from trainerd.actors.step import data_mesh, replicated


@pytest.fixture
def stores() -> Iterator[Stores]:
    made = Stores()
    yield made
    for store in made.made:
        assert store.close(WAIT_S)


@pytest.mark.parametrize(
    "params",
    [
        {"layers": [{"w": jnp.ones((2, 3), jnp.bfloat16)}, {"w": jnp.arange(4)}], "b": jnp.ones(3)},
        jnp.arange(5.0),
    ],
    ids=["a tree", "one array"],
)
def test_parameters_come_back_by_orbax_alone_as_they_were(
    stores: Stores, tmp_path: Path, params: object
) -> None:
    """Whatever devices they were saved from."""
    whole = jax.device_put(
        replace(state(5), params=params), replicated(data_mesh(jax.devices()[:4]))
    )
    store = stores(tmp_path)
    store.save(5, whole, meta(6))
    assert store.drain(WAIT_S)
    target = tmp_path / "out"
    target.mkdir()
    exported = export_parameters(tmp_path / "5", target)
    with ocp.StandardCheckpointer() as reader:
        loaded = reader.restore(target)
    leaves, expected = jax.tree.leaves(loaded), jax.tree.leaves(params)
    if isinstance(params, jax.Array):
        assert list(loaded) == ["params"]
    assert exported.arrays == len(leaves) == len(expected)
    assert exported.parameters == sum(leaf.size for leaf in expected)
    assert exported.size_bytes > 0
    by_shape = sorted(leaves, key=lambda leaf: (leaf.shape, str(leaf.dtype)))
    for got, wanted in zip(
        by_shape, sorted(expected, key=lambda leaf: (leaf.shape, str(leaf.dtype))), strict=True
    ):
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)


def test_nothing_is_exported_of_what_cannot_be_trusted(stores: Stores, tmp_path: Path) -> None:
    store = stores(tmp_path)
    store.save(5, state(5), meta(6))
    assert store.drain(WAIT_S)
    (tmp_path / "5" / MANIFEST).unlink()
    with pytest.raises(CheckpointError, match="cannot be trusted"):
        export_parameters(tmp_path / "5", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_never_overwritten(stores: Stores, tmp_path: Path) -> None:
    store = stores(tmp_path)
    store.save(5, state(5), meta(6))
    assert store.drain(WAIT_S)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(OSError, match="not empty"):
        export_parameters(tmp_path / "5", tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "mine"
