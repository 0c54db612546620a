"""Why a save failed: what is told of it, and what can be done about it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from trainerd.actors.faults import save_failure_reason
from trainerd.actors.reports import Fault, FaultClass, Phase

_WORDS: Mapping[str, tuple[str, str]] = {
    "not_found": (
        "path not found",
        "make sure that {directory} can be a directory: nothing else may have its name or a "
        "parent's, and nobody may remove it",
    ),
    "permission_denied": (
        "permission denied",
        "let user {user} write to {directory}",
    ),
    "no_space": (
        "no space left on the device",
        "free space below {directory}, keep fewer checkpoints (checkpoint.keep), or name another "
        "checkpoint.fallback_directory",
    ),
    "read_only": (
        "read-only file system",
        "mount {directory} writable again, and look in the kernel's log for why it is not",
    ),
    "io_error": (
        "input/output error",
        "look at the device below {directory} and at the kernel's log",
    ),
    "timeout": (
        "it takes too long",
        "look whether the file system of {directory} still answers",
    ),
    "digest_mismatch": (
        "what was written does not read back as it was",
        "do not trust the device below {directory}: look at the kernel's log, test its memory",
    ),
    "serialization": (
        "the state cannot be written",
        "every leaf of the state must be an array that Orbax can write",
    ),
    "unknown": ("it failed", ""),
}
REASONS = tuple(_WORDS)
"""Every reason there is, as in the fault matrix."""

_BUSY = "let each run save in a directory of its own, or end the other process"


def save_failure(
    step: int, directory: Path, error: BaseException, request_ids: tuple[str, ...] = ()
) -> Fault:
    """The fault that `error` is, which kept the state of `step` from being durable there."""
    reason = save_failure_reason(error)
    what, advice = _WORDS[reason]
    lines = str(error).strip().splitlines() or ["no message"]
    if "another process saves" in lines[0]:
        what, advice = "the directory is in use", _BUSY
    return Fault(
        fault_class=FaultClass.CHECKPOINT_SAVE_FAILED,
        message=f"step {step} was not saved to {directory}: {what} "
        f"({type(error).__name__}: {lines[0]})",
        suggestion=advice.format(directory=directory, user=os.geteuid()),
        step=step,
        phase=Phase.SAVE,
        reason=reason,
        request_ids=request_ids,
        error_type=type(error).__name__,
    )
