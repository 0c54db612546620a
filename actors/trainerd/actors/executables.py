"""Compiled steps on disk: what one process has compiled, the next one loads.

The files are pickles in part. They are only ever read from a directory that belongs to this user
alone, and checked before they are: whoever could write to it could run code here anyway.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from trainerd.actors.checksum import CHECKSUM_BYTES, checksum

MOST_BYTES = 1 << 30
"""Space that a directory of executables may take."""
MOST_TRIES = 2
"""Processes that may have ended before their first step, each with the same executable."""

_MAGIC = b"trdexec\x00"
_VERSION = 1
_HEAD = struct.Struct("<8sIQQ")
_SUFFIX = ".executable"
_TRIES = ".tries"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An executable as its writer handed it over, and what the reader must know of it."""

    note: bytes
    executable: bytes


class ExecutableStore:
    """A directory of executables by their keys, at most `most_bytes`: the least used goes first.

    One that was loaded and whose process has not made a step, more than once in a row, is thrown
    away: a run must not die of it again and again. No method raises for what is on the disk; that
    is logged, and costs a compilation.
    """

    def __init__(self, directory: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self._directory, self._most_bytes = directory, most_bytes

    def load(self, key: str) -> Kept | None:
        """What is kept under `key`, a hexadecimal digest; None: nothing that can be used.

        Counts as a try, until `worked` says otherwise.
        """
        path = self._path(key)
        try:
            kept = self._read(path)
            if kept is not None:
                self._try(path)
            return kept
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self.discard(key, str(error))
            return None

    def worked(self, key: str) -> None:
        """A step was made with what `load` returned."""
        with contextlib.suppress(OSError):
            self._path(key).with_suffix(_TRIES).unlink(missing_ok=True)

    def keep(self, key: str, kept: Kept) -> None:
        """Keep an executable under its key; the least recently used ones make room for it."""
        path = self._path(key)
        scratch = path.with_suffix(f".{os.getpid()}.new")
        body = kept.note + kept.executable
        head = _HEAD.pack(_MAGIC, _VERSION, len(kept.note), len(kept.executable))
        if len(body) > self._most_bytes:
            _log.warning("an executable of %d bytes is too large to be kept", len(body))
            return
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._refuse_if_shared(self._directory)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            with os.fdopen(os.open(scratch, flags, 0o600), "wb") as stream:
                stream.write(head + checksum(head + body))
                stream.write(body)
            os.replace(scratch, path)
            path.with_suffix(_TRIES).unlink(missing_ok=True)
            self._make_room()
        except OSError as error:
            _log.warning("an executable could not be kept in %s: %s", self._directory, error)
            with contextlib.suppress(OSError):
                scratch.unlink(missing_ok=True)

    def discard(self, key: str, why: str) -> None:
        """Remove what cannot be used."""
        path = self._path(key)
        _log.warning("executable %s is removed: %s", path, why)
        for each in (path, path.with_suffix(_TRIES)):
            try:
                each.unlink(missing_ok=True)
            except OSError as error:
                _log.warning("%s could not be removed: %s", each, error)

    def _path(self, key: str) -> Path:
        assert key.isalnum(), key
        return self._directory / f"{key}{_SUFFIX}"

    def _read(self, path: Path) -> Kept | None:
        self._refuse_if_shared(self._directory)
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as stream:
            _refuse_if_strange(os.fstat(stream.fileno()))
            content = stream.read()
        body_at = _HEAD.size + CHECKSUM_BYTES
        if len(content) < body_at:
            raise ValueError(f"it ends after {len(content)} bytes")
        head, body = content[: _HEAD.size], content[body_at:]
        magic, version, note, executable = _HEAD.unpack(head)
        if (magic, version) != (_MAGIC, _VERSION):
            raise ValueError(f"it is not of format {_VERSION}")
        if checksum(head + body) != content[_HEAD.size : body_at]:
            raise ValueError("it is damaged")
        assert note + executable == len(body)
        os.utime(path)
        return Kept(note=body[:note], executable=body[note:])

    def _try(self, path: Path) -> None:
        tries = path.with_suffix(_TRIES)
        made = tries.stat().st_size if tries.exists() else 0
        if made >= MOST_TRIES:
            raise ValueError(f"{made} processes have ended before their first step with it")
        with open(tries, "ab") as stream:
            stream.write(b".")

    def _refuse_if_shared(self, directory: Path) -> None:
        found = os.stat(directory, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(f"{directory} is not a directory")
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise PermissionError(
                f"{directory} must belong to user {os.geteuid()} alone, it is of user "
                f"{found.st_uid} with mode {stat.S_IMODE(found.st_mode):o}"
            )

    def _make_room(self) -> None:
        found = []
        for path in self._directory.iterdir():
            # Somebody else may remove it meanwhile.
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._most_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size


def _refuse_if_strange(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise ValueError(
            f"it must be a file of user {os.geteuid()} alone, it is of user {found.st_uid} with "
            f"mode {stat.S_IMODE(found.st_mode):o}"
        )
