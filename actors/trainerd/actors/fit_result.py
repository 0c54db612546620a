"""What a fit amounts to."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class EndReason(enum.Enum):
    """Why a fit ended."""

    STEPS_REACHED = "steps_reached"
    DATA_ENDED = "data_ended"
    STOPPED_BY_CALLBACK = "stopped_by_callback"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """What a fit amounts to; a run that was resumed counts what it did before, too.

    `steps`: updates applied. `batches`: batches attempted, skipped ones included. `errors`: how
    often what went wrong, by fault class, and `callback`, `logging`. `loss`: of the newest applied
    update. `state_digest`: SHA-256 of the state that was returned; empty: it is lost.
    `checkpoint`: the newest durable one; empty: none. `durable`: it holds the last state.
    `stopped_by`: a callback's name.
    """

    reason: EndReason
    steps: int
    batches: int
    masked_slots: int
    skipped_batches: int
    errors: Mapping[str, int]
    loss: float
    state_digest: str
    durable: bool
    checkpoint: str
    saves: int
    stopped_by: str = ""
