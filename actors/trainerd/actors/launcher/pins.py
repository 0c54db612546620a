"""Pins: checkpoints that stay for the replay of an incident, whatever the run does with its own.

A pin is a copy by hard links, in `<directory of checkpoints>/pins/<run>-<incident>/<step>/`: it
takes no space while the checkpoint itself is there, and no retention, rollback or later save of the
same step can take it away. Neither Orbax nor this project takes `pins` for a checkpoint, and each
pin is one to both.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

PINS = "pins"


class NotPinned(Exception):
    """There is no such checkpoint any more, or its filesystem has no hard links."""


def pin(checkpoint: Path, name: str) -> Path:
    """Pin a checkpoint under `name`; return where. Idempotent. Raise `NotPinned`."""
    if not (checkpoint.is_absolute() and checkpoint.name.isdecimal()):
        raise NotPinned(f"{checkpoint} is not the path of a checkpoint")
    if not checkpoint.is_dir():
        raise NotPinned(f"{checkpoint} is gone")
    place = checkpoint.parent / PINS / name
    pinned = place / checkpoint.name
    if pinned.is_dir():
        return pinned
    scratch = place.with_name(f".{name}.new")
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        scratch.mkdir(mode=0o700)
        # Whoever removes the checkpoint meanwhile renames it first: a link fails then.
        shutil.copytree(checkpoint, scratch / checkpoint.name, copy_function=os.link)
        if not checkpoint.is_dir():
            raise FileNotFoundError(2, "removed meanwhile", str(checkpoint))
        shutil.rmtree(place, ignore_errors=True)
        scratch.rename(place)
    except OSError as error:  # shutil.Error too
        _remove(scratch)
        raise NotPinned(f"{checkpoint} cannot be pinned: {error}") from error
    return pinned


def unpin(pinned: Path) -> None:
    """Remove what `pin` returned; nothing happens if it is not there, or is no pin."""
    place = pinned.parent
    if place.parent.name == PINS:
        _remove(place)


def _remove(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    try:
        place.parent.rmdir()
    except OSError:
        # Others are there; or it is gone.
        return
