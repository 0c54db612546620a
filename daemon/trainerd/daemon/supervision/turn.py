"""One step in the making: collects the next state and the commands, and keeps the edges legal."""

from __future__ import annotations

from collections.abc import Mapping

from trainerd.daemon.supervision.commands import (
    CancelTimer,
    Command,
    KillTrainer,
    Order,
    Record,
    RemoveFiles,
    StartTimer,
    StopCoordinator,
    TellTrainer,
)
from trainerd.daemon.supervision.events import EventIgnored, RunState, RunStateChanged
from trainerd.daemon.supervision.runs import Runs
from trainerd.daemon.supervision.state import (
    EDGES,
    Host,
    IllegalTransitionError,
    Run,
    State,
    Trainer,
)

ATTACH_S = 60.0
"""Seconds a process may live without its link before it counts as hung."""
EXIT_S = 30.0
"""Seconds a trainer that said it is done may take to end."""
STOP_S = 300.0
"""Seconds a stop with a save may take; the trainer's own final-save deadline is shorter."""
STOP_NOW_S = 10.0
"""Seconds a stop without a save may take."""
KILL_S = 15.0
"""Seconds until a killed process whose exit nobody reports counts as gone."""
MISSING_S = 1.0
"""Seconds a launcher that does not list a trainer has to report its exit."""
MAX_REMOVALS = 1000
"""Runs whose files may wait for a launcher that removes them, on each host."""

OF_RUNS = ("age", "exit", "grow", "prepare", "restart", "stop", "wait")
OF_MEMBERS = ("attach", "kill", "missing")
"""The kinds of timers: those of a run, and those of each of its processes."""
_TIMERS = tuple(sorted((*OF_RUNS, *OF_MEMBERS)))


def timer_key(kind: str, run: Run, host: str = "") -> str:
    """A timer's key: of the present incarnation, and of a host where it is a process's."""
    key = f"{kind}:{run.id}:{run.incarnation}"
    return f"{key}:{host}" if host else key


def timer_parts(key: str) -> tuple[str, str, int, str]:
    """Kind, run, incarnation and host of a timer's key."""
    kind, run, incarnation, *host = key.split(":", 3)
    return kind, run, int(incarnation), host[0] if host else ""


class Turn:
    """The working copy of one `step`. Lives for one event; nothing escapes but its results.

    `unsettled`: the devices may have become free, or someone may want them.
    """

    def __init__(self, state: State, now: float) -> None:
        self.now = now
        self.commands: list[Command] = []
        self.runs = Runs.of(state.runs)
        self.hosts = state.hosts
        self.local = state.local
        self.submitted = state.submitted
        self.timers: Mapping[str, float] = state.timers
        self.serving = state.serving
        self.removals: Mapping[str, Mapping[str, bool]] = state.removals
        self.unsettled = False
        self._before = state
        self._runs_before = self.runs
        # Copies that are ours to change; most events need none or one of them.
        self._living: dict[str, Run] | None = None
        self._timers: dict[str, float] | None = None

    def state(self) -> State:
        """The state that has become of it."""
        before = self._before
        if (
            self.runs is self._runs_before
            and self._timers is None
            and self.hosts is before.hosts
            and self.local == before.local
            and self.submitted == before.submitted
            and self.serving == before.serving
            and self.removals is before.removals
        ):
            return before
        return State(
            runs=self.runs,
            hosts=self.hosts,
            submitted=self.submitted,
            timers=self.timers,
            serving=self.serving,
            removals=self.removals,
            local=self.local,
        )

    def emit(self, command: Command) -> None:
        """Carry out this command after the event is journalled."""
        self.commands.append(command)

    def put(self, run: Run) -> Run:
        """Keep this version of the run."""
        living = self._living
        if living is None:
            living = self._living = dict(self.runs.living)
            self.runs = Runs(living, self.runs.over)
        if run.over:
            living.pop(run.id, None)
            self.runs = Runs(living, {**self.runs.over, run.id: run})
        else:
            living[run.id] = run
        return run

    def forget(self, run: Run) -> None:
        """Forget the run."""
        self.runs, self._living = self.runs.without(run.id), None

    def put_member(self, run: Run, trainer: Trainer) -> Run:
        """Keep this version of one of the run's processes."""
        return self.put(run._replace(members={**run.members, trainer.host: trainer}))

    def left(self, run: Run, trainer: Trainer) -> Run:
        """One of the run's processes is no more; with the last one nothing is answered any more."""
        members = {host: each for host, each in run.members.items() if host != trainer.host}
        if run.members[trainer.host].trains:
            # Nothing is lost by being restarted but time, which does not count.
            run = run._replace(unsaved_s=self.now - run.recoverable_at)
        if members:
            self.cancel_timers(run, *OF_MEMBERS, host=trainer.host)
            run = run._replace(members=members)
        else:
            self.cancel_timers(run)
            self.unsettled = True
            if run.size > 1:
                host = run.rendezvous_host
                self.emit(StopCoordinator(run=run.id, incarnation=run.incarnation, host=host))
            allotted = () if run.terminal else run.allotted
            run = run._replace(members={}, saves=(), profile=None, allotted=allotted)
        if run.terminal and trainer.finish is None:
            self.remove(run, trainer.host, memory_only=True)
        return self.put(run)

    def host(self, name: str) -> Host:
        """What is known of a host; one that never joined is not linked."""
        known = self.hosts.get(name)
        return known if known is not None else Host(name=name, joined=False)

    def put_host(self, host: Host) -> None:
        """Keep this version of a host."""
        self.hosts = {**self.hosts, host.name: host}

    def move(self, run: Run, after: RunState, reason: str) -> Run:
        """Change the run's state along a legal edge, and record it."""
        if run.state is after:
            return self.put(run._replace(reason=reason))
        if after not in EDGES[run.state]:
            raise IllegalTransitionError(
                f"run {run.id}: {run.state.value} → {after.value} ({reason}); "
                f"it was {run.state.value} because: {run.reason}"
            )
        self.emit(
            Record(event=RunStateChanged(run=run.id, before=run.state, after=after, reason=reason))
        )
        # A host may have come back while its gang was not one that could take it in.
        smaller = after is RunState.RUNNING and run.size < run.hosts
        if after is RunState.QUEUED or smaller or not EDGES[after]:
            self.unsettled = True
        if not EDGES[after] and not run.members and run.incarnation:
            # A trainer that says that it is done leaves nothing there.
            for host in run.touched:
                self.remove(run, host, memory_only=True)
        if after is RunState.QUEUED or not (EDGES[after] or run.members):
            run = run._replace(allotted=())
        return self.put(run._replace(state=after, reason=reason))

    def remove(self, run: Run, host: str, *, memory_only: bool = False) -> None:
        """Have the run's files on a host removed, now or by the next launcher linked there."""
        there = {**self.removals.get(host, {}), run.id: memory_only}
        if len(there) > MAX_REMOVALS:
            # The host has been away for very long; what lies there is removed by hand.
            del there[next(iter(there))]
        self.removals = {**self.removals, host: there}
        if self.host(host).linked:
            self.emit(RemoveFiles(run=run.id, memory_only=memory_only, host=host))

    def removed(self, run: str, host: str, *, memory_only: bool) -> bool:
        """Forget that something was to be removed; say whether it was."""
        there = self.removals.get(host, {})
        if there.get(run) is not memory_only:
            return False
        left = {each: what for each, what in there.items() if each != run}
        rest = {name: runs for name, runs in self.removals.items() if name != host}
        self.removals = {**rest, host: left} if left else rest
        return True

    def ignore(self, run: str, event: object, reason: str) -> None:
        """Record that the event is a no-op."""
        kind = type(event).__name__
        self.emit(Record(event=EventIgnored(run=run, kind=kind, reason=reason)))

    def tell(self, run: Run, order: Order) -> None:
        """Send an order to the run's trainers; without a link the re-attach repeats it."""
        for trainer in run.members.values():
            self.tell_one(run, trainer, order)

    def tell_one(self, run: Run, trainer: Trainer, order: Order) -> None:
        """Send an order to one of the run's trainers, if its link is up."""
        if trainer.attached:
            self.emit(
                TellTrainer(
                    run=run.id, incarnation=trainer.incarnation, order=order, host=trainer.host
                )
            )

    def kill(self, run: Run, *, collect_stacks: bool = False) -> Run:
        """Kill the run's trainers now. A launcher that comes back meanwhile is told again."""
        for trainer in run.members.values():
            run = self.kill_one(run, trainer, collect_stacks=collect_stacks)
        return run

    def kill_one(self, run: Run, trainer: Trainer, *, collect_stacks: bool = False) -> Run:
        """Kill one of the run's trainers now."""
        run = self.put_member(run, trainer._replace(killed=True))
        self.emit(
            KillTrainer(
                run=run.id,
                incarnation=run.incarnation,
                grace_s=0.0,
                collect_stacks=collect_stacks,
                host=trainer.host,
            )
        )
        self.start_timer("kill", run, KILL_S, host=trainer.host)
        return run

    def start_timer(self, kind: str, run: Run, delay_s: float, *, host: str = "") -> None:
        """Start the timer of this kind of the run, or of its process on that host."""
        key = timer_key(kind, run, host)
        self._own_timers()[key] = self.now + delay_s
        self.emit(StartTimer(key=key, delay_s=delay_s))

    def end_timer(self, key: str) -> bool:
        """Forget a timer that has fired; say whether it ran."""
        return key in self.timers and self._own_timers().pop(key, None) is not None

    def timer_runs(self, kind: str, run: Run, *, host: str = "") -> bool:
        """Whether that timer runs."""
        return timer_key(kind, run, host) in self.timers

    def cancel_timers(self, run: Run, *kinds: str, host: str = "") -> None:
        """Forget the timers of these kinds, of the run or of a process; or all there are of it."""
        if not self.timers:
            return
        for kind in kinds or _TIMERS:
            of_all = not kinds and kind in OF_MEMBERS
            for name in run.members if of_all else (host,):
                key = timer_key(kind, run, name)
                if key in self.timers:
                    del self._own_timers()[key]
                    self.emit(CancelTimer(key=key))

    def _own_timers(self) -> dict[str, float]:
        if self._timers is None:
            self.timers = self._timers = dict(self.timers)
        return self._timers
