"""What is used of Orbax to write a checkpoint, and how it is set up for that."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import jax
import orbax.checkpoint as ocp

from trainerd.actors import checkpoint_files as files


class Checkpointer(Protocol):
    """What is used of Orbax's `AsyncCheckpointer`."""

    def save(self, directory: Path, args: ocp.args.Composite) -> None:
        """Begin to save; returns once the arrays are copied."""

    def wait_until_finished(self) -> None:
        """Wait for the save; raise what it raised."""

    def close(self) -> None:
        """Let go of its threads."""


def asynchronous() -> Checkpointer:
    """Writes in threads of its own, whose directories are made by `save` itself.

    Of several processes with the same state the one that calls this writes, and waits for no other.
    """
    # Made in the background, directories would appear after a save that has raised, and make the
    # next one wait for them in vain.
    options, alone = ocp.options.AsyncOptions(create_directories_asynchronously=False), by_itself()
    handlers: dict[str, Any] = {}
    if jax.process_count() > 1:
        # Those that Orbax would make for itself know nothing of the options.
        handlers = {
            files.STATE: ocp.StandardCheckpointHandler(multiprocessing_options=alone),
            files.META: ocp.JsonCheckpointHandler(multiprocessing_options=alone),
        }
    return ocp.AsyncCheckpointer(
        ocp.CompositeCheckpointHandler(
            composite_options=ocp.CompositeOptions(
                async_options=options, multiprocessing_options=alone
            ),
            **handlers,
        ),
        async_options=options,
        multiprocessing_options=alone,
    )


def by_itself() -> ocp.options.MultiprocessingOptions:
    """Tells Orbax that no other process takes part."""
    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    own = jax.process_index()
    # With a primary host Orbax would look for what the other processes have written.
    return ocp.options.MultiprocessingOptions(
        primary_host=None, active_processes={own}, barrier_sync_key_prefix=f"process_{own}"
    )
