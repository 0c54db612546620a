"""A fault of a run, kept with its checkpoint, is made to happen again after the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.host import Host, eventually
from trainerd.clients import Refused
from trainerd.v1 import fault_pb2

pytestmark = pytest.mark.e2e

NAN_INDEX = 300
"""An example of the 25th batch: by then a checkpoint is durable."""


def test_a_nan_is_replayed_from_the_checkpoint_that_was_kept_for_it(shared: Host) -> None:
    """Whatever the run has done with its own since; it fails at the batch."""
    args = {"nan_index": NAN_INDEX, "pace_s": 0.02}
    spec = shared.spec("poisoned", steps=120, every_steps=2, args=args)
    spec.policy.non_finite_microbatch.action = fault_pb2.ACTION_FAIL
    spec.checkpoint.keep = 1
    run = shared.submit(spec)
    failed = shared.failed(run)
    eventually("its trainer has left the devices", lambda: shared.events(run, "trainer_exited"))
    with shared.client() as client:
        eventually("an incident is kept", lambda: client.list_incidents(run).incidents)
        incident = client.get_incident(run).incident
        assert getattr(incident.fault, "class") == fault_pb2.FAULT_CLASS_NON_FINITE_MICROBATCH
        kept = Path(incident.checkpoint)
        assert kept.parent.parent.name == "pins"
        assert kept.is_dir()
        told = client.replay_incident(run)
    assert told.happened
    assert (told.source, told.first_step) == (incident.checkpoint, incident.durable_step)
    assert told.fault.batch == incident.fault.batch
    assert told.fault.slots == incident.fault.slots
    assert told.last_step <= failed.step
    with shared.client() as client:
        again = client.get_run(run).run
    # A replay leaves no trace in the run.
    assert (again.state, again.step, again.durable_step) == (
        failed.state, failed.step, failed.durable_step,
    )  # fmt: skip


def test_a_crash_cannot_be_replayed(shared: Host, tmp_path: Path) -> None:
    args = {"exit_once": str(tmp_path / "once")}
    run = shared.submit(shared.spec("exits", steps=100, evaluate_every_steps=10, args=args))
    shared.completed(run)
    with shared.client() as client, pytest.raises(Refused, match="which batch it happened"):
        client.replay_incident(run, 1)
