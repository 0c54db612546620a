"""The training loop: dispatch a step, read the one before it, act at the boundary.

The device never waits for the host: a step is dispatched before the outputs of the one before it
are read. Only where something must be done with a state at rest — a save, an evaluation, a pause,
the end — the step in flight is landed first, and with it the control word that all processes
agreed on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import jax

from trainerd.actors.accounting import Account, Incident
from trainerd.actors.boundary import Boundary, Wishes, agreed
from trainerd.actors.checkpoint_meta import made_by
from trainerd.actors.checkpoints import CheckpointStore
from trainerd.actors.control import Word
from trainerd.actors.digest import state_digest
from trainerd.actors.faults import classify
from trainerd.actors.feed import Feed, Loaded
from trainerd.actors.ledger import Entry, Ledger
from trainerd.actors.pipeline import Pipeline, StepLost
from trainerd.actors.plan import Plan
from trainerd.actors.preparation import Prepared, loader, prepare
from trainerd.actors.program import Program
from trainerd.actors.reports import (
    Controls,
    Fault,
    FaultClass,
    FinishReason,
    Phase,
    Quiet,
    Reporter,
    Result,
    Verdict,
)
from trainerd.actors.saver import Saver
from trainerd.actors.stage import Stage
from trainerd.actors.step import Settings

_SLICE_S = 0.5
_FEED_CLOSE_S = 5.0


class _Decided(Exception):
    """Somebody decided that this loop ends."""


def run_loop(
    program: Program,
    plan: Plan,
    *,
    checkpoint_directory: Path,
    restore_directories: Sequence[Path] = (),
    ledger: Iterable[Entry] = (),
    reporter: Reporter | None = None,
    controls: Controls | None = None,
    clock: Callable[[], float] = time.monotonic,
    devices: Sequence[jax.Device] | None = None,
) -> Result:
    """Train `program` as `plan` says, from the newest checkpoint or from the beginning.

    Checkpoints go to `checkpoint_directory`; the newest sound one of it and of
    `restore_directories` is continued. `ledger` holds what the run's journal knows to be left out,
    beside what the checkpoint says. `devices`: all there are, by default. Returns why it ended; a
    fault that needs a decision is put to `reporter.decide`, and never raised.
    """
    reporter = reporter or Quiet()
    stage = Stage(reporter)
    store = CheckpointStore(
        checkpoint_directory, keep=plan.checkpoint_keep, listener=reporter, clock=clock
    )
    feed = Feed()
    step = 0
    try:
        try:
            prepared = prepare(
                program,
                plan,
                devices=devices or jax.devices(),
                directories=[checkpoint_directory, *restore_directories],
                reporter=reporter,
                enter=stage.enter,
            )
        except Exception as error:
            reporter.decide(classify(error, phase=stage.phase, step=0, state_intact=True))
            return _unbegun(store)
        loop = _Loop(
            program,
            plan,
            prepared,
            ledger=Ledger(ledger),
            store=store,
            feed=feed,
            stage=stage,
            reporter=reporter,
            boundary=Boundary(controls or Controls()),
            clock=clock,
        )
        result = loop.run()
        step = result.step
        return result
    finally:
        stage.enter(Phase.DRAIN, step)
        feed.close(_FEED_CLOSE_S)
        store.close(plan.final_save_timeout_s)


def _unbegun(store: CheckpointStore) -> Result:
    newest = store.newest()
    return Result(
        reason=FinishReason.DECIDED,
        step=0,
        batches=0,
        masked_slots=0,
        skipped_batches=0,
        loss=math.nan,
        state_digest="",
        durable=False,
        durable_step=newest.step if newest else -1,
        checkpoint=str(newest.path) if newest else "",
    )


class _Loop:
    """One run of the loop, from the prepared state to the result."""

    def __init__(
        self,
        program: Program,
        plan: Plan,
        prepared: Prepared,
        *,
        ledger: Ledger,
        store: CheckpointStore,
        feed: Feed,
        stage: Stage,
        reporter: Reporter,
        boundary: Boundary,
        clock: Callable[[], float],
    ) -> None:
        self._program, self._plan = program, plan
        self._store, self._feed, self._stage = store, feed, stage
        self._reporter, self._boundary, self._clock = reporter, boundary, clock
        self._account = Account(plan, prepared.slot_plan.slot_examples, ledger)
        saved_step = -1
        if prepared.restored is not None:
            meta = prepared.restored.meta
            for entry in meta.ledger:
                ledger.add(entry)
            saved_step = prepared.restored.checkpoint.step
            self._account.resume(step=saved_step, cursor=meta.batch, loss=meta.loss)
        self._pipeline = Pipeline(
            prepared.step,
            prepared.slot_plan,
            prepared.state,
            Settings.of(steps=plan.steps, mask=self._account.masks),
            clock,
        )
        self._saver = Saver(
            store,
            plan,
            boundary,
            slots=prepared.slot_plan.slots,
            saved_step=saved_step,
            made_by=made_by(list(prepared.step.mesh.devices.flat)),
            clock=clock,
        )
        self._wishes = Wishes()
        self._stepped = False
        self._evaluated_step = -1
        feed.start(loader(program, prepared))

    def run(self) -> Result:
        """Train until there is a reason to end."""
        try:
            reason = self._train()
            durable = self._end(reason)
        except _Decided:
            return self._result(FinishReason.DECIDED, durable=False)
        return self._result(reason, durable=durable)

    def _train(self) -> FinishReason:
        while True:
            if self._pipeline.in_flight and self._due(self._account.step + 1):
                self._land_all()
            if not self._pipeline.in_flight:
                reason = self._at_rest()
                if reason is not None:
                    return reason
            word = self._dispatch()
            # Alone, a process need not wait for the others' words to know that its own counts.
            asked = word is not None and bool(agreed(word)) and jax.process_count() == 1
            if self._pipeline.in_flight > 1:
                self._land()
            if self._wishes or asked:
                self._land_all()

    def _due(self, step: int) -> bool:
        """Whether a state that has reached `step` must come to rest."""
        return step >= self._plan.steps or self._saver.due(step) or self._evaluation_due(step)

    def _evaluation_due(self, step: int) -> bool:
        every = self._plan.evaluate_every_steps
        return step != self._evaluated_step and (
            step == 0 or step >= self._plan.steps or (every > 0 and step % every == 0)
        )

    def _at_rest(self) -> FinishReason | None:
        """Do what is due with no step in flight; return why to end, if so."""
        wishes, self._wishes = self._wishes, Wishes()
        step = self._account.step
        if self._evaluation_due(step):
            self._evaluate()
        if wishes.save or self._saver.due(step):
            self._saver.save(self._pipeline.state, self._account)
        if step >= self._plan.steps:
            return FinishReason.COMPLETED
        if wishes.pause and wishes.stop is None:
            wishes = self._hold()
        if wishes.stop is not None:
            self._wishes = wishes
            return wishes.stop
        self._stage.enter(Phase.STEP if self._stepped else Phase.FIRST_STEP, step)
        return None

    def _dispatch(self) -> Word | None:
        """Dispatch the next batch; return this process's control word.

        None: waiting for the batch was ended, or something was raised and dealt with.
        """
        account = self._account
        last = self._pipeline.last_batch
        batch = account.ledger.next_fed(account.cursor if last is None else last + 1)
        waits_from_s = self._clock()
        try:
            loaded = self._take(batch)
            if loaded is None:
                return None
            word = self._boundary.word(bad_data=loaded.error is not None)
            self._pipeline.dispatch(
                loaded,
                account.ledger.masked(batch),
                word,
                data_wait_s=self._clock() - waits_from_s,
            )
        except Exception as error:
            self._raised(batch, error)
            return None
        # Nothing is read that the run cannot need.
        if account.step + self._pipeline.in_flight < self._plan.steps:
            self._feed.ahead(account.ledger.next_fed(batch + 1))
        return word

    def _take(self, batch: int) -> Loaded | None:
        while True:
            loaded = self._feed.take(batch, _SLICE_S)
            if loaded is not None:
                return loaded
            asked = self._boundary.asked()
            if asked.stop is not None:
                self._wishes = self._wishes.also(asked)
                return None

    def _land_all(self) -> None:
        while self._pipeline.in_flight:
            self._land()

    def _land(self) -> None:
        """Read the oldest step in flight and book it."""
        try:
            landing = self._pipeline.land()
        except StepLost as lost:
            self._lost(lost)
        if landing is None or not bool(landing.outputs.live):
            return
        record, incident = self._account.settle(landing, self._clock())
        self._stepped = True
        self._stage.enter(Phase.STEP, record.step)
        self._reporter.stepped(record)
        self._wishes = self._wishes.also(agreed(landing.outputs.control))
        if incident is not None:
            self._face(incident)

    def _face(self, incident: Incident) -> None:
        """Report a fault that was dealt with; ask where the policy's allowance is spent."""
        if not incident.why_asked:
            self._reporter.faulted(incident.fault)
            return
        self._land_all()
        self._ask(incident.fault)
        self._account.decided_to_go_on(incident.fault.fault_class)

    def _ask(self, fault: Fault) -> Verdict:
        verdict = self._reporter.decide(fault)
        if verdict in (Verdict.RESTART, Verdict.FAIL):
            raise _Decided
        return verdict

    def _raised(self, batch: int, error: Exception) -> None:
        """A step could not be dispatched. Skip its batch, or end."""
        self._land_all()
        intact = self._pipeline.whole()
        fault = classify(
            error,
            phase=self._stage.phase,
            step=self._account.step,
            batch=batch,
            state_intact=intact,
        )
        skippable = intact and fault.fault_class in (
            FaultClass.STEP_EXCEPTION,
            FaultClass.DATA_ERROR,
        )
        if not (skippable and self._plan.continue_on_error and self._stepped):
            verdict = self._ask(fault)
            if not (skippable and verdict is Verdict.SKIP):
                raise _Decided from error
        self._face(self._account.give_up(batch, fault, self._clock()))

    def _lost(self, lost: StepLost) -> None:
        """A step failed at run time: there is no state to go on with."""
        step, phase = self._account.step, self._stage.phase
        self._ask(
            classify(lost.cause, phase=phase, step=step, batch=lost.batch, state_intact=False)
        )
        raise _Decided from lost.cause

    def _evaluate(self) -> None:
        step = self._evaluated_step = self._account.step
        if self._program.evaluate is None:
            return
        self._stage.enter(Phase.EVALUATE, step)
        try:
            came = self._program.evaluate(self._pipeline.state.params)
            metrics = {str(name): float(value) for name, value in came.items()}
        except Exception as error:
            intact = self._pipeline.whole()
            self._ask(classify(error, phase=Phase.EVALUATE, step=step, state_intact=intact))
            if not intact:
                raise _Decided from error
            return
        self._reporter.evaluated(step, metrics)

    def _hold(self) -> Wishes:
        """Pause after a durable save, until told otherwise; return what ended it."""
        step = self._account.step
        self._save_durably()
        self._stage.enter(Phase.PAUSED, step)
        self._reporter.paused(step)
        while True:
            self._boundary.wait_while_paused(_SLICE_S)
            asked = self._boundary.asked()
            if asked.save:
                self._saver.save(self._pipeline.state, self._account)
            if asked.stop is not None:
                return asked
            if not asked.pause:
                self._reporter.resumed(step)
                return Wishes()

    def _end(self, reason: FinishReason) -> bool:
        """Make the last state durable; False if it is not."""
        if reason is not FinishReason.COMPLETED and not self._wishes.stop_saves:
            return False
        return self._save_durably()

    def _save_durably(self) -> bool:
        self._stage.enter(Phase.SAVE, self._account.step)
        return self._saver.save_durably(self._pipeline.state, self._account) is not None

    def _result(self, reason: FinishReason, *, durable: bool) -> Result:
        account = self._account
        self._stage.enter(Phase.DRAIN, account.step)
        # A save that has begun is worth waiting for, however the run ends.
        self._store.drain(self._plan.final_save_timeout_s)
        newest = self._store.newest()
        return Result(
            reason=reason,
            step=account.step,
            batches=account.cursor,
            masked_slots=account.masked_slots,
            skipped_batches=account.skipped_batches,
            loss=account.loss,
            state_digest=state_digest(self._pipeline.state) if self._pipeline.whole() else "",
            durable=durable,
            durable_step=newest.step if newest else -1,
            checkpoint=str(newest.path) if newest else "",
        )
