"""From an exception to a fault: which class, what to tell the user."""

from __future__ import annotations

import jax

from trainerd.actors.checkpoint_manifest import DigestMismatch
from trainerd.actors.errors import (
    CheckpointsDamagedError,
    CheckpointsUnreadableError,
    DataError,
    PeerLostError,
    TrainingError,
)
from trainerd.actors.os_errors import os_error_reason
from trainerd.actors.reports import Fault, FaultClass, Phase
from trainerd.actors.traceback_text import user_traceback

_DEVICE_STATUS = ("INTERNAL", "DATA_LOSS", "UNAVAILABLE", "UNKNOWN", "ABORTED")
_CALLBACK = "CpuCallback error"
_PEERS = (
    "Gloo",
    "gloo",
    "NCCL",
    "collective",
    "coordination",
    "Coordination",
    "preemption",
    "Timed out waiting",
    "Connection reset by peer",
)
"""Signs of a failed exchange with another process, in what XLA raises."""


def classify(
    error: Exception, *, phase: Phase, step: int, batch: int = -1, state_intact: bool
) -> Fault:
    """Return the fault that `error` is. `state_intact` is the caller's knowledge, passed on."""
    fault_class, suggestion, reason = _class_of(error)
    detail = user_traceback(error)
    message = f"{type(error).__name__}: {_first_line(error)}"
    if isinstance(error, TrainingError):
        message, suggestion, detail = error.message, error.suggestion, error.detail
    return Fault(
        fault_class=fault_class,
        message=message,
        suggestion=suggestion,
        detail=detail,
        step=step,
        batch=error.batch if isinstance(error, DataError) else batch,
        phase=phase,
        state_intact=state_intact,
        reason=reason,
        error_type=type(error).__name__,
    )


def save_failure_reason(error: BaseException) -> str:
    """Name why a save failed, in the words of the fault matrix, from the whole chain of causes."""
    chain = list(_chain(error))
    if any(isinstance(link, DigestMismatch) for link in chain):
        return "digest_mismatch"
    for link in chain:
        if isinstance(link, OSError) and link.errno is not None:
            return os_error_reason(link)
    for link in chain:
        text = str(link)
        for sign, reason in _TEXT_REASONS:
            if sign in text:
                return reason
    if any(isinstance(link, TimeoutError) for link in chain):
        return "timeout"
    if any(isinstance(link, OSError) for link in chain):
        return "io_error"
    return "serialization" if isinstance(error, (TypeError, ValueError)) else "unknown"


def _class_of(error: Exception) -> tuple[FaultClass, str, str]:
    """Class, suggestion, reason."""
    if isinstance(error, DataError):
        return FaultClass.DATA_ERROR, "", ""
    if isinstance(error, PeerLostError):
        return FaultClass.PEER_LOST, "", ""
    if isinstance(error, CheckpointsDamagedError):
        return FaultClass.CHECKPOINT_CORRUPT, "", "none_left"
    if isinstance(error, CheckpointsUnreadableError):
        return FaultClass.CHECKPOINT_CORRUPT, "", "none_readable"
    if isinstance(error, jax.errors.JaxRuntimeError):
        text = str(error)
        if "RESOURCE_EXHAUSTED" in text:
            return FaultClass.DEVICE_OOM, "make train.microbatch or the model smaller", ""
        if jax.process_count() > 1 and any(sign in text for sign in _PEERS):
            return FaultClass.PEER_LOST, "", ""
        # A callback is the user's code, whatever status XLA wraps its exception in.
        if _CALLBACK not in text and text.startswith(_DEVICE_STATUS):
            return FaultClass.DEVICE_ERROR, "", ""
    return FaultClass.STEP_EXCEPTION, "", ""


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    if not lines:
        return "no message"
    # XLA puts a callback's traceback into the text; what was raised stands in its last line.
    return f"{lines[0]} … {lines[-1]}" if _CALLBACK in lines[0] else lines[0]


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain


_TEXT_REASONS = (
    ("No space left", "no_space"),
    ("RESOURCE_EXHAUSTED", "no_space"),
    ("Read-only file system", "read_only"),
    ("PERMISSION_DENIED", "permission_denied"),
    ("Permission denied", "permission_denied"),
    ("No ArrayMetadata found", "not_found"),
    ("NOT_FOUND", "not_found"),
    ("No such file", "not_found"),
    ("DEADLINE_EXCEEDED", "timeout"),
)
