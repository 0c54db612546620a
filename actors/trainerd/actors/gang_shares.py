"""The state that a gang begins with whose members each hold a part of it.

No part can be had from another member. So all begin with a snapshot only where each has its own
part of one and the same, and otherwise with a checkpoint that all can read. Parts of two moments
must never meet: snapshots bear the *stamp* of the gang that took them, and what all have loaded is
compared before anybody goes on from it.
"""

from __future__ import annotations

import itertools
import logging
import secrets
from collections.abc import Sequence

from trainerd.actors import checkpoint_manifest
from trainerd.actors.checkpoint_restore import Restored
from trainerd.actors.checksum import checksum
from trainerd.actors.errors import CheckpointsUnreadableError
from trainerd.actors.gang_meeting import Meeting, Word, everybody
from trainerd.actors.gang_state import MOST_OFFERS, Offer, position_digest, preference

_log = logging.getLogger(__name__)

_Told = tuple[int, str]
"""An offer's step and token."""


class Shares:
    """Agrees on states of which each member has a part. All call the same methods in one order.

    `timeout_s`: how long members wait for each other at each turn.
    """

    def __init__(self, meeting: Meeting, *, timeout_s: float) -> None:
        self._meeting, self._timeout_s = meeting, timeout_s
        self._topics = itertools.count()
        self._stamp = ""

    def newest(
        self, offers: Sequence[Offer], *, at_most_step: int | None = None
    ) -> Restored | None:
        """This member's part of the state that all have from now on; None: nobody has any.

        Arguments as for `gang_state.Agreement`. Raises `CheckpointsUnreadableError` where there are
        checkpoints, but none that all can read; `PeerLostError`, and what loading raises.
        """
        topic = f"shares/{next(self._topics)}"
        left = list(offers)
        for turn in itertools.count():
            name = f"{topic}/{turn}"
            word = {"offers": [[offer.step, offer.token] for offer in left[:MOST_OFFERS]]}
            words = everybody(self._meeting, f"{name}/offers", word, self._timeout_s)
            told = [{(int(step), str(token)) for step, token in said["offers"]} for said in words]
            common = set[_Told].intersection(*told)
            if not common:
                _refuse_to_begin_anew(told)
                return None
            best = max(common, key=lambda each: _rank(each, at_most_step))
            if at_most_step is None:
                _say_what_is_passed_over(best, told)
            chosen = next(offer for offer in left if (offer.step, offer.token) == best)
            left = [offer for offer in left if (offer.step, offer.token) != best]
            restored = chosen.load()
            if self._all_have(f"{name}/loaded", restored):
                return restored
        raise AssertionError("itertools.count does not end")

    def stamp(self) -> str:
        """What the snapshots of this gang bear, and those of no other."""
        if not self._stamp:
            if self._meeting.process_id == 0:
                self._meeting.say("shares/stamp", {"stamp": secrets.token_hex(8)})
            self._stamp = str(self._meeting.hear("shares/stamp", self._timeout_s)["stamp"])
        return self._stamp

    def together(self) -> None:
        """Wait until all are here: what follows, all do at once. Raises `PeerLostError`."""
        self._meeting.together(f"shares/{next(self._topics)}/together", self._timeout_s)

    def _all_have(self, name: str, restored: Restored | None) -> bool:
        """Whether all have loaded a part, and of one and the same state."""
        word: Word = {"state": "" if restored is None else _identity(restored)}
        words = everybody(self._meeting, name, word, self._timeout_s)
        states = {said["state"] for said in words}
        return len(states) == 1 and "" not in states


def _identity(restored: Restored) -> str:
    """Equal for parts of one state: where the run stood, and the checkpoint's own digests."""
    manifest = restored.checkpoint.path / checkpoint_manifest.MANIFEST
    content = manifest.read_bytes() if restored.durable and manifest.exists() else b""
    return f"{position_digest(restored.meta)} {checksum(content).hex()}"


def _rank(told: _Told, at_most_step: int | None) -> tuple[bool, int, bool]:
    """Of one step a snapshot comes before a checkpoint, whose token is empty."""
    return *preference(told[0], at_most_step), bool(told[1])


def _refuse_to_begin_anew(told: Sequence[set[_Told]]) -> None:
    """Where one member knows of checkpoints that another does not, the run is not at its start."""
    known = sorted({step for offers in told for step, token in offers if not token}, reverse=True)
    if known:
        blind = [str(member) for member, offers in enumerate(told) if (known[0], "") not in offers]
        raise CheckpointsUnreadableError(
            f"the checkpoint of step {known[0]} cannot be read by process {', '.join(blind)} of "
            f"{len(told)}, and there is none that all can read",
            suggestion="with sharded state every host reads its part of a checkpoint itself: give "
            "all of them the same checkpoint.directory",
        )


def _say_what_is_passed_over(best: _Told, told: Sequence[set[_Told]]) -> None:
    newer = sorted({step for offers in told for step, _ in offers if step > best[0]})
    if newer:
        _log.warning(
            "going on from step %d: not all processes have their part of later states, of steps %s",
            best[0],
            ", ".join(map(str, newer)),
        )
