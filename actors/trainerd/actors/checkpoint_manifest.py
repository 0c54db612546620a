"""What a checkpoint's files have to be: names, sizes and digests, written last of all.

A manifest makes a committed checkpoint *durable*: every file was read back and digested, everything
was synced to disk, and only then was `trainerd.manifest` renamed into place. Orbax passes over it.

Each file has two digests. SHA-256 convinces on another machine and without this project, for
`sha256sum` says the same; whoever asks for a verification gets it. XXH3-128 finds damage as surely,
and a restore goes by it, as somebody waits for that: 126 MB, which Orbax restores in 0.24 s, take
0.02 s, where SHA-256 takes 0.10 s, and 0.36 s on a processor without instructions for it.

What is digested is what the filesystem gives back after the save, usually out of memory. A bit
that flips between Orbax's copy of the state and its file is therefore not seen: digests of the
arrays themselves would block the step for longer than the whole copy does.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainerd.actors.file_digests import SHA256, XXH3, Digest, digests

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
    """One file: its path below the checkpoint, its size, its digests in hexadecimal."""

    name: str
    size_bytes: int
    sha256: str
    xxh3_128: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All files of the checkpoint of `step`, sorted by name.

    `incarnation`: of the run on several hosts that has written it; 0: it was another run.
    """

    step: int
    files: tuple[ManifestFile, ...]
    incarnation: int = 0

    @property
    def size_bytes(self) -> int:
        """Sum of the files' sizes, the manifest's own left out."""
        return sum(file.size_bytes for file in self.files)


def write(
    path: Path, *, incarnation: int = 0, permitted: Callable[[], None] = lambda: None
) -> Manifest:
    """Make the committed checkpoint at `path`, a directory named by its step, durable.

    `permitted` is called last of all, and raises what stands against it. Raises OSError with the
    cause; the checkpoint has no manifest then. An older one is replaced.
    """
    names = [name for name in _names(path) if name != MANIFEST]
    # One after the other: it goes on beside training, which wants the other processors.
    files = tuple(_written(path, name) for name in names)
    for directory in {path / parent for name in names for parent in Path(name).parents}:
        _sync(directory)
    manifest = Manifest(step=int(path.name), files=files, incarnation=incarnation)
    scratch = path / f"{MANIFEST}.new"
    with open(scratch, "wb") as file:
        file.write(_encoded(manifest))
        file.flush()
        os.fsync(file.fileno())
    permitted()
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


def writer(path: Path) -> int:
    """The incarnation that has written the checkpoint at `path`, 0 for any. Raises as `read`."""
    return read(path).incarnation


def verify(path: Path, *, from_disk: bool = False) -> None:
    """Read every file of the checkpoint at `path` and compare its SHA-256 with the manifest's.

    `from_disk`: lets go of what memory holds of the files first, so that it is the disk that is
    verified. Raises `Unverified`, `DigestMismatch`, OSError.
    """
    manifest = _complete(path)
    _compare(path, manifest.files, SHA256, from_disk=from_disk)


def verify_structure(path: Path) -> Manifest:
    """Compare names and sizes of all files, and the XXH3-128 of the small ones.

    What describes the arrays is sound after that; the arrays may not be. Raises as `verify` does.
    """
    manifest = _complete(path)
    _compare(path, _small(manifest), XXH3)
    return manifest


def verify_data(path: Path, manifest: Manifest) -> None:
    """Compare the digests that `verify_structure` left out. Raises as `verify` does."""
    small = frozenset(_small(manifest))
    _compare(path, [file for file in manifest.files if file not in small], XXH3)


def _complete(path: Path) -> Manifest:
    """Compare names and sizes of all files."""
    manifest = read(path)
    there = {name for name in _names(path) if "/" in name}
    # What lies at the top is no part of any item that Orbax reads: a note, say.
    if extra := sorted(there - {file.name for file in manifest.files}):
        raise DigestMismatch(path, extra[0], f"is not in {MANIFEST}: it was added later")
    for file in manifest.files:
        _compare_size(path, file)
    return manifest


def _small(manifest: Manifest) -> list[ManifestFile]:
    return [file for file in manifest.files if file.size_bytes <= _SMALL_BYTES]


def _compare_size(path: Path, expected: ManifestFile) -> None:
    try:
        found = os.lstat(path / expected.name)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DigestMismatch(
            path, expected.name, f"is missing, expected {expected.size_bytes} bytes"
        ) from error
    if not stat.S_ISREG(found.st_mode):
        raise DigestMismatch(path, expected.name, "is not a file any more")
    if found.st_size != expected.size_bytes:
        raise DigestMismatch(
            path, expected.name, f"is of {found.st_size} bytes, expected {expected.size_bytes}"
        )


def _compare(
    path: Path, files: Iterable[ManifestFile], digest: Digest, *, from_disk: bool = False
) -> None:
    def compare(expected: ManifestFile) -> None:
        (found,), _ = digests(path / expected.name, digest, from_disk=from_disk)
        wanted = expected.sha256 if digest is SHA256 else expected.xxh3_128
        if found != wanted:
            raise DigestMismatch(
                path, expected.name, f"has the {digest.name} {found}, expected {wanted}"
            )

    # Nobody waits for what comes from the disk: one file after the other leaves it to others.
    with ThreadPoolExecutor(1 if from_disk else _THREADS, "trainerd-digest") as pool:
        for _ in pool.map(compare, files):
            pass


def _written(path: Path, name: str) -> ManifestFile:
    (sha256, xxh3_128), size_bytes = digests(path / name, SHA256, XXH3, sync=True)
    return ManifestFile(name=name, size_bytes=size_bytes, sha256=sha256, xxh3_128=xxh3_128)


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
    head = {"format": FORMAT, "step": manifest.step, "files": len(manifest.files)}
    if manifest.incarnation:
        head["incarnation"] = manifest.incarnation
    lines = [
        head,
        *(asdict(file) for file in manifest.files),
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
    return Manifest(
        step=head["step"],
        files=tuple(ManifestFile(**file) for file in files),
        incarnation=head.get("incarnation", 0),
    )
