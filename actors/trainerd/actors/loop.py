"""The training loop: dispatch a step, read the one before it, act at the boundary.

The device never waits for the host: a step is dispatched before the outputs of the one before it
are read. Only where something must be done with a state at rest — a save, an evaluation, a pause,
the end — the step in flight is landed first, and with it the control word that all processes
agreed on. `Engine` and the trainer actor run this same loop.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Mapping

from trainerd.actors.accounting import Account
from trainerd.actors.awaiting import Awaiting
from trainerd.actors.boundary import Boundary, Wishes
from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.company import Company
from trainerd.actors.concert import Concert
from trainerd.actors.delegation import Incident
from trainerd.actors.drills import Drill
from trainerd.actors.errors import DataEnded, TrainingError
from trainerd.actors.evaluator import Evaluator
from trainerd.actors.feed import Loaded
from trainerd.actors.holding import Holds
from trainerd.actors.hooks import Hooks
from trainerd.actors.mishaps import Decided, Mishaps
from trainerd.actors.pipeline import Pipeline, StepLost
from trainerd.actors.plan import Plan
from trainerd.actors.reports import FaultClass, FinishReason, Phase
from trainerd.actors.rollback import Rollback
from trainerd.actors.saver import Saving
from trainerd.actors.snapshotting import Snapshotting
from trainerd.actors.spoiling import spoilt
from trainerd.actors.state_access import PipelineAccess
from trainerd.actors.surroundings import Ending, Surroundings
from trainerd.actors.timesheet import Activity
from trainerd.actors.work import EpochEnded, Work

_OVER = (FinishReason.COMPLETED, FinishReason.DATA_ENDED)
_HARMLESS = (FaultClass.STEP_EXCEPTION, FaultClass.DATA_ERROR)
"""What ends a loop and says nothing against its state, where that is whole."""


class Loop:
    """One run, from a state to its ending. Not safe for threads, but for the controls."""

    def __init__(
        self,
        work: Work,
        plan: Plan,
        around: Surroundings,
        *,
        account: Account,
        saver: Saving,
        boundary: Boundary,
        snapshots: Snapshotting,
        holding: Holds,
        company: Company,
    ) -> None:
        self._work, self._plan, self._account = work, plan, account
        self._saver, self._around, self._company = saver, around, company
        self._snapshots = snapshots
        self._stage, self._clock = around.stage, around.clock
        self._pipeline = Pipeline(work.step, work.state, around.clock)
        self._awaiting = Awaiting(work.supply, self._pipeline, self._stage)
        self._access = PipelineAccess(self._pipeline, around.audience.faulted)
        self._hooks = Hooks(around.audience, self._access, around.controls)
        self._mishaps = Mishaps(
            plan,
            account=account,
            pipeline=self._pipeline,
            reporter=around.reporter,
            stage=around.stage,
            lenient=around.lenient,
            explained=work.explained,
            evidence=around.evidence,
            slots=work.slots,
            company=self._company,
        )
        self._evaluator = Evaluator(
            work.evaluation,
            steps=plan.steps,
            stage=around.stage,
            mishaps=self._mishaps,
            evaluated=self._evaluated,
        )
        self._rollback = Rollback(
            work.rewind,
            account=account,
            pipeline=self._pipeline,
            saver=saver,
            mishaps=self._mishaps,
            reporter=around.reporter,
            stage=around.stage,
            reports=self._company.leads,
        )
        self._concert = Concert(
            self._company,
            plan,
            boundary=boundary,
            saver=saver,
            snapshots=snapshots,
            rulebook=around.rulebook,
        )
        self._wishes = Wishes()
        self._stepped = False
        self._data_ended = False
        self._epoch = -1
        self._begun_step = account.step
        self._holding, self._drill = holding, around.drill
        self._newest: Checkpoint | None = None
        # Faults that were dealt with and not reported yet, oldest first.
        self._owed: collections.deque[Incident] = collections.deque()

    def run(self) -> Ending:
        """Train until there is a reason to end."""
        account = self._account
        interrupt: BaseException | None = None
        try:
            with self._hooks.session(step=account.step, loss=account.loss):
                try:
                    reason = self._until_done()
                except self._around.interrupts as raised:
                    interrupt, reason = raised, FinishReason.PREEMPTED
                    self._land_all()
                reason, durable = self._end(reason)
        except Decided as decided:
            self._overtake()
            if decided.fault.fault_class in _HARMLESS:
                self._save_as_it_is()
            return self._ending(FinishReason.DECIDED, decided=decided, raised=interrupt)
        except TrainingError as error:
            self._land_quietly()
            self._save_as_it_is()
            return self._ending(FinishReason.DECIDED, raised=error)
        return self._ending(reason, durable=durable, raised=interrupt)

    def _until_done(self) -> FinishReason:
        while True:
            try:
                return self._train()
            except Decided as decided:
                self._go_back(decided)

    def _train(self) -> FinishReason:
        lag = self._work.step.lag
        while True:
            self._wishes = self._wishes.also(self._concert.asked())
            if self._pipeline.in_flight and (self._wishes or self._due(self._account.step + 1)):
                self._land_all()
            agreed = self._wishes
            if not self._pipeline.in_flight:
                reason = self._at_rest()
                if reason is not None:
                    return reason
            if (rules := self._concert.new_rules(agreed)) is not None:
                # At rest, so that no step is judged by two sets of them.
                self._land_all()
                self._account.adopt(rules, self._company.now())
            self._dispatch()
            while self._pipeline.in_flight > lag:
                self._land()

    def _due(self, step: int) -> bool:
        """Whether a state that has reached `step` must come to rest."""
        return (
            step >= self._plan.steps
            or self._concert.rests(step)
            or self._evaluator.due(step)
            or self._hooks.needs_rest(step)
        )

    def _at_rest(self) -> FinishReason | None:
        """Do what is due with no step in flight; return why to end, if so."""
        wishes, self._wishes = self._wishes, Wishes()
        step = self._account.step
        if self._evaluator.due(step):
            self._evaluator.run(self._pipeline.state, step)
        if wishes.save or self._saver.begins(step):
            with self._stage.within(Activity.CHECKPOINT_BLOCKED):
                self._saver.save(self._pipeline.state, self._account)
        if self._concert.takes(wishes, step):
            with self._stage.within(Activity.SNAPSHOT):
                self._snapshots.take(self._pipeline.state, self._account)
        if step >= self._plan.steps:
            return FinishReason.COMPLETED
        if self._data_ended:
            return FinishReason.DATA_ENDED
        if wishes.pause and wishes.stop is None:
            wishes = self._holding.pause(self._pipeline.state, self._account)
        if wishes.stop is not None:
            self._wishes = wishes
            return wishes.stop
        self._stage.enter(Phase.STEP if self._stepped else Phase.FIRST_STEP, step)
        return None

    def _dispatch(self) -> None:
        """Dispatch the next batch, unless something else comes first."""
        account, pipeline = self._account, self._pipeline
        last = pipeline.last_batch
        batch = account.ledger.next_fed(account.cursor if last is None else last + 1)
        if (epoch := self._work.supply.epoch_of(batch)) != self._epoch:
            self._turn(epoch)
            return
        waits_from_s = self._clock()
        try:
            loaded = self._take(batch)
        except EpochEnded:
            return
        except DataEnded:
            self._land_all()
            self._data_ended = True
            return
        except Exception as error:
            self._raised(batch, error)
            return
        if loaded is None:
            return
        waited_s = self._clock() - waits_from_s
        if not self._hooks.step_begins() and self._company.alone:
            return
        if self._drill is not None and self._drill.armed:
            try:
                loaded = self._drilled(self._drill, loaded)
            except Exception as error:
                self._raised(batch, error, loaded)
                return
        word = self._concert.word(account.step, loaded)
        forced = account.ledger.masked(batch)
        try:
            pipeline.dispatch(loaded, forced, account.settings(), word, data_wait_s=waited_s)
        except Exception as error:
            self._raised(batch, error, loaded)
            return
        # Nothing is read that the run cannot need.
        if account.step + pipeline.in_flight < self._plan.steps:
            self._work.supply.ahead(account.ledger.next_fed(batch + 1))

    def _drilled(self, drill: Drill, loaded: Loaded) -> Loaded:
        """The batch, as what is due now on purpose leaves it."""
        step = self._account.step + self._pipeline.in_flight + 1
        spoiling = drill(step, loaded.batch)
        return loaded if spoiling is None else spoilt(loaded, spoiling, self._work.weighed)

    def _go_back(self, decided: Decided) -> None:
        """Go on from an older state, as was decided; otherwise raise `decided`."""
        self._overtake()
        self._rollback.carry_out(decided)
        account = self._account
        self._snapshots.went_back(account.step)
        self._evaluator.begin_anew()
        self._hooks.stand(step=account.step, loss=account.loss)
        self._epoch, self._data_ended = -1, False

    def _turn(self, epoch: int) -> None:
        """End the epoch there is, and begin another."""
        if self._hooks.active or self._evaluator.each_epoch:
            self._land_all()
            self._end_epoch()
            self._hooks.epoch_begins(epoch)
        self._epoch = epoch

    def _end_epoch(self) -> None:
        if self._epoch < 0:
            return
        if self._evaluator.each_epoch:
            self._evaluator.run(self._pipeline.state, self._account.step)
        self._hooks.epoch_ends()
        self._epoch = -1

    def _take(self, batch: int) -> Loaded | None:
        while True:
            loaded = self._awaiting.take(batch)
            if loaded is not None:
                return loaded
            asked = self._concert.asked()
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
            self._mishaps.lost(lost)
        if landing is None or not bool(landing.outputs.live):
            return
        wishes, landing = self._concert.landed(landing)
        record, incident = self._account.settle(landing, self._company.now())
        self._stepped = True
        self._stage.enter(Phase.STEP, record.step)
        self._around.reporter.stepped(record)
        self._snapshots.stepped(record)
        self._saver.stepped(record)
        self._hooks.landed(record)
        if not self._pipeline.in_flight and self._evaluator.due(record.step):
            # Before the callbacks' hooks, so that they see its numbers.
            self._evaluator.run(self._pipeline.state, record.step)
        self._hooks.step_ends()
        self._wishes = self._wishes.also(wishes)
        if incident is not None:
            if incident.why_asked:
                self._mishaps.witness(landing.loaded)
            self._owe(incident)

    def _owe(self, incident: Incident) -> None:
        """Report what was dealt with in order, and ask where that is due, at rest."""
        self._owed.append(incident)
        if len(self._owed) > 1:
            # Whoever landed the first of them sees to all.
            return
        if incident.why_asked:
            self._land_all()
        self._mishaps.face_all(self._owed, self._company.now())

    def _overtake(self) -> None:
        """Something was decided: what is still owed was dealt with, and is reported as such."""
        while self._owed:
            self._mishaps.overtaken(self._owed.popleft())

    def _raised(self, batch: int, error: Exception, loaded: Loaded | None = None) -> None:
        self._land_all()
        now = self._company.now()
        self._mishaps.raised(batch, error, now, stepped=self._stepped, loaded=loaded)

    def _evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        self._account.evaluation = metrics
        if self._company.leads:
            self._around.reporter.evaluated(step, metrics)
        self._hooks.evaluated(step, metrics)

    def _end(self, reason: FinishReason) -> tuple[FinishReason, bool]:
        """Finish the epoch of a run that is over, make the last state durable.

        Return why the run ends, which may change meanwhile, and whether its last state is durable.
        """
        if reason in _OVER or (self._hooks.stopped_by and self._evaluator.alone):
            self._evaluator.run(self._pipeline.state, self._account.step)
            self._end_epoch()
        if reason not in _OVER and not self._wishes.stop_saves:
            return reason, False
        if not self._pipeline.whole():
            return reason, False
        wait = self._holding.save_last if reason in _OVER else self._holding.save
        saved = wait(self._pipeline.state, self._account)
        self._newest = saved.newest
        return saved.reason or reason, saved.durable

    def _save_as_it_is(self) -> None:
        """Begin to save a state that an exception has left whole: the next process begins there."""
        if self._pipeline.whole() and self._account.step > self._begun_step:
            self._stage.enter(Phase.SAVE, self._account.step)
            self._saver.rescue(self._pipeline.state, self._account)

    def _land_quietly(self) -> None:
        """Book what is in flight and tell nobody but the reporter: a hook has ended the run."""
        with contextlib.suppress(StepLost):
            while (landing := self._pipeline.land()) is not None:
                record, _ = self._account.settle(landing, self._company.now())
                self._around.reporter.stepped(record)

    def _ending(
        self,
        reason: FinishReason,
        *,
        durable: bool = False,
        decided: Decided | None = None,
        raised: BaseException | None = None,
    ) -> Ending:
        account = self._account
        self._stage.enter(Phase.DRAIN, account.step)
        newest = self._saver.settled() or self._newest
        whole = self._pipeline.whole()
        over = reason in _OVER or (reason is FinishReason.STOPPED and self._hooks.stopped_by)
        result = self._account.result(
            reason,
            state_digest=self._work.digest(self._pipeline.state, account.step) if whole else "",
            durable=durable,
            newest=newest,
        )
        return Ending(
            result=result,
            state=(self._access.final() if over else self._pipeline.state) if whole else None,
            own_state=not (over and self._access.asked),
            fault=decided.fault if decided else None,
            cause=decided.cause if decided else None,
            why=decided.why if decided else "",
            raised=raised,
            stopped_by=self._hooks.stopped_by,
        )
