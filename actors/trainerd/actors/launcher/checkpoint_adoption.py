"""Checkpoints without a manifest that somebody vouches for: made durable as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainerd.actors import checkpoint_files as files
from trainerd.actors import checkpoint_manifest
from trainerd.actors.checkpoint_claim import Claim
from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.launcher.checkpoint_listing import stored_one
from trainerd.v1 import launcher_pb2


def adopt(directories: Sequence[Path], step: int) -> launcher_pb2.ReadCheckpointsResponse:
    """Digest the committed checkpoint of `step` and write its manifest; a problem is told.

    It is what it is from then on: nobody can say whether it is what was to be saved. Where a
    trainer saves in the directory nothing is touched: it may be about to finish it.
    """
    found = [Checkpoint(step=step, path=place / str(step)) for place in directories]
    try:
        committed = [each for each in found if files.is_committed(each.path)]
        chosen = next((each for each in committed if not files.is_durable(each.path)), None)
        if chosen is None:
            what = "is durable already" if committed else "is not there, or is not a whole one"
            return _problem(f"the checkpoint of step {step} {what}")
        claim = Claim(chosen.path.parent)
        try:
            claim.hold()
            checkpoint_manifest.write(chosen.path)
        finally:
            claim.close()
    except OSError as error:
        return _problem(f"{error.filename or step}: {error.strerror or error}")
    told = stored_one(chosen)
    if told is None:
        return _problem(f"the checkpoint of step {step} has vanished meanwhile")
    return launcher_pb2.ReadCheckpointsResponse(checkpoints=[told])


def _problem(text: str) -> launcher_pb2.ReadCheckpointsResponse:
    return launcher_pb2.ReadCheckpointsResponse(problem=text)
