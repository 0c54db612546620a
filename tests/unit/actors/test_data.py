"""Batches by index, and the feed that makes them ahead of time."""

from __future__ import annotations

import threading
from typing import Any

import grain
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import training
from trainerd.actors.data import Batches, permutation
from trainerd.actors.errors import DataError
from trainerd.actors.feed import Feed, Loaded

FIRST = [0, 3, 7, 5, 1, 2, 6, 4]
SECOND = [3, 7, 4, 2, 1, 6, 5, 0]


def batches(data: Any, *, global_batch: int = 10, seed: int = 0) -> Batches:
    return Batches(data, global_batch=global_batch, seed=seed)


@given(
    length=st.integers(1, 200),
    epoch=st.integers(0, 2**31),
    seed=st.integers(-(2**63), 2**63 - 1),
)
def test_a_permutation_holds_every_index_once(length: int, epoch: int, seed: int) -> None:
    order = permutation(length, seed=seed, epoch=epoch)
    assert sorted(order) == list(range(length))


def test_the_order_of_an_epoch_never_changes() -> None:
    """A checkpoint made by an older release must find its batches where they were."""
    assert permutation(8, seed=0, epoch=0).tolist() == FIRST
    assert permutation(8, seed=0, epoch=1).tolist() == SECOND


def test_an_epoch_covers_the_source_once_and_drops_its_remainder() -> None:
    made = batches(training.Data(length=34))
    assert made.batches_per_epoch == 3
    first = np.concatenate([made.indices(b) for b in range(3)])
    second = np.concatenate([made.indices(b) for b in range(3, 6)])
    assert len(set(first)) == len(set(second)) == 30
    assert first.tolist() != second.tolist()


def test_batches_can_be_read_in_any_order() -> None:
    forward, backward = batches(training.Data()), batches(training.Data())
    ahead = [forward.read(b)["x"] for b in range(20)]
    back = [backward.read(b)["x"] for b in reversed(range(20))]
    assert np.array_equal(ahead, back[::-1])


def test_seeds_give_different_orders() -> None:
    one, other = batches(training.Data()), batches(training.Data(), seed=1)
    assert one.indices(0).tolist() != other.indices(0).tolist()


def test_leaves_have_the_types_that_jax_will_use() -> None:
    made = batches([{"a": 1.5, "b": np.array([1, 2]), "c": np.float64(2)}] * 10).read(0)
    assert {k: (v.dtype.name, v.shape) for k, v in made.items()} == {
        "a": ("float32", (10,)),
        "b": ("int32", (10, 2)),
        "c": ("float32", (10,)),
    }


def test_a_grain_map_dataset_is_a_source() -> None:
    dataset = grain.MapDataset.source(training.Data()).map(lambda e: {"x": e["x"] * 2})
    made, plain = batches(dataset), batches(training.Data())
    assert np.array_equal(made.read(3)["x"], plain.read(3)["x"] * 2)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (iter([1, 2]), "must have a length and give an example for an index"),
        (grain.MapDataset.source(list(range(9))).to_iter_dataset(), "no random access"),
        ([], "the source has 0 examples, a batch needs 10"),
        ([1.0] * 9, "the source has 9 examples, a batch needs 10"),
        ([{"a": "text"}] * 10, "leaf ['a'] of example 0 is a str, expected an array of numbers"),
        ([{}] * 10, "an example must hold at least one array"),
        (grain.MapDataset.source([1.0] * 20).repeat(), "leave out repeat()"),
    ],
)
def test_a_source_of_another_kind_is_refused(source: Any, expected: str) -> None:
    with pytest.raises(DataError) as raised:
        batches(source)
    assert expected in str(raised.value)


def spoilt(example: Any) -> tuple[Batches, int]:
    """Batches of a source whose example 50 is `example`, and the batch that holds it."""
    made = batches(training.Data(spoil={50: example}))
    return made, next(b for b in range(9) if 50 in made.indices(b))


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        (OSError("disk gone"), "the source raised OSError for example 50 of batch"),
        ({"x": np.zeros(4, "f"), "y": 1.0}, "leaf ['x'] of example 50 in batch"),
        ({"x": np.zeros(5, "f"), "y": 1}, "is int32[], expected float32[]"),
        ({"x": np.zeros(5, "f"), "y": "no"}, "is a str, expected float32[]"),
        ({"x": np.zeros(5, "f")}, "has the structure"),
    ],
)
def test_a_bad_example_names_the_batch_and_the_leaf(example: Any, expected: str) -> None:
    made, batch = spoilt(example)
    with pytest.raises(DataError) as raised:
        made.read(batch)
    assert expected in str(raised.value)
    assert raised.value.batch == batch


def test_a_source_that_raises_shows_the_users_frames_alone() -> None:
    made, batch = spoilt(OSError("disk gone"))
    with pytest.raises(DataError) as raised:
        made.read(batch)
    assert "in __getitem__" in raised.value.detail
    assert "actors/data.py" not in raised.value.detail


def test_the_first_example_may_be_bad() -> None:
    made = batches(training.Data(spoil={0: OSError("torn")}))
    assert made.template["x"].shape == (training.INPUTS,)


def loaded(batch: int) -> Loaded:
    weights = np.ones(1, np.float32)
    return Loaded(batch=batch, slots=batch, placed_weights=weights, weights=weights)


def test_the_feed_makes_what_was_asked_for_and_nothing_else() -> None:
    made: list[int] = []

    def make(batch: int) -> Loaded:
        made.append(batch)
        return loaded(batch)

    feed = Feed()
    feed.start(make)
    try:
        feed.ahead(3)
        assert feed.take(3, 10.0) == feed_of(3)
        assert feed.take(5, 10.0) == feed_of(5)
        assert made == [3, 5]
    finally:
        assert feed.close(10.0)


def feed_of(batch: int) -> Any:
    class Same:
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Loaded) and other.batch == batch

        __hash__ = None  # type: ignore[assignment]

    return Same()


def test_a_slow_source_is_waited_for_with_a_deadline() -> None:
    gate = threading.Event()

    def make(batch: int) -> Loaded:
        assert gate.wait(30.0)
        return loaded(batch)

    feed = Feed()
    feed.start(make)
    try:
        assert feed.take(0, 0.01) is None
        gate.set()
        assert feed.take(0, 10.0) is not None
    finally:
        assert feed.close(10.0)


def test_what_making_raises_is_raised_by_the_take_of_that_batch() -> None:
    def make(batch: int) -> Loaded:
        if batch == 1:
            raise RuntimeError("device full")
        return loaded(batch)

    feed = Feed()
    feed.start(make)
    try:
        feed.ahead(1)
        with pytest.raises(RuntimeError, match="device full"):
            feed.take(1, 10.0)
        assert feed.take(2, 10.0) is not None
    finally:
        assert feed.close(10.0)


def test_closing_does_not_wait_for_ever_for_a_stuck_source() -> None:
    gate, entered = threading.Event(), threading.Event()

    def make(batch: int) -> Loaded:
        entered.set()
        assert gate.wait(30.0)
        return loaded(batch)

    feed = Feed()
    feed.start(make)
    feed.ahead(0)
    assert entered.wait(10.0)
    assert not feed.close(0.01)
    gate.set()
    assert feed.close(10.0)


def test_a_feed_that_never_began_closes() -> None:
    assert Feed().close(0.0)
