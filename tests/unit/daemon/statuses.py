"""Statuses as clients read them: the code, the reason, the details."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, cast

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2


async def refused(call: Awaitable[Any], code: grpc.StatusCode, reason: str) -> grpc.aio.AioRpcError:
    """The error of a call that must be refused so."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert (caught.value.code(), reason_of(caught.value)) == (code, reason), caught.value
    return caught.value


def details(error: grpc.aio.AioRpcError, kind: Any) -> Any:
    """The detail of this message type in a status."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for packed in status_pb2.Status.FromString(cast(bytes, value)).details:
                found = kind()
                if packed.Unpack(found):
                    return found
    return kind()


def reason_of(error: grpc.aio.AioRpcError) -> str:
    return str(details(error, error_details_pb2.ErrorInfo).reason)
