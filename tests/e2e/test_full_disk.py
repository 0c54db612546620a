"""F18: a journal that cannot be written refuses new work; the trainer goes on all the same.

No file of the daemon may grow while the limit stands: that is a full disk, its log included.
"""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from e2e import oracle
from e2e.host import Host, eventually
from trainerd.clients import TrainerdError
from trainerd.v1 import run_pb2

pytestmark = pytest.mark.e2e

AIM = 120
"""A step that is reached in the time without space."""


def test_without_space_for_the_journal_training_goes_on_and_so_does_the_daemon_with_it(
    host: Host,
) -> None:
    spec = host.spec("full", steps=300, every_steps=20, args={"pace_s": 0.001})
    run = host.submit(spec)
    host.until(run, lambda now: now.step >= 40)
    with host.client() as client:
        pid = client.daemon().pid
    usual = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, usual[1]))
    try:
        # The audit log is asked first, and lies on the same disk.
        with pytest.raises(TrainerdError, match="cannot be written"):
            host.submit(host.spec("refused", steps=5))
        # The daemon hears nothing that it could not keep; the trainer's own files tell.
        checkpoints = host.folder / "launcher" / "runs" / run / "checkpoints"
        saved = int(str(eventually("training goes on", lambda: _newest(checkpoints, AIM))))
        assert host.metric("journal_writable") == 0
        assert (host.metric("journal_write_failures_total") or 0) >= 1
        assert host.faults(run) == {}, "nothing is counted that is not on disk"
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, usual)

    accepted = eventually("work is taken again", lambda: _submitted(host))
    assert host.metric("journal_writable") == 1
    done = host.completed(run)
    assert (done.incarnation, done.restarts) == (1, 0)
    assert done.result.state_digest == oracle.digest(spec, [])
    host.completed(str(accepted))
    with host.client() as client:
        assert client.daemon().pid == pid
        names = [each.spec.name for each in client.list_runs().runs]
    assert "refused" not in names
    # What was reported meanwhile was kept and sent again, and counts once.
    steps = [event.checkpoint_saved.step for event in host.events(run, "checkpoint_saved")]
    assert steps == sorted(set(steps))
    assert saved in steps
    assert host.decided(run) == [("journal_full", "continue", 0)]
    assert host.faults(run) == {("journal_full", "continue"): 1}
    states = {event.run_state_changed.to for event in host.events(run, "run_state_changed")}
    assert run_pb2.RUN_STATE_RECOVERING not in states


def _newest(checkpoints: Path, least: int) -> int | None:
    steps = [int(each.name) for each in checkpoints.iterdir() if each.name.isdecimal()]
    return max(steps) if steps and max(steps) >= least else None


def _submitted(host: Host) -> str:
    try:
        return host.submit(host.spec("accepted", steps=5))
    except TrainerdError:
        return ""
