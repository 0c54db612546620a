"""Older states of a program under the loop: from checkpoints and snapshots, or made anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from trainerd.actors.feed import Feed
from trainerd.actors.ledger import Entry
from trainerd.actors.preparation import Prepared
from trainerd.actors.work import Position, Rewound


class ProgramRewind:
    """Implements `work.Rewind`. Nothing that was compiled for the steps is compiled again."""

    def __init__(self, prepared: Prepared, feed: Feed) -> None:
        self._states, self._feed = prepared.states, feed
        self._batches, self._beginning = prepared.batches, prepared.beginning

    def __call__(self, at_most_step: int, entries: Sequence[Entry], /) -> Rewound:
        """See `work.Rewind`."""
        restored = self._states.stored(entries, at_most_step)
        if restored is None:
            rewound = Rewound(state=self._states.fresh(), position=Position())
            data: Mapping[str, Any] | None = self._beginning
        else:
            rewound = Rewound(state=restored.state, position=Position.of(restored))
            data = restored.meta.data
        self._feed.begin_anew(partial(self._batches.resume, rewound.position.cursor, data))
        return rewound
