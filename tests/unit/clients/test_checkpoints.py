"""`trainerctl checkpoints`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp

from trainerd.v1 import checkpoint_pb2
from trainerd.v1 import control_pb2 as api
from unit.clients.ended import Ended
from unit.clients.fake_control import FakeControl

Ctl = Callable[..., Ended]

DURABLE = checkpoint_pb2.StoredCheckpoint(
    step=1200,
    path="/c/1200",
    bytes=126_000_000,
    state=checkpoint_pb2.CHECKPOINT_STATE_DURABLE,
    saved_time=Timestamp(seconds=1_700_000_000),
    duration_s=0.85,
)
CUT_SHORT = checkpoint_pb2.StoredCheckpoint(
    step=1250,
    path="/c/1250",
    bytes=1000,
    state=checkpoint_pb2.CHECKPOINT_STATE_UNVERIFIED,
    problem="/c/1250 has no trainerd.manifest",
)
DAMAGED = checkpoint_pb2.StoredCheckpoint(
    step=1150,
    path="/c/1150.damaged",
    bytes=126_000_000,
    state=checkpoint_pb2.CHECKPOINT_STATE_DAMAGED,
    reason="digest_mismatch",
    problem="/c/1150/state/d/x has\nthe SHA-256 00, expected 01",
)


def test_checkpoints_are_listed_with_why_they_are_not_durable(fake: FakeControl, ctl: Ctl) -> None:
    found = [CUT_SHORT, DURABLE, DAMAGED]
    fake.answer("ListCheckpoints", api.ListCheckpointsResponse(checkpoints=found))
    ended = ctl("checkpoints", "demo", "--address", fake.address)
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0].split() == ["STEP", "STATE", "SIZE", "DURABLE", "SINCE", "TOOK", "PATH"]
    assert lines[1].split() == ["1,250", "unverified", "1.0", "kB", "-", "-", "/c/1250"]
    assert lines[2] == "  /c/1250 has no trainerd.manifest"
    assert lines[3].startswith("1,200  durable     126.0 MB  2023-11-1")
    assert lines[3].endswith("0.85 s  /c/1200")
    assert lines[4].startswith("1,150  damaged ")
    assert lines[5] == ("  digest_mismatch: /c/1150/state/d/x has the SHA-256 00, expected 01")
    assert (
        len({line.index("/c/") for line in lines if not line.startswith(" ") and "/c/" in line})
        == 1
    )
    fake.answer("ListCheckpoints", api.ListCheckpointsResponse())
    assert ctl("checkpoints", "demo", "--address", fake.address).out == "no checkpoints\n"


def test_a_verification_ends_with_1_where_it_has_found_damage(fake: FakeControl, ctl: Ctl) -> None:
    good = checkpoint_pb2.StoredCheckpoint()
    good.MergeFrom(DURABLE)
    good.verified = True
    response = api.VerifyCheckpointsResponse(checkpoints=[good, DAMAGED])
    fake.answer("VerifyCheckpoints", response)
    ended = ctl("checkpoints", "demo", "--verify", "--address", fake.address)
    # That one was found by somebody else, earlier.
    assert ended.code == 0
    assert "1,200  verified " in ended.out
    response.checkpoints[1].verified = True
    fake.answer("VerifyCheckpoints", response)
    ended = ctl("checkpoints", "demo", "--verify", "--json", "--address", fake.address)
    assert ended.code == 1
    assert ended.document["checkpoints"][1]["reason"] == "digest_mismatch"


def test_a_verification_ends_with_1_where_it_could_not_read(fake: FakeControl, ctl: Ctl) -> None:
    unread = checkpoint_pb2.StoredCheckpoint(
        step=-1,
        path="/c",
        state=checkpoint_pb2.CHECKPOINT_STATE_UNREADABLE,
        reason="io_error",
        problem="/c cannot be read: Input/output error",
    )
    fake.answer("VerifyCheckpoints", api.VerifyCheckpointsResponse(checkpoints=[unread]))
    fake.answer("ListCheckpoints", api.ListCheckpointsResponse(checkpoints=[unread]))
    ended = ctl("checkpoints", "demo", "--verify", "--address", fake.address)
    assert ended.code == 1
    assert ended.out.splitlines()[1].split() == ["-", "unreadable", "0", "B", "-", "-", "/c"]
    assert ctl("checkpoints", "demo", "--address", fake.address).code == 0


def test_one_is_adopted_by_its_step(fake: FakeControl, ctl: Ctl) -> None:
    fake.answer("AdoptCheckpoint", api.AdoptCheckpointResponse(checkpoint=DURABLE))
    ended = ctl("checkpoints", "demo", "--adopt", "1200", "--address", fake.address)
    assert ended.code == 0
    assert "1,200  durable " in ended.out
    (request,) = fake.requests["AdoptCheckpoint"]
    assert (request.run, request.step) == ("demo", 1200)
    ended = ctl("checkpoints", "demo", "--adopt", "5", "--step", "5", "--address", fake.address)
    assert ended.code == 2


def test_an_export_is_made_where_the_user_stands(
    fake: FakeControl, ctl: Ctl, tmp_path: Path
) -> None:
    response = api.ExportCheckpointResponse(
        step=1200, path="/c/1200", directory="/out", arrays=2, parameters=9_900_000, bytes=42_000
    )
    fake.answer("ExportCheckpoint", response)
    ended = ctl("checkpoints", "demo", "--export", "out", "--address", fake.address)
    assert ended.code == 0
    assert ended.out.splitlines()[0] == (
        "2 arrays of 9,900,000 parameters of step 1,200 (42.0 kB) are in /out"
    )
    ctl("checkpoints", "demo", "--export", str(tmp_path), "--step", "0", "--address", fake.address)
    first, second = fake.requests["ExportCheckpoint"]
    assert (first.run, first.directory) == ("demo", os.path.abspath("out"))
    assert not first.HasField("step")
    assert (second.directory, second.step, second.HasField("step")) == (str(tmp_path), 0, True)


def test_a_step_without_an_export_is_refused(fake: FakeControl, ctl: Ctl) -> None:
    ended = ctl("checkpoints", "demo", "--step", "5", "--address", fake.address)
    assert ended.code == 2
    assert "--step needs --export" in ended.err
    both = ctl("checkpoints", "demo", "--verify", "--export", "d", "--address", fake.address)
    assert both.code == 2
