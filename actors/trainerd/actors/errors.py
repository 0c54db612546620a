"""The training library's errors. The type says whose mistake it is; the text says what to do."""

from __future__ import annotations


class TrainingError(Exception):
    """Something a user can act on: `message` says what happened, `suggestion` what to do.

    `detail` is further evidence, such as the user's own traceback.
    """

    def __init__(self, message: str, *, suggestion: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.suggestion = suggestion
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.message}; {self.suggestion}" if self.suggestion else self.message


class EngineError(TrainingError):
    """A run could not go on. Where something was raised, that is its `__cause__`."""


class PlanError(TrainingError):
    """The numbers of a run do not fit together, or not to the devices or the data."""


class ProgramError(TrainingError):
    """The user's program cannot be loaded, built or compiled."""


class DataError(TrainingError):
    """A batch could not be made. `batch` is its index; -1: the source as a whole."""

    def __init__(
        self, message: str, *, batch: int = -1, suggestion: str = "", detail: str = ""
    ) -> None:
        super().__init__(message, suggestion=suggestion, detail=detail)
        self.batch = batch


class DataEnded(TrainingError):
    """An iterator has no further batch. `batch` is the index of the one that there is not."""

    def __init__(self, message: str, *, batch: int, suggestion: str = "") -> None:
        super().__init__(message, suggestion=suggestion)
        self.batch = batch


class CheckpointError(TrainingError):
    """A checkpoint cannot be used."""


class CheckpointMismatchError(CheckpointError):
    """A sound checkpoint holds another state than the program's; the text names the leaves."""


class CheckpointsDamagedError(CheckpointError):
    """There are checkpoints, and all of them are damaged."""


class CheckpointsUnreadableError(CheckpointError):
    """There are checkpoints, or should be, and nobody can read them now: they may be good."""


class PeerLostError(TrainingError):
    """Another process of a gang did not come to where it was waited for. Not this one's fault."""


class Terminated(SystemExit):
    """SIGTERM has ended a run in good order. Unhandled, it ends the process with status 143."""

    def __init__(self) -> None:
        super().__init__(143)
