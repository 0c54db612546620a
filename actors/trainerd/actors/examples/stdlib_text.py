"""Real text that is on every machine: the source files of Python's own standard library."""

from __future__ import annotations

import functools
import os
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Bytes: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]

VOCABULARY = 256
"""Every byte is a token."""

_LEFT_OUT = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test"})
_VALIDATION_EVERY = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Bytes to train on and bytes to validate on; every tenth file is for validation."""

    train: Bytes
    validation: Bytes


@functools.cache
def read_corpus(limit_bytes: int = 8 << 20) -> Corpus:
    """Read the standard library's `*.py` files in the order of their paths.

    Stops before the file that would exceed `limit_bytes` in total. Tests and installed packages
    are left out, so that the text is the same on all machines with the same Python.
    """
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    total_bytes = 0
    for number, path in enumerate(_files(Path(sysconfig.get_path("stdlib")))):
        content = path.read_bytes()
        total_bytes += len(content)
        if total_bytes > limit_bytes:
            break
        parts[number % _VALIDATION_EVERY == _VALIDATION_EVERY - 1].append(content)
    train, validation = (np.frombuffer(b"".join(part), np.uint8) for part in parts)
    if not train.size or not validation.size:
        raise ValueError(
            f"the standard library's source in {sysconfig.get_path('stdlib')} has fewer than "
            f"{_VALIDATION_EVERY} files within {limit_bytes} bytes; install Python with its source"
        )
    return Corpus(train=train, validation=validation)


class Windows:
    """Random access to `context + 1` successive bytes; neighbours overlap by one byte.

    An example is `{"bytes": uint8[context + 1]}`: the model reads all but the last and predicts
    all but the first.
    """

    def __init__(self, text: Bytes, context: int) -> None:
        if context < 1:
            raise ValueError(f"context must be ≥ 1, got {context}")
        self._text, self._context = text, context

    def __len__(self) -> int:
        return max(0, (len(self._text) - 1) // self._context)

    def __getitem__(self, index: int) -> dict[str, Bytes]:
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        start = index * self._context
        return {"bytes": self._text[start : start + self._context + 1]}

    def sample(self, windows: int) -> Bytes:
        """Return `(windows, context + 1)` bytes, spread evenly over the text."""
        chosen = np.linspace(0, len(self) - 1, min(windows, len(self))).astype(int)
        return np.stack([self[int(index)]["bytes"] for index in chosen])


def unigram_bits_per_byte(text: Bytes) -> float:
    """Entropy of single bytes: what a model reaches that knows nothing but their frequencies."""
    counts = np.bincount(text, minlength=VOCABULARY)
    shares = counts[counts > 0] / len(text)
    return float(-np.sum(shares * np.log2(shares)))


def _files(root: Path) -> Iterator[Path]:
    """The files in the order of their paths, one directory after another as they are needed."""
    found = sorted(os.scandir(root), key=lambda it: f"{it.name}/" if it.is_dir() else it.name)
    for each in found:
        if each.name in _LEFT_OUT:
            continue
        if each.is_dir(follow_symlinks=False):
            yield from _files(root / each.name)
        elif each.name.endswith(".py") and not each.is_dir():
            yield root / each.name
