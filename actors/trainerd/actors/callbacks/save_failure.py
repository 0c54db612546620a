"""Why a save failed, in words for the person who has to do something about it."""

from __future__ import annotations

from pathlib import Path

from trainerd.actors.callbacks.errors import SaveError
from trainerd.actors.faults import save_failure_reason

_WORDS = {
    "not_found": ("path not found", "create the directory, or correct path_template"),
    "permission_denied": ("permission denied", "let this user write to {parent}"),
    "no_space": ("no space left on the device", "free space, or save to another file system"),
    "read_only": ("read-only file system", "mount it writable, or save to another one"),
    "timeout": ("it took too long", "look whether the file system still answers"),
    "serialization": ("the state cannot be written", "every leaf must be an array"),
    "io_error": ("input/output error", "look at the device and at the system's log"),
    "unknown": ("it failed", ""),
}


def explained(error: Exception, *, path: Path, step: int) -> SaveError:
    """Return what to tell of `error`, which kept the state of `step` from reaching `path`."""
    if isinstance(error, SaveError):
        return error
    reason = save_failure_reason(error)
    what, advice = _WORDS.get(reason, _WORDS["unknown"])
    lines = str(error).strip().splitlines() or ["no message"]
    failure = SaveError(
        f"the checkpoint of step {step} was not saved to {path}: {what} "
        f"({type(error).__name__}: {lines[0]})",
        reason=reason,
        path=str(path),
        suggestion=advice.format(parent=path.parent),
    )
    failure.__cause__ = error
    return failure


def metric_missing(metric: str, *, template: str, step: int, there: list[str]) -> SaveError:
    """Return what to tell where `metric` would be needed to save."""
    return SaveError(
        f'the checkpoint of step {step} was not saved to {template}: there is no metric "{metric}"',
        reason="missing_metric",
        path=template,
        suggestion=f"there are {', '.join(there)}" if there else "no metric was reported at all",
    )


def no_saver(*, path: Path, step: int) -> SaveError:
    """Return what to tell where nobody can save."""
    return SaveError(
        f"the checkpoint of step {step} was not saved to {path}: there is nothing to save with",
        reason="no_saver",
        path=str(path),
        suggestion="outside Engine.fit give ModelCheckpoint(saver=OrbaxSaver(…))",
    )
