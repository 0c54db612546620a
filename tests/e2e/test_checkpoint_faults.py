"""F12 with real file systems: full, read-only, and a fallback for one that fails.

A tmpfs and bind mounts are made, which root alone may; a system without that right skips.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from e2e import oracle
from e2e.host import Host, eventually
from trainerd.v1 import event_pb2, fault_pb2, run_pb2

pytestmark = pytest.mark.e2e

SMALL_BYTES = 2 * 1024 * 1024
STEPS = 400
FAILURES = "checkpoint_failures_total"


@pytest.fixture
def disk(shared: Host) -> Iterator[Path]:
    """A small file system of its own; whatever lies upon it is taken off at the end."""
    place = Path(tempfile.mkdtemp(prefix="disk-", dir=shared.folder))
    if not _mounted("-t", "tmpfs", "-o", f"size={SMALL_BYTES}", "tmpfs", str(place)):
        pytest.skip("mount(2) is not permitted: run as root to try real file systems")
    try:
        yield place
    finally:
        while place.is_mount():
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def _mounted(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    """Not a byte is free."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\\0" * 4096)
    try:
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """The same files, of which none can be written."""
    assert _mounted("--bind", str(disk), str(disk))
    assert _mounted("-o", "remount,bind,ro", str(disk))
    try:
        yield
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@contextlib.contextmanager
def gone(disk: Path) -> Iterator[None]:
    """Another, empty one is in its place, as where it was not mounted."""
    assert _mounted("-t", "tmpfs", "-o", f"size={SMALL_BYTES}", "tmpfs", str(disk))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def counted(host: Host, run: str, name: str) -> dict[str, float]:
    """The series of a run's metric, by their other label."""
    with urllib.request.urlopen(f"http://{host.metrics_address}/metrics", timeout=10) as page:
        text = page.read().decode()
    return {
        next((v for k, v in sample.labels.items() if k != "run"), ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"trainerd_{name}" and sample.labels.get("run") == run
    }


def failures(host: Host, run: str) -> list[fault_pb2.Fault]:
    return [
        event.fault_raised.fault
        for event in host.events(run, "fault_raised")
        if getattr(event.fault_raised.fault, "class")
        == fault_pb2.FAULT_CLASS_CHECKPOINT_SAVE_FAILED
    ]


def unreadable(host: Host, run: str) -> list[fault_pb2.Fault]:
    """What the run asked about, as it could read no checkpoint."""
    raised = [event.fault_raised.fault for event in host.events(run, "fault_raised")]
    return [fault for fault in raised if fault.reason == "none_readable"]


def saves(host: Host, run: str) -> list[event_pb2.CheckpointSaved]:
    return [event.checkpoint_saved for event in host.events(run, "checkpoint_saved")]


@pytest.fixture(name="undisturbed", scope="module")
def _undisturbed(shared: Host) -> str:
    """The digest of a run of so many steps, at full speed."""
    return oracle.digest(shared.spec("undisturbed", steps=STEPS, every_steps=STEPS), [])


def test_while_saves_fail_training_goes_on_and_afterwards_the_next_is_durable(
    shared: Host, disk: Path, undisturbed: str
) -> None:
    host = shared
    spec = host.spec("faults", steps=STEPS, every_steps=20, args={"pace_s": 0.0005})
    spec.checkpoint.directory = str(disk)
    run = host.submit(spec)
    host.until(run, lambda now: now.durable_step >= 20)
    for fault, told in ((full, "no space left"), (read_only, "read-only file system")):
        with fault(disk):
            failing = host.until(run, lambda now, told=told: told in now.checkpoint.failure)
            host.until(run, lambda now, at=failing.step: now.step >= at + 20)
        host.until(run, lambda now, at=failing.step: now.durable_step > at)
    done = host.completed(run)

    assert (done.incarnation, done.restarts, done.durable_step) == (1, 0, STEPS)
    assert done.result.state_digest == undisturbed
    told = Counter(fault.reason for fault in failures(host, run))
    assert told.keys() == {"no_space", "read_only"}
    by_reason = counted(host, run, FAILURES)
    assert {reason: number for reason, number in by_reason.items() if number} == told
    assert counted(host, run, "checkpoint_saves_total")["ok"] == len(saves(host, run))
    assert counted(host, run, "checkpoint_consecutive_failures") == {"": 0}
    assert all(str(disk) in fault.message for fault in failures(host, run))
    # Nothing of what failed is left, and three are kept.
    left = sorted(path.name for path in (disk / run).iterdir())
    assert len(left) == 3
    assert str(STEPS) in left


def test_with_a_fallback_nothing_is_lost_and_a_restart_finds_it(
    shared: Host, disk: Path, undisturbed: str
) -> None:
    host = shared
    spec = host.spec("spare", steps=STEPS, every_steps=20, args={"pace_s": 0.0005})
    spec.checkpoint.directory = str(disk)
    spec.checkpoint.fallback_directory = str(host.folder / "spare")
    run = host.submit(spec)
    host.until(run, lambda now: now.durable_step >= 20)
    with full(disk):
        now = host.until(run, lambda now: now.checkpoint.fallback)
        assert now.checkpoint.path.startswith(str(host.folder / "spare" / run))
        assert counted(host, run, "checkpoint_on_fallback") == {"": 1}
        with host.client() as client:
            client.restart_run(run)
    restored = host.events(run, "state_restored")[-1].state_restored
    assert restored.source.startswith(str(host.folder / "spare" / run))
    done = host.completed(run)
    assert done.state == run_pb2.RUN_STATE_COMPLETED
    assert done.result.state_digest == undisturbed


def test_a_last_state_that_cannot_be_saved_is_waited_for_and_one_that_is_gone_never_made_anew(
    shared: Host, disk: Path
) -> None:
    host = shared
    spec = host.spec("last", steps=40, every_steps=10, args={"pace_s": 0.002})
    spec.checkpoint.directory = str(disk)
    spec.checkpoint.final_save_timeout_s = 1.0
    run = host.submit(spec)
    host.until(run, lambda now: now.durable_step >= 10)
    with read_only(disk):
        paused = host.until(run, lambda now: now.state == run_pb2.RUN_STATE_PAUSED)
        assert "the last state, of step 40, is not durable after 1 s" in paused.reason
        assert "read-only file system" in paused.reason
    with host.client() as client:
        client.resume_run(run)
    done = host.completed(run)
    assert (done.incarnation, done.durable_step) == (1, 40)

    spec.name, spec.train.steps = "more", 50
    with gone(disk):
        with host.client() as client:
            more = client.submit_run(spec, skip_program_check=True, resume_run=run).run.id
        eventually("it is not there", lambda: unreadable(host, more))
        with host.client() as client:
            client.stop_run(more, no_checkpoint=True)
    (first, *_) = unreadable(host, more)
    assert str(disk / run / "40") in first.message
    assert ("checkpoint_corrupt", "restart") in [each[:2] for each in host.decided(more)]
    assert host.events(more, "state_restored") == []
