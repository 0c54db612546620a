"""The seam to the arrays: what a loop lets callbacks do with its train state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeAlias

from trainerd.actors.reports import Fault

SaveDone: TypeAlias = Callable[[Exception | None], None]
"""Told once how a save ended: None, it is committed; else why it is not. From any thread."""


class StateSaver(Protocol):
    """Saves the train state that training has reached."""

    def save(self, path: Path, done: SaveDone) -> None:
        """Begin to save to the directory `path`; return once the state's buffers may be donated.

        Calls `done` exactly once, before returning or later from another thread, and `done(None)`
        only once the whole checkpoint is on disk under its name. May raise instead of calling it.
        What is at `path` already is replaced, and stays whole until then.
        """


class StateAccess(StateSaver, Protocol):
    """What a loop offers its callbacks beside the `TrainingState`. Valid from `on_train_begin` to
    `on_train_end`, in hooks that run at rest: `on_epoch_end`, `on_train_begin`, `on_train_end`,
    and `on_step_end` of a step that the callback has named by `needs_rest`.

    In other hooks a later step is in flight, and the arrays are no longer those of `state.step`:
    `save`, `capture` and `restore` raise `TrainingError` there.
    """

    def capture(self) -> object:
        """Return a copy of the train state in host memory, opaque, for `restore`."""

    def restore(self, captured: object) -> None:
        """Ask that the run returns `captured` as its final state.

        Granted where the run ended of itself: its steps are done, the data ended, a callback said
        STOP. Ignored after an error or an interrupt: a run that is continued needs its own state.
        """

    def faulted(self, fault: Fault) -> None:
        """Report a fault that does not stop training: it counts in the result and the metrics.
        From any thread."""
