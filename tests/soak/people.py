"""The clients of the world: what they ask for, sensible or not."""

from __future__ import annotations

import random

from trainerd.daemon.supervision.drills import InjectedFault, Injection
from trainerd.daemon.supervision.events import (
    CheckpointRequested,
    Event,
    InjectionRequested,
    PauseRequested,
    PolicyChanged,
    PolicyTrialEnded,
    RestartRequested,
    ResumeRequested,
    RunDeleted,
    RunState,
    RunSubmitted,
    StopRequested,
    TrainerExited,
)
from trainerd.daemon.supervision.policy import (
    DEFAULT_RULES,
    Action,
    FaultClass,
    Policy,
    Rule,
)
from trainerd.daemon.supervision.state import State

_TIGHT = Policy(
    rules={
        **DEFAULT_RULES,
        FaultClass.CRASH: Rule(action=Action.RESTART, limit=2, window_s=100.0),
        FaultClass.DATA_ERROR: Rule(
            action=Action.SKIP, limit=2, window_s=50.0, then=Action.ROLLBACK
        ),
        FaultClass.STEP_EXCEPTION: Rule(action=Action.ROLLBACK, limit=2),
        FaultClass.HANG: Rule(action=Action.RESTART, limit=1, window_s=300.0),
    },
    checkpoint_action=Action.PAUSE,
    max_checkpoint_failures=2,
    max_cycles_without_progress=2,
)
_PATIENT = Policy(
    rules={
        **DEFAULT_RULES,
        FaultClass.DEVICE_OOM: Rule(action=Action.RESTART, limit=4),
        FaultClass.NON_FINITE_MICROBATCH: Rule(action=Action.MASK, limit=1, then=Action.ROLLBACK),
    },
    continue_on_error=True,
    backoff_s=7.0,
    max_cycles_without_progress=8,
    checkpoint_action=Action.FAIL,
    max_checkpoint_age_s=500.0,
    rollback_steps=3,
)
POLICIES = (Policy(), Policy(), _TIGHT, _PATIENT)


class Client:
    """Asks one thing after the other."""

    def __init__(self, draw: random.Random, *, most_runs: int) -> None:
        self._draw = draw
        self._most_runs = most_runs
        self._submitted = 0

    def ask(self, state: State) -> Event | None:
        """One request, or nothing."""
        draw = self._draw
        if len(state.runs) < self._most_runs and draw.random() < 0.3:
            return self._submit()
        if not state.runs:
            return None
        run = draw.choice(list(state.runs.values()))
        if run.state is RunState.QUEUED and draw.random() < 0.7:
            # What trains is looked at more often than what waits.
            run = next((each for each in state.runs.values() if each.holds_devices), run)
        name = run.id
        if run.terminal:
            return RunDeleted(run=name)
        if run.state is RunState.PAUSED and draw.random() < 0.5:
            return ResumeRequested(run=name)
        chance = draw.random()
        if chance < 0.1:
            return PauseRequested(run=name)
        if chance < 0.2:
            return ResumeRequested(run=name)
        if chance < 0.3:
            return CheckpointRequested(run=name, request_id=str(draw.randrange(100)))
        if chance < 0.35:
            return StopRequested(run=name, save=draw.random() < 0.7)
        if chance < 0.4:
            return RestartRequested(run=name)
        if chance < 0.5:
            fault = draw.choice(tuple(InjectedFault))
            injection = Injection(fault=fault, step=draw.randrange(400), times=draw.randrange(3))
            return InjectionRequested(run=name, injection=injection)
        if chance < 0.6:
            trial = draw.random() < 0.5
            return PolicyChanged(
                run=name, policy=draw.choice(POLICIES), message=b"policy", trial=trial
            )
        if chance < 0.63:
            return PolicyTrialEnded(run=name)
        if chance < 0.66:
            # News of a process that is long gone.
            return TrainerExited(run=name, incarnation=run.incarnation - 1, exit_code=1)
        if chance < 0.68:
            return RunDeleted(run=name)
        return None

    def _submit(self) -> Event:
        self._submitted += 1
        name = f"run-{self._submitted}"
        injections = tuple(
            Injection(fault=self._draw.choice(tuple(InjectedFault)), step=step)
            for step in range(0, self._draw.randrange(60), 20)
        )
        return RunSubmitted(
            run=name,
            name=name,
            spec=b"",
            policy=self._draw.choice(POLICIES),
            injections=injections,
        )
