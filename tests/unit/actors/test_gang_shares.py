"""Members with a part of the state each begin with parts of one and the same, or not at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fakes.meeting import Room, RoomMeeting, at_once
from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.checkpoint_meta import CheckpointMeta
from trainerd.actors.checkpoint_restore import Restored
from trainerd.actors.errors import CheckpointsUnreadableError
from trainerd.actors.gang_shares import Shares
from trainerd.actors.gang_state import Offer

META = CheckpointMeta(
    run_id="r-1",
    batch=3,
    slots=2,
    global_batch=8,
    seed=0,
    loss=1.0,
    masked_slots=0,
    skipped_batches=0,
    ledger=(),
)


def offer(step: int, token: str = "", *, meta: CheckpointMeta = META, loads: bool = True) -> Offer:
    """Without a token it is a checkpoint."""
    restored = Restored(
        state=f"{step} {token}",  # type: ignore[arg-type]
        meta=meta,
        checkpoint=Checkpoint(step=step, path=Path("/nowhere")),
        durable=not token,
    )
    return Offer(step=step, token=token, load=lambda: restored if loads else None)


def agree(*members: Sequence[Offer], at_most_step: int | None = None) -> list[Any]:
    """What each of two members has from then on, as its offer says."""
    room = Room()
    shares = [
        Shares(RoomMeeting(room, number, len(members)), timeout_s=10.0)
        for number in range(len(members))
    ]
    found = at_once(
        *(
            partial(each.newest, offers, at_most_step=at_most_step)
            for each, offers in zip(shares, members, strict=True)
        )
    )
    return [None if restored is None else restored.state for restored in found]


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [
        # Snapshots of one moment, which is not the newest of either.
        ([offer(9, "a"), offer(7, "a")], [offer(8, "a"), offer(7, "a"), offer(5)], "7 a"),
        # Of one step a snapshot comes before the checkpoint.
        ([offer(5, "a"), offer(5)], [offer(5), offer(5, "a")], "5 a"),
        # The same step, taken by two gangs.
        ([offer(9, "a"), offer(4)], [offer(9, "b"), offer(4)], "4 "),
        # A host without its memory.
        ([offer(9, "a"), offer(6), offer(4)], [offer(6), offer(4)], "6 "),
        # One part is damaged.
        ([offer(9, "a"), offer(6)], [offer(9, "a", loads=False), offer(6)], "6 "),
        # What was loaded stands elsewhere in the data.
        (
            [offer(6), offer(4)],
            [offer(6, meta=dataclasses.replace(META, batch=9)), offer(4)],
            "4 ",
        ),
        # Before the first checkpoint there is nothing but the beginning.
        ([offer(9, "a")], [], None),
        ([], [], None),
    ],
)
def test_all_have_the_newest_that_each_has_its_part_of(
    first: list[Offer], second: list[Offer], chosen: str | None
) -> None:
    assert agree(first, second) == [chosen, chosen]
    assert agree(second, first) == [chosen, chosen]


def test_a_rollback_goes_to_the_newest_that_is_old_enough_else_to_the_oldest() -> None:
    own = [offer(9, "a"), offer(6), offer(4)]
    assert agree(own, own, at_most_step=7) == ["6 ", "6 "]
    assert agree(own, own, at_most_step=3) == ["4 ", "4 "]


def test_a_checkpoint_that_only_some_see_is_an_error_and_no_reason_to_begin_anew() -> None:
    with pytest.raises(CheckpointsUnreadableError) as caught:
        agree([offer(9, "a"), offer(6)], [offer(9, "b")], [offer(6)])
    assert "the checkpoint of step 6 cannot be read by process 1 of 3" in caught.value.message
    assert "checkpoint.directory" in caught.value.suggestion


def test_a_gang_has_one_stamp_and_the_next_one_another() -> None:
    stamps = set()
    for _ in range(2):
        room = Room()
        shares = [Shares(RoomMeeting(room, number, 2), timeout_s=10.0) for number in range(2)]
        own = at_once(*(each.stamp for each in shares))
        assert own[0] == own[1] == shares[1].stamp() != ""
        stamps.add(own[0])
    assert len(stamps) == 2
