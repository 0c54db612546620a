"""Checkpoints of a real run whose files change on the disk: seen, told, and never restored from."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.host import Host, eventually
from trainerd.v1 import checkpoint_pb2, event_pb2, fault_pb2

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


def saved_at_a_pause(host: Host, run: str, beyond: int) -> int:
    """Let the run train on, and hold: the step whose checkpoint is durable then."""
    host.until(run, lambda now: now.step >= beyond)
    with host.client() as client:
        client.pause_run(run)
        held = client.get_run(run).run
        assert held.durable_step == held.step > 0
        return held.step


def test_a_flipped_bit_is_found_by_a_scrub_a_verification_and_a_restore_and_loses_nothing(
    shared: Host, tmp_path: Path
) -> None:
    """Of four checkpoints one is found by each; the one that is left is used."""
    # An interval that nothing but the pauses and the end falls into.
    spec = shared.spec("flipped", steps=STEPS, every_steps=10_000, args={"pace_s": 0.0005})
    spec.checkpoint.scrub_every_s = 0.5
    first = shared.submit(spec)
    paths = {}
    with shared.client() as client:
        for _ in range(3):
            step = saved_at_a_pause(shared, first, max(paths, default=0) + 10)
            paths[step] = client.get_run(first).run.checkpoint.path
            if len(paths) == 2:
                # While it holds the scrub reads both of them.
                oldest = min(paths)
                name = flip(paths[oldest])
                eventually("the scrub", lambda: found_by_scrubs(shared, first))
            client.resume_run(first)
        whole = shared.completed(first)
        (told,) = found_by_scrubs(shared, first)
        assert (told.step, told.reason) == (oldest, "digest_mismatch")
        assert name in told.problem
        assert Path(told.path).name == f"{oldest}.damaged"
        newest, middle, sound, damaged = client.list_checkpoints(first).checkpoints
        assert [each.step for each in (newest, middle, sound, damaged)] == [
            STEPS,
            *sorted(paths, reverse=True),
        ]
        for each in (newest, middle, sound):
            assert each.state == checkpoint_pb2.CHECKPOINT_STATE_DURABLE
            assert each.bytes > 0
            assert each.duration_s > 0
        name = flip(newest.path)
        bad, *good = client.verify_checkpoints(first).checkpoints
        assert (bad.step, bad.state) == (STEPS, checkpoint_pb2.CHECKPOINT_STATE_DAMAGED)
        assert name in bad.problem
        assert all(each.verified and not each.problem for each in good[:2])
        # What was thought to be the newest is not shown as that any more.
        assert client.get_run(first).run.durable_step == middle.step
        rejected = {"run": first, "reason": "digest_mismatch"}
        assert shared.metric("checkpoint_rejected_total", **rejected) == 2
        assert shared.metric("checkpoint_last_durable_step", run=first) == middle.step
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
    assert restored.state_restored.step == sound.step
    assert done.result.state_digest == whole.result.state_digest
    with shared.client() as client:
        exported = client.export_checkpoint(second, str(tmp_path / "out"))
    assert (exported.step, exported.arrays > 0) == (STEPS, True)
    assert (tmp_path / "out" / "_METADATA").is_file()


def found_by_scrubs(host: Host, run: str) -> list[event_pb2.RejectedCheckpoint]:
    return [
        rejected
        for event in host.events(run, "checkpoints_verified")
        for rejected in event.checkpoints_verified.rejected
        if event.checkpoints_verified.scrub
    ]
