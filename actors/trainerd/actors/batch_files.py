"""The batch of a fault as a file, for whoever looks into the fault afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from trainerd.actors.feed import Loaded

MOST_BYTES = 1_000_000
"""Most bytes of a batch that is kept: a larger one can be read from its source again."""
FILES = 4
"""Batches that may lie there at a time; the oldest goes."""

_log = logging.getLogger(__name__)


class Evidence(Protocol):
    """Keeps the batch of a fault that is about to be asked about. Never raises."""

    def keep(self, loaded: Loaded, slots: int, /) -> None:
        """Keep the first `slots` slots of it, if it is known and small."""

    def forget(self, batch: int, /) -> None:
        """The run goes on as before: nobody will ask for it."""


class NoEvidence:
    """Keeps nothing."""

    def keep(self, loaded: Loaded, slots: int, /) -> None: ...

    def forget(self, batch: int, /) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFiles:
    """Implements `Evidence`: `.npz` files at `place(batch)`, all in one directory.

    `batch/<path>` is a leaf of the batch, its examples in order along the first axis; `weights` the
    weight of each slot. Whoever takes a file away removes it.
    """

    place: Callable[[int], Path]
    most_bytes: int = MOST_BYTES

    def keep(self, loaded: Loaded, slots: int, /) -> None:
        """A batch that its source could not make, or on devices elsewhere, is not known here."""
        if loaded.error is not None or slots < 1:
            return
        try:
            self._write(loaded, slots)
        except Exception as error:
            # Whatever it is, the fault itself is what matters.
            _log.warning("batch %d could not be kept: %s", loaded.batch, error)

    def forget(self, batch: int, /) -> None:
        """Remove its file, if there is one."""
        try:
            self.place(batch).unlink(missing_ok=True)
        except OSError as error:
            _log.warning("what was kept of batch %d could not be removed: %s", batch, error)

    def _write(self, loaded: Loaded, slots: int) -> None:
        leaves = jax.tree_util.tree_leaves_with_path(loaded.slots)
        size = sum(int(getattr(leaf, "nbytes", 0)) for _, leaf in leaves)
        here = all(getattr(leaf, "is_fully_addressable", True) for _, leaf in leaves)
        if not here or size > self.most_bytes:
            return
        arrays: dict[str, Any] = {_name(path): _examples(leaf, slots) for path, leaf in leaves}
        arrays["weights"] = np.asarray(loaded.weights)[:slots]
        target = self.place(loaded.batch)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch = target.with_suffix(".new")
        try:
            with scratch.open("wb") as file:
                np.savez(file, **arrays)
            scratch.rename(target)
        finally:
            scratch.unlink(missing_ok=True)
        kept = sorted(target.parent.glob("*.npz"), key=lambda path: path.stat().st_mtime_ns)
        for old in kept[:-FILES]:
            old.unlink(missing_ok=True)


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(
        ["batch", *filter(None, [jax.tree_util.keystr(path, simple=True, separator="/")])]
    )


def _examples(leaf: Any, slots: int) -> np.ndarray[Any, Any]:
    """A leaf `(padded, slot_examples, …)` as `(examples, …)`, in a type that a file knows."""
    whole = np.asarray(leaf)[:slots]
    if whole.dtype.kind == "V":
        whole = whole.astype(np.float32)  # Of two bytes or fewer, such as bfloat16.
    return whole.reshape(-1, *whole.shape[2:])
