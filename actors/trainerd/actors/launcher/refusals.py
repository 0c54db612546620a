"""What the launcher refuses, as a gRPC status with a reason that a program can read."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from trainerd.v1 import control_pb2

DOMAIN = "trainerd"


@dataclass(kw_only=True, eq=False)
class Refused(Exception):
    """A request that is refused. INVALID_ARGUMENT and NOT_FOUND: another try is useless."""

    code: grpc.StatusCode
    reason: str
    message: str
    suggestion: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.message}; {self.suggestion}" if self.suggestion else self.message

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        """The status with its `google.rpc.ErrorInfo`, as gRPC clients decode it."""
        details = any_pb2.Any()
        details.Pack(
            error_details_pb2.ErrorInfo(
                reason=self.reason,
                domain=DOMAIN,
                metadata={**self.metadata, "suggestion": self.suggestion},
            )
        )
        status = status_pb2.Status(
            code=code_pb2.Code.Value(self.code.name), message=str(self), details=[details]
        )
        return (("grpc-status-details-bin", status.SerializeToString()),)


def refuse_problems(problems: Sequence[control_pb2.Problem]) -> None:
    """Raise `Refused` with every problem; a new try with the same specification is useless."""
    if not problems:
        return
    first = problems[0]
    raise Refused(
        code=grpc.StatusCode.INVALID_ARGUMENT,
        reason="INVALID_SPECIFICATION",
        message="; ".join(f"{p.field}: {p.message}" if p.field else p.message for p in problems),
        suggestion=first.suggestion,
        metadata={"field": first.field},
    )


def devices_busy(message: str) -> Refused:
    """Another trainer has them, or what it left behind."""
    return Refused(code=grpc.StatusCode.FAILED_PRECONDITION, reason="DEVICES_BUSY", message=message)


def invalid_incarnation(incarnation: int) -> Refused:
    """There is no such number."""
    return Refused(
        code=grpc.StatusCode.INVALID_ARGUMENT,
        reason="INVALID_INCARNATION",
        message=f"incarnation must be ≥ 1, got {incarnation}",
    )


def stale_incarnation(run: str, incarnation: int, newest: int) -> Refused:
    """A later one was started already."""
    return Refused(
        code=grpc.StatusCode.FAILED_PRECONDITION,
        reason="STALE_INCARNATION",
        message=f"incarnation {incarnation} of {run} is past: {newest} was started",
    )


def trainer_alive(run: str, pid: int) -> Refused:
    """Its files are in use."""
    return Refused(
        code=grpc.StatusCode.FAILED_PRECONDITION,
        reason="TRAINER_ALIVE",
        message=f"a trainer of {run} (process {pid}) is alive",
        suggestion="stop the run first",
    )


def not_removed(place: Path, error: OSError) -> Refused:
    """The disk does not let go of it."""
    return Refused(
        code=grpc.StatusCode.INTERNAL,
        reason="NOT_REMOVED",
        message=f"{place} could not be removed: {error.strerror or error}",
    )


def no_trainer(run: str) -> Refused:
    """There is no process to ask."""
    return Refused(
        code=grpc.StatusCode.FAILED_PRECONDITION,
        reason="NO_TRAINER",
        message=f"no trainer of {run} is alive on this host",
    )


def changed_meanwhile() -> Refused:
    """A symlink was turned elsewhere between the check and the start."""
    return Refused(
        code=grpc.StatusCode.UNAVAILABLE,
        reason="PATHS_CHANGED",
        message="the paths of the run changed between the check and the start",
    )


def draining() -> Refused:
    """The launcher ends."""
    return Refused(
        code=grpc.StatusCode.UNAVAILABLE,
        reason="LAUNCHER_DRAINING",
        message="the launcher is ending and starts no trainer",
    )


def not_started(error: OSError) -> Refused:
    """The system refused a process, or what it needs."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
    return Refused(
        code=grpc.StatusCode.RESOURCE_EXHAUSTED if full else grpc.StatusCode.UNAVAILABLE,
        reason="NOT_STARTED",
        message=f"the trainer could not be started: {error}",
    )
