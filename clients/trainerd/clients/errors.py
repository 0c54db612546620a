"""What can go wrong between a client and the daemon, and the exit code each of them means."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from trainerd.v1 import control_pb2


class ExitCode(enum.IntEnum):
    """Exit codes of `trainerctl`.

    Ctrl-C leaves a viewer (`watch`, `events -f`, `logs -f`) with OK. A command that owes its
    caller an answer (`run` on a shared daemon, `submit --wait`) ends with 128 + the signal's
    number instead, so that `trainerctl submit --wait … && next` does not go on.
    """

    OK = 0
    RUN_FAILED = 1
    BAD_INPUT = 2
    NOT_FOUND = 3
    REFUSED = 4
    UNREACHABLE = 5
    PERMISSION_DENIED = 6
    STOPPED = 75


class TrainerdError(Exception):
    """Anything a call can end with. `str()` of it is one line for people."""

    exit_code: ClassVar[ExitCode] = ExitCode.UNREACHABLE
    kind: ClassVar[str] = "api_error"

    def __init__(self, message: str) -> None:
        """`message` is one line: what was expected, what came, what to do."""
        super().__init__(message)
        self.message = message


class Unreachable(TrainerdError):
    """No daemon answers at the address, or the link to it is lost."""

    kind = "unreachable"


class DeadlineExceeded(TrainerdError):
    """The daemon did not answer in time. What was asked for may still happen."""

    kind = "deadline_exceeded"


class ApiError(TrainerdError):
    """The daemon failed, or what answers is not a daemon that this client understands."""


class NotFound(TrainerdError):
    """There is no such run."""

    exit_code = ExitCode.NOT_FOUND
    kind = "not_found"


class Refused(TrainerdError):
    """The run's state, or the daemon's, does not allow it."""

    exit_code = ExitCode.REFUSED
    kind = "refused"


class PermissionDenied(TrainerdError):
    """This user may not do that, or may not open the daemon's socket."""

    exit_code = ExitCode.PERMISSION_DENIED
    kind = "permission_denied"


class BadInput(TrainerdError):
    """Something the user gave cannot be used: an option, an address, a file."""

    exit_code = ExitCode.BAD_INPUT
    kind = "bad_input"


class InvalidRun(TrainerdError):
    """A run specification is refused; `problems` holds everything that is wrong with it."""

    exit_code = ExitCode.BAD_INPUT
    kind = "invalid_run"

    def __init__(
        self,
        problems: Sequence[control_pb2.Problem],
        message: str = "",
        *,
        file: str = "",
        lines: Sequence[int | None] = (),
    ) -> None:
        """Without a message the problems' own messages are joined.

        `file` and `lines` (one for each problem) say where they stand, if that is known.
        """
        super().__init__(message or "; ".join(problem.message for problem in problems))
        self.problems = tuple(problems)
        self.file = file
        self.lines = tuple(lines) or (None,) * len(self.problems)
