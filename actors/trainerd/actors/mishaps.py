"""What the loop does about an error: skip a batch where that is allowed, ask, or end."""

from __future__ import annotations

import collections
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

from trainerd.actors.accounting import Account
from trainerd.actors.batch_files import Evidence
from trainerd.actors.company import Alone, Company
from trainerd.actors.delegation import Incident
from trainerd.actors.faults import classify
from trainerd.actors.feed import Loaded
from trainerd.actors.pipeline import Pipeline, StepLost
from trainerd.actors.plan import Plan
from trainerd.actors.reports import Fault, FaultClass, Phase, Reporter, Verdict
from trainerd.actors.stage import Stage

_SKIPPABLE = (FaultClass.STEP_EXCEPTION, FaultClass.DATA_ERROR)


class Decided(Exception):
    """Somebody decided that this loop does not go on from here, over `fault`; `cause` is what was
    raised, if any, and `why` says what was spent if it could have been dealt with otherwise.

    `back_steps`: it goes on from a state that is at least so many updates older; 0: it ends.
    """

    def __init__(
        self, fault: Fault, cause: Exception | None = None, why: str = "", *, back_steps: int = 0
    ) -> None:
        super().__init__(fault.message)
        self.fault, self.cause, self.why, self.back_steps = fault, cause, why, back_steps


class Mishaps:
    """Turns errors into faults and asks about them. Owned by the loop; the pipeline is at rest.

    `lenient`: with `continue_on_error` a step that raises is skipped even before the first good
    one; otherwise that one is always asked about. `explained` adds to a fault of a step what is
    known of its memory; `evidence` keeps the batch, of `slots` slots, of one that is asked about.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        account: Account,
        pipeline: Pipeline,
        reporter: Reporter,
        stage: Stage,
        lenient: bool,
        explained: Callable[[Fault], Fault],
        evidence: Evidence,
        slots: int,
        company: Company | None = None,
    ) -> None:
        self._plan, self._account, self._pipeline = plan, account, pipeline
        self._reporter, self._stage = reporter, stage
        self._lenient, self._explained = lenient, explained
        self._evidence, self._slots = evidence, slots
        self._company = company or Alone()

    def ask(
        self, fault: Fault, cause: Exception | None = None, why: str = "", *, shared: bool = False
    ) -> Verdict:
        """Put a fault to whoever decides. Raises `Decided` if the loop does not go on from here.

        `shared`: all members of a gang see it now, and one of them asks.
        """
        if shared:
            judgement = self._company.judged(lambda: self._reporter.decide(fault))
        else:
            judgement = self._reporter.decide(fault)
        match judgement.verdict:
            case Verdict.RESTART | Verdict.FAIL:
                raise Decided(fault, cause, why) from cause
            case Verdict.ROLLBACK:
                steps = judgement.rollback_steps or self._plan.rollback_steps
                raise Decided(fault, cause, why, back_steps=steps) from cause
            case verdict:
                self._evidence.forget(fault.batch)
                return verdict

    def witness(self, loaded: Loaded) -> None:
        """The batch of a fault that will be asked about, before it is gone."""
        self._evidence.keep(loaded, self._slots)

    def face(self, incident: Incident, now: float, cause: Exception | None = None) -> None:
        """Report a fault that was dealt with; ask where the policy's allowance is spent."""
        if not incident.why_asked:
            self._report(incident.fault)
            return
        why = incident.why_asked
        fault = replace(incident.fault, message=f"{incident.fault.message} ({why})")
        verdict = self.ask(fault, cause, why, shared=True)
        self._account.decided(fault, verdict, now)

    def face_all(self, owed: collections.deque[Incident], now: float) -> None:
        """Take the oldest first; one whose class was just asked about is judged by what is left
        since. Raises `Decided`, and leaves the rest in `owed` then."""
        asked: set[FaultClass] = set()
        while owed:
            incident = owed.popleft()
            if incident.why_asked and incident.fault.fault_class in asked:
                incident = self._account.again(incident, now)
            self.face(incident, now)
            if incident.why_asked:
                asked.add(incident.fault.fault_class)

    def overtaken(self, incident: Incident) -> None:
        """The run goes back for an earlier batch's sake: report what was done, and ask no more."""
        fault = incident.fault
        self._evidence.forget(fault.batch)
        self._report(replace(fault, delegated=fault.delegated or Verdict.SKIP))

    def _report(self, fault: Fault) -> None:
        """All members of a gang have dealt with it alike; one of them says so."""
        if self._company.leads:
            self._reporter.faulted(fault)

    def raised(
        self,
        batch: int,
        error: Exception,
        now: float,
        *,
        stepped: bool,
        loaded: Loaded | None = None,
    ) -> None:
        """A step could not be dispatched. Skip its batch, or raise `Decided`.

        `loaded`: the batch; None: there is none.
        """
        fault = classify(
            error,
            phase=self._stage.phase,
            step=self._account.step,
            batch=batch,
            state_intact=self._pipeline.whole(),
        )
        fault = self._explained(fault)
        # Of several members one alone cannot leave out a batch: the others are in its step.
        skippable = fault.state_intact and fault.fault_class in _SKIPPABLE and self._company.alone
        if skippable and self._account.continues_on_error and (stepped or self._lenient):
            self.face(self._account.give_up(batch, fault, now), now, error)
            return
        self._witness_exception(fault, loaded)
        verdict = self.ask(fault, error)
        if not (skippable and verdict is Verdict.SKIP):
            raise Decided(fault, error) from error
        self._account.told_to_skip(batch, fault.fault_class)

    def lost(self, lost: StepLost) -> None:
        """A step failed at run time: there is no state to go on with. Raises `Decided`."""
        fault = classify(
            lost.cause,
            phase=self._stage.phase,
            step=self._account.step,
            batch=lost.loaded.batch,
            state_intact=False,
        )
        fault = self._explained(fault)
        self._witness_exception(fault, lost.loaded)
        self.ask(fault, lost.cause)
        raise Decided(fault, lost.cause) from lost.cause

    def _witness_exception(self, fault: Fault, loaded: Loaded | None) -> None:
        # Of a device that failed, or that is full, nothing more is asked.
        if loaded is not None and fault.fault_class is FaultClass.STEP_EXCEPTION:
            self.witness(loaded)

    def unrestored(self, error: Exception) -> NoReturn:
        """There is no state to go back to. Raises `Decided`, whatever the verdict."""
        fault = classify(error, phase=Phase.RESTORE, step=self._account.step, state_intact=False)
        self.ask(fault, error)
        raise Decided(fault, error) from error

    def unmeasured(self, error: Exception) -> None:
        """An evaluation raised. Returns if the run goes on without it, else raises `Decided`."""
        fault = classify(
            error,
            phase=Phase.EVALUATE,
            step=self._account.step,
            state_intact=self._pipeline.whole(),
        )
        self.ask(fault, error)
        if not fault.state_intact:
            raise Decided(fault, error) from error
