"""What a callback is."""

from __future__ import annotations

from trainerd.actors.callbacks.access import StateAccess
from trainerd.actors.callbacks.state import CallbackSignal, TrainingState


class Callback:
    """Does something at fixed places of a run. Derive from it and override the hooks you want.

    This is the library's one base class of no-ops. A callback wants one or two of six hooks, and
    a protocol would make everybody write all six. Nothing but no-ops is inherited, and the
    callbacks that come with the library are final: to change one, wrap it.

    Hooks are called from the loop's thread with the live state, and answer with a signal; None is
    CONTINUE. STOP ends the run once every callback of the same event has run. What they may write
    is said at `TrainingState`. An exception is dealt with by the `CallbackRunner`.

    A hook blocks the loop while it runs. Metrics leave the device one step late, so `on_step_end`
    of a step runs while the next one may be in flight; see `needs_rest`.

    A supervised run may go back to an older state and on from there. Callbacks live on and keep
    what they know: `state.step` is lower than before, `on_epoch_begin` is called again, and steps
    that were seen are seen once more, made of other batches. What a callback has written of them
    stays where it is.
    """

    def attach(self, access: StateAccess) -> None:
        """Take the loop's offer to save, copy or replace its arrays. Called once a run, before
        any hook; not called by a loop that offers nothing."""

    def needs_rest(self, step: int) -> bool:  # noqa: ARG002
        """Whether `on_step_end` of `step` will use the `StateAccess`.

        Asked before the step after it is dispatched, once or more; must be cheap. True costs the
        overlap of that step with the host.
        """
        return False

    def on_train_begin(self, state: TrainingState) -> CallbackSignal | None:
        """Before anything else. STOP: nothing is trained."""

    def on_train_end(self, state: TrainingState) -> CallbackSignal | None:
        """Exactly once after `on_train_begin`, however the run ended. The signal is ignored."""

    def on_epoch_begin(self, state: TrainingState) -> CallbackSignal | None:
        """Before the first batch of `state.epoch`, and where a run is continued inside it."""

    def on_epoch_end(self, state: TrainingState) -> CallbackSignal | None:
        """After the last step of `state.epoch` and its validation, at rest."""

    def on_step_begin(self, state: TrainingState) -> CallbackSignal | None:
        """Before a batch is dispatched. `state` is that of the newest step that has landed."""

    def on_step_end(self, state: TrainingState) -> CallbackSignal | None:
        """After a batch has landed; a skipped batch leaves `state.step` as it was."""
