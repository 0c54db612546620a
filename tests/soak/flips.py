"""Bits flipped one at a time, anywhere in a checkpoint: each is detected, and none is loaded.

One place is drawn in each file; of the others half over all bytes, half over the files, so that the
small ones are not left out. Beside the checkpoint lies an older one that is sound: that one has to
be restored instead.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from fakes.checkpoints import meta, state
from trainerd.actors import checkpoint_manifest
from trainerd.actors.checkpoint_files import DAMAGED, META, STATE
from trainerd.actors.checkpoint_restore import restore_newest
from trainerd.actors.checkpoint_tree import to_nested
from trainerd.actors.digest import state_digest
from trainerd.actors.reports import Fault
from trainerd.actors.state import TrainState

FLIPS = 200
OLDER, NEWER = 5, 7
NUMBERS = 1 << 20
"""Of the parameters: 4 MB, so that their file is not one of the small ones."""


@dataclass(kw_only=True)
class Tally:
    """What the flips have shown. `files`: how many of them befell which."""

    detected: int = 0
    files: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        total = sum(self.files.values())
        return f"{self.detected} of {total} flipped bits detected, in {len(self.files)} files"


def campaign(*, seed: int, flips: int = FLIPS, numbers: int = NUMBERS) -> Tally:
    """Flip, restore, judge, and put everything back."""
    tally, drawn = Tally(), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="flips-") as folder:
        directory = Path(folder)
        like = {step: _saved(directory, step, numbers) for step in (OLDER, NEWER)}
        path = directory / str(NEWER)
        files = sorted(file for file in path.rglob("*") if file.is_file())
        sizes = [file.stat().st_size for file in files]
        for number in range(flips):
            # Each file once, and then as a byte or a file is drawn.
            weights = sizes if number % 2 else None
            (file,) = files[number : number + 1] or drawn.choices(files, weights=weights)
            bit = drawn.randrange(8 * file.stat().st_size)
            name = str(file.relative_to(path))
            tally.files[name.rpartition("/")[0] + "/…" if len(file.name) == 32 else name] += 1
            with _flipped(file, bit):
                wrong = _judged(directory, name, like[OLDER])
                aside = path.with_name(path.name + DAMAGED)
                if aside.exists():
                    aside.rename(path)
            if wrong:
                tally.violations.append(f"seed {seed}, bit {bit} of {name}: {wrong}")
            else:
                tally.detected += 1
        if whole := _loaded(directory, like[NEWER], []):
            tally.violations.append(f"seed {seed}: when all is as it was: {whole}")
    return tally


def _judged(directory: Path, name: str, older: TrainState) -> str:
    """What was wrong about the restore; empty: nothing."""
    faults: list[Fault] = []
    if wrong := _loaded(directory, older, faults):
        return wrong
    if [fault.reason for fault in faults] != ["digest_mismatch"]:
        return f"told as {[fault.reason for fault in faults]}"
    return "" if name in faults[0].message else f"the file is not named: {faults[0].message}"


def _loaded(directory: Path, expected: TrainState, faults: list[Fault]) -> str:
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), expected
    )
    restored = restore_newest([directory], abstract, faults.append)
    if restored is None:
        return "nothing was restored"
    if state_digest(restored.state) != state_digest(expected):
        return f"another state was loaded, from {restored.checkpoint.path}"
    return ""


@contextmanager
def _flipped(file: Path, bit: int) -> Iterator[None]:
    _flip(file, bit)
    try:
        yield
    finally:
        _flip(file, bit)


def _flip(file: Path, bit: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(bit // 8)
        (byte,) = opened.read(1)
        opened.seek(bit // 8)
        opened.write(bytes([byte ^ 1 << bit % 8]))


def _saved(directory: Path, step: int, numbers: int) -> TrainState:
    made = replace(state(step), params=jax.random.normal(jax.random.key(step), (numbers,)))
    parts = {
        STATE: ocp.args.StandardSave(to_nested(made)),
        META: ocp.args.JsonSave(meta(step + 1).as_json()),
    }
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as writer:
        writer.save(directory / str(step), args=ocp.args.Composite(**parts))
    checkpoint_manifest.write(directory / str(step))
    return made
