"""The supervisor's state: frozen values, and which run state may follow which.

They are named tuples and not dataclasses, because every event copies some of them: `_replace` takes
a tenth of the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from trainerd.daemon.supervision.budget import Budgets
from trainerd.daemon.supervision.drills import Armed
from trainerd.daemon.supervision.events import FinishReason, RunState, TrainerSpawnFailed
from trainerd.daemon.supervision.faults import Decision, Fault, Phase
from trainerd.daemon.supervision.policy import Action, Policy

_S = RunState

EDGES: Mapping[RunState, frozenset[RunState]] = MappingProxyType(
    {
        _S.QUEUED: frozenset({_S.STARTING, _S.STOPPED}),
        _S.STARTING: frozenset(
            {_S.RUNNING, _S.RECOVERING, _S.PAUSED, _S.STOPPING, _S.QUEUED, _S.COMPLETED, _S.FAILED}
        ),
        _S.RUNNING: frozenset(
            {_S.RECOVERING, _S.PAUSED, _S.STOPPING, _S.QUEUED, _S.COMPLETED, _S.FAILED}
        ),
        _S.RECOVERING: frozenset(
            {_S.RUNNING, _S.PAUSED, _S.STOPPING, _S.STOPPED, _S.QUEUED, _S.COMPLETED, _S.FAILED}
        ),
        _S.PAUSED: frozenset(
            # COMPLETED: reports in between may have been lost to an overflow.
            {_S.RUNNING, _S.RECOVERING, _S.STOPPING, _S.QUEUED, _S.COMPLETED, _S.FAILED}
        ),
        _S.STOPPING: frozenset({_S.STOPPED, _S.COMPLETED, _S.FAILED}),
        _S.STOPPED: frozenset(),
        _S.COMPLETED: frozenset(),
        _S.FAILED: frozenset(),
    }
)

ON_REQUEST = "on request"
"""Why a run holds that somebody asked to pause."""
TERMINAL = frozenset(state for state, after in EDGES.items() if not after)
_NO_BUDGETS = Budgets()
_ENDING = (Action.RESTART, Action.REFORM, Action.FAIL)


class IllegalTransitionError(Exception):
    """An edge that is not in the table: a defect in the supervisor, told with its story."""


class Trainer(NamedTuple):
    """One process of a run's gang: the one live incarnation of its trainer on a host.

    `host` empty: the daemon's own. `process`: its number in the gang, from 0. `asked`: its launcher
    has been asked for it. `decision`: about the fault it waits with, or that ends it. `about`: the
    root of that fault. `finish`: it said it is done. `suspected`: the fault for which we kill it;
    its exit is then charged to that, not to a signal. `killed`: a kill was ordered. `injections`:
    how many its run had when it was asked for. `trains`: it has begun to, and does not hold; of a
    gang only its first process is asked.
    """

    incarnation: int
    host: str = ""
    process: int = 0
    asked: bool = True
    pid: int = 0
    attached: bool = False
    phase: Phase | None = None
    decision: Decision | None = None
    about: tuple[str, int, str] | None = None
    finish: FinishReason | None = None
    suspected: Fault | None = None
    killed: bool = False
    injections: int = 0
    trains: bool = False

    @property
    def ending(self) -> bool:
        """Whether the decision it has is to end."""
        return self.decision is not None and self.decision.action in _ENDING

    @property
    def unheard_of(self) -> bool:
        """Whether it was asked for, and nobody has said yet that it lives."""
        return self.pid == 0 and not self.attached and self.phase is None and not self.killed


class Profile(NamedTuple):
    """A profile that was asked for, and that its trainer has not answered."""

    request_id: str
    steps: int
    directory: str = ""


class Ending(NamedTuple):
    """What is known of why an incarnation ends, until the last of its processes is gone.

    `root`: what it is charged to; one that has more `weight` takes its place (see `endings`).
    `host`: where that happened. `stacks`: of the process that failed. `how`: how the first process
    ended. `decision`: what was decided already. `preempted`: a host asked its trainer to go.
    `unspawned`: a process could not be started.
    """

    root: Fault | None = None
    weight: int = -1
    host: str = ""
    stacks: str = ""
    how: str = ""
    decision: Decision | None = None
    preempted: bool = False
    unspawned: TrainerSpawnFailed | None = None


class Host(NamedTuple):
    """One host of the cluster. `launcher`: instance of the one that is linked, or None.

    `joined`: its daemon is linked; the supervisor's own always is. `draining`: it is to have no
    trainers. `leftovers`: trainers of past incarnations that still live there.
    """

    name: str = ""
    joined: bool = True
    launcher: str | None = None
    draining: bool = False
    leftovers: tuple[tuple[str, int], ...] = ()

    @property
    def linked(self) -> bool:
        """Whether trainers can be started there."""
        return self.joined and self.launcher is not None


class Trial(NamedTuple):
    """A policy that decides nothing: what it would have decided is recorded."""

    policy: Policy
    message: bytes
    budgets: Budgets = _NO_BUDGETS


class Run(NamedTuple):
    """One run. `recoverable_step` -1: none yet. `saves`: checkpoint requests not answered yet.
    `incidents`: how many were ever kept. While a trainer trains, the newest durable checkpoint is
    as old as `recoverable_at`, or counts as that; otherwise `unsaved_s` seconds of training old.

    `hosts`: how many it asks for, `min_hosts`: how many it goes on with, `wait_s`: how long it
    waits for those. `members`: the processes that train it and live, by host, in the order of their
    numbers; `size`: how many the incarnation began with. `allotted`: the hosts it has, `without`:
    those it does not take, `touched`: those that may have files of it. `standbys`: the hosts that
    it may grow by and that were asked for a standby; True: answered. `rendezvous`: where the
    incarnation's processes meet, host:port, and `rendezvous_host` the host that keeps it; empty:
    not known yet, or it trains alone. `ending`: None: the incarnation is not ending.

    `restarting`: its processes are to save and end, and others to follow, because of `again`.
    `pausing`: it is to hold, for the reason `hold`, whichever process trains it. `slot_parts`: what
    each slot is cut into; 0: nothing. `policy_message`: the policy as it was changed last; empty:
    it never was. `trial`: the policy on trial, with budgets of its own. `first_loss`: None: not
    heard of yet. `busy_since`: when a process of it was first refused the devices; None: it has
    them, or never asked. `profile`: the one its trainer was asked for last; None: it has answered.
    """

    id: str
    name: str
    order: int
    policy: Policy
    request_id: str = ""
    state: RunState = RunState.QUEUED
    reason: str = "submitted"
    incarnation: int = 0
    hosts: int = 1
    min_hosts: int = 1
    wait_s: float = 600.0
    members: Mapping[str, Trainer] = MappingProxyType({})
    size: int = 0
    allotted: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    touched: tuple[str, ...] = ()
    standbys: Mapping[str, bool] = MappingProxyType({})
    rendezvous: str = ""
    rendezvous_host: str = ""
    ending: Ending | None = None
    slots: int = 0
    trained: bool = False
    recoverable_step: int = -1
    recoverable_at: float = 0.0
    unsaved_s: float = 0.0
    budgets: Budgets = _NO_BUDGETS
    pausing: bool = False
    hold: str = ""
    stopping: bool = False
    stop_saves: bool = True
    restarting: bool = False
    again: str = ""
    saves: tuple[str, ...] = ()
    incidents: int = 0
    slot_parts: int = 0
    policy_version: int = 0
    policy_message: bytes = b""
    trial: Trial | None = None
    injections: tuple[Armed, ...] = ()
    first_loss: float | None = None
    busy_since: float | None = None
    profile: Profile | None = None

    @property
    def trainer(self) -> Trainer | None:
        """The living process with the lowest number: it speaks for the run. None: none lives."""
        for trainer in self.members.values():
            return trainer
        return None

    @property
    def terminal(self) -> bool:
        """Whether the run has ended for good."""
        # By identity: the set asks each state for its hash, on every event.
        state = self.state
        return state is _S.FAILED or state is _S.COMPLETED or state is _S.STOPPED

    @property
    def over(self) -> bool:
        """Whether nothing but its deletion can befall it."""
        return not self.members and self.terminal

    @property
    def holds_devices(self) -> bool:
        """Whether another run must wait."""
        return bool(self.members) or not (self.terminal or self.state is RunState.QUEUED)

    @property
    def untold_injections(self) -> tuple[Armed, ...]:
        """Those its trainers have only a link to hear of by, and that may still happen."""
        trainer = self.trainer
        known = trainer.injections if trainer is not None else len(self.injections)
        return tuple(armed for armed in self.injections[known:] if not armed.spent)


class State(NamedTuple):
    """Everything the supervisor knows. `timers`: key → due time, for a restarted daemon.

    `hosts`: the cluster, by name; `local`: the name of the daemon's own host, empty where it is the
    only one. `serving`: the daemon that started last has not ended in order. `removals`: by host,
    the runs of which its launcher has still to remove something; True: only what lies in memory.
    """

    runs: Mapping[str, Run] = MappingProxyType({})
    hosts: Mapping[str, Host] = MappingProxyType({"": Host()})
    submitted: int = 0
    timers: Mapping[str, float] = MappingProxyType({})
    serving: bool = False
    removals: Mapping[str, Mapping[str, bool]] = MappingProxyType({})
    local: str = ""

    @property
    def launcher(self) -> str | None:
        """Instance of the launcher of the daemon's own host, if it is linked."""
        host = self.hosts.get(self.local)
        return host.launcher if host is not None else None
