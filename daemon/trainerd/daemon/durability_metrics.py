"""What Prometheus scrapes of durable checkpoints: the newest, and those that cannot be used."""

from __future__ import annotations

from trainerd.daemon.metric_families import Families
from trainerd.daemon.views import newest_left
from trainerd.v1 import event_pb2, fault_pb2

REJECTION_REASONS = (
    "digest_mismatch",
    "not_found",
    "permission_denied",
    "io_error",
    "timeout",
    "serialization",
    "unknown",
)
"""Why a checkpoint cannot be used: the label values of `trainerd_checkpoint_rejected_total`."""


class DurabilityMetrics:
    """A part of the checkpoints' metrics; it lasts as long as any of a run that has ended."""

    def __init__(self, families: Families) -> None:
        self._step = families.gauge(
            "checkpoint_last_durable_step",
            "Step of the newest durable checkpoint.",
            "run",
            lasting=True,
        )
        self._rejected = families.counter(
            "checkpoint_rejected",
            "Checkpoints and snapshots found damaged, or that could not be read, by reason.",
            "run",
            "reason",
        )
        self._verified_at = families.gauge(
            "checkpoint_last_verification_timestamp_seconds",
            "Time of the newest verification of all durable checkpoints.",
            "run",
        )
        self._shown: dict[str, int] = {}

    def declare(self, run: str) -> None:
        """There is a run: its counters begin at zero."""
        for reason in REJECTION_REASONS:
            self._rejected.labels(run, reason)
        self.show(run, -1)

    def forget(self, run: str) -> None:
        """The run is no more."""
        self._shown.pop(run, None)

    def show(self, run: str, step: int) -> None:
        """Show the step of the newest durable checkpoint; -1: there is none."""
        self._shown[run] = step
        self._step.labels(run).set(step)

    def show_left(self, run: str, verified: event_pb2.CheckpointsVerified) -> None:
        """Show what a verification has left of them."""
        self.show(run, newest_left(self._shown.get(run, -1), verified))

    def verified(self, run: str, verified: event_pb2.CheckpointsVerified, wall: float) -> None:
        """Count what a verification, at wall time `wall`, has rejected."""
        self._verified_at.labels(run).set(wall)
        for each in verified.rejected:
            self._count(run, each.reason)

    def restore_failed(self, run: str, fault: fault_pb2.Fault) -> None:
        """Count what a restore passed over; one that is asked about sums up others."""
        corrupt = getattr(fault, "class") == fault_pb2.FAULT_CLASS_CHECKPOINT_CORRUPT
        if corrupt and not fault.awaits_decision:
            self._count(run, fault.reason)

    def _count(self, run: str, reason: str) -> None:
        known = reason if reason in REJECTION_REASONS else "unknown"
        self._rejected.labels(run, known).inc()
