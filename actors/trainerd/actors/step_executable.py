"""The compiled step of a program on disk: under which key it is kept, and how it is loaded.

A wrong hit would train a run with another program than its own, so a key holds everything that
decides what is compiled: the program's functions with every value they compute with
(`fingerprint`), versions, files, environment and devices (`conditions`), the plan's numbers, and
the shapes and types of what the step is called with. Making it traces nothing, which is what most
of the time would go to. What is left to trust are the functions of the program: they must be pure,
as JAX demands of them. One that looks at a file, at the clock or the like is not kept where that
can be seen in its own code; a function of an installed package that does so while it is traced is
not seen.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

from trainerd.actors.arithmetic import Arithmetic
from trainerd.actors.conditions import conditions
from trainerd.actors.executables import ExecutableStore, Kept
from trainerd.actors.fingerprint import fingerprint
from trainerd.actors.head_start import HeadStart
from trainerd.actors.kept_step import KeptStep, Note, state_form
from trainerd.actors.program import Program
from trainerd.actors.purity import Opaque
from trainerd.actors.slots import SlotPlan
from trainerd.actors.state import PyTree, TrainState

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The first steps of an executable that another process has compiled."""

    store: ExecutableStore
    key: str

    def passed(self) -> None:
        """A step was made with it."""
        self.store.worked(self.key)

    def failed(self, error: jax.errors.JaxRuntimeError) -> jax.errors.JaxRuntimeError:
        """It raised: throw it away, and return what to raise instead.

        Not the program's fault, so that it is not taken for one: the next process compiles. What
        exhausted memory raises is what it is.
        """
        self.store.discard(self.key, str(error))
        if "RESOURCE_EXHAUSTED" in str(error):
            return error
        return jax.errors.JaxRuntimeError(
            f"INTERNAL: the step that an earlier process compiled cannot be run here: {error}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStore:
    """Steps of one program under one set of conditions. `code` is the digest of both.

    `head_start`: what was begun before the program was known; the next process's is prepared.
    """

    store: ExecutableStore
    code: str
    head_start: HeadStart | None = None

    @staticmethod
    def of(
        store: ExecutableStore,
        program: Program,
        devices: Sequence[jax.Device],
        head_start: HeadStart | None = None,
    ) -> StepStore | None:
        """None, logged: no key can be made of this program, so nothing of it is kept."""
        try:
            functions = fingerprint((program.init, program.loss, program.optimizer))
            text = json.dumps({"functions": functions, **conditions(devices)}, sort_keys=True)
        except Opaque as error:
            _log.warning("the compiled step is not kept for the next start: %s", error)
            return None
        code = hashlib.sha256(text.encode()).hexdigest()
        return StepStore(store=store, code=code, head_start=head_start)

    def form(self) -> TrainState | None:
        """The form of the state, as a process with the same program found it; None: not known.

        Shapes and dtypes, without shardings.
        """
        note = self.head_start.note() if self.head_start is not None else None
        return note.form() if note is not None and note.code == self.code else None

    def key(self, inputs: PyTree, plan: SlotPlan, arithmetic: Arithmetic) -> str:
        """The key of the step that is called with such inputs."""
        leaves = [
            f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape} {leaf.sharding}"
            for path, leaf in jax.tree_util.tree_leaves_with_path(inputs)
        ]
        content = [self.code, leaves, asdict(plan), asdict(arithmetic)]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def load(
        self, key: str, inputs: tuple[Any, ...], devices: Sequence[jax.Device]
    ) -> jax.stages.Compiled | None:
        """The step that is kept under `key`; None: there is none, or it cannot be loaded."""
        if self.head_start is not None:
            self.head_start.prepare_next(key)
            if (made := self.head_start.take(key, devices)) is not None:
                return made.called_with(inputs)
        kept = self.store.load(key)
        if kept is None:
            return None
        try:
            return KeptStep.load(kept, devices).called_with(inputs)
        except Exception as error:
            # Whatever XLA finds wrong with it, compiling is always possible.
            self.store.discard(key, f"{type(error).__name__}: {error}")
            return None

    def trial(self, key: str) -> Trial:
        """What becomes of the step that was loaded, once it is run."""
        return Trial(store=self.store, key=key)

    def keep(self, key: str, compiled: jax.stages.Compiled, state: PyTree) -> None:
        """Keep a step; logged where that is not possible."""
        try:
            if why := _bound_to_this_process(compiled):
                raise ValueError(why)
            outputs: Any = compiled.out_tree
            after, said = jax.tree.unflatten(outputs, range(outputs.num_leaves))
            came: Any = jax.tree.structure(after)
            if came != jax.tree.structure(state):
                raise ValueError("it returns a state of another structure")
            executable, flat_inputs, _ = serialize_executable.serialize(compiled)
            note = Note(
                code=self.code,
                said=said,
                inputs=flat_inputs.num_leaves,
                pickled_form=state_form(state),
            )
            pickled = pickle.dumps(note)
        except Exception as error:
            _log.warning("the compiled step is not kept for the next start: %s", error)
            return
        self.store.keep(key, Kept(note=pickled, executable=executable))


@contextlib.contextmanager
def uncached() -> Iterator[None]:
    """Compile without JAX's own cache: what comes from there cannot be serialised once more.

    XLA then forgets functions that the program calls, and says so only when it is run.
    """
    before: str | None = jax.config.values["jax_compilation_cache_dir"]
    if before is None:
        yield
        return
    _change_cache(None)
    try:
        yield
    finally:
        _change_cache(before)


def _change_cache(directory: str | None) -> None:
    jax.config.update("jax_compilation_cache_dir", directory)
    # JAX decides at its first compilation whether there is a cache.
    compilation_cache.reset_cache()


def _bound_to_this_process(compiled: jax.stages.Compiled) -> str:
    """Why a step means nothing to another process; empty: it does."""
    made: Any = compiled._executable
    unloaded = made._unloaded_executable
    if unloaded.host_callbacks or unloaded.keepalive:
        return "it calls back into Python"
    if unloaded.ordered_effects or unloaded.unordered_effects:
        return "it has effects"
    return ""
