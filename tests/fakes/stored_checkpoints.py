"""Checkpoints as files alone: committed and durable as far as their names and digests tell."""

from __future__ import annotations

import json
import time
from pathlib import Path

from trainerd.actors import checkpoint_manifest


def stored(directory: Path, step: int, *, durable: bool = True) -> Path:
    """Write a checkpoint of `step` whose save began a second and a half ago."""
    path = directory / str(step)
    begun_ns = time.time_ns() - 1_500_000_000
    contents = {
        "_CHECKPOINT_METADATA": json.dumps({"init_timestamp_nsecs": begun_ns}),
        "state/_METADATA": "{}",
        "state/d/data": f"the arrays of step {step}",
        "meta/metadata": "{}",
    }
    for name, content in contents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(content)
    if durable:
        checkpoint_manifest.write(path)
    return path
