"""What a snapshot's file holds, byte for byte.

First `PREFIX_BYTES` with magic number, format version, step, sizes, the digests of header and data,
and last a mark: the digest of all that stands before it. Whoever writes destroys the mark first and
sets it last, so that a file without a true mark is not a snapshot, whenever its writer died. Then,
at `HEADER_AT`, the header: the names, kinds and places of the leaves, and what a checkpoint holds
beside the state, as JSON. Then the leaves, little-endian and in C order.

Digests are XXH3-128: they find damage, and are not meant to keep anybody from forging a snapshot.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainerd.actors.checksum import CHECKSUM_BYTES, checksum

_MAGIC = b"trdsnap\x00"
_VERSION = 1
_FIELDS = struct.Struct("<8sIIqQQQ16s16s")
PREFIX_BYTES = _FIELDS.size + CHECKSUM_BYTES
MARK_AT = _FIELDS.size
HEADER_AT = 4096

_PAGE_BYTES = 4096
_META_BYTES = 1 << 20
"""Room for what is not the leaves' table: above all the ledger, some 100 bytes an entry."""
_LINE_BYTES = 64
_ODD_BYTES = 8
"""Leaves lie that far behind a multiple of a cache line. JAX takes an array on the host for its own
where it lies on one, and a state must never share memory with a file that is written to again."""


class SnapshotDamaged(Exception):
    """A file does not hold a whole snapshot; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One array: its name in the state, its kind such as `float32[3, 4]`, its place in the file."""

    name: str
    kind: str
    at: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where everything lies in the files of one kind of state."""

    leaves: tuple[Leaf, ...]
    data_at: int
    file_bytes: int

    @staticmethod
    def of(kinds: Mapping[str, str], sizes_bytes: Sequence[int]) -> Layout:
        """Lay out leaves with the given names and kinds, in order."""
        names = sum(len(name.encode()) + len(kind) + 64 for name, kind in kinds.items())
        data_at = HEADER_AT + _up(names + _META_BYTES, _PAGE_BYTES)
        end, leaves = data_at, []
        for (name, kind), size in zip(kinds.items(), sizes_bytes, strict=True):
            at = _up(end, _LINE_BYTES) + _ODD_BYTES
            leaves.append(Leaf(name=name, kind=kind, at=at, bytes=size))
            end = at + size
        return Layout(leaves=tuple(leaves), data_at=data_at, file_bytes=_up(end, _PAGE_BYTES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """The fixed part, as read from a file whose mark is true."""

    step: int
    header_bytes: int
    data_at: int
    file_bytes: int
    header_digest: bytes
    data_digest: bytes

    def pack(self) -> bytes:
        """Return the `PREFIX_BYTES`, the mark last."""
        fields = _FIELDS.pack(
            _MAGIC,
            _VERSION,
            0,
            self.step,
            self.header_bytes,
            self.data_at,
            self.file_bytes,
            self.header_digest,
            self.data_digest,
        )
        return fields + checksum(fields)

    @staticmethod
    def read(content: bytes | memoryview, file_bytes: int) -> Prefix:
        """Read the first bytes of a file of `file_bytes`. Raises `SnapshotDamaged`."""
        if len(content) < PREFIX_BYTES:
            raise SnapshotDamaged(f"it ends after {len(content)} bytes")
        fields, mark = bytes(content[:MARK_AT]), bytes(content[MARK_AT:PREFIX_BYTES])
        if checksum(fields) != mark:
            raise SnapshotDamaged("it is not marked as whole")
        magic, version, _, step, header, data_at, size, header_digest, data_digest = _FIELDS.unpack(
            fields
        )
        if (magic, version) != (_MAGIC, _VERSION):
            raise SnapshotDamaged(f"it is not of format {_VERSION}")
        if size != file_bytes or not HEADER_AT + header <= data_at <= size:
            raise SnapshotDamaged(f"it has {file_bytes} bytes, expected {size}")
        return Prefix(
            step=step,
            header_bytes=header,
            data_at=data_at,
            file_bytes=size,
            header_digest=header_digest,
            data_digest=data_digest,
        )


def pack_header(layout: Layout, meta: Mapping[str, Any]) -> bytes:
    """Return the header. Raises ValueError where `meta` does not fit into the layout's room."""
    header = json.dumps(
        {"leaves": [[x.name, x.kind, x.at, x.bytes] for x in layout.leaves], "meta": meta},
        separators=(",", ":"),
    ).encode()
    if len(header) > layout.data_at - HEADER_AT:
        raise ValueError(
            f"its header has {len(header)} bytes, there is room for {layout.data_at - HEADER_AT}"
        )
    return header


def unpack_header(header: bytes, prefix: Prefix) -> tuple[Layout, Mapping[str, Any]]:
    """Read what `pack_header` returned. Raises `SnapshotDamaged`."""
    if checksum(header) != prefix.header_digest:
        raise SnapshotDamaged("its header is damaged")
    values = json.loads(header)
    leaves = tuple(
        Leaf(name=name, kind=kind, at=at, bytes=size) for name, kind, at, size in values["leaves"]
    )
    layout = Layout(leaves=leaves, data_at=prefix.data_at, file_bytes=prefix.file_bytes)
    return layout, values["meta"]


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
