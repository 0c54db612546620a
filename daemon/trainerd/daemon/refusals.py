"""Errors of the control service as clients understand them: a status and google.rpc details."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from trainerd.v1 import control_pb2

DOMAIN = "trainerd"

MOST_TEXT = 300
MOST_MESSAGE = 1500
MOST_SUMMARY = 400
MOST_VIOLATIONS = 1800
MOST_PROBLEMS = 2400
"""Bytes of a status: its parts, encoded for headers, stay below 8 KiB together."""

_Context = grpc.aio.ServicerContext[Any, Any]


async def refuse(
    context: _Context,
    code: grpc.StatusCode,
    reason: str,
    message: str,
    *details: Message,
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> NoReturn:
    """End the call with a status, a machine-readable reason and further details.

    `metadata`: the parts of the reason, for programs.
    """
    cut = {key: _cut(value, MOST_TEXT) for key, value in metadata.items()}
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=cut)
    message = _cut(message, MOST_MESSAGE)
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


async def refuse_invalid(
    context: _Context, problems: Sequence[control_pb2.Problem], *, what: str = "run specification"
) -> NoReturn:
    """INVALID_ARGUMENT with a field violation for every problem, and the problems themselves.

    `what` has the problems; the reason is INVALID_RUN, or INVALID_ and that word.

    A status travels in HTTP headers, of which 8 KiB are safe: texts are cut, evidence first, and
    what has no place at all is counted in the last violation.
    """
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    summary = "; ".join(_cut(problem.message, MOST_TEXT) for problem in problems[:3])
    violations = error_details_pb2.BadRequest()
    for number, problem in enumerate(problems):
        field, text = _cut(problem.field, MOST_TEXT), _cut(problem.message, MOST_TEXT)
        violations.field_violations.add(field=field, description=text)
        if violations.ByteSize() > MOST_VIOLATIONS:
            del violations.field_violations[-1]
            rest = f"{len(problems) - number} more problems: CheckRun answers with all of them"
            violations.field_violations.add(description=rest)
            break
    await refuse(
        context,
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_RUN" if what == "run specification" else f"INVALID_{what.upper()}",
        _cut(f"{count} in the {what}: {summary}", MOST_SUMMARY),
        violations,
        _bounded(problems),
    )


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The machine-readable reason of a refusal; empty: it has none."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return str(info.reason)
    return ""


def _bounded(problems: Sequence[control_pb2.Problem]) -> control_pb2.CheckRunResponse:
    """The problems, as many as have a place; of evidence its end, which says what went wrong."""
    bounded = control_pb2.CheckRunResponse()
    for problem in problems:
        bounded.problems.add(
            field=_cut(problem.field, MOST_TEXT),
            message=_cut(problem.message, MOST_TEXT),
            suggestion=_cut(problem.suggestion, MOST_TEXT),
        )
        if bounded.ByteSize() > MOST_PROBLEMS:
            del bounded.problems[-1]
            return bounded
    for short, problem in zip(bounded.problems, problems, strict=True):
        place = MOST_PROBLEMS - bounded.ByteSize() - 10
        short.detail = problem.detail.encode()[-place:].decode(errors="ignore") if place > 0 else ""
    return bounded


def _cut(text: str, most_bytes: int) -> str:
    data = text.encode()
    return text if len(data) <= most_bytes else data[:most_bytes].decode(errors="ignore") + "…"
