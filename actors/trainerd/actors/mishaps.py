"""What the loop does about an error: skip a batch where that is allowed, ask, or end."""

from __future__ import annotations

from trainerd.actors.accounting import Account, Incident
from trainerd.actors.faults import classify
from trainerd.actors.pipeline import Pipeline, StepLost
from trainerd.actors.plan import Plan
from trainerd.actors.reports import Fault, FaultClass, Phase, Reporter, Verdict
from trainerd.actors.stage import Stage

_SKIPPABLE = (FaultClass.STEP_EXCEPTION, FaultClass.DATA_ERROR)


class Decided(Exception):
    """Somebody decided that this loop ends, over `fault`; `cause` is what was raised, if any, and
    `why` says what was spent if it could have been dealt with otherwise."""

    def __init__(self, fault: Fault, cause: Exception | None = None, why: str = "") -> None:
        super().__init__(fault.message)
        self.fault, self.cause, self.why = fault, cause, why


class Mishaps:
    """Turns errors into faults and asks about them. Owned by the loop; the pipeline is at rest.

    `lenient`: with `continue_on_error` a step that raises is skipped even before the first good
    one; otherwise that one is always asked about.
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
    ) -> None:
        self._plan, self._account, self._pipeline = plan, account, pipeline
        self._reporter, self._stage = reporter, stage
        self._lenient = lenient

    def ask(self, fault: Fault, cause: Exception | None = None, why: str = "") -> Verdict:
        """Put a fault to whoever decides. Raises `Decided` if the loop is to end."""
        verdict = self._reporter.decide(fault)
        if verdict in (Verdict.RESTART, Verdict.FAIL):
            raise Decided(fault, cause, why) from cause
        return verdict

    def face(self, incident: Incident, cause: Exception | None = None) -> None:
        """Report a fault that was dealt with; ask where the policy's allowance is spent."""
        if not incident.why_asked:
            self._reporter.faulted(incident.fault)
            return
        self.ask(incident.fault, cause, incident.why_asked)
        self._account.decided_to_go_on(incident.fault.fault_class)

    def raised(self, batch: int, error: Exception, now: float, *, stepped: bool) -> None:
        """A step could not be dispatched. Skip its batch, or raise `Decided`."""
        fault = classify(
            error,
            phase=self._stage.phase,
            step=self._account.step,
            batch=batch,
            state_intact=self._pipeline.whole(),
        )
        skippable = fault.state_intact and fault.fault_class in _SKIPPABLE
        if not (skippable and self._plan.continue_on_error and (stepped or self._lenient)):
            verdict = self.ask(fault, error)
            if not (skippable and verdict is Verdict.SKIP):
                raise Decided(fault, error) from error
        self.face(self._account.give_up(batch, fault, now), error)

    def lost(self, lost: StepLost) -> None:
        """A step failed at run time: there is no state to go on with. Raises `Decided`."""
        fault = classify(
            lost.cause,
            phase=self._stage.phase,
            step=self._account.step,
            batch=lost.batch,
            state_intact=False,
        )
        self.ask(fault, lost.cause)
        raise Decided(fault, lost.cause) from lost.cause

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
