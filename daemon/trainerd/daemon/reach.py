"""Which hosts are out of reach, since when, and what that means for the gangs on them.

A host that is out of reach may be dead, or cut off, or its daemon may only be away for a moment:
its trainer trains on then, and the gang with it. What tells the two apart is whether the gang
moves: its processes take every step together. Where none of them can be heard, nobody knows, and
more time is given.
"""

from __future__ import annotations

from trainerd.daemon.journal import Stored
from trainerd.daemon.supervision.events import MemberGone
from trainerd.daemon.supervision.faults import Phase
from trainerd.daemon.supervision.state import Run, State, Trainer
from trainerd.daemon.telemetry import Telemetry

GRACE_S = 2.5
"""Seconds a gang may stand still, beyond the time of its steps, while a host is out of reach. Other
hosts tell of their steps once a second."""
FORMING_S = 15.0
"""The same before its first step, when it need not move."""
UNHEARD_S = 30.0
"""The same where none of its processes can be heard, and there are other hosts for it."""
JOIN_S = 10.0
"""Seconds that hosts and trainers have to find a daemon that starts."""
STEPS = 2.0
"""How many of its slowest recent steps it may take to move."""
_RECENT = 8


class Reach:
    """Watches hosts come and go. `started`: when this daemon began; hosts need time to join."""

    def __init__(self, telemetry: Telemetry, *, started: float) -> None:
        self._telemetry = telemetry
        self._started = started + JOIN_S
        self._since: dict[str, float] = {}
        self._back: dict[str, float] = {}

    def lost(self, host: str, heard_at: float | None) -> None:
        """A host's link is lost; `heard_at`: when it said something last."""
        if heard_at is not None:
            self._since[host] = heard_at

    def record(self, stored: Stored, state: State) -> None:
        """A journal record: a host was lost, or is back."""
        name = stored.message.host
        host = state.hosts.get(name)
        if host is None or host.linked:
            self._since.pop(name, None)
        elif stored.kind in ("host_lost", "launcher_lost"):
            self._since.setdefault(name, stored.now)
        if stored.kind == "launcher_attached":
            self._back[name] = stored.now

    def away(self, state: State) -> bool:
        """Whether a host with trainers is out of reach."""
        return any(
            not _linked(state, host)
            for run in state.runs.values()
            if not run.over
            for host in run.members
        )

    def gone(self, state: State, now: float) -> list[MemberGone]:
        """The processes whose gangs need not wait for them any longer."""
        return [
            verdict
            for run in state.runs.values()
            if not run.over
            for trainer in run.members.values()
            if (verdict := self._verdict(state, run, trainer, now)) is not None
        ]

    def _verdict(self, state: State, run: Run, trainer: Trainer, now: float) -> MemberGone | None:
        host = trainer.host
        if _linked(state, host) or (host == state.local and run.size == 1):
            return None
        heard = [each for each in run.members if _linked(state, each)]
        if not heard and not _others(state, run):
            return None  # It may well train; nothing better could be done.
        moved = [self._telemetry.of(run.id, each).progress_at for each in heard]
        # One that was out of reach itself has not told yet how far the gang has come meanwhile.
        back = [self._back.get(each, 0.0) for each in heard]
        since = max([self._since.get(host, self._started), *moved, *back])
        limit_s = self._limit_s(run) if heard else UNHEARD_S
        if now - since <= limit_s:
            return None
        return MemberGone(
            run=run.id,
            incarnation=run.incarnation,
            waited_s=now - since,
            deadline_s=limit_s,
            host=host,
        )

    def _limit_s(self, run: Run) -> float:
        if any(trainer.phase is not Phase.STEP for trainer in run.members.values()):
            return FORMING_S
        recent = list(self._telemetry.of(run.id).last_steps)[-_RECENT:]
        return GRACE_S + STEPS * max((sample.duration_s for sample in recent), default=0.0)


def _linked(state: State, host: str) -> bool:
    known = state.hosts.get(host)
    return known is not None and known.linked


def _others(state: State, run: Run) -> bool:
    """Whether there are enough other hosts for a run that cannot be heard."""
    taken = {host for each in state.runs.values() if not each.over for host in each.allotted}
    free = [
        name
        for name, host in state.hosts.items()
        if host.linked and not host.draining and name not in taken
    ]
    return len(free) >= run.min_hosts
