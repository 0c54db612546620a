"""Going back: the same process and the same compiled step, an older state and fewer batches."""

from __future__ import annotations

from trainerd.actors.accounting import Account
from trainerd.actors.mishaps import Decided, Mishaps
from trainerd.actors.pipeline import Pipeline
from trainerd.actors.reports import Phase, Reporter, RollbackRecord
from trainerd.actors.saver import Saving
from trainerd.actors.stage import Stage
from trainerd.actors.work import Rewind


class Rollback:
    """Puts a run where it was some updates ago. Owned by the loop; nothing is in flight.

    The state there is may be lost already. Every batch from the older state's cursor to the
    offending one is left out from then on, and what was saved since is removed.
    """

    def __init__(
        self,
        rewind: Rewind | None,
        *,
        account: Account,
        pipeline: Pipeline,
        saver: Saving,
        mishaps: Mishaps,
        reporter: Reporter,
        stage: Stage,
        reports: bool = True,
    ) -> None:
        """`reports`: it is this process that says so to the reporter."""
        self._rewind, self._account, self._pipeline = rewind, account, pipeline
        self._saver, self._mishaps, self._reporter = saver, mishaps, reporter
        self._stage, self._reports = stage, reports

    def carry_out(self, decided: Decided) -> None:
        """Go back, as was decided. Raises `decided` where that is not what was decided, or cannot
        be done, and another `Decided` where no state can be restored."""
        fault, account = decided.fault, self._account
        if self._rewind is None or not decided.back_steps or fault.batch < 0:
            raise decided
        from_step = account.step
        self._stage.enter(Phase.RESTORE, from_step)
        # A save that has begun would be found half done.
        self._saver.settled()
        self._pipeline.let_go()
        gone = account.left_out_with(fault.batch, fault.fault_class)
        try:
            rewound = self._rewind(from_step - decided.back_steps, gone)
        except Exception as error:
            self._mishaps.unrestored(error)
        position = rewound.position
        self._pipeline.put(rewound.state)
        entry = account.go_back(position, fault.batch, fault.fault_class)
        if self._reports:
            self._reporter.rolled_back(
                RollbackRecord(
                    from_step=from_step,
                    step=position.step,
                    first_batch=entry.first_batch,
                    last_batch=entry.last_batch,
                    source=str(position.origin or "init"),
                    fault_class=fault.fault_class,
                )
            )
        self._saver.went_back(position)
