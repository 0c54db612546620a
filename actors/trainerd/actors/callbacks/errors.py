"""What goes wrong in callbacks, in types."""

from __future__ import annotations

from trainerd.actors.errors import TrainingError


class CallbackError(TrainingError):
    """A callback's hook raised; the text names both. The original is `__cause__`."""

    def __init__(self, message: str, *, callback: str, hook: str, detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.callback = callback
        self.hook = hook


class StateWriteError(TrainingError):
    """A callback wrote what is not its to write. `field` is the name it assigned to."""

    def __init__(self, message: str, *, field: str, callback: str, suggestion: str = "") -> None:
        super().__init__(message, suggestion=suggestion)
        self.field = field
        self.callback = callback


class SaveError(TrainingError):
    """A checkpoint that was due could not be saved.

    `reason` is a word of the fault matrix (`not_found`, `permission_denied`, `no_space`,
    `read_only`, `io_error`, `timeout`, `serialization`, `unknown`), or `missing_metric` or
    `no_saver`. `path` is where it should have gone, or the template if that could not be filled.
    """

    def __init__(self, message: str, *, reason: str, path: str, suggestion: str = "") -> None:
        super().__init__(message, suggestion=suggestion)
        self.reason = reason
        self.path = path
