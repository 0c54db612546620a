"""The state that all members of a gang begin with: the newest that any of them can have.

Each member says which states it could load, newest first. All choose the newest of all; who has it
loads it, and who has not, or found it damaged, gets it from the first that does, over the gang's
own collectives. Where nobody could load it, the next older one is tried.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.checkpoint_meta import CheckpointMeta
from trainerd.actors.checkpoint_restore import Restored
from trainerd.actors.checkpoint_tree import plain
from trainerd.actors.checksum import checksum
from trainerd.actors.gang_broadcast import broadcast
from trainerd.actors.gang_meeting import Meeting, everybody
from trainerd.actors.placement import on_mesh
from trainerd.actors.state import PyTree, TrainState

MOST_OFFERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A state that this process may have: of `step` updates.

    `load` puts it onto this process's own devices; None: it cannot be used, which is reported.
    `token`: of a snapshot what it was taken of, and by which gang; empty: it is a checkpoint.
    """

    step: int
    load: Callable[[], Restored | None]
    token: str = ""


class Agreement:
    """Agrees on states on `mesh`. Every member calls the same methods in the same order.

    `timeout_s`: how long members wait for each other at each turn.
    """

    def __init__(self, meeting: Meeting, mesh: Mesh, *, timeout_s: float) -> None:
        self._meeting, self._mesh, self._timeout_s = meeting, mesh, timeout_s
        self._topics = itertools.count()

    def newest(
        self, offers: Sequence[Offer], abstract: TrainState, *, at_most_step: int | None = None
    ) -> Restored | None:
        """The state that all have from now on, on the mesh; None: nobody has any.

        `offers`: this process's, the best first. With `at_most_step`: the newest of at most so many
        updates, else the oldest. `abstract` is on this process's own devices. Raises
        `PeerLostError`, and what loading raises.
        """
        topic = f"state/{next(self._topics)}"
        left = list(offers)
        for turn in itertools.count():
            name = f"{topic}/{turn}"
            word = {"steps": [offer.step for offer in left[:MOST_OFFERS]]}
            words = everybody(self._meeting, f"{name}/offers", word, self._timeout_s)
            steps = {int(step) for word in words for step in word["steps"]}
            if not steps:
                return None
            best = max(steps, key=lambda step: preference(step, at_most_step))
            own = _load([offer for offer in left if offer.step == best])
            left = [offer for offer in left if offer.step != best]
            agreed = self._shared(name, own, abstract)
            if agreed is not None:
                return agreed
        raise AssertionError("itertools.count does not end")

    def same(self, state: TrainState, abstract: TrainState) -> TrainState:
        """A state that each member has made anew, on the mesh: the first member's for all."""
        topic = f"state/{next(self._topics)}"
        own = Restored(
            state=state, meta=_NO_META, checkpoint=Checkpoint(step=0, path=Path()), durable=False
        )
        agreed = self._shared(topic, own, abstract)
        assert agreed is not None
        return agreed.state

    def _shared(self, name: str, own: Restored | None, abstract: TrainState) -> Restored | None:
        """Compare what was loaded; send it to those who have nothing, or something else."""
        word = {"digest": "", "position": ""}
        if own is not None:
            word = {"digest": _digest(own.state), "position": position_digest(own.meta)}
        words = everybody(self._meeting, f"{name}/loaded", word, self._timeout_s)
        source = next((member for member, said in enumerate(words) if said["digest"]), None)
        if source is None:
            return None
        sends = self._meeting.process_id == source
        if own is not None and sends:
            self._meeting.say(f"{name}/from", _described(own))
        if any(said["digest"] != words[source]["digest"] for said in words):
            sent = broadcast(
                own.state if own is not None and sends else None,
                abstract,
                self._mesh,
                source=source,
            )
            if word["digest"] != words[source]["digest"]:
                own = None
        if own is None or word["position"] != words[source]["position"]:
            # Of one step, too, one may know of batches left out that the other does not.
            told = self._meeting.hear(f"{name}/from", self._timeout_s)
            own = _received(sent if own is None else own.state, told)
        return replace(own, state=on_mesh(own.state, self._mesh))


def _load(offers: Sequence[Offer]) -> Restored | None:
    tried = (offer.load() for offer in offers)
    return next((restored for restored in tried if restored is not None), None)


def preference(step: int, at_most_step: int | None) -> tuple[bool, int]:
    """Greatest for the state to go on from; see `Agreement.newest`."""
    if at_most_step is None or step <= at_most_step:
        return True, step
    return False, -step


def _digest(state: TrainState) -> str:
    """Equal for two states if their bytes are; of a state on this process's own devices."""
    leaves = [plain(leaf) for leaf in jax.tree.leaves(state)]
    return checksum(b"".join(checksum(_bytes(leaf)) for leaf in leaves)).hex()


def position_digest(meta: CheckpointMeta) -> str:
    """Equal for two states of a run that are gone on from alike."""
    values = {name: value for name, value in meta.as_json().items() if name != "made_by"}
    return checksum(json.dumps(values, sort_keys=True).encode()).hex()


def _bytes(leaf: Any) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(leaf.addressable_data(0)).reshape(-1).view(np.uint8)


def _described(restored: Restored) -> dict[str, Any]:
    meta = {} if restored.meta is _NO_META else restored.meta.as_json()
    checkpoint = restored.checkpoint
    return {"meta": meta, "step": checkpoint.step, "path": str(checkpoint.path)}


def _received(state: PyTree, told: Any) -> Restored:
    meta = CheckpointMeta.from_json(told["meta"]) if told["meta"] else _NO_META
    # What another process has is not durable for this one, whatever it is there.
    return Restored(
        state=state,
        meta=meta,
        checkpoint=Checkpoint(step=int(told["step"]), path=Path(told["path"])),
        durable=False,
    )


_NO_META = CheckpointMeta(
    run_id="",
    batch=0,
    slots=0,
    global_batch=0,
    seed=0,
    loss=0.0,
    masked_slots=0,
    skipped_batches=0,
    ledger=(),
)
