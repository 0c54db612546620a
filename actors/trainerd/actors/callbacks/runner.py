"""Runs callbacks: in order, all of them, and none can break the loop unless that is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal, TypeAlias, final, get_args

import structlog

from trainerd.actors.callbacks.access import StateAccess
from trainerd.actors.callbacks.callback import Callback
from trainerd.actors.callbacks.errors import CallbackError
from trainerd.actors.callbacks.state import CallbackSignal, StateOwner, TrainingState
from trainerd.actors.loggers.errors import LoggingError
from trainerd.actors.traceback_text import user_traceback

_log = structlog.get_logger("trainerd.callbacks")

OnError: TypeAlias = Literal["isolate", "raise"]
_Hook: TypeAlias = Callable[[TrainingState], CallbackSignal | None]
_Call: TypeAlias = tuple[str, str, _Hook]
"""A callback's name, the name with the hook's, and the hook."""

_HOOKS = (
    "on_train_begin",
    "on_train_end",
    "on_epoch_begin",
    "on_epoch_end",
    "on_step_begin",
    "on_step_end",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackFailure:
    """A hook that raised. `message` names the callback, the hook and the error."""

    callback: str
    hook: str
    step: int
    message: str
    error: Exception


@final
class CallbackRunner:
    """The callbacks of one run at a time, called by its loop.

    At each event every callback runs, in the order of the list, whatever the ones before it
    answered or raised. STOP is returned if any of them answered STOP or left `should_stop` set,
    and `should_stop` is set then; the first to ask is remembered as `stopped_by`.

    `on_error` says what an exception in a hook does. `isolate`: it is counted, logged, told to
    `report`, and training goes on. `raise`: the same, and once the event's other callbacks have
    run, the first one is raised as `CallbackError`. A `LoggingError`, which a strict logger raises
    because that was asked for, is raised as it is in both cases. KeyboardInterrupt, SystemExit and
    their like are never caught; only `on_train_end` of the callbacks left is still run first.

    `access` is what the loop offers to `Callback.attach`.
    """

    def __init__(
        self,
        callbacks: Sequence[Callback],
        *,
        on_error: OnError = "isolate",
        report: Callable[[CallbackFailure], None] | None = None,
        access: StateAccess | None = None,
    ) -> None:
        if on_error not in get_args(OnError):
            raise ValueError(f'on_error must be "isolate" or "raise", got {on_error!r}')
        self._named = _named(callbacks)
        self._on_error, self._report, self._access = on_error, report, access
        # Only hooks that somebody has overridden cost anything.
        self._hooks = {hook: _overridden(self._named, hook) for hook in _HOOKS}
        self._resting = [
            (name, callback)
            for name, callback in self._named
            if type(callback).needs_rest is not Callback.needs_rest
        ]
        self._counts: Counter[str] = Counter()
        self._stopped_by = ""
        self._open = False

    @property
    def stopped_by(self) -> str:
        """The callback that ended the run, by class name; empty: none did."""
        return self._stopped_by

    @property
    def error_count(self) -> int:
        """How many exceptions hooks have raised."""
        return self._counts.total()

    @property
    def error_counts(self) -> Mapping[str, int]:
        """The same by `callback.hook`."""
        return dict(self._counts)

    @contextmanager
    def session(self, owner: StateOwner) -> Iterator[CallbackSignal]:
        """Run `on_train_begin`, give its signal, and run `on_train_end` however the body ends.

        An exception of the body goes on its way; one of `on_train_end` does not hide it.
        """
        try:
            yield self.train_begin(owner)
        except BaseException:
            with suppress(CallbackError, LoggingError):
                self.train_end(owner)
            raise
        self.train_end(owner)

    def train_begin(self, owner: StateOwner) -> CallbackSignal:
        """Attach the callbacks and run `on_train_begin`. `train_end` is owed from here on, also
        if this raises."""
        if self._open:
            raise RuntimeError("a run has begun already: end it with train_end first")
        self._open = True
        self._stopped_by = ""
        if self._access is not None:
            access = self._access
            attach = [
                (name, f"{name}.attach", _attaching(callback, access))
                for name, callback in self._named
            ]
            self._event("attach", attach, owner)
        return self._event("on_train_begin", self._hooks["on_train_begin"], owner)

    def train_end(self, owner: StateOwner) -> None:
        """Run `on_train_end` and end the state's life; the second call of a run does nothing."""
        if not self._open:
            return
        self._open = False
        try:
            self._event("on_train_end", self._hooks["on_train_end"], owner)
        finally:
            owner.end()

    def epoch_begin(self, owner: StateOwner) -> CallbackSignal:
        """Run `on_epoch_begin`."""
        return self._event("on_epoch_begin", self._hooks["on_epoch_begin"], owner)

    def epoch_end(self, owner: StateOwner) -> CallbackSignal:
        """Run `on_epoch_end`. The state must be at rest."""
        return self._event("on_epoch_end", self._hooks["on_epoch_end"], owner)

    def step_begin(self, owner: StateOwner) -> CallbackSignal:
        """Run `on_step_begin`. STOP: do not dispatch."""
        return self._event("on_step_begin", self._hooks["on_step_begin"], owner)

    def step_end(self, owner: StateOwner) -> CallbackSignal:
        """Run `on_step_end`. The state must be at rest if `needs_rest` said so of this step."""
        return self._event("on_step_end", self._hooks["on_step_end"], owner)

    def needs_rest(self, step: int) -> bool:
        """Whether any callback's `on_step_end` of `step` needs the state at rest."""
        needed = False
        for name, callback in self._resting:
            try:
                needed = callback.needs_rest(step) or needed
            except Exception as error:
                self._failed(name, "needs_rest", step, error)
        return needed

    def _event(self, hook: str, calls: Sequence[_Call], owner: StateOwner) -> CallbackSignal:
        state = owner.state
        if not calls:
            return CallbackSignal.STOP if state.should_stop else CallbackSignal.CONTINUE
        raised: BaseException | None = None
        stop, asker = False, ""
        before = state.should_stop
        for name, where, call in calls:
            owner.lend(where)
            try:
                answer = call(state)
                if answer is not None and answer is not CallbackSignal.CONTINUE:
                    stop = _stops(answer) or stop
            except LoggingError as error:
                raised = raised or error
            except Exception as error:
                failure = self._failed(name, hook, state.step, error)
                raised = raised or failure
            except BaseException as interrupt:
                if hook != "on_train_end":
                    raise
                raised = interrupt
            finally:
                owner.lend("")
            now = state.should_stop
            if not asker and (stop or (now and not before)):
                asker = name
            before = now
        stop = stop or before
        if stop:
            owner.stop()
            self._stopped_by = self._stopped_by or asker
        if raised is not None:
            raise raised
        return CallbackSignal.STOP if stop else CallbackSignal.CONTINUE

    def _failed(self, name: str, hook: str, step: int, error: Exception) -> CallbackError | None:
        """Count, log and report; return what is to be raised."""
        where = f"{name}.{hook}"
        message = f"callback {where} failed at step {step}: {type(error).__name__}: {error}"
        self._counts[where] += 1
        count = self._counts[where]
        # One that fails at every step is logged at 1, 2, 4, 8 …: seen, and never a flood.
        if count & (count - 1) == 0:
            _log.warning(
                "callback failed",
                callback=name,
                hook=hook,
                step=step,
                error=f"{type(error).__name__}: {error}",
                count=count,
                detail=user_traceback(error),
            )
        if self._report is not None:
            self._report(
                CallbackFailure(callback=name, hook=hook, step=step, message=message, error=error)
            )
        if self._on_error == "isolate":
            return None
        raised = CallbackError(message, callback=name, hook=hook, detail=user_traceback(error))
        raised.__cause__ = error
        return raised


def _stops(answer: object) -> bool:
    match answer:
        case None | CallbackSignal.CONTINUE:
            return False
        case CallbackSignal.STOP:
            return True
        case _:
            raise TypeError(f"a hook must return a CallbackSignal or None, got {answer!r}")


def _named(callbacks: Sequence[Callback]) -> list[tuple[str, Callback]]:
    """Each callback with its class's name; the second of a class is `Class#2`."""
    seen: Counter[str] = Counter()
    named: list[tuple[str, Callback]] = []
    for index, callback in enumerate(callbacks):
        if not isinstance(callback, Callback):
            raise TypeError(
                f"callbacks[{index}] must be a Callback, got {callback!r}"
                + ("; call the class to make one" if isinstance(callback, type) else "")
            )
        name = type(callback).__name__
        seen[name] += 1
        named.append((name if seen[name] == 1 else f"{name}#{seen[name]}", callback))
    return named


def _overridden(named: list[tuple[str, Callback]], hook: str) -> list[_Call]:
    return [
        (name, f"{name}.{hook}", getattr(callback, hook))
        for name, callback in named
        if getattr(type(callback), hook) is not getattr(Callback, hook)
    ]


def _attaching(callback: Callback, access: StateAccess) -> _Hook:
    def attach(_state: TrainingState) -> None:
        callback.attach(access)

    return attach
