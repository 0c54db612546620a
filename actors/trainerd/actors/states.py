"""Where a program's states come from: what is stored of them, or its first state made anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from jax.sharding import Mesh

from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.checkpoint_finding import find
from trainerd.actors.checkpoint_rejection import Rejections
from trainerd.actors.checkpoint_restore import Restored
from trainerd.actors.gang_meeting import Meeting
from trainerd.actors.gang_offers import offers, settle
from trainerd.actors.gang_shares import Shares
from trainerd.actors.gang_state import Agreement, Offer
from trainerd.actors.ledger import Entry
from trainerd.actors.placement import own_mesh
from trainerd.actors.program import Program
from trainerd.actors.reports import Fault
from trainerd.actors.restoring import restore
from trainerd.actors.snapshots import SnapshotStore
from trainerd.actors.state import TrainState
from trainerd.actors.step import abstract_state, fresh_state


class States:
    """The states of one run on `mesh`; with `meeting`, all members of a gang get the same.

    `abstract` is their form: on this process's own devices, or, with `sharded`, each leaf where it
    lies on all of them (`shards`); `known` as for `abstract_state`.
    Checkpoints are looked for in `directories`. Every member calls the same methods in the same
    order.
    """

    def __init__(
        self,
        program: Program,
        seed: int,
        mesh: Mesh,
        *,
        directories: Sequence[Path],
        faulted: Callable[[Fault], None],
        snapshots: SnapshotStore | None = None,
        known: TrainState | None = None,
        meeting: Meeting | None = None,
        timeout_s: float = 0.0,
        sharded: bool = False,
    ) -> None:
        self._program, self._seed = program, seed
        self._mesh = mesh if sharded else own_mesh(mesh)
        self._directories, self._faulted, self._snapshots = directories, faulted, snapshots
        self._leads = meeting is None or meeting.process_id == 0
        self._agreement: Agreement | None = None
        self._shares: Shares | None = None
        if meeting is not None and sharded:
            self._shares = Shares(meeting, timeout_s=timeout_s)
        elif meeting is not None:
            self._agreement = Agreement(meeting, mesh, timeout_s=timeout_s)
        self.abstract = abstract_state(program, seed, self._mesh, known=known, sharded=sharded)

    def stored(
        self,
        left_out: Sequence[Entry],
        at_most_step: int | None = None,
        *,
        known: Checkpoint | None = None,
    ) -> Restored | None:
        """The newest sound state, or that of at most so many updates; see `restoring.restore`."""
        if self._agreement is None and self._shares is None:
            return restore(
                self._directories,
                self._snapshots,
                self.abstract,
                self._faulted,
                left_out=left_out,
                at_most_step=at_most_step,
                known=known,
            )
        if self._shares is not None:
            # Whoever saves has seen its last save through: all are to find that checkpoint.
            self._shares.together()
        there = find(self._directories)
        # What the run is known to have one member looks for: the others may see other disks.
        rejections = Rejections(there, self._faulted, known=known if self._leads else None)
        found = offers(
            there,
            self._snapshots,
            self.abstract,
            rejections,
            self._faulted,
            left_out=left_out,
            at_most_step=at_most_step,
        )
        restored = self._agreed(found, at_most_step)
        rejections.conclude(anything=restored is not None)
        settle(self._snapshots, restored)
        return None if restored is None else replace(restored, passed_over=rejections.kept)

    def fresh(self) -> TrainState:
        """The state that a run begins with."""
        together = None if self._shares is None else self._shares.together
        state = fresh_state(self._program, self._seed, self._mesh, self.abstract, compiled=together)
        return state if self._agreement is None else self._agreement.same(state, self.abstract)

    def _agreed(self, found: Sequence[Offer], at_most_step: int | None) -> Restored | None:
        """What all members begin with; `found`: what this one could."""
        if self._agreement is not None:
            return self._agreement.newest(found, self.abstract, at_most_step=at_most_step)
        assert self._shares is not None
        restored = self._shares.newest(found, at_most_step=at_most_step)
        if self._snapshots is not None:
            self._snapshots.stamp = self._shares.stamp()
        return restored
