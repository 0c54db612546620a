"""Batches from an iterator: in order, resumed exactly, whatever was pulled ahead."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grain
import numpy as np
import pytest

from fakes.training import Stream
from trainerd.actors.data import open_batches
from trainerd.actors.errors import DataEnded, DataError
from trainerd.actors.stream import StreamBatches

BATCH = 4


def opened(source: Any) -> StreamBatches:
    made = open_batches(source, global_batch=BATCH, seed=0)
    assert isinstance(made, StreamBatches)
    return made


def numbers(*batches: int) -> list[list[int]]:
    return [list(range(BATCH * b, BATCH * (b + 1))) for b in batches]


def after(position: Any, batch: int, source: Any) -> StreamBatches:
    """Another process that goes on at `batch`; the position has been through a checkpoint."""
    made = opened(source)
    made.resume(batch, json.loads(json.dumps(position)))
    return made


def count(start: int = 0) -> Any:
    return grain.MapDataset.source(np.arange(start, 40)).to_iter_dataset()


def test_a_batch_is_the_next_examples_of_the_iterator() -> None:
    made = opened(count())
    assert [made.read(b).tolist() for b in range(3)] == numbers(0, 1, 2)
    assert made.template.shape == ()
    assert made.batches_per_epoch is None


def test_examples_are_pytrees() -> None:
    made = opened(count().map(lambda n: {"n": n, "pair": (n, np.ones(2))})).read(0)
    assert made["n"].tolist() == [0, 1, 2, 3]
    assert made["pair"][1].shape == (BATCH, 2)
    assert made["pair"][1].dtype == np.float32


def test_w16_the_next_batch_alone_is_pulled() -> None:
    source = Stream(range(40))
    made = opened(source)
    template = source.pulls
    assert template == 1
    made.read(0)
    made.read(1)
    assert source.pulls == template + 2 * BATCH


def test_w17_a_position_is_that_of_its_boundary_though_more_is_pulled() -> None:
    """Prefetch is ahead of the checkpoint's cursor; what it pulled is pulled again."""
    made = opened(count())
    for batch in range(5):
        made.read(batch)
    for boundary in (3, 4, 5):
        resumed = after(made.position(boundary), boundary, count())
        assert resumed.read(boundary).tolist() == numbers(boundary)[0]
        assert resumed.position(boundary) == made.position(boundary)


def test_w17_a_shuffled_and_transformed_pipeline_is_resumed_exactly() -> None:
    def pipeline() -> Any:
        shuffled = grain.MapDataset.source(np.arange(40)).seed(3).shuffle().repeat(2)
        return shuffled.to_iter_dataset().filter(lambda n: n % 3 > 0).map(lambda n: n * 10)

    straight = opened(pipeline())
    expected = [straight.read(b).tolist() for b in range(10)]
    interrupted = opened(pipeline())
    for batch in range(4):
        interrupted.read(batch)
    resumed = after(interrupted.position(4), 4, pipeline())
    assert [resumed.read(b).tolist() for b in range(4, 10)] == expected[4:]


def test_a_batch_left_out_is_pulled_and_dropped() -> None:
    source = Stream(range(40))
    made = opened(source)
    assert [made.read(b).tolist() for b in (0, 3)] == numbers(0, 3)
    assert source.pulls == 1 + 4 * BATCH
    # A skip at the cursor: the checkpoint stands before it, and knows its place.
    assert after(made.position(1), 1, Stream(range(40))).read(3).tolist() == numbers(3)[0]


def test_a_long_skip_ahead_does_not_lose_the_place_of_the_cursor() -> None:
    made = opened(Stream(range(4000)))
    made.read(0)
    made.read(500)
    resumed = after(made.position(1), 1, Stream(range(4000)))
    assert resumed.read(500).tolist() == numbers(500)[0]


def test_only_a_few_positions_are_kept() -> None:
    made = opened(Stream(range(4000)))
    for batch in range(100):
        made.read(batch)
    with pytest.raises(ValueError, match=r"position of batch 3 is not known, only \[93, 94"):
        made.position(3)


def test_the_last_few_batches_can_be_read_again() -> None:
    """A batch that was made ahead and not used is not lost."""
    made = opened(count())
    for batch in range(6):
        made.read(batch)
    assert [made.read(b).tolist() for b in (4, 5, 6, 3, 7)] == numbers(4, 5, 6, 3, 7)
    assert after(made.position(6), 6, count()).read(6).tolist() == numbers(6)[0]


def torn(broken: list[int]) -> Any:
    """A Grain pipeline whose map raises for the numbers in `broken`, as long as they are there."""

    def mapped(number: int) -> int:
        if number in broken:
            raise OSError("torn")
        return number

    return grain.MapDataset.source(np.arange(40)).map(mapped).to_iter_dataset()


def test_w15_an_iterator_that_raises_fails_its_batch_alone() -> None:
    made = opened(torn([5, 6]))
    assert made.read(0).tolist() == numbers(0)[0]
    with pytest.raises(DataError) as raised:
        made.read(1)
    expected = "the source raised OSError for example 1 of batch 1: torn"
    assert str(raised.value).startswith(expected)
    assert raised.value.batch == 1
    assert "in mapped" in raised.value.detail
    assert "actors/stream.py" not in raised.value.detail
    assert made.read(2).tolist() == numbers(2)[0]


@pytest.mark.parametrize("again", [[5, 6], [6], []], ids=["same", "one healed", "healed"])
def test_w17_batches_after_an_error_lie_where_they_lay(again: list[int]) -> None:
    """Grain's own state leaves pulls that raised out; a resumed run must not shift by them."""
    made = opened(torn([5, 6]))
    made.read(0)
    with pytest.raises(DataError):
        made.read(1)
    made.read(2)
    for boundary in (1, 2, 3):
        resumed = after(made.position(boundary), boundary, torn(again))
        assert resumed.read(3).tolist() == numbers(3)[0]
        # And once more, from the process that was resumed.
        third = after(resumed.position(4), 4, torn(again))
        assert third.read(4).tolist() == numbers(4)[0]


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        (np.ones(2), "leaf example of example 2 in batch 1 is float32[2], expected int32[]"),
        (1.5, "leaf example of example 2 in batch 1 is float32[], expected int32[]"),
        ("no", "leaf example of example 2 in batch 1 is a str"),
        ({"n": 1}, "example 2 in batch 1 has the structure"),
    ],
)
def test_w15_a_ragged_or_mistyped_example_names_the_batch_and_the_leaf(
    example: Any, expected: str
) -> None:
    examples: list[Any] = list(range(40))
    examples[6] = example
    made = opened(Stream(examples))
    made.read(0)
    with pytest.raises(DataError) as raised:
        made.read(1)
    assert expected in str(raised.value)
    assert made.read(2).tolist() == numbers(2)[0]


def test_the_data_ends_with_the_last_whole_batch() -> None:
    made = opened(Stream(range(10)))
    assert [made.read(b).tolist() for b in range(2)] == numbers(0, 1)
    for _ in range(2):
        with pytest.raises(DataEnded, match="the data ended before batch 2 was whole; repeat"):
            made.read(2)
    assert after(made.position(2), 2, Stream(range(20))).read(2).tolist() == numbers(2)[0]


def test_an_error_is_told_before_the_end_that_follows_it() -> None:
    """A generator that raised is at its end."""
    made = opened(Stream([*range(5), OSError("torn")]))
    made.read(0)
    with pytest.raises(DataError, match="torn"):
        made.read(1)
    with pytest.raises(DataEnded):
        made.read(2)


class Stateless:
    """Resumable by its methods alone; its state is whatever is said."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        return 1

    def get_state(self) -> Any:
        return self.state

    def set_state(self, state: Any) -> None:
        raise IndexError("out of range")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (Stream([]), "the data has no examples"),
        (Stream([OSError("gone")] * 99), "raised for each of its first examples; first OSError"),
        (Stream(["text"] * 99), "leaf example of the first example is a str"),
        (Stateless(b"bytes"), "must return JSON values"),
        (Stateless({}), "set_state() of the data's iterator raised IndexError"),
    ],
)
def test_an_iterator_of_no_use_is_refused(source: Any, expected: str) -> None:
    with pytest.raises(DataError) as raised:
        opened(source)
    assert expected in str(raised.value)


def test_the_first_pull_may_raise() -> None:
    made = opened(Stream([OSError("torn"), *range(1, 40)]))
    with pytest.raises(DataError, match="example 0 of batch 0"):
        made.read(0)
    assert made.read(1).tolist() == numbers(1)[0]


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (None, "made by a run with random access"),
        ({"state": {"next_index": 99}, "pulls": 0}, "cannot go back"),
        ({"state": {}, "pulls": 0}, "cannot go back to where the checkpoint was made: KeyError"),
        ({"pulls": 0}, "cannot go back"),
    ],
)
def test_a_position_of_other_data_is_refused(position: Any, expected: str) -> None:
    with pytest.raises(DataError) as raised:
        opened(count()).resume(3, position)
    assert expected in str(raised.value)
    assert "begin a new run" in raised.value.suggestion


def test_an_iterator_s_position_is_refused_by_random_access() -> None:
    made = open_batches(list(range(40)), global_batch=BATCH, seed=0)
    assert made.position(3) is None
    made.resume(3, None)
    with pytest.raises(DataError, match="read its data from an iterator; a list is read in"):
        made.resume(3, {"state": 1, "pulls": 0})


def test_closing_closes_the_iterator() -> None:
    source = Stream(range(40))
    opened(source).close()
    assert source.closed
    opened(count()).close()
