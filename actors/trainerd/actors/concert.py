"""When a loop comes to rest, and what it says in its control word: alone, or as one of several.

Who is alone looks at everything at each boundary. Several members must come to rest at the same
boundaries, or one would wait in a step that the others do not make. So they rest where the number
of updates alone says so, and where the control word does; what else the first member finds due, it
says there.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trainerd.actors import control
from trainerd.actors.boundary import Boundary, Wishes, agreed
from trainerd.actors.company import Company
from trainerd.actors.feed import Loaded
from trainerd.actors.pipeline import Landing
from trainerd.actors.plan import Plan
from trainerd.actors.rules import Rulebook, Rules
from trainerd.actors.rules_word import rules_as_json, rules_from_json
from trainerd.actors.saver import Saving, regular_save
from trainerd.actors.snapshotting import Snapshotting

_RULES_S = 60.0


class Concert:
    """Owned by the loop."""

    def __init__(
        self,
        company: Company,
        plan: Plan,
        *,
        boundary: Boundary,
        saver: Saving,
        snapshots: Snapshotting,
        rulebook: Rulebook,
    ) -> None:
        self._company, self._plan, self._boundary = company, plan, boundary
        self._saver, self._snapshots, self._rulebook = saver, snapshots, rulebook
        self._silence = control.word()
        self._rules: Rules | None = None

    def asked(self) -> Wishes:
        """What counts at once: alone, a process need not send its wishes around."""
        return self._boundary.asked() if self._company.alone else Wishes()

    def landed(self, landing: Landing) -> tuple[Wishes, Landing]:
        """What all have agreed on in a step that has landed; and the step, with the error of
        another process if that is why all have left out its batch."""
        if self._company.alone:
            return Wishes(), landing
        word = np.asarray(landing.outputs.control)
        self._company.landed(word)
        loaded = landing.loaded
        if word[control.BAD_DATA] and loaded.error is None:
            error = self._company.error_of(loaded.batch)
            landing = replace(landing, loaded=replace(loaded, error=error))
        return agreed(word), landing

    def rests(self, step: int) -> bool:
        """Whether a state that has reached `step` must come to rest for a save or a snapshot."""
        if self._company.alone:
            return self._snapshots.due(step) or self._saver.due(step)
        return regular_save(self._plan, step)

    def takes(self, wishes: Wishes, step: int) -> bool:
        """Whether a snapshot is to be taken now."""
        if self._company.alone:
            return self._snapshots.due(step)
        return wishes.snapshot and self._snapshots.ready(step)

    def word(self, step: int, loaded: Loaded) -> control.Word:
        """What this process says in the step of `loaded`; the run stands at `step` or beyond."""
        bad_data = loaded.error is not None
        if self._company.alone:
            return self._boundary.word(bad_data=True) if bad_data else self._silence
        if loaded.error is not None:
            self._company.tell_error(loaded.error)
        elective = 0
        if self._company.leads:
            elective += control.ELECTIVE_SAVE * self._saver.due(step)
            elective += control.ELECTIVE_SNAPSHOT * self._snapshots.due(step)
            elective += control.ELECTIVE_RULES * (self._rulebook.newest is not self._rules)
        return self._boundary.word(
            bad_data=bad_data, elective=elective, clock=self._company.clock_lane()
        )

    def new_rules(self, wishes: Wishes) -> Rules | None:
        """The rules to go by from the next step on, where they are others than before.

        Nothing is in flight where several members have agreed on that.
        """
        if self._company.alone:
            if self._rulebook.newest is self._rules:
                return None
            self._rules = self._rulebook.newest
            return self._rules
        if not wishes.rules:
            return None
        if self._company.leads:
            self._rules = self._rulebook.newest
            assert self._rules is not None
            self._company.minute("rules", rules=rules_as_json(self._rules))
            return self._rules
        told = self._company.next_minute("rules", limit_s=_RULES_S)
        return rules_from_json(told["rules"])
