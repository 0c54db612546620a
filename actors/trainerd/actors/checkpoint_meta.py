"""What a checkpoint holds beside the state: where the run stood, and what made it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax

from trainerd.actors.checkpoint_files import META
from trainerd.actors.ledger import Entry
from trainerd.actors.slot_sums import AXIS

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointMeta:
    """The position of a run at a step, as JSON beside the state.

    `batch` is the cursor: the next batch to feed. `loss` is that of the newest applied update
    (NaN before the first), `losses` what thresholds of loss spikes are made of. `data` is where an
    iterator of examples stands before `batch`; None with random access. `metrics` is what the
    newest applied update measured, `evaluation` the newest evaluation. `specification` (what the
    run was asked for) and `made_by` (versions, devices, processors) are for people.
    """

    run_id: str
    batch: int
    slots: int
    global_batch: int
    seed: int
    loss: float
    masked_slots: int
    skipped_batches: int
    ledger: tuple[Entry, ...]
    losses: tuple[float, ...] = ()
    data: Mapping[str, Any] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    evaluation: Mapping[str, float] = field(default_factory=dict)
    specification: Mapping[str, Any] = field(default_factory=dict)
    made_by: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "format": FORMAT,
            "run_id": self.run_id,
            "batch": self.batch,
            "slots": self.slots,
            "global_batch": self.global_batch,
            "seed": self.seed,
            # JSON has no NaN.
            "loss": repr(self.loss),
            "masked_slots": self.masked_slots,
            "skipped_batches": self.skipped_batches,
            "ledger": [entry.as_json() for entry in self.ledger],
            "losses": list(self.losses),
            "data": None if self.data is None else dict(self.data),
            "metrics": {name: repr(value) for name, value in self.metrics.items()},
            "evaluation": {name: repr(value) for name, value in self.evaluation.items()},
            "specification": dict(self.specification),
            "made_by": dict(self.made_by),
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> CheckpointMeta:
        """Read what `as_json` returned. Raises KeyError, TypeError or ValueError if damaged."""
        if values["format"] != FORMAT:
            raise ValueError(f"checkpoint format must be {FORMAT}, got {values['format']}")
        return CheckpointMeta(
            run_id=str(values["run_id"]),
            batch=int(values["batch"]),
            slots=int(values["slots"]),
            global_batch=int(values["global_batch"]),
            seed=int(values["seed"]),
            loss=float(values["loss"]),
            masked_slots=int(values["masked_slots"]),
            skipped_batches=int(values["skipped_batches"]),
            ledger=tuple(Entry.from_json(entry) for entry in values["ledger"]),
            losses=tuple(float(loss) for loss in values.get("losses", ())),
            data=values.get("data"),
            metrics=_numbers(values.get("metrics", {})),
            evaluation=_numbers(values.get("evaluation", {})),
            specification=dict(values.get("specification", {})),
            made_by=dict(values["made_by"]),
        )

    def measured(self, metric: str) -> float | None:
        """The value of "loss", of a metric of the newest evaluation, or else of the newest update.

        None: there is none of that name.
        """
        if metric == "loss":
            return self.loss
        return self.evaluation.get(metric, self.metrics.get(metric))


def read_meta(path: Path) -> CheckpointMeta:
    """What the checkpoint at `path` holds. Raises OSError, KeyError, TypeError, ValueError."""
    return CheckpointMeta.from_json(json.loads((path / META / "metadata").read_bytes()))


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in values.items()}


def made_by(devices: list[jax.Device]) -> dict[str, Any]:
    """Describe this process: exactness is promised only where all of it is the same."""
    packages = ("trainerd", "jax", "jaxlib", "optax", "orbax-checkpoint", "grain", "numpy")
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "device_kind": devices[0].device_kind,
        "devices": len(devices),
        # One axis, over which batches are cut, and the state where that is asked for.
        "mesh": {AXIS: len(devices)},
        "processes": jax.process_count(),
        "cpus": len(os.sched_getaffinity(0)),
    }
