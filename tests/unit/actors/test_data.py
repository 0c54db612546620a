"""Batches by index, and the feed that makes them ahead of time."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import grain
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import training
from trainerd.actors.data import Batches, open_batches, permutation
from trainerd.actors.errors import DataError
from trainerd.actors.feed import Feed, Loaded
from trainerd.actors.preparation import loader
from trainerd.actors.slots import SlotPlan

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
    "source",
    [
        [np.full(2, i, np.float32) for i in range(20)],
        tuple(np.full(2, i, np.float32) for i in range(20)),
        np.repeat(np.arange(20, dtype=np.float32), 2).reshape(20, 2),
        grain.MapDataset.source(np.arange(20.0)).map(lambda x: np.full(2, x, np.float32)),
    ],
    ids=["list", "tuple", "array", "grain"],
)
def test_any_sequence_is_a_source(source: Any) -> None:
    made = batches(source)
    assert made.read(0).tolist() == [[i, i] for i in made.indices(0)]


def test_an_example_may_be_a_tuple_of_arrays() -> None:
    x, y = np.ones((20, 3), np.float32), np.arange(20)
    made = batches(list(zip(x, y, strict=True))).read(0)
    assert [(part.shape, part.dtype.name) for part in made] == [
        ((10, 3), "float32"),
        ((10,), "int32"),
    ]


class Length:
    """A source whose length is whatever is said."""

    def __init__(self, length: Any) -> None:
        self.length = length

    def __len__(self) -> Any:
        return self.length() if callable(self.length) else self.length

    def __getitem__(self, index: int) -> Any:
        return np.float32(index)


COLUMNS = np.ones((96, 5), np.float32)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (7, "must have a length and give an example for an index"),
        ({1, 2}, "got set; pass a sequence, a Grain MapDataset or a Grain IterDataset"),
        (iter([1, 2]), "has no get_state() and set_state(): a run could not be resumed exactly"),
        ((i for i in range(9)), "data is a generator, whose iterator has no get_state()"),
        ([], "the source has 0 examples, a batch needs 10"),
        ([1.0] * 9, "the source has 9 examples, a batch needs 10"),
        (Length(-1), "len(data) raised ValueError"),
        (Length(1 << 70), "len(data) raised OverflowError"),
        (Length(1 << 40), "at most 2147483648 are supported; leave out repeat()"),
        (Length(lambda: 1 / 0), "len(data) raised ZeroDivisionError"),
        ((COLUMNS, COLUMNS[:, 0]), "for a tuple of columns pass list(zip(*data))"),
        ({i: COLUMNS for i in "abcdefghijklm"}, "KeyError: 0; for a dict of columns pass"),
        ([{"a": "text"}] * 10, "leaf ['a'] of example 0 is a str, expected an array of numbers"),
        ([{"a": np.array([None])}] * 10, "leaf ['a'] of example 0 is a ndarray of dtype object"),
        ([{"a": np.array(["s"])}] * 10, "is a ndarray of dtype <U1"),
        ([{}] * 10, "an example must hold at least one array"),
        ([None] * 10, "filter() removes: use to_iter_dataset()"),
        ([{1: 0.0, "a": 0.0}] * 10, "example 0 is not a pytree"),
        (grain.MapDataset.source([1.0] * 20).repeat(), "leave out repeat()"),
    ],
)
def test_a_source_of_another_kind_is_refused(source: Any, expected: str) -> None:
    with pytest.raises(DataError) as raised:
        open_batches(source, global_batch=10, seed=0)
    assert expected in str(raised.value)


def test_what_len_raises_shows_the_users_frames() -> None:
    with pytest.raises(DataError) as raised:
        batches(Length(lambda: 1 / 0))
    assert "1 / 0" in raised.value.detail
    assert "actors/data.py" not in raised.value.detail


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
        ({"x": [[1.0], [1.0, 2.0]], "y": 1.0}, "leaf ['x'] is missing; leaf ['x'][0][0], "),
        ({"x": np.full(5, None), "y": 1.0}, "leaf ['x'] of example 50 in batch 5 is a ndarray"),
        ({"x": np.zeros(5, "f")}, "leaf ['y'] is missing"),
        ({"x": np.zeros(5, "f"), "y": 1.0, "z": 1.0}, "leaf ['z'] is new"),
        ([np.zeros(5, "f"), 1.0], "example 50 in batch 5 has the structure"),
        ((), "example 50 in batch 5 has the structure PyTreeDef(())"),
        (IndexError("no more"), "example 50 of batch 5, and says it has 96: no more; if the data"),
    ],
)
def test_w15_a_bad_example_is_a_data_error_that_names_the_batch_and_the_leaf(
    example: Any, expected: str
) -> None:
    made, batch = spoilt(example)
    with pytest.raises(DataError) as raised:
        made.read(batch)
    assert expected in str(raised.value)
    assert raised.value.batch == batch


def test_w15_a_source_that_raises_shows_the_users_frames_alone() -> None:
    made, batch = spoilt(OSError("disk gone"))
    with pytest.raises(DataError) as raised:
        made.read(batch)
    assert "in __getitem__" in raised.value.detail
    assert "actors/data.py" not in raised.value.detail


def test_an_integer_that_jax_would_wrap_is_refused() -> None:
    source = [{"n": np.int64(i)} for i in range(20)]
    source[7] = {"n": np.int64(1 << 40)}
    made = batches(source)
    batch = next(b for b in range(2) if 7 in made.indices(b))
    with pytest.raises(DataError, match=r"leaf \['n'\] of example 7 in batch \d holds an integer"):
        made.read(batch)
    assert made.read(1 - batch)["n"].dtype == np.int32


def test_indices_can_be_asked_for_from_another_thread_meanwhile() -> None:
    """The feed reads one epoch while somebody looks into another."""
    made, alone = batches(training.Data()), batches(training.Data())
    other = threading.Thread(target=lambda: [made.indices(9 * e) for e in range(200)])
    other.start()
    seen = [made.indices(b % 9).tolist() for b in range(200)]
    other.join(30.0)
    assert seen == [alone.indices(b % 9).tolist() for b in range(200)]


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


def test_the_last_batch_asked_for_ahead_is_the_one_that_is_made() -> None:
    gate, entered = threading.Event(), threading.Event()
    made: list[int] = []

    def make(batch: int) -> Loaded:
        made.append(batch)
        entered.set()
        assert gate.wait(30.0)
        return loaded(batch)

    feed = Feed()
    feed.start(make)
    try:
        feed.ahead(3)
        assert entered.wait(10.0)
        feed.ahead(5)
        feed.ahead(3)
        gate.set()
        assert feed.take(3, 10.0) == feed_of(3)
        assert feed.take(4, 10.0) == feed_of(4)
        assert made == [3, 4]
    finally:
        assert feed.close(10.0)


def test_one_batch_is_ready_on_the_devices_before_it_is_asked_for() -> None:
    made: list[tuple[int, str]] = []
    ready = threading.Event()
    plan = SlotPlan(slots=2, slot_examples=5, devices=1)

    def place(tree: Any) -> Any:
        made.append((len(made), threading.current_thread().name))
        return jax.device_put(tree)

    step: Any = SimpleNamespace(place=place, place_batch=place)
    load = loader(training.program(), plan, batches(training.Data()), lambda: step)
    load(0)
    made.clear()  # Even weights are the same for every batch: they are placed once.

    def make(batch: int) -> Loaded:
        came = load(batch)
        ready.set()
        return came

    feed = Feed()
    feed.start(make)
    try:
        feed.ahead(0)
        assert ready.wait(30.0)
        came = feed.take(0, 10.0)
        assert came is not None
        assert isinstance(came.slots["x"], jax.Array)
        assert came.slots["x"].shape == (2, 5, training.INPUTS)
        # The slots of this batch and of no other.
        assert made == [(0, "trainerd-feed")]
    finally:
        assert feed.close(10.0)


def test_a_source_that_ends_the_interpreter_does_not_end_the_feed() -> None:
    def make(batch: int) -> Loaded:
        if batch == 0:
            raise SystemExit("enough")
        return loaded(batch)

    feed = Feed()
    feed.start(make)
    try:
        with pytest.raises(SystemExit, match="enough"):
            feed.take(0, 10.0)
        assert feed.take(1, 10.0) is not None
    finally:
        assert feed.close(10.0)


def test_the_source_is_closed_in_the_feed_s_thread_at_its_end() -> None:
    closed: list[str] = []

    def ended() -> None:
        closed.append(threading.current_thread().name)
        raise OSError("was closed already")

    feed = Feed()
    feed.start(loaded, ended=ended)
    assert closed == []
    assert feed.close(10.0)
    assert closed == ["trainerd-feed"]


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
