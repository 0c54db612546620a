"""gRPC errors, said in the client's own terms."""

from __future__ import annotations

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from trainerd.clients.address import is_unix
from trainerd.clients.errors import (
    ApiError,
    DeadlineExceeded,
    InvalidRun,
    NotFound,
    PermissionDenied,
    Refused,
    TrainerdError,
    Unreachable,
)
from trainerd.v1 import control_pb2


def from_rpc_error(
    error: grpc.RpcError, *, address: str, timeout_s: float | None, pending: str = ""
) -> TrainerdError:
    """What a failed call means.

    `pending` says, for a call that changes a run, what may still happen after its deadline.
    """
    if not isinstance(error, grpc.Call):
        return ApiError(f"the call to {address} failed: {error}")
    said = " ".join((error.details() or "").split())
    failure: TrainerdError
    match error.code():
        case grpc.StatusCode.UNAVAILABLE:
            failure = _unavailable(error, said, address)
        case grpc.StatusCode.CANCELLED:
            failure = Unreachable(f"the daemon at {address} ended the call")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            failure = _late(address, timeout_s, pending)
        case grpc.StatusCode.NOT_FOUND:
            failure = NotFound(said or "there is no such run; see 'trainerctl list'")
        case grpc.StatusCode.INVALID_ARGUMENT | grpc.StatusCode.OUT_OF_RANGE:
            failure = InvalidRun(_problems(error) or [control_pb2.Problem(message=said)], said)
        case (
            grpc.StatusCode.FAILED_PRECONDITION
            | grpc.StatusCode.ABORTED
            | grpc.StatusCode.ALREADY_EXISTS
            | grpc.StatusCode.RESOURCE_EXHAUSTED
        ):
            failure = Refused(said or "the daemon refuses that in the present state")
        case grpc.StatusCode.PERMISSION_DENIED | grpc.StatusCode.UNAUTHENTICATED:
            failure = PermissionDenied(said or f"the daemon at {address} does not allow you that")
        case grpc.StatusCode.UNIMPLEMENTED:
            failure = ApiError(
                f"what answers at {address} does not know this call ({said}); "
                f"is it a trainerd daemon of the same release?"
            )
        case code:
            failure = ApiError(f"the daemon at {address} failed: {code.name}: {said}")
    return failure


def _late(address: str, timeout_s: float | None, pending: str) -> DeadlineExceeded:
    waited = f" within {timeout_s:g} s" if timeout_s is not None else " in time"
    if pending:
        return DeadlineExceeded(f"{pending}, but it is not done{waited}; give a longer --timeout")
    return DeadlineExceeded(
        f"the daemon at {address} did not answer{waited}; give a longer --timeout"
    )


def _unavailable(error: grpc.Call, said: str, address: str) -> TrainerdError:
    if _details(error):
        return Unreachable(said)
    if "Permission denied" in said:
        return PermissionDenied(
            f"you may not open {address.removeprefix('unix:')}; "
            f"ask to be made a member of the group that owns it"
        )
    if not is_unix(address) and (refused := _certificate_refused(said)):
        return PermissionDenied(f"no connection to {address}: {refused}")
    # On a network there is more than one reason; a Unix socket is served or not.
    why = "" if is_unix(address) else f" ({said.rpartition('last error: ')[2]})"
    return Unreachable(
        f"no daemon answers at {address}{why}: "
        f"start one with 'trainerd serve', or use 'trainerctl run'"
    )


def _certificate_refused(said: str) -> str:
    """What is wrong between two certificates; empty: something else is.

    Who refuses a client's certificate says nothing but closes the connection.
    """
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return "its certificate is not of the authority in --tls-ca, or has expired"
    if "Hostname Verification" in said or "Peer name" in said:
        return "its certificate is for another name; 'trainerd certs --host' gives it one"
    if "Socket closed" in said or "handshake" in said.lower():
        return (
            "it ended the handshake; it takes certificates of its own authority only, within "
            "their validity: give --tls-ca, --tls-cert and --tls-key"
        )
    return ""


def _details(call: grpc.Call) -> list[object]:
    """The google.rpc details the daemon sent; empty: the error is not the daemon's own."""
    try:
        status = rpc_status.from_call(call)  # type: ignore[no-untyped-call]
    except ValueError:
        return []
    return list(status.details) if status is not None else []


def _problems(call: grpc.Call) -> list[control_pb2.Problem]:
    """Everything the daemon found wrong, richest form first.

    A `CheckRunResponse` among the details carries whole problems; a `BadRequest`, which generic
    clients understand, carries the field, the message (as description) and the suggestion (as
    localized message).
    """
    whole: list[control_pb2.Problem] = []
    plain: list[control_pb2.Problem] = []
    for detail in _details(call):
        response, request = control_pb2.CheckRunResponse(), error_details_pb2.BadRequest()
        if detail.Unpack(response):  # type: ignore[attr-defined]  # google.protobuf.Any
            whole.extend(response.problems)
        elif detail.Unpack(request):  # type: ignore[attr-defined]
            plain.extend(
                control_pb2.Problem(
                    field=violation.field,
                    message=violation.description,
                    suggestion=violation.localized_message.message,
                )
                for violation in request.field_violations
            )
    return whole or plain
