"""The secret of each incarnation, derived from one key on disk: nothing to store or to lose."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

_KEY_BYTES = 32


class Tokens:
    """Tokens from the key at `path`; made when there is none, or one cut short by a crash."""

    def __init__(self, path: Path) -> None:
        if not path.exists() or path.stat().st_size != _KEY_BYTES:
            _write(path, secrets.token_bytes(_KEY_BYTES))
        self._key = path.read_bytes()

    def of(self, run: str, incarnation: int) -> str:
        """The token of this incarnation, in hexadecimal. A run id holds no colon."""
        text = f"{run}:{incarnation}".encode()
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()

    def valid(self, run: str, incarnation: int, token: str) -> bool:
        """Whether this is that token; in constant time."""
        return hmac.compare_digest(self.of(run, incarnation).encode(), token.encode())


def _write(path: Path, key: bytes) -> None:
    """Write the key so that it is there whole or not at all."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, key)
        os.fsync(fd)
    finally:
        os.close(fd)
    fresh.rename(path)
