"""Callbacks: what a run tells its user's code, and what that code may do to the run."""

from trainerd.actors.callbacks.access import SaveDone, StateAccess, StateSaver
from trainerd.actors.callbacks.callback import Callback
from trainerd.actors.callbacks.early_stopping import EarlyStopping
from trainerd.actors.callbacks.errors import CallbackError, SaveError, StateWriteError
from trainerd.actors.callbacks.logging_callback import LoggedMetrics, LoggingCallback
from trainerd.actors.callbacks.model_checkpoint import ModelCheckpoint
from trainerd.actors.callbacks.orbax_saver import OrbaxSaver
from trainerd.actors.callbacks.runner import CallbackFailure, CallbackRunner, OnError
from trainerd.actors.callbacks.state import CallbackSignal, StateOwner, TrainingState

__all__ = [
    "Callback",
    "CallbackError",
    "CallbackFailure",
    "CallbackRunner",
    "CallbackSignal",
    "EarlyStopping",
    "LoggedMetrics",
    "LoggingCallback",
    "ModelCheckpoint",
    "OnError",
    "OrbaxSaver",
    "SaveDone",
    "SaveError",
    "StateAccess",
    "StateOwner",
    "StateSaver",
    "StateWriteError",
    "TrainingState",
]
