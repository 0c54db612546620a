"""Calls of a launcher, carried by the link between two daemons.

A call is the request message of its method, in a field of that method's name; what comes back is
the response, serialised, or the status that the launcher's own answer had.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from trainerd.daemon.refusals import DOMAIN, reason_of
from trainerd.v1 import host_pb2, launcher_pb2, launcher_pb2_grpc

_REQUESTS = host_pb2.LauncherCall.DESCRIPTOR.oneofs_by_name["request"].fields
METHODS: Mapping[str, str] = MappingProxyType(
    {
        field.name: "".join(word.capitalize() for word in field.name.split("_"))
        for field in _REQUESTS
    }
)
"""Methods of LauncherService by the names of their fields in a LauncherCall."""

_STATUSES = {code.value[0]: code for code in grpc.StatusCode}

Carry = Callable[[host_pb2.LauncherCall], Coroutine[Any, Any, bytes]]
"""Carries a call to where the launcher is; returns the response, or raises its `AioRpcError`."""


def stub(carry: Carry) -> launcher_pb2_grpc.LauncherServiceAsyncStub:
    """What calls a launcher as a stub on a channel does."""
    made: Any = SimpleNamespace(**{METHODS[field]: _method(carry, field) for field in METHODS})
    return made  # type: ignore[no-any-return]


def _method(carry: Carry, field: str) -> Callable[..., Coroutine[Any, Any, Message]]:
    response: type[Message] = getattr(launcher_pb2, f"{METHODS[field]}Response")

    async def call(request: Message, *, timeout: float) -> Message:  # noqa: ASYNC109 - a stub's
        message = host_pb2.LauncherCall(timeout_s=timeout)
        getattr(message, field).CopyFrom(request)
        return response.FromString(await carry(message))

    return call


async def answered(
    launcher: Callable[[], launcher_pb2_grpc.LauncherServiceAsyncStub], call: host_pb2.LauncherCall
) -> host_pb2.LauncherAnswer:
    """Make a call that was carried here; whatever becomes of it is an answer."""
    answer = host_pb2.LauncherAnswer(call=call.call)
    field = call.WhichOneof("request")
    try:
        if field is None:
            answer.failed.code = grpc.StatusCode.UNIMPLEMENTED.value[0]
            answer.failed.details = "the host's daemon does not know this call: it is older"
            return answer
        method = getattr(launcher(), METHODS[field])
        response = await method(getattr(call, field), timeout=call.timeout_s)
        answer.response = response.SerializeToString()
    except grpc.aio.AioRpcError as error:
        answer.failed.CopyFrom(ended(error))
    except OSError as error:
        answer.failed.code = grpc.StatusCode.UNAVAILABLE.value[0]
        answer.failed.details = str(error)
    return answer


def ended(error: grpc.aio.AioRpcError) -> host_pb2.LinkEnd:
    """A status, as the link carries it."""
    return host_pb2.LinkEnd(
        code=error.code().value[0], details=error.details() or "", reason=reason_of(error)
    )


def status_of(end: host_pb2.LinkEnd) -> grpc.StatusCode:
    """The status of a link that ended; one that is not known is UNKNOWN."""
    return _STATUSES.get(end.code, grpc.StatusCode.UNKNOWN)


def error_of(end: host_pb2.LinkEnd) -> grpc.aio.AioRpcError:
    """The error that a stub on a channel would have raised."""
    code, trailing = status_of(end), grpc.aio.Metadata()
    if end.reason:
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.ErrorInfo(reason=end.reason, domain=DOMAIN))
        status = status_pb2.Status(
            code=code_pb2.Code.Value(code.name), message=end.details, details=[detail]
        )
        told = rpc_status.to_status(status)  # type: ignore[no-untyped-call]
        trailing = grpc.aio.Metadata(*told.trailing_metadata)
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, end.details)
