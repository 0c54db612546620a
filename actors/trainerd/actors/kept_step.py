"""A compiled step as it lies on the disk, and as it comes back: without the types of the user's."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import serialize_executable

from trainerd.actors.executables import Kept
from trainerd.actors.state import PyTree, TrainState


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What is kept beside an executable.

    `code` is the digest of the program and its conditions, `said` the tree of what a step returns
    beside the state, `inputs` the number of all leaves it is called with, `pickled_form` what
    `state_form` returned.
    """

    code: str
    said: Any
    inputs: int
    pickled_form: bytes

    def form(self) -> TrainState | None:
        """The state's shapes and dtypes; None: they could not be kept."""
        return _unpickled(self.pickled_form) if self.pickled_form else None


def state_form(state: PyTree) -> bytes:
    """Pickle the shapes, dtypes and types of an abstract state.

    Empty where they cannot be pickled, or do not come back as they were: the types are the user's.
    """
    leaves, structure = jax.tree.flatten(state)
    if not all(isinstance(leaf.dtype, np.dtype) for leaf in leaves):
        return b""
    try:
        numbered = jax.tree.unflatten(structure, range(len(leaves)))
        content = pickle.dumps((numbered, [(leaf.shape, leaf.dtype) for leaf in leaves]))
        again: Any = jax.tree.structure(_unpickled(content))
        return content if again == structure else b""
    except Exception:
        # Whatever a type of the user's makes of it: its form is found by tracing, as always.
        return b""


def _unpickled(content: bytes) -> Any:
    numbered, kinds = pickle.loads(content)
    return jax.tree.map(lambda number: jax.ShapeDtypeStruct(*kinds[number]), numbered)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptStep:
    """A step in this process, on its devices."""

    note: Note
    flat: jax.stages.Compiled

    @staticmethod
    def load(kept: Kept, devices: Sequence[jax.Device], note: Note | None = None) -> KeptStep:
        """Load what was kept; raises whatever pickle and XLA raise. Needs a few MB of memory.

        `note`: that of `kept`, if it is known already.
        """
        note = note or read_note(kept)
        # A state's types may be the user's, and need not survive pickling: they are put in later.
        flat = serialize_executable.deserialize_and_load(
            kept.executable,
            jax.tree.structure((tuple(range(note.inputs)), {})),
            jax.tree.structure(()),
            backend=devices[0].client,
            execution_devices=list(devices),
        )
        return KeptStep(note=note, flat=flat)

    def called_with(self, inputs: tuple[Any, ...]) -> jax.stages.Compiled:
        """The step for inputs of this form, the state first. Raises ValueError for another form."""
        made: Any = self.flat
        described = jax.tree.unflatten(
            jax.tree.structure((inputs, {})), jax.tree.leaves(made.args_info)
        )
        returned = jax.tree.structure((inputs[0], self.note.said))
        return jax.stages.Compiled(
            made._executable, [], described, returned, no_kwargs=made._no_kwargs
        )


def read_note(kept: Kept) -> Note:
    """Unpickle a note. Raises TypeError if it is none, and whatever pickle raises."""
    note = pickle.loads(kept.note)
    if not isinstance(note, Note):
        raise TypeError(f"it must hold a Note, holds {type(note).__name__}")
    return note
