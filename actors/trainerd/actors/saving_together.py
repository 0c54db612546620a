"""How the members of a gang save a state that is cut over them: all gather it, the first writes.

Gathering takes all of them, so it happens only where all know that it does: at the boundaries that
the number of updates or the control word names, before a pause, and at the end.
"""

from __future__ import annotations

from trainerd.actors.accounting import Account
from trainerd.actors.boundary import Wishes
from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.gathering import Gathering
from trainerd.actors.holding import Holds, Saved
from trainerd.actors.plan import Plan
from trainerd.actors.reports import Fault, Phase, StepRecord
from trainerd.actors.saver import Saving, regular_save
from trainerd.actors.stage import Stage
from trainerd.actors.state import PyTree
from trainerd.actors.work import Position


class SavingTogether:
    """Implements `Saving` for each member around its `own`, which writes or does nothing."""

    def __init__(self, own: Saving, gathering: Gathering, plan: Plan, position: Position) -> None:
        self._own, self._gathering, self._plan = own, gathering, plan
        self._stand(position)

    def due(self, step: int) -> bool:
        """Whether this member wants a save: the others are to hear of it."""
        return self._own.due(step)

    def begins(self, step: int) -> bool:
        """Whether all know that the state that has reached `step` is to be saved now."""
        return step != self._saved_step and regular_save(self._plan, step)

    @property
    def wanted(self) -> bool:
        """See `Saving`."""
        return self._own.wanted

    def stepped(self, record: StepRecord) -> None:
        """See `Saving`."""
        self._gathering.forget()
        self._own.stepped(record)

    def save(self, state: PyTree, account: Account) -> None:
        """Gather, with all others; begin to save."""
        self._saved_step = account.step
        self._gathering.gather(state, account.step)
        self._own.save(state, account)

    def rescue(self, state: PyTree, account: Account) -> None:  # noqa: ARG002
        """What ends this process may not end the others: nothing can be gathered."""
        self._own.settled()

    def durable(self, step: int) -> bool:
        """See `Saving`."""
        return self._own.durable(step)

    def save_durably(self, state: PyTree, account: Account) -> bool:
        """See `Saving`; for a state that was gathered."""
        return self._own.save_durably(state, account)

    @property
    def failure(self) -> Fault | None:
        """See `Saving`."""
        return self._own.failure

    def settled(self) -> Checkpoint | None:
        """See `Saving`."""
        return self._own.settled()

    def went_back(self, position: Position) -> None:
        """See `Saving`."""
        self._gathering.forget()
        self._stand(position)
        self._own.went_back(position)

    def _stand(self, position: Position) -> None:
        self._saved_step = position.step if position.durable and position.origin else -1


class HoldingTogether:
    """Implements `Holds` for each member around its `own`: first all gather the state."""

    def __init__(self, own: Holds, gathering: Gathering, stage: Stage) -> None:
        self._own, self._gathering, self._stage = own, gathering, stage

    def pause(self, state: PyTree, account: Account) -> Wishes:
        """See `Holds`."""
        self._gather(state, account, by_all=False)
        return self._own.pause(state, account)

    def save(self, state: PyTree, account: Account) -> Saved:
        """See `Holds`. Afterwards each member can tell the state's digest."""
        self._gather(state, account, by_all=True)
        return self._own.save(state, account)

    def save_last(self, state: PyTree, account: Account) -> Saved:
        """The same."""
        self._gather(state, account, by_all=True)
        return self._own.save_last(state, account)

    def _gather(self, state: PyTree, account: Account, *, by_all: bool) -> None:
        self._stage.enter(Phase.SAVE, account.step)
        self._gathering.gather(state, account.step, by_all=by_all)
