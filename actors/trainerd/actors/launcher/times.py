"""How a trainer that is gone has spent its time, as it wrote down itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from google.protobuf.message import DecodeError

from trainerd.v1 import event_pb2, timesheet_pb2

_LIMIT_BYTES = 4096
"""Far more than all activities take; the file is user code's to spoil."""


def taken(path: Path) -> Mapping[str, float]:
    """Seconds by the names of `trainerd.v1.Activity`; empty: nobody knows. The file is removed."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_LIMIT_BYTES)
        path.unlink()
        times = event_pb2.TrainerExited.FromString(data).times
    except (OSError, DecodeError):
        return {}
    known = timesheet_pb2.Activity.values()
    return {
        timesheet_pb2.Activity.Name(each.activity): each.seconds
        for each in times
        if each.activity in known and math.isfinite(each.seconds) and each.seconds > 0
    }
