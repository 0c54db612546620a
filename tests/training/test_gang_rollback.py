"""Members that go back together find the same checkpoints, also the one that is being saved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from fakes import training
from fakes.checkpoints import WAIT_S, Stores, save
from fakes.meeting import Room, RoomMeeting, at_once
from trainerd.actors.checkpoint_restore import Restored
from trainerd.actors.states import States
from trainerd.actors.step import data_mesh

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(name="stores")
def _stores() -> Iterator[Stores]:
    stores = Stores()
    yield stores
    assert all([store.close(WAIT_S) for store in stores.made])


def test_nobody_looks_for_checkpoints_while_another_member_still_saves(
    stores: Stores, tmp_path: Path
) -> None:
    room, recorder = Room(), training.Recorder()
    saver, other = (
        States(
            training.program(),
            0,
            data_mesh(jax.devices()[number : number + 1]),
            directories=[tmp_path],
            faulted=recorder.faulted,
            meeting=RoomMeeting(room, number, 2),
            timeout_s=WAIT_S,
            sharded=True,
        )
        for number in range(2)
    )
    store = stores(tmp_path, keep=5)
    save(store, 5)

    def see_through() -> Restored | None:
        # The other one has come as far as it can: further than this, if nothing keeps it.
        room.entered()
        save(store, 8)
        return saver.stored((), at_most_step=9)

    found = at_once(see_through, lambda: other.stored((), at_most_step=9), deadline_s=WAIT_S)
    assert [each.checkpoint.path for each in found] == [tmp_path / "8"] * 2
    assert recorder.faults == []
