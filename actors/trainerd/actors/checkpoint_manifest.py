"""What a checkpoint's files have to be: names, sizes and digests, written last of all.

A manifest makes a committed checkpoint *durable*: every file was read back and digested, everything
was synced to disk, and only then was `trainerd.manifest` renamed into place. Orbax passes over it.

The digest is SHA-256, so that a manifest convinces on another machine and without this project
(`sha256sum` says the same): 126 MB take 0.09 s with the SHA instructions of today's processors,
where XXH3-128 takes 0.02 s; hidden behind Orbax's reading both cost a restore about 0.03 s of 0.24.

What is digested is what the filesystem gives back after the save, usually out of memory. A bit
that flips between Orbax's copy of the state and its file is therefore not seen: digests of the
arrays themselves would block the step for longer than the whole copy does.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = "trainerd.manifest"
FORMAT = 1
_SMALL_BYTES = 1 << 20
_THREADS = 4


class Unverified(Exception):
    """Nothing vouches for a checkpoint: it has no manifest, or one that we cannot read yet."""


class DigestMismatch(Exception):
    """A checkpoint is not what was written: `file` of it, or its manifest, is another."""

    def __init__(self, path: Path, file: str, problem: str) -> None:
        super().__init__(f"{path / file} {problem}")
        self.file = file


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFile:
    """One file: its path below the checkpoint, its size, its SHA-256 in hexadecimal."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All files of the checkpoint of `step`, sorted by name."""

    step: int
    files: tuple[ManifestFile, ...]

    @property
    def size_bytes(self) -> int:
        """Sum of the files' sizes, the manifest's own left out."""
        return sum(file.size_bytes for file in self.files)


def write(path: Path) -> Manifest:
    """Make the committed checkpoint at `path`, a directory named by its step, durable.

    Raises OSError with the cause; the checkpoint has no manifest then. An older one is replaced.
    """
    names = [name for name in _names(path) if name != MANIFEST]
    # One after the other: it goes on beside training, which wants the other processors.
    files = tuple(_written(path, name) for name in names)
    for directory in {path / parent for name in names for parent in Path(name).parents}:
        _sync(directory)
    manifest = Manifest(step=int(path.name), files=files)
    scratch = path / f"{MANIFEST}.new"
    with open(scratch, "wb") as file:
        file.write(_encoded(manifest))
        file.flush()
        os.fsync(file.fileno())
    scratch.rename(path / MANIFEST)
    _sync(path)
    # The name of the checkpoint itself, which Orbax has given it by a rename.
    _sync(path.parent)
    return manifest


def read(path: Path) -> Manifest:
    """The manifest of the checkpoint at `path`, itself verified.

    Raises `Unverified` if there is none or it is of another format, `DigestMismatch` if it is
    damaged or another step's, OSError.
    """
    try:
        content = (path / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Unverified(
            f"{path} has no {MANIFEST}: its save was cut short, or something else wrote it"
        ) from error
    manifest = _decoded(path, content)
    if path.name.isdecimal() and int(path.name) != manifest.step:
        raise DigestMismatch(
            path, MANIFEST, f"is the manifest of step {manifest.step}, expected {path.name}"
        )
    return manifest


def verify(path: Path, *, from_disk: bool = False) -> None:
    """Read every file of the checkpoint at `path` and compare it with the manifest.

    `from_disk`: lets go of what memory holds of the files first, so that it is the disk that is
    verified. Raises `Unverified`, `DigestMismatch`, OSError.
    """
    verify_data(path, verify_structure(path, from_disk=from_disk), from_disk=from_disk)


def verify_structure(path: Path, *, from_disk: bool = False) -> Manifest:
    """Compare names and sizes of all files, and the digests of the small ones.

    What describes the arrays is sound after that; the arrays may not be. Raises as `verify` does.
    """
    manifest = read(path)
    there = {name for name in _names(path) if "/" in name}
    # What lies at the top is no part of any item that Orbax reads: a note, say.
    if extra := sorted(there - {file.name for file in manifest.files}):
        raise DigestMismatch(path, extra[0], f"is not in {MANIFEST}: it was added later")
    for file in manifest.files:
        _compare_size(path, file)
    _compare_digests(path, _small(manifest), from_disk)
    return manifest


def verify_data(path: Path, manifest: Manifest, *, from_disk: bool = False) -> None:
    """Compare the digests that `verify_structure` left out. Raises as `verify` does."""
    small = frozenset(_small(manifest))
    _compare_digests(path, [file for file in manifest.files if file not in small], from_disk)


def _small(manifest: Manifest) -> list[ManifestFile]:
    return [file for file in manifest.files if file.size_bytes <= _SMALL_BYTES]


def _compare_size(path: Path, expected: ManifestFile) -> None:
    try:
        size_bytes = os.lstat(path / expected.name).st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DigestMismatch(
            path, expected.name, f"is missing, expected {expected.size_bytes} bytes"
        ) from error
    if size_bytes != expected.size_bytes:
        raise DigestMismatch(
            path, expected.name, f"is of {size_bytes} bytes, expected {expected.size_bytes}"
        )


def _compare_digests(path: Path, files: Iterable[ManifestFile], from_disk: bool) -> None:
    def compare(expected: ManifestFile) -> None:
        found, _ = _digested(path / expected.name, from_disk=from_disk)
        if found != expected.sha256:
            raise DigestMismatch(
                path, expected.name, f"has the SHA-256 {found}, expected {expected.sha256}"
            )

    with ThreadPoolExecutor(_THREADS, "trainerd-digest") as pool:
        for _ in pool.map(compare, files):
            pass


def _written(path: Path, name: str) -> ManifestFile:
    digest, size_bytes = _digested(path / name, sync=True)
    return ManifestFile(name=name, size_bytes=size_bytes, sha256=digest)


def _digested(path: Path, *, sync: bool = False, from_disk: bool = False) -> tuple[str, int]:
    """SHA-256 of a file in hexadecimal, and its size. Releases the interpreter meanwhile."""
    # A link would be digested as what it points to, which is nobody's promise.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:
        if sync:
            os.fsync(descriptor)
        if from_disk:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()


def _names(path: Path) -> list[str]:
    """Everything below `path` that is no directory, relative to it, sorted."""
    found = []
    for directory, _, names in os.walk(path, onerror=_raise):
        found += [os.path.relpath(os.path.join(directory, name), path) for name in names]
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _encoded(manifest: Manifest) -> bytes:
    """JSON, a line each: the step, every file, and the digest of all lines before."""
    lines = [
        {"format": FORMAT, "step": manifest.step, "files": len(manifest.files)},
        *(
            {"name": file.name, "size_bytes": file.size_bytes, "sha256": file.sha256}
            for file in manifest.files
        ),
    ]
    body = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    return body + _seal(body)


def _seal(body: bytes) -> bytes:
    return f"{json.dumps({'sha256': hashlib.sha256(body).hexdigest()})}\n".encode()


def _decoded(path: Path, content: bytes) -> Manifest:
    *lines, seal = content.splitlines(keepends=True) or [b""]
    body = b"".join(lines)
    if seal != _seal(body):
        raise DigestMismatch(path, MANIFEST, "is damaged: it is not what its own digest says")
    head: dict[str, Any]
    head, *files = (json.loads(line) for line in lines)
    if head["format"] != FORMAT:
        # Not damage: it must not be marked as such by an older version of this project.
        raise Unverified(f"{path / MANIFEST} is of format {head['format']}, expected {FORMAT}")
    return Manifest(step=head["step"], files=tuple(ManifestFile(**file) for file in files))
