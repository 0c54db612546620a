"""One step in the making: collects the next state and the commands, and keeps the edges legal."""

from __future__ import annotations

from dataclasses import replace

from trainerd.daemon.supervision.commands import (
    CancelTimer,
    Command,
    KillTrainer,
    Order,
    Record,
    StartTimer,
    StartTrainer,
    TellTrainer,
)
from trainerd.daemon.supervision.events import EventIgnored, RunState, RunStateChanged
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


class Turn:
    """The working copy of one `step`. Lives for one event; nothing escapes but its results."""

    def __init__(self, state: State, now: float) -> None:
        self.state = state
        self.now = now
        self.commands: list[Command] = []

    def emit(self, command: Command) -> None:
        """Carry out this command after the event is journalled."""
        self.commands.append(command)

    def put(self, run: Run) -> Run:
        """Keep this version of the run."""
        self.state = replace(self.state, runs={**self.state.runs, run.id: run})
        return run

    def move(self, run: Run, after: RunState, reason: str) -> Run:
        """Change the run's state along a legal edge, and record it."""
        if run.state is after:
            return self.put(replace(run, reason=reason))
        if after not in EDGES[run.state]:
            raise IllegalTransitionError(
                f"run {run.id}: {run.state.value} → {after.value} ({reason}); "
                f"it was {run.state.value} because: {run.reason}"
            )
        self.emit(
            Record(event=RunStateChanged(run=run.id, before=run.state, after=after, reason=reason))
        )
        return self.put(replace(run, state=after, reason=reason))

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
        run = self.put(replace(run, trainer=replace(run.trainer, killed=True)))
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
        self.state = replace(self.state, timers={**self.state.timers, key: self.now + delay_s})
        self.emit(StartTimer(key=key, delay_s=delay_s))

    def timer_runs(self, kind: str, run: Run) -> bool:
        """Whether the run's timer of this kind runs."""
        return f"{kind}:{run.id}:{run.incarnation}" in self.state.timers

    def cancel_timers(self, run: Run, *kinds: str) -> None:
        """Forget the run's timers of these kinds, or of all."""
        keys = [
            key
            for key in self.state.timers
            if (parts := key.split(":"))[1] == run.id and (not kinds or parts[0] in kinds)
        ]
        if not keys:
            return
        kept = {key: due for key, due in self.state.timers.items() if key not in keys}
        self.state = replace(self.state, timers=kept)
        for key in keys:
            self.emit(CancelTimer(key=key))

    def start_trainer(self, run: Run) -> Run:
        """Ask for the next incarnation; without a launcher the run waits until one is back."""
        if self.state.launcher is None:
            return run
        run = replace(
            run,
            incarnation=run.incarnation + 1,
            trainer=Trainer(incarnation=run.incarnation + 1),
            restarting=False,
        )
        self.put(run)
        self.ask_for_trainer(run)
        return run

    def ask_for_trainer(self, run: Run) -> None:
        """Ask for the present incarnation: once more where the first answer never came."""
        self.emit(StartTrainer(run=run.id, incarnation=run.incarnation, slots=run.slots))
        if not self.timer_runs("attach", run):
            self.start_timer("attach", run, ATTACH_S)
