"""The supervisor under random and nonsensical events: what must hold after every single one."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trainerd.daemon.supervision.commands import (
    Command,
    KillTrainer,
    Record,
    RemoveFiles,
    StartTimer,
    StartTrainer,
    TellTrainer,
)
from trainerd.daemon.supervision.drills import InjectedFault, Injection
from trainerd.daemon.supervision.events import (
    CheckpointRequested,
    DaemonStarted,
    DecisionMade,
    DerivedEvent,
    Event,
    EventIgnored,
    FaultRaised,
    InjectionRequested,
    LauncherAttached,
    LauncherLost,
    LiveTrainer,
    PauseRequested,
    PolicyChanged,
    PolicyTrialEnded,
    RestartRequested,
    ResumeRequested,
    RunDeleted,
    RunState,
    RunStateChanged,
    RunSubmitted,
    StopRequested,
    TimerFired,
    TrainerAttached,
)
from trainerd.daemon.supervision.faults import Fault
from trainerd.daemon.supervision.policy import (
    DEFAULT_RULES,
    MAX_LIMIT,
    Action,
    FaultClass,
    Policy,
    Rule,
)
from trainerd.daemon.supervision.state import EDGES, TERMINAL, Run, State
from trainerd.daemon.supervision.supervisor import step
from unit.daemon.events import INPUTS, TRAINER_EVENTS, events

RUNS = st.sampled_from(["r", "s", "t"])
INCARNATIONS = st.integers(0, 6)
STEPS = st.integers(0, 50)
SOON = st.floats(0, 30)

NONSENSE = st.one_of(
    [
        events(cls, run=RUNS, incarnation=INCARNATIONS, step=STEPS)
        for cls in INPUTS
        if cls not in (RunSubmitted, LauncherAttached, RunDeleted)
    ]
)
TIGHT = Policy(
    rules={
        **DEFAULT_RULES,
        FaultClass.CRASH: Rule(action=Action.RESTART, limit=2, window_s=50.0),
        FaultClass.NON_FINITE_STEP: Rule(
            action=Action.SKIP, limit=2, window_s=50.0, then=Action.RESTART
        ),
        FaultClass.STEP_EXCEPTION: Rule(action=Action.ROLLBACK, limit=2, window_s=50.0),
    },
    checkpoint_action=Action.PAUSE,
    max_checkpoint_failures=2,
)
IMPATIENT = Policy(checkpoint_action=Action.FAIL, max_checkpoint_age_s=90.0)
POLICIES = st.sampled_from(
    [Policy(), TIGHT, IMPATIENT, Policy(continue_on_error=True, backoff_s=7.0)]
)


class Supervised(RuleBasedStateMachine):
    """Plays events and remembers them."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State()
        self.now = 0.0
        self.history: list[tuple[float, Event]] = []
        self.before = State()
        self.commands: tuple[Command, ...] = ()
        self.listed: set[tuple[str, int]] = set()

    def take(self, event: Event) -> None:
        self.before = self.state
        self.history.append((self.now, event))
        self.state, self.commands = step(self.state, event, now=self.now)
        assert step(self.before, event, now=self.now) == (self.state, self.commands)

    # What happens.

    @rule(run=RUNS, policy=POLICIES)
    def submit(self, run: str, policy: Policy) -> None:
        self.take(RunSubmitted(run=run, name=run, spec=b"", policy=policy))

    @rule(
        run=RUNS,
        cls=st.sampled_from(
            [PauseRequested, ResumeRequested, RestartRequested, RunDeleted, StopRequested]
        ),
    )
    def request(self, run: str, cls: type[PauseRequested]) -> None:
        self.take(cls(run=run))

    @rule(run=RUNS, name=st.sampled_from("abc"))
    def ask_for_a_save(self, run: str, name: str) -> None:
        self.take(CheckpointRequested(run=run, request_id=name))

    @rule(run=RUNS, policy=POLICIES, trial=st.booleans())
    def change_the_policy(self, run: str, policy: Policy, trial: bool) -> None:
        self.take(PolicyChanged(run=run, policy=policy, message=b"p", trial=trial))

    @rule(run=RUNS)
    def end_the_trial(self, run: str) -> None:
        self.take(PolicyTrialEnded(run=run))

    @rule(run=RUNS, fault=st.sampled_from(InjectedFault), times=st.integers(0, 3))
    def ask_for_a_fault(self, run: str, fault: InjectedFault, times: int) -> None:
        injection = Injection(fault=fault, step=1, times=times)
        self.take(InjectionRequested(run=run, injection=injection))

    @precondition(lambda self: any(run.trainer for run in self.state.runs.values()))
    @rule(
        data=st.data(),
        fault_class=st.sampled_from(FaultClass),
        delegated=st.sampled_from([None, Action.MASK, Action.SKIP]),
        question=st.integers(1, 3),
    )
    def trainer_asks(
        self,
        data: st.DataObject,
        fault_class: FaultClass,
        delegated: Action | None,
        question: int,
    ) -> None:
        live = [run for run in self.state.runs.values() if run.trainer]
        run = data.draw(st.sampled_from(live))
        fault = Fault(
            fault_class=fault_class, message="m", delegated=delegated, awaits_decision=True
        )
        self.take(
            FaultRaised(run=run.id, incarnation=run.incarnation, fault=fault, question=question)
        )
        if not run.stopping and not run.terminal:
            answer = self.state.runs[run.id].trainer
            assert answer is not None
            assert answer.decision is not None
            assert answer.decision.answers == question

    @rule(data=st.data())
    def launcher_attaches(self, data: st.DataObject) -> None:
        present = [(run.id, run.incarnation) for run in self.state.runs.values()]
        known = st.sampled_from([*present, ("x", 1), ("r", 1)])
        self.listed = set(data.draw(st.lists(known, max_size=2, unique=True)))
        trainers = tuple(
            LiveTrainer(run=run, incarnation=incarnation, pid=7)
            for run, incarnation in sorted(self.listed)
        )
        self.take(LauncherAttached(instance="L", pid=1, trainers=trainers))

    @rule()
    def launcher_is_lost(self) -> None:
        self.take(LauncherLost(reason="gone"))

    @rule()
    def daemon_starts_anew(self) -> None:
        self.take(DaemonStarted(version="2", pid=2))

    @precondition(lambda self: any(run.trainer for run in self.state.runs.values()))
    @rule(data=st.data(), cls=st.sampled_from(TRAINER_EVENTS))
    def trainer_says(self, data: st.DataObject, cls: type[TrainerAttached]) -> None:
        live = [run for run in self.state.runs.values() if run.trainer]
        run = data.draw(st.sampled_from(live))
        fixed = {"run": st.just(run.id), "incarnation": st.just(run.incarnation), "step": STEPS}
        self.take(data.draw(events(cls, **fixed)))

    @precondition(lambda self: self.state.timers)
    @rule()
    def next_timer_fires(self) -> None:
        key, due = min(self.state.timers.items(), key=lambda item: item[1])
        self.now = max(self.now, due)
        self.take(TimerFired(key=key))

    @rule(event=NONSENSE)
    def nonsense_comes(self, event: Event) -> None:
        self.take(event)

    @rule(seconds=SOON)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    # What must hold.

    @invariant()
    def everything_holds(self) -> None:
        for hold in (
            self.one_trainer_a_run_and_one_run_on_the_devices,
            self.incarnations_never_fall_and_rise_only_without_a_trainer,
            self.the_end_is_the_end,
            self.states_change_along_edges_and_are_recorded,
            self.a_state_has_the_trainer_it_speaks_of,
            self.nobody_waits_for_ever,
            self.budgets_are_bounded,
            self.commands_speak_of_what_is_there,
            self.timers_are_of_runs_that_are_there,
            self.an_ignored_event_changes_nothing_about_its_run,
        ):
            hold()

    def one_trainer_a_run_and_one_run_on_the_devices(self) -> None:
        for run in self.state.runs.values():
            assert run.trainer is None or run.trainer.incarnation == run.incarnation
        assert sum(run.holds_devices for run in self.state.runs.values()) <= 1

    def incarnations_never_fall_and_rise_only_without_a_trainer(self) -> None:
        for run, earlier in self._survivors():
            assert run.incarnation >= earlier.incarnation
            if run.incarnation > earlier.incarnation:
                assert run.incarnation == earlier.incarnation + 1

    def the_end_is_the_end(self) -> None:
        for run, earlier in self._survivors():
            if earlier.state in TERMINAL:
                assert run.state is earlier.state
        for run_id in self.before.runs.keys() - self.state.runs.keys():
            assert self.before.runs[run_id].state in TERMINAL
            assert self.before.runs[run_id].trainer is None

    def states_change_along_edges_and_are_recorded(self) -> None:
        told = {
            record.run: record for record in self._records() if isinstance(record, RunStateChanged)
        }
        for run, earlier in self._survivors():
            if run.state is not earlier.state:
                assert told[run.id].after is run.state
        for record in self._records():
            if isinstance(record, RunStateChanged) and record.before is not None:
                assert record.after in EDGES[record.before]
                assert record.reason

    def a_state_has_the_trainer_it_speaks_of(self) -> None:
        for run in self.state.runs.values():
            if run.state is RunState.QUEUED:
                assert run.trainer is None
            elif run.state is not RunState.RECOVERING and run.state not in TERMINAL:
                assert run.trainer is not None

    def nobody_waits_for_ever(self) -> None:
        if self.state.launcher is None:
            return
        for run in self.state.runs.values():
            kinds = {key.split(":")[0] for key in self.state.timers if f":{run.id}:" in key}
            # That it has not saved for long moves it nowhere while it trains.
            kinds.discard("age")
            if run.trainer is None:
                assert run.state is not RunState.RECOVERING or kinds
            else:
                trainer = run.trainer
                dying = trainer.killed or trainer.ending or not trainer.attached
                assert kinds or not (dying or run.terminal or run.stopping or run.restarting)

    def budgets_are_bounded(self) -> None:
        for run in self.state.runs.values():
            for times in run.budgets.windows.values():
                assert len(times) <= 2 * (MAX_LIMIT + 1)
                assert list(times) == sorted(times)
            # Whatever the policy is changed to: none of these allows more.
            assert run.budgets.cycles <= Policy().max_cycles_without_progress
            assert len(run.saves) <= 64
            assert run.slot_parts <= 4
            assert all(len(each.batches) <= max(each.injection.times, 1) for each in run.injections)

    def commands_speak_of_what_is_there(self) -> None:
        for command in self.commands:
            match command:
                case StartTrainer():
                    run = self.state.runs[command.run]
                    assert command.incarnation == run.incarnation
                    assert run.trainer is not None
                    assert not run.trainer.attached
                    assert self.state.launcher is not None
                case TellTrainer():
                    trainer = self.state.runs[command.run].trainer
                    assert trainer is not None
                    assert trainer.attached
                    assert trainer.incarnation == command.incarnation
                case KillTrainer():
                    known = self.state.runs.get(command.run)
                    mine = known is not None and known.incarnation == command.incarnation
                    assert mine or (command.run, command.incarnation) in self.listed
                case StartTimer():
                    assert command.key.split(":")[1] in self.state.runs
                    assert 0 < command.delay_s <= 300
                case RemoveFiles(memory_only=True):
                    known = self.state.runs.get(command.run)
                    assert known is None or known.over
                case RemoveFiles():
                    assert command.run not in self.state.runs
                case Record(event=DecisionMade(trial=False) as made):
                    self._decided(made)
                case Record(event=DecisionMade() as made):
                    assert made.decision.reason
                    assert made.incident == 0

    def _decided(self, made: DecisionMade) -> None:
        assert made.decision.reason
        run = self.state.runs[made.run]
        match made.decision.action:
            case Action.ROLLBACK:
                assert made.fault.awaits_decision
                assert run.state is RunState.RECOVERING or run.stopping or run.terminal
                assert run.trainer is not None
                assert not run.trainer.ending
            case Action.FAIL:
                assert run.terminal or run.stopping

    def timers_are_of_runs_that_are_there(self) -> None:
        for key in self.state.timers:
            _, run_id, incarnation = key.split(":")
            assert self.state.runs[run_id].incarnation == int(incarnation)

    def an_ignored_event_changes_nothing_about_its_run(self) -> None:
        for record in self._records():
            if isinstance(record, EventIgnored) and record.kind != "RunSubmitted":
                earlier, run = (each.runs.get(record.run) for each in (self.before, self.state))
                assert run == earlier

    def teardown(self) -> None:
        self._replay()
        self._everything_ends_when_no_trainer_ever_comes()

    def _replay(self) -> None:
        state = State()
        for now, event in self.history:
            state, _ = step(state, event, now=now)
        assert state == self.state

    def _everything_ends_when_no_trainer_ever_comes(self) -> None:
        """With a launcher that has none, time alone leads every run to an end."""
        self.listed = set()
        self.take(LauncherAttached(instance="M", pid=2))
        for _ in range(200):
            if not self.state.timers:
                break
            self.next_timer_fires()
        stuck = [run for run in self.state.runs.values() if not run.terminal or run.trainer]
        assert not stuck, stuck
        assert not self.state.timers

    def _survivors(self) -> Iterator[tuple[Run, Run]]:
        for run_id, run in self.state.runs.items():
            if run_id in self.before.runs:
                yield run, self.before.runs[run_id]

    def _records(self) -> Iterator[DerivedEvent]:
        for command in self.commands:
            if isinstance(command, Record):
                yield command.event


TestSupervised = Supervised.TestCase
TestSupervised.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
