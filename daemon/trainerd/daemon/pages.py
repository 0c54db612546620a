"""Lists in pages: bounded sizes, and tokens that mean nothing to those who carry them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from typing import Any

import grpc
from google.rpc import error_details_pb2

from trainerd.daemon.refusals import refuse

DEFAULT = 100
MOST = 1000
MOST_CURSOR = 2**63 - 1

_TOKEN = struct.Struct(">Q8s")
_Context = grpc.aio.ServicerContext[Any, Any]


async def page_size(
    context: _Context, asked: int, *, default: int = DEFAULT, most: int = MOST
) -> int:
    """How many entries an answer has at most; ends the call for a number below 0."""
    if asked < 0:
        await _refuse(context, "page_size", f"page_size must be ≥ 0, got {asked}")
    return min(asked or default, most)


def page_token(listed: str, cursor: int) -> str:
    """The token of the page behind `cursor` in the list of this name."""
    return base64.urlsafe_b64encode(_TOKEN.pack(cursor, _mark(listed))).decode().rstrip("=")


async def page_cursor(context: _Context, listed: str, token: str) -> int | None:
    """The cursor of a token, None without one; ends the call for one of anything else."""
    if not token:
        return None
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        cursor, mark = _TOKEN.unpack(data)
    except (ValueError, binascii.Error, struct.error):
        cursor, mark = 0, b""
    if mark != _mark(listed) or cursor > MOST_CURSOR or page_token(listed, cursor) != token:
        await _refuse(
            context, "page_token", "page_token must be that of an earlier answer about this list"
        )
    return int(cursor)


def _mark(listed: str) -> bytes:
    return hashlib.blake2b(listed.encode(), digest_size=8, person=b"page token").digest()


async def _refuse(context: _Context, field: str, message: str) -> None:
    violations = error_details_pb2.BadRequest()
    violations.field_violations.add(field=field, description=message)
    await refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "BAD_PAGE", message, violations)
