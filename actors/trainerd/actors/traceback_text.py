"""A user's traceback as text, without the frames of this library."""

from __future__ import annotations

import traceback
from pathlib import Path

_OURS = Path(__file__).resolve().parent
_EXAMPLES = _OURS / "examples"
_PLUMBING = ("/jax/_src/", "/importlib/", "<frozen importlib", "/concurrent/futures/")


def user_traceback(error: BaseException) -> str:
    """Format `error` and its causes as Python would, showing the user's frames only.

    Frames of this library are cut everywhere. Frames of JAX and of the import system are cut
    where they lead up to the user's code, and kept below it. An error without any frame of the
    user's keeps its last line alone.
    """
    report = traceback.TracebackException.from_exception(error)
    seen: set[int] = set()
    current: traceback.TracebackException | None = report
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        current.stack = _users(current.stack)
        current = current.__cause__ or current.__context__
    return "".join(report.format()).rstrip()


def _users(stack: traceback.StackSummary) -> traceback.StackSummary:
    kept: list[traceback.FrameSummary] = []
    for frame in stack:
        if _is_ours(frame.filename) or (not kept and _is_plumbing(frame.filename)):
            continue
        kept.append(frame)
    return traceback.StackSummary.from_list(kept)


def _is_ours(filename: str) -> bool:
    path = Path(filename)
    return _OURS in path.parents and _EXAMPLES not in path.parents


def _is_plumbing(filename: str) -> bool:
    return any(part in filename for part in _PLUMBING)
