"""What is told of a failed save: each reason in its own words, with path, cause and advice."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from trainerd.actors.checkpoint_failure import REASONS, save_failure
from trainerd.actors.checkpoint_manifest import DigestMismatch
from trainerd.actors.reports import Fault, FaultClass
from trainerd.daemon.checkpoint_metrics import CHECKPOINT_REASONS

PLACE = Path("/data/checkpoints/r-1")


def of(error: Exception) -> Fault:
    return save_failure(50, PLACE, error, ("mine",))


@pytest.mark.parametrize(
    ("error", "reason", "what", "advice"),
    [
        (FileNotFoundError(errno.ENOENT, "gone"), "not_found", "path not found", "nobody may"),
        (PermissionError(errno.EACCES, "no"), "permission_denied", "denied", f"{os.geteuid()}"),
        (OSError(errno.ENOSPC, "full"), "no_space", "no space left", "checkpoint.keep"),
        (OSError(errno.EROFS, "ro"), "read_only", "read-only file system", "writable"),
        (OSError(errno.EIO, "torn"), "io_error", "input/output error", "kernel's log"),
        (TimeoutError("still not durable"), "timeout", "takes too long", "still answers"),
        (DigestMismatch(PLACE, "d", "is odd"), "digest_mismatch", "read back", "do not trust"),
        (TypeError("no"), "serialization", "cannot be written", "array"),
        (RuntimeError("odd"), "unknown", "it failed", ""),
        (OSError(errno.EBUSY, "another process saves here"), "io_error", "in use", "other process"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_reason_has_words_of_its_own(
    error: Exception, reason: str, what: str, advice: str
) -> None:
    fault = of(error)
    assert fault.fault_class is FaultClass.CHECKPOINT_SAVE_FAILED
    assert (fault.step, fault.reason, fault.request_ids) == (50, reason, ("mine",))
    assert f"step 50 was not saved to {PLACE}: " in fault.message
    assert what in fault.message
    assert f"({type(error).__name__}: " in fault.message
    assert advice in fault.suggestion
    assert "{" not in fault.suggestion


def test_no_two_reasons_share_their_advice() -> None:
    errors = [OSError(number, "x") for number in (errno.ENOENT, errno.EACCES, errno.ENOSPC)]
    assert len({of(error).suggestion for error in errors}) == len(errors)


def test_every_reason_is_declared_as_a_metric() -> None:
    assert sorted(REASONS) == sorted(CHECKPOINT_REASONS)
