"""The checksum of everything that this project writes for itself: fast, and against damage only."""

from __future__ import annotations

from typing import Any

import xxhash

CHECKSUM_BYTES = 16


def checksum(content: Any) -> bytes:
    """XXH3-128 of bytes, or of anything that lends its bytes. Releases the interpreter."""
    return xxhash.xxh3_128_digest(content)
