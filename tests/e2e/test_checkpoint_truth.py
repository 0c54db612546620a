"""Checkpoints of a real run whose files change on the disk: seen, told, and never restored from."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.host import Host
from trainerd.v1 import checkpoint_pb2, fault_pb2

pytestmark = pytest.mark.e2e

STEPS = 160


def flip(checkpoint: str) -> str:
    """Change one bit in the middle of the arrays; return the file's name."""
    found = (Path(checkpoint) / "state" / "ocdbt.process_0" / "d").iterdir()
    file = max(found, key=lambda each: each.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    return file.name


def test_a_flipped_bit_is_found_by_a_verification_and_by_a_restore_and_loses_nothing(
    shared: Host, tmp_path: Path
) -> None:
    """The newest is marked by a verification, the next by the restore; the one before is used."""
    whole = shared.completed(shared.submit(shared.spec("whole", steps=STEPS)))
    spec = shared.spec("flipped", steps=STEPS, every_steps=20, args={"pace_s": 0.001})
    first = shared.submit(spec)
    shared.until(first, lambda now: now.durable_step >= 60)
    with shared.client() as client:
        client.stop_run(first)
        newest, middle, oldest = client.list_checkpoints(first).checkpoints
        for each in (newest, middle, oldest):
            assert each.state == checkpoint_pb2.CHECKPOINT_STATE_DURABLE
            assert each.bytes > 0
            assert each.duration_s > 0
        name = flip(newest.path)
        bad, *good = client.verify_checkpoints(first).checkpoints
        assert (bad.step, bad.state) == (newest.step, checkpoint_pb2.CHECKPOINT_STATE_DAMAGED)
        assert name in bad.problem
        assert all(each.verified and not each.problem for each in good)
        name = flip(middle.path)
        second = client.submit_run(spec, skip_program_check=True, resume_run=first).run.id
    done = shared.completed(second)
    (fault,) = [
        event.fault_raised.fault
        for event in shared.events(second, "fault_raised")
        if getattr(event.fault_raised.fault, "class") == fault_pb2.FAULT_CLASS_CHECKPOINT_CORRUPT
    ]
    assert (fault.step, fault.reason) == (middle.step, "digest_mismatch")
    assert name in fault.message
    (restored,) = shared.events(second, "state_restored")
    assert restored.state_restored.step == oldest.step
    assert done.result.state_digest == whole.result.state_digest
    with shared.client() as client:
        told = client.list_checkpoints(first).checkpoints
        assert [each.state for each in told] == [
            checkpoint_pb2.CHECKPOINT_STATE_DAMAGED,
            checkpoint_pb2.CHECKPOINT_STATE_DAMAGED,
            checkpoint_pb2.CHECKPOINT_STATE_DURABLE,
        ]
        exported = client.export_checkpoint(second, str(tmp_path / "out"))
    assert (exported.step, exported.arrays > 0) == (STEPS, True)
    assert (tmp_path / "out" / "_METADATA").is_file()
