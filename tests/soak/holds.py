"""What must hold after every event, whatever came before it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from trainerd.daemon.supervision.budget import Account, account
from trainerd.daemon.supervision.commands import (
    Command,
    KillTrainer,
    Record,
    RemoveFiles,
    StartTimer,
    StartTrainer,
    TellTrainer,
)
from trainerd.daemon.supervision.events import (
    CheckpointSaved,
    DecisionMade,
    Event,
    EventIgnored,
    LauncherAttached,
    RolledBack,
    RunState,
    RunStateChanged,
)
from trainerd.daemon.supervision.faults import Decision
from trainerd.daemon.supervision.policy import (
    DELEGABLE,
    MAX_LIMIT,
    UNCHARGED,
    Action,
    FaultClass,
    Policy,
)
from trainerd.daemon.supervision.state import EDGES, Run, State


class Violation(AssertionError):
    """Something that must hold does not."""


def demand(holds: object, what: str, *evidence: object) -> None:
    """Raise `Violation` unless it holds."""
    if not holds:
        raise Violation(f"{what}: {' · '.join(map(repr, evidence))}")


class Accounts:
    """A run's budgets, counted by other means than the supervisor's."""

    def __init__(self) -> None:
        self.cycles = 0
        self.recoverable = -1
        self.left = -1
        self.rolled_back: dict[FaultClass, float] = {}
        self._faults: dict[Account, deque[float]] = {}

    def progressed(self, step: int) -> None:
        """A checkpoint is durable."""
        above = step > self.recoverable
        self.recoverable = max(self.recoverable, step)
        # What a rollback gave up and is trained anew is no progress.
        if above and step > self.left:
            self.cycles, self.left = 0, -1
            self.rolled_back.clear()

    def decided(self, made: DecisionMade, run: Run, policy: Policy, now: float) -> None:
        """A decision is within what the policy allows."""
        fault, decision = made.fault, made.decision
        rule, of = policy.rule(fault.fault_class), account(fault)
        times = self._faults.setdefault(of, deque(maxlen=min(rule.limit, MAX_LIMIT) + 2))
        times.append(now)
        while now - times[0] >= rule.window_s:
            times.popleft()
        if decision.action not in (Action.RESTART, Action.ROLLBACK):
            return
        self.cycles += 1
        most = policy.max_cycles_without_progress
        demand(self.cycles <= most, "more recoveries than allowed", self.cycles, made)
        if decision.action is Action.ROLLBACK:
            at = self.rolled_back.get(fault.fault_class)
            again = at is not None and now - at < rule.window_s
            demand(not again, "rolled back again", at, now, made)
            demand(fault.awaits_decision, "nobody waits for a rollback", made)
        elif fault.fault_class is FaultClass.DEVICE_OOM:
            demand(run.slot_parts <= 2**rule.limit, "cut too often", run.slot_parts, made)
        elif rule.action is Action.RESTART and fault.fault_class not in DELEGABLE:
            demand(len(times) <= rule.limit, "more restarts than allowed", len(times), made)


class Holds:
    """Checks one event after the other, and counts what was done."""

    def __init__(self) -> None:
        self.actions: Counter[Action] = Counter()
        self.edges: Counter[tuple[RunState | None, RunState]] = Counter()
        self.kinds: Counter[str] = Counter()
        self._accounts: dict[str, Accounts] = {}
        self._listed: set[tuple[str, int]] = set()

    def check(
        self, before: State, event: Event, after: State, commands: Sequence[Command], now: float
    ) -> None:
        """Raise `Violation` if anything that must hold does not."""
        self.kinds[type(event).__name__] += 1
        if isinstance(event, LauncherAttached):
            self._listed = {(live.run, live.incarnation) for live in event.trainers}
        ignored = self._commands(before, event, after, commands, now)
        if ignored:
            demand(after is before, "an ignored event changed something", event)
            return
        self._facts(before, event, after, now)
        for run_id, run in after.runs.items():
            earlier = before.runs.get(run_id)
            if earlier is not run:
                _consistent(run, earlier)
        # Nothing befalls those that have ended and whose process is gone.
        alive = [run for run in after.runs.values() if run.trainer is not None or not run.terminal]
        holders = sum(run.holds_devices for run in alive)
        demand(holders <= 1, "two runs have the devices", event)
        for run_id in before.runs.keys() - after.runs.keys():
            run = before.runs[run_id]
            demand(run.terminal and run.trainer is None, "a living run was forgotten", run)
            self._accounts.pop(run_id, None)
        _timers(after)
        if after.launcher is not None:
            _somebody_moves_each(alive, after, taken=holders > 0)

    def _commands(
        self,
        before: State,
        event: Event,
        after: State,
        commands: Sequence[Command],
        now: float,
    ) -> bool:
        moved: dict[str, RunState | None] = {}
        for command in commands:
            match command:
                case Record(event=DecisionMade() as made):
                    self._decision(made, before, after, now)
                case Record(event=RunStateChanged() as changed):
                    self._edge(changed, before, moved)
                case Record(event=EventIgnored() as ignored):
                    demand(ignored.reason and len(commands) == 1, "half ignored", commands)
                    return True
                case StartTrainer():
                    run = after.runs.get(command.run)
                    fresh = run is not None and run.trainer is not None and not run.trainer.attached
                    demand(fresh and after.launcher is not None, "a start of nothing", command)
                    demand(run is not None and run.incarnation == command.incarnation, "", command)
                    demand(run is not None and run.slot_parts == command.slot_parts, "", command)
                case TellTrainer():
                    run = after.runs.get(command.run)
                    demand(run is not None, "an order for an unknown run", command)
                    trainer = run.trainer if run is not None else None
                    hears = trainer is not None and trainer.attached
                    demand(hears, "an order for nobody", command)
                    demand(
                        trainer is not None and trainer.incarnation == command.incarnation,
                        "an order for another incarnation",
                        command,
                    )
                case KillTrainer():
                    run = after.runs.get(command.run)
                    mine = run is not None and run.incarnation == command.incarnation
                    known = mine or (command.run, command.incarnation) in self._listed
                    demand(known, "a kill of an unknown actor", command)
                case StartTimer():
                    demand(0 < command.delay_s <= 500, "an odd timer", command)
                    demand(command.key in after.timers, "a timer nobody knows of", command)
                case RemoveFiles(memory_only=True):
                    run = after.runs.get(command.run)
                    demand(run is None or run.over, "the snapshots of a living run", command)
                case RemoveFiles():
                    demand(command.run not in after.runs, "files of a living run", command)
                case _:
                    pass
        for run_id, run in after.runs.items():
            earlier = before.runs.get(run_id)
            if earlier is not run and earlier is not None and earlier.state is not run.state:
                demand(moved.get(run_id) is run.state, "a state changed unrecorded", run, event)
        return False

    def _edge(
        self, changed: RunStateChanged, before: State, moved: dict[str, RunState | None]
    ) -> None:
        self.edges[changed.before, changed.after] += 1
        demand(changed.reason, "no reason", changed)
        if changed.before is None:
            demand(changed.run not in before.runs, "born twice", changed)
        else:
            demand(changed.after in EDGES[changed.before], "an illegal edge", changed)
        moved[changed.run] = changed.after

    def _decision(self, made: DecisionMade, before: State, after: State, now: float) -> None:
        demand(made.decision.reason, "no reason", made)
        if made.trial:
            demand(made.incident == 0, "a trial has no incident", made)
            return
        decision, run = made.decision, after.runs[made.run]
        self.actions[decision.action] += 1
        if made.fault.fault_class in UNCHARGED:
            demand(run.budgets is before.runs[made.run].budgets, "charged all the same", made)
            return
        accounts = self._accounts.setdefault(made.run, Accounts())
        # What it was decided under; a change of policy is an event of its own.
        accounts.decided(made, run, before.runs[made.run].policy, now)
        if made.fault.awaits_decision and run.trainer is not None:
            _answered(made, run.trainer.decision)

    def _facts(self, before: State, event: Event, after: State, now: float) -> None:
        match event:
            case CheckpointSaved(run=run, step=step):
                self._accounts.setdefault(run, Accounts()).progressed(step)
                demand(after.runs[run].recoverable_step >= step, "a checkpoint forgotten", event)
            case RolledBack(run=run, fault_class=fault_class, from_step=left):
                accounts = self._accounts.setdefault(run, Accounts())
                accounts.rolled_back[fault_class] = now
                accounts.left = max(accounts.left, left)
                fell = after.runs[run].recoverable_step < before.runs[run].recoverable_step
                demand(not fell, "the recoverable step fell", event)
            case _:
                pass


def _answered(made: DecisionMade, answer: Decision | None) -> None:
    demand(
        answer is not None and answer.action is made.decision.action, "a question unanswered", made
    )


def _consistent(run: Run, earlier: Run | None) -> None:
    trainer = run.trainer
    if trainer is not None:
        demand(trainer.incarnation == run.incarnation, "a trainer of another incarnation", run)
    if run.state is RunState.QUEUED:
        demand(trainer is None, "a queued run has a trainer", run)
    elif run.state is not RunState.RECOVERING and not run.terminal:
        demand(trainer is not None, "a run without its trainer", run)
    demand(run.budgets.cycles <= 1000 and len(run.saves) <= 64, "unbounded", run)
    if earlier is None:
        return
    rise = run.incarnation - earlier.incarnation
    demand(rise in (0, 1), "incarnations fall or leap", run, earlier)
    same = trainer is not None and trainer.incarnation == earlier.incarnation
    demand(not (rise and same), "two incarnations live", run, earlier)
    demand(not earlier.terminal or run.state is earlier.state, "an end that was none", run, earlier)
    demand(run.recoverable_step >= earlier.recoverable_step, "progress lost", run, earlier)
    demand(run.slot_parts >= earlier.slot_parts, "slots grow together", run, earlier)


def _timers(state: State) -> None:
    for key in state.timers:
        kind, run_id, incarnation = key.split(":")
        run = state.runs.get(run_id)
        demand(run is not None and run.incarnation == int(incarnation), "a timer of nobody", key)
        if run is None:
            continue
        if kind == "restart":
            idle = run.trainer is None and run.state is RunState.RECOVERING
            demand(idle, "a restart of what lives", key, run)
        else:
            demand(run.trainer is not None, "a timer of a dead trainer", key, run)


def _somebody_moves_each(alive: Sequence[Run], state: State, *, taken: bool) -> None:
    """A timer, a living trainer, or the wait for the devices; without a launcher all wait."""
    # That a run has not saved for long moves it nowhere while it trains.
    timed = {key.split(":", 2)[1] for key in state.timers if not key.startswith("age:")}
    for run in alive:
        if run.id in timed:
            continue
        trainer = run.trainer
        if trainer is None:
            waits = run.state is RunState.QUEUED and taken
        else:
            # The monitor watches one that trains; one that is to end has a deadline.
            ends = trainer.killed or trainer.ending or run.stopping or run.restarting
            waits = trainer.attached and not (ends or run.terminal)
        demand(waits, "nobody moves it", run)
