"""What is used of Orbax to write a checkpoint, and how it is set up for that."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import orbax.checkpoint as ocp


class Checkpointer(Protocol):
    """What is used of Orbax's `AsyncCheckpointer`."""

    def save(self, directory: Path, args: ocp.args.Composite) -> None:
        """Begin to save; returns once the arrays are copied."""

    def wait_until_finished(self) -> None:
        """Wait for the save; raise what it raised."""

    def close(self) -> None:
        """Let go of its threads."""


def asynchronous() -> Checkpointer:
    """Writes in threads of its own, whose directories are made by `save` itself."""
    # Made in the background, directories would appear after a save that has raised, and make the
    # next one wait for them in vain.
    options = ocp.options.AsyncOptions(create_directories_asynchronously=False)
    return ocp.AsyncCheckpointer(
        ocp.CompositeCheckpointHandler(
            composite_options=ocp.CompositeOptions(async_options=options)
        ),
        async_options=options,
    )
