"""Checkpoints as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trainerd.clients.wording import date_and_clock, duration, one_line, plural, size, word
from trainerd.v1 import checkpoint_pb2, control_pb2

_DURABLE = checkpoint_pb2.CHECKPOINT_STATE_DURABLE
_DAMAGED = checkpoint_pb2.CHECKPOINT_STATE_DAMAGED
_UNREADABLE = checkpoint_pb2.CHECKPOINT_STATE_UNREADABLE


def found_damaged(checkpoints: Iterable[checkpoint_pb2.StoredCheckpoint]) -> bool:
    """Whether a verification has found one of them damaged that was thought to be durable, or
    could not read one."""
    return any(
        each.state == _UNREADABLE or (each.verified and each.state == _DAMAGED)
        for each in checkpoints
    )


def checkpoint_lines(checkpoints: Sequence[checkpoint_pb2.StoredCheckpoint]) -> list[str]:
    """Aligned rows with a heading, and under a row why it is not durable."""
    if not checkpoints:
        return ["no checkpoints"]
    rows = [("STEP", "STATE", "SIZE", "DURABLE SINCE", "TOOK", "PATH"), *map(_row, checkpoints)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = [_aligned(rows[0], widths)]
    for each, row in zip(checkpoints, rows[1:], strict=True):
        lines.append(_aligned(row, widths))
        why = ": ".join(filter(None, (each.reason, each.problem)))
        if why:
            lines.append(f"  {one_line(why)}")
    return lines


def export_text(exported: control_pb2.ExportCheckpointResponse) -> list[str]:
    """What was written where, and how to read it."""
    return [
        f"{plural(exported.arrays, 'array')} of {exported.parameters:,} parameters of step "
        f"{exported.step:,} ({size(exported.bytes)}) are in {one_line(exported.directory)}",
        "read them with orbax.checkpoint.StandardCheckpointer().restore(…)",
    ]


def _row(each: checkpoint_pb2.StoredCheckpoint) -> tuple[str, ...]:
    state = word(checkpoint_pb2.CheckpointState, "CHECKPOINT_STATE_", each.state)
    if each.verified and each.state == _DURABLE:
        state = "verified"
    return (
        f"{each.step:,}" if each.step >= 0 else "-",
        state,
        size(each.bytes),
        date_and_clock(each.saved_time) if each.HasField("saved_time") else "-",
        duration(each.duration_s) if each.HasField("duration_s") else "-",
        one_line(each.path),
    )


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    *cells, last = row
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join([*padded, last])
