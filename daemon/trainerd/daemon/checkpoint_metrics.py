"""What Prometheus hears of checkpoints: saves, their failures, the disk they lie on."""

from __future__ import annotations

import collections

from trainerd.daemon.disk_forecast import full_at
from trainerd.daemon.durability_metrics import DurabilityMetrics
from trainerd.daemon.journal import Stored
from trainerd.daemon.metric_families import Families
from trainerd.daemon.views import INIT, MAX_SAVES, disk_samples, is_failed_save
from trainerd.v1 import event_pb2, fault_pb2

CHECKPOINT_REASONS = (
    "not_found",
    "permission_denied",
    "no_space",
    "read_only",
    "io_error",
    "timeout",
    "digest_mismatch",
    "serialization",
    "unknown",
)
"""Why a save fails: the label values of `trainerd_checkpoint_failures_total`."""

_SAVE_BUCKETS = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300)


class CheckpointMetrics:
    """The checkpoints' part of the daemon's metrics."""

    def __init__(self, families: Families) -> None:
        self.saves = families.counter("checkpoint_saves", "Checkpoint saves.", "run", "result")
        self.save_failures = families.counter(
            "checkpoint_failures", "Failed saves by reason.", "run", "reason"
        )
        self.save_s = families.histogram(
            "checkpoint_save_duration_seconds",
            "Duration of a save: blocking the step, and in the background.",
            _SAVE_BUCKETS,
            "run",
            "phase",
        )
        self.saved_at = families.gauge(
            "checkpoint_last_success_timestamp_seconds",
            "Time of the newest durable save.",
            "run",
            lasting=True,
        )
        self.durable = DurabilityMetrics(families)
        self.save_failures_in_a_row = families.gauge(
            "checkpoint_consecutive_failures", "Failed saves since the last good one.", "run"
        )
        self.checkpoint_bytes = families.gauge(
            "checkpoint_bytes", "Size of the newest durable checkpoint.", "run", lasting=True
        )
        self.on_fallback = families.gauge(
            "checkpoint_on_fallback",
            "1 while checkpoints go to the fallback directory.",
            "run",
        )
        self.disk_bytes = families.gauge(
            "checkpoint_disk_bytes", "Size of all durable checkpoints of a run.", "run"
        )
        self.disk_free_bytes = families.gauge(
            "checkpoint_disk_free_bytes", "Free space beside the newest checkpoint.", "run"
        )
        self.disk_full_at = families.gauge(
            "checkpoint_disk_full_timestamp_seconds",
            "When that disk is full if it fills as lately; +Inf: it does not fill.",
            "run",
        )
        self._free: dict[str, collections.deque[Stored]] = {}

    def declare(self, run: str) -> None:
        """Begin the series of a run."""
        for reason in CHECKPOINT_REASONS:
            self.save_failures.labels(run, reason)
        for result in ("ok", "failed", "coalesced"):
            self.saves.labels(run, result)
        self.save_failures_in_a_row.labels(run)
        self.durable.declare(run)

    def forget(self, run: str) -> None:
        """The run is not shown any more; its series go with those of all metrics."""
        self._free.pop(run, None)
        self.durable.forget(run)

    def saved(self, run: str, saved: event_pb2.CheckpointSaved) -> None:
        """Count a save that is durable."""
        self.saves.labels(run, "ok").inc()
        self.saves.labels(run, "coalesced").inc(saved.coalesced)
        self.save_s.labels(run, "blocking").observe(saved.blocked_s)
        self.save_s.labels(run, "background").observe(saved.duration_s)
        self.save_failures_in_a_row.labels(run).set(0)

    def failed(self, run: str, fault: fault_pb2.Fault) -> None:
        """Count a fault, if it is a save that failed or a checkpoint that a restore rejected."""
        self.durable.restore_failed(run, fault)
        if not is_failed_save(fault):
            return
        reason = fault.reason if fault.reason in CHECKPOINT_REASONS else "unknown"
        self.saves.labels(run, "failed").inc()
        self.save_failures.labels(run, reason).inc()
        self.save_failures_in_a_row.labels(run).inc()

    def show(self, stored: Stored) -> None:
        """Show the newest durable checkpoint of a run, by its record."""
        run, saved = stored.message.run, stored.message.checkpoint_saved
        self.saved_at.labels(run).set(stored.wall)
        self.durable.show(run, saved.step)
        self.checkpoint_bytes.labels(run).set(saved.bytes)
        self.on_fallback.labels(run).set(saved.fallback)
        if not saved.disk_bytes:
            return
        self.disk_bytes.labels(run).set(saved.disk_bytes)
        self.disk_free_bytes.labels(run).set(saved.disk_free_bytes)
        known = self._free.setdefault(run, collections.deque(maxlen=MAX_SAVES))
        known.append(stored)
        self.disk_full_at.labels(run).set(full_at(disk_samples(known)))

    def rolled_back(self, run: str, event: event_pb2.RolledBack) -> None:
        """Newer ones are removed; an initial state is not a checkpoint."""
        restored = event.source != INIT
        self.durable.show(run, event.step if restored else -1)
