"""One trainer process of the world: what it goes through, says, and does when it is told to."""

from __future__ import annotations

import random
from collections import deque

from trainerd.daemon.supervision.commands import (
    Inject,
    Order,
    Pause,
    Resume,
    Save,
    SetPolicy,
    Stop,
)
from trainerd.daemon.supervision.drills import InjectedFault
from trainerd.daemon.supervision.events import (
    CheckpointSaved,
    Evaluated,
    Evaluation,
    Event,
    FaultInjected,
    FaultRaised,
    FinishReason,
    PhaseEntered,
    RolledBack,
    RunResult,
    SlotsFixed,
    StateRestored,
    TrainerFinished,
    TrainerPaused,
    TrainerResumed,
)
from trainerd.daemon.supervision.faults import Decision, Fault, Phase
from trainerd.daemon.supervision.policy import Action, FaultClass

F, P = FaultClass, Phase
_BIRTH = {P.SPAWN: P.INIT, P.INIT: P.RESTORE, P.RESTORE: P.COMPILE, P.COMPILE: P.FIRST_STEP}
_STEPS = 400
_SPOILT = (F.NON_FINITE_MICROBATCH, F.NON_FINITE_STEP, F.LOSS_SPIKE, F.DATA_ERROR)
_BROKEN = (F.STEP_EXCEPTION, F.DEVICE_OOM, F.DEVICE_ERROR)


class Process:
    """Lives one moment at a time; `live` returns what it says then, if anything."""

    def __init__(
        self, draw: random.Random, *, run: str, incarnation: int, pid: int, step: int, parts: int
    ) -> None:
        self.run, self.incarnation, self.pid = run, incarnation, pid
        self.step, self.durable, self.parts = step, step, parts
        self.phase = P.SPAWN
        self.linked = self.hung = self.dead = self.killed = self.rolled_back = False
        self.signal = self.exit_code = self.awaits = 0
        self.orders: deque[Order] = deque()
        self._says: deque[Event] = deque()
        self._draw = draw
        self._asked: Fault | None = None
        self._questions = 0
        self._skips = self._holds = False
        # Some runs are doomed, some are sick for a while, most are well.
        self._health = random.Random(f"{run}").choice((0.3, 1.0, 1.0, 4.0))
        self._injected: dict[int, Inject] = {}

    def unlink(self, *, lossy: bool) -> None:
        """The link is cut, with what was on its way down; a lossy one takes reports with it."""
        self.linked = False
        self.orders.clear()
        if lossy:
            self._says.clear()

    def live(self) -> Event | None:
        """One moment."""
        if self._says:
            return self._said(self._says.popleft())
        if self.orders:
            return self._obey(self.orders.popleft())
        chance = self._draw.random() / self._health
        if chance < 0.004:
            self.dead = True
            self.signal, self.exit_code = self._draw.choice(((9, 0), (11, 0), (0, 3), (0, 75)))
            return None
        if chance < 0.006:
            self.hung = True
            return None
        if self._asked is not None:
            return self._wait()
        if self.phase in _BIRTH:
            return self._grow()
        if self.phase is P.STEP:
            return self._train(chance)
        if self.phase is P.FIRST_STEP:
            return self._hold() if self._holds else self._enter(P.STEP)
        if self.phase is P.PAUSED:
            return self._rest()
        return None

    def _said(self, event: Event) -> Event:
        if isinstance(event, PhaseEntered) and event.phase is not None:
            self.phase = event.phase
        elif isinstance(event, RolledBack):
            self.step = self.durable = event.step
            self.rolled_back = True
        elif isinstance(event, TrainerFinished):
            self.dead = self._draw.random() < 0.95
            self.hung = not self.dead
        return event

    def _enter(self, phase: Phase) -> Event:
        self.phase = phase
        return PhaseEntered(run=self.run, incarnation=self.incarnation, phase=phase, step=self.step)

    def _grow(self) -> Event:
        chance = self._draw.random()
        if chance < 0.02:
            return self._raise(self._draw.choice(_BROKEN), asks=True)
        if chance < 0.03:
            return self._finish(FinishReason.PREEMPTED)
        if chance < 0.04 and self.phase is P.RESTORE:
            # Nothing is left to train.
            return self._finish(FinishReason.COMPLETED)
        if self.phase is P.INIT:
            self._says.append(
                SlotsFixed(run=self.run, incarnation=self.incarnation, slots=8),
            )
        if self.phase is P.RESTORE:
            self._says.append(
                StateRestored(
                    run=self.run,
                    incarnation=self.incarnation,
                    step=self.step,
                    batch=self.step,
                    source="init",
                )
            )
        return self._enter(_BIRTH[self.phase])

    def _rest(self) -> Event | None:
        chance = self._draw.random()
        if chance < 0.003:
            return self._finish(FinishReason.PREEMPTED)
        if chance < 0.006:
            # What it reported since was lost.
            return self._finish(FinishReason.COMPLETED)
        if chance < 0.02:
            return self._raise(F.CHECKPOINT_SAVE_FAILED, asks=False)
        return None

    def _train(self, chance: float) -> Event | None:
        self.step += self._draw.randrange(8)
        if self._holds:
            return self._hold()
        if self.step >= _STEPS:
            return self._finish(FinishReason.COMPLETED)
        if chance < 0.015:
            return self._raise(self._draw.choice(_BROKEN), asks=True)
        if chance < 0.1:
            return self._raise(self._draw.choice(_SPOILT), asks=chance < 0.04)
        if chance < 0.11:
            return self._raise(F.CHECKPOINT_SAVE_FAILED, asks=False)
        if chance < 0.112:
            return self._raise(F.CHECKPOINT_CORRUPT, asks=chance < 0.1105)
        if chance < 0.17 and self._injected:
            return self._drill()
        if chance < 0.122:
            return self._finish(FinishReason.PREEMPTED)
        if chance < 0.2:
            evaluation = Evaluation(step=self.step, metrics={"loss": 1.0})
            return Evaluated(run=self.run, incarnation=self.incarnation, evaluation=evaluation)
        if chance < 0.4 and self.step > self.durable:
            return self._save(())
        return None

    def _save(self, request_ids: tuple[str, ...]) -> Event:
        self.durable = max(self.durable, self.step)
        return CheckpointSaved(
            run=self.run,
            incarnation=self.incarnation,
            step=self.step,
            path=f"/c/{self.step}",
            request_ids=request_ids,
        )

    def _hold(self) -> Event:
        self._says.append(TrainerPaused(run=self.run, incarnation=self.incarnation, step=self.step))
        return self._enter(P.PAUSED)

    def _drill(self) -> Event:
        number, order = self._injected.popitem()
        fault = order.armed.injection.fault
        if fault in (InjectedFault.SIGKILL, InjectedFault.SEGFAULT, InjectedFault.EXIT):
            self.dead, self.signal = True, 9
        elif fault in (InjectedFault.HANG, InjectedFault.SIGSTOP, InjectedFault.HANG_GIL):
            self.hung = True
        return FaultInjected(
            run=self.run,
            incarnation=self.incarnation,
            injection=number,
            step=self.step,
            batch=self.step,
            fault=fault,
        )

    # Faults and verdicts.

    def _raise(self, kind: FaultClass, *, asks: bool) -> Event:
        delegated: Action | None = None
        if kind is F.NON_FINITE_MICROBATCH:
            delegated = Action.SKIP if self._skips else Action.MASK
        elif kind in _SPOILT:
            delegated = Action.SKIP
        fault = Fault(
            fault_class=kind,
            message=f"{kind.value} at batch {self.step}",
            step=self.step,
            batch=self.step,
            phase=self.phase,
            state_intact=self._draw.random() < 0.5,
            reason="indivisible" if kind is F.DEVICE_OOM and self.parts >= 8 else "",
            delegated=delegated,
            awaits_decision=asks,
        )
        if asks:
            self._questions += 1
            self.awaits, self._asked = self._questions, fault
        return FaultRaised(
            run=self.run, incarnation=self.incarnation, fault=fault, question=self.awaits
        )

    def _wait(self) -> Event | None:
        chance = self._draw.random()
        if chance < 0.1 and self._asked is not None:
            return FaultRaised(
                run=self.run,
                incarnation=self.incarnation,
                fault=self._asked,
                question=self.awaits,
            )
        if chance < 0.12:
            return self._finish(FinishReason.DECIDED)
        return None

    def _decided(self, decision: Decision) -> Event | None:
        if self._asked is None or decision.answers != self.awaits:
            return None
        kind, batch = self._asked.fault_class, self._asked.batch
        self._asked, self.awaits = None, 0
        match decision.action:
            case Action.ROLLBACK:
                back = max(0, self.step - decision.rollback_steps)
                self._skips = False
                where = {"run": self.run, "incarnation": self.incarnation}
                self._says += (
                    RolledBack(
                        **where,  # type: ignore[arg-type]
                        from_step=self.step,
                        step=back,
                        first_batch=back,
                        last_batch=batch,
                        source=f"/c/{back}",
                        fault_class=kind,
                    ),
                    PhaseEntered(
                        **where,  # type: ignore[arg-type]
                        phase=P.PAUSED if self._holds else P.STEP,
                        step=back,
                    ),
                )
                return self._enter(P.RESTORE)
            case Action.RESTART | Action.FAIL:
                return self._finish(FinishReason.DECIDED)
            case Action.PAUSE:
                self._holds = True
            case Action.SKIP if kind is F.NON_FINITE_MICROBATCH:
                self._skips = True
            case _:
                pass
        return self._enter(self.phase)

    def _finish(self, reason: FinishReason) -> Event:
        self._asked, self.awaits = None, 0
        durable = self._draw.random() < 0.9
        self.exit_code = 0
        result = RunResult(step=self.step, durable_step=self.durable)
        event = TrainerFinished(
            run=self.run,
            incarnation=self.incarnation,
            reason=reason,
            result=result,
            durable=durable,
        )
        return self._said(event)

    def _obey(self, order: Order) -> Event | None:
        match order:
            case Decision():
                return self._decided(order)
            case Pause():
                self._holds = True
            case Resume():
                self._holds = False
                if self.phase is P.PAUSED:
                    self._says.append(self._enter(P.STEP))
                    return TrainerResumed(
                        run=self.run, incarnation=self.incarnation, step=self.step
                    )
            case Save(request_id=request_id):
                return self._save((request_id,))
            case Stop(reason=reason):
                late = self._draw.random()
                if late < 0.05:
                    # It was done anyhow.
                    return self._finish(FinishReason.COMPLETED)
                return self._finish(reason)
            case Inject(armed=armed):
                self._injected[armed.number] = order
            case SetPolicy():
                pass
        return None
