"""Raising the fence of a run on several hosts before its trainer starts."""

from __future__ import annotations

import asyncio

import grpc
import structlog

from trainerd.actors import fence
from trainerd.actors.launcher.refusals import Refused
from trainerd.actors.launcher.runs import RunFiles, checkpoint_places
from trainerd.v1 import launcher_pb2

TIMEOUT_S = 10.0
"""Seconds that a directory of checkpoints, which may be on another machine, may take."""

_log = structlog.get_logger("trainerd.launcher")


async def raise_fence(assignment: launcher_pb2.Assignment, files: RunFiles) -> None:
    """Let no earlier incarnation make a checkpoint durable. Raise `Refused` if one is later.

    A directory that cannot be written to is logged: a run must not end of a full disk, and what
    cannot save there needs no fence; the others are fenced.
    """
    if not fence.number(assignment):
        return
    places = checkpoint_places(files, assignment.run, assignment.spec.checkpoint)
    for place in (places.directory, *places.fallbacks):
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await asyncio.to_thread(
                    fence.raise_to, place, assignment.run, assignment.incarnation
                )
        except fence.Superseded as error:
            raise Refused(
                code=grpc.StatusCode.FAILED_PRECONDITION,
                reason="STALE_INCARNATION",
                message=f"{place}: {error.strerror}",
            ) from error
        except (OSError, TimeoutError) as error:
            _log.error(
                "fence_not_raised",
                run=assignment.run,
                incarnation=assignment.incarnation,
                place=str(place),
                error=str(error) or f"not within {TIMEOUT_S:g} s",
            )
