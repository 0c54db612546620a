"""Verifications: what the launcher finds when it reads a run's checkpoints, journalled."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from trainerd.daemon.clock import Clock
from trainerd.daemon.launcher_link import LauncherLink
from trainerd.daemon.runtime import JournalFullError, Runtime
from trainerd.daemon.supervision.events import CheckpointsVerified, RejectedCheckpoint
from trainerd.daemon.views import Views
from trainerd.v1 import checkpoint_pb2, launcher_pb2
from trainerd.v1.mailbox import MailboxOverflow

log = structlog.get_logger()

_DURABLE = checkpoint_pb2.CHECKPOINT_STATE_DURABLE
_UNREADABLE = checkpoint_pb2.CHECKPOINT_STATE_UNREADABLE


class Verifying:
    """Has a run's checkpoints read from the disk, whoever wants it, and says what was found."""

    def __init__(
        self, runtime: Runtime, views: Views, launcher: LauncherLink, clock: Clock
    ) -> None:
        self._runtime = runtime
        self._views = views
        self._launcher = launcher
        self._clock = clock

    async def verify(self, run: str, *, scrub: bool) -> launcher_pb2.ReadCheckpointsResponse:
        """Read all of them; takes as long as the disk does. Raise what the launcher's link raises.

        Cancelled, it ends the reading too.
        """
        began = self._clock.now()
        request = launcher_pb2.ReadCheckpointsRequest(
            run=run, checkpoint=self._views.spec(run).checkpoint, verify=True
        )
        found = await self._launcher.read_checkpoints(request)
        duration_s = self._clock.now() - began
        event = verification(run, found.checkpoints, scrub=scrub, duration_s=duration_s)
        try:
            await self._runtime.post(event)
        except (JournalFullError, MailboxOverflow) as error:
            # What is damaged is marked: a listing shows it, though no event tells of it.
            log.warning("verification_not_recorded", run=run, error=str(error))
        return found


def verification(
    run: str,
    found: Iterable[checkpoint_pb2.StoredCheckpoint],
    *,
    scrub: bool,
    duration_s: float,
) -> CheckpointsVerified:
    """The event of what was found; what was known to be damaged before is left out."""
    listed = list(found)
    sound = [each for each in listed if each.state == _DURABLE and each.verified]
    newest = max(sound, key=lambda each: each.step, default=None)
    rejected = tuple(
        RejectedCheckpoint(step=each.step, path=each.path, reason=each.reason, problem=each.problem)
        for each in listed
        if each.state == _UNREADABLE or (each.verified and each.state != _DURABLE)
    )
    return CheckpointsVerified(
        run=run,
        scrub=scrub,
        sound=len(sound),
        rejected=rejected,
        durable_step=newest.step if newest is not None else -1,
        durable_path=newest.path if newest is not None else "",
        duration_s=duration_s,
    )
