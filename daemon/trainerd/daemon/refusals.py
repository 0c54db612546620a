"""Errors of the control service as clients understand them: a status and google.rpc details."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from trainerd.v1 import control_pb2

DOMAIN = "trainerd"

_Context = grpc.aio.ServicerContext[Any, Any]


async def refuse(
    context: _Context, code: grpc.StatusCode, reason: str, message: str, *details: Message
) -> NoReturn:
    """End the call with a status, a machine-readable reason and further details."""
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)
    packed = []
    for detail in (info, *details):
        item = any_pb2.Any()
        item.Pack(detail)
        packed.append(item)
    status = rpc_status.to_status(  # type: ignore[no-untyped-call]
        status_pb2.Status(code=code_pb2.Code.Value(code.name), message=message, details=packed)
    )
    await context.abort(code, message, trailing_metadata=status.trailing_metadata)
    raise AssertionError("abort does not return")


async def refuse_invalid(context: _Context, problems: Sequence[control_pb2.Problem]) -> NoReturn:
    """INVALID_ARGUMENT with one field violation for every problem, and the problems themselves."""
    violations = [
        error_details_pb2.BadRequest.FieldViolation(
            field=problem.field, description=problem.message
        )
        for problem in problems
    ]
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    summary = "; ".join(problem.message for problem in problems[:3])
    await refuse(
        context,
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_RUN",
        f"{count} in the run specification: {summary}",
        error_details_pb2.BadRequest(field_violations=violations),
        control_pb2.CheckRunResponse(problems=_bounded(problems)),
    )


def _bounded(problems: Sequence[control_pb2.Problem]) -> list[control_pb2.Problem]:
    """The problems with their evidence cut: status details travel in HTTP headers (8 KiB)."""
    bounded = []
    left = 4000
    for problem in problems:
        copy = control_pb2.Problem()
        copy.CopyFrom(problem)
        # The end of a traceback says what went wrong.
        copy.detail = copy.detail[-max(0, left) :] if left > 0 else ""
        left -= len(copy.detail)
        bounded.append(copy)
    return bounded
