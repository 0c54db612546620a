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
    StartTrainer,
    TellTrainer,
)
from trainerd.daemon.supervision.events import EventIgnored, RunState, RunStateChanged
from trainerd.daemon.supervision.runs import Runs
from trainerd.daemon.supervision.state import EDGES, IllegalTransitionError, Run, State, Trainer

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


TIMERS = ("age", "attach", "exit", "kill", "missing", "restart", "stop")
"""The kinds of timers."""


class Turn:
    """The working copy of one `step`. Lives for one event; nothing escapes but its results.

    `unsettled`: the devices may have become free, or someone waits for them.
    """

    def __init__(self, state: State, now: float) -> None:
        self.now = now
        self.commands: list[Command] = []
        self.runs = Runs.of(state.runs)
        self.launcher = state.launcher
        self.submitted = state.submitted
        self.timers: Mapping[str, float] = state.timers
        self.serving = state.serving
        self.removals: Mapping[str, bool] = state.removals
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
            and self.launcher == before.launcher
            and self.submitted == before.submitted
            and self.serving == before.serving
            and self.removals is before.removals
        ):
            return before
        return State(
            self.runs, self.launcher, self.submitted, self.timers, self.serving, self.removals
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

    def gone(self, run: Run) -> Run:
        """The run's process is no more: nothing that was asked of it will be answered."""
        self.cancel_timers(run)
        self.unsettled = True
        if run.trainer is not None and run.trainer.trains:
            # Nothing is lost by being restarted but time, which does not count.
            run = run._replace(unsaved_s=self.now - run.recoverable_at)
        if run.terminal and run.trainer is not None and run.trainer.finish is None:
            self.remove(run, memory_only=True)
        return self.put(run._replace(trainer=None, saves=(), profile=None))

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
        if after is RunState.QUEUED or not EDGES[after]:
            self.unsettled = True
        if not EDGES[after] and run.trainer is None and run.incarnation:
            # A trainer that says that it is done leaves nothing there.
            self.remove(run, memory_only=True)
        return self.put(run._replace(state=after, reason=reason))

    def remove(self, run: Run, *, memory_only: bool = False) -> None:
        """Have the run's files removed, now or by the next launcher that is linked."""
        self.removals = {**self.removals, run.id: memory_only}
        if self.launcher is not None:
            self.emit(RemoveFiles(run=run.id, memory_only=memory_only))

    def removed(self, run: str, *, memory_only: bool) -> bool:
        """Forget that something was to be removed; say whether it was."""
        if self.removals.get(run) is not memory_only:
            return False
        self.removals = {each: what for each, what in self.removals.items() if each != run}
        return True

    def ignore(self, run: str, event: object, reason: str) -> None:
        """Record that the event is a no-op."""
        kind = type(event).__name__
        self.emit(Record(event=EventIgnored(run=run, kind=kind, reason=reason)))

    def tell(self, run: Run, order: Order) -> None:
        """Send an order to the run's trainer; without a link the re-attach repeats it."""
        if run.trainer is not None and run.trainer.attached:
            incarnation = run.trainer.incarnation
            self.emit(TellTrainer(run=run.id, incarnation=incarnation, order=order))

    def kill(self, run: Run, *, collect_stacks: bool = False) -> Run:
        """Kill the run's trainer now. A launcher that comes back meanwhile is told again."""
        if run.trainer is None:
            return run
        run = self.put(run._replace(trainer=run.trainer._replace(killed=True)))
        self.emit(
            KillTrainer(
                run=run.id,
                incarnation=run.incarnation,
                grace_s=0.0,
                collect_stacks=collect_stacks,
            )
        )
        self.start_timer("kill", run, KILL_S)
        return run

    def start_timer(self, kind: str, run: Run, delay_s: float) -> None:
        """Start the run's timer of this kind; it speaks of the present incarnation."""
        key = f"{kind}:{run.id}:{run.incarnation}"
        self._own_timers()[key] = self.now + delay_s
        self.emit(StartTimer(key=key, delay_s=delay_s))

    def end_timer(self, key: str) -> bool:
        """Forget a timer that has fired; say whether it ran."""
        return key in self.timers and self._own_timers().pop(key, None) is not None

    def timer_runs(self, kind: str, run: Run) -> bool:
        """Whether the run's timer of this kind runs."""
        return f"{kind}:{run.id}:{run.incarnation}" in self.timers

    def cancel_timers(self, run: Run, *kinds: str) -> None:
        """Forget the run's timers of these kinds, or of all."""
        if not self.timers:
            return
        for kind in kinds or TIMERS:
            key = f"{kind}:{run.id}:{run.incarnation}"
            if key in self.timers:
                del self._own_timers()[key]
                self.emit(CancelTimer(key=key))

    def start_trainer(self, run: Run) -> Run:
        """Ask for the next incarnation; without a launcher the run waits until one is back."""
        if self.launcher is None:
            return run
        incarnation = run.incarnation + 1
        run = run._replace(
            incarnation=incarnation,
            trainer=Trainer(incarnation=incarnation, injections=len(run.injections)),
            restarting=False,
        )
        self.put(run)
        self.ask_for_trainer(run)
        return run

    def ask_for_trainer(self, run: Run) -> None:
        """Ask for the present incarnation: once more where the first answer never came."""
        self.emit(
            StartTrainer(
                run=run.id,
                incarnation=run.incarnation,
                slots=run.slots,
                slot_parts=run.slot_parts,
            )
        )
        if not self.timer_runs("attach", run):
            self.start_timer("attach", run, ATTACH_S)

    def _own_timers(self) -> dict[str, float]:
        if self._timers is None:
            self.timers = self._timers = dict(self.timers)
        return self._timers
