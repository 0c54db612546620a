"""Older states of a program under the loop: from checkpoints and snapshots, or made anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from trainerd.actors.feed import Feed
from trainerd.actors.ledger import Entry
from trainerd.actors.plan import Plan
from trainerd.actors.preparation import Prepared
from trainerd.actors.program import Program
from trainerd.actors.reports import Fault
from trainerd.actors.restoring import restore
from trainerd.actors.snapshots import SnapshotStore
from trainerd.actors.step import fresh_state
from trainerd.actors.work import Position, Rewound


class ProgramRewind:
    """Implements `work.Rewind`. Nothing that was compiled for the steps is compiled again."""

    def __init__(
        self,
        program: Program,
        plan: Plan,
        prepared: Prepared,
        *,
        directories: Sequence[Path],
        feed: Feed,
        faulted: Callable[[Fault], None],
        snapshots: SnapshotStore | None = None,
    ) -> None:
        self._program, self._seed, self._mesh = program, plan.seed, prepared.step.mesh
        self._batches, self._beginning = prepared.batches, prepared.beginning
        self._abstract = prepared.abstract
        self._directories, self._feed, self._faulted = directories, feed, faulted
        self._snapshots = snapshots

    def __call__(self, at_most_step: int, entries: Sequence[Entry], /) -> Rewound:
        """See `work.Rewind`."""
        restored = restore(
            self._directories,
            self._snapshots,
            self._abstract,
            self._faulted,
            left_out=entries,
            at_most_step=at_most_step,
        )
        if restored is None:
            rewound = Rewound(
                state=fresh_state(self._program, self._seed, self._mesh), position=Position()
            )
            data: Mapping[str, Any] | None = self._beginning
        else:
            rewound = Rewound(state=restored.state, position=Position.of(restored))
            data = restored.meta.data
        self._feed.begin_anew(partial(self._batches.resume, rewound.position.cursor, data))
        return rewound
