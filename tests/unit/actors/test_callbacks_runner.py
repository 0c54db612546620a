"""Running callbacks: order, signals, failures."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from trainerd.actors.callbacks import (
    Callback,
    CallbackError,
    CallbackFailure,
    CallbackRunner,
    CallbackSignal,
    StateOwner,
)
from trainerd.actors.loggers import LoggingError

HOOKS = (
    "on_train_begin",
    "on_epoch_begin",
    "on_step_begin",
    "on_step_end",
    "on_epoch_end",
    "on_train_end",
)


class Scripted(Callback):
    """Notes each hook in `heard`, then does as told: raises an exception, or answers."""

    def __init__(self, heard: list[str], name: str = "", **script: Any) -> None:
        self.heard, self.name, self.script = heard, name, script

    def _hook(self, hook: str) -> Any:
        self.heard.append(f"{self.name}{hook}")
        match self.script.get(hook):
            case BaseException() as error:
                raise error
            case answer:
                return answer

    def on_train_begin(self, state):
        return self._hook("on_train_begin")

    def on_train_end(self, state):
        return self._hook("on_train_end")

    def on_epoch_begin(self, state):
        return self._hook("on_epoch_begin")

    def on_epoch_end(self, state):
        return self._hook("on_epoch_end")

    def on_step_begin(self, state):
        return self._hook("on_step_begin")

    def on_step_end(self, state):
        return self._hook("on_step_end")


class Asks(Callback):
    """Sets `should_stop` to what it is told."""

    def __init__(self, value: bool) -> None:
        self.value = value

    def on_step_end(self, state):
        state.should_stop = self.value


def one_step(runner: CallbackRunner, owner: StateOwner) -> list[CallbackSignal]:
    with runner.session(owner) as begun:
        return [
            begun,
            runner.epoch_begin(owner),
            runner.step_begin(owner),
            runner.step_end(owner),
            runner.epoch_end(owner),
        ]


def test_o05_there_are_six_hooks_and_each_is_called_at_its_place() -> None:
    heard: list[str] = []
    signals = one_step(CallbackRunner([Scripted(heard)], on_error="raise"), StateOwner())
    assert heard == list(HOOKS)
    assert set(signals) == {CallbackSignal.CONTINUE}


def test_o05_a_callback_overrides_what_it_wants() -> None:
    runner = CallbackRunner([Callback()], on_error="raise")
    assert set(one_step(runner, StateOwner())) == {CallbackSignal.CONTINUE}


def test_o06_callbacks_run_in_the_order_of_the_list() -> None:
    heard: list[str] = []
    runner = CallbackRunner([Scripted(heard, "a."), Scripted(heard, "b.")])
    one_step(runner, StateOwner())
    assert heard == [f"{name}.{hook}" for hook in HOOKS for name in "ab"]


def test_o06_every_callback_of_the_event_runs_and_then_the_first_stop_wins() -> None:
    heard: list[str] = []
    stop = CallbackSignal.STOP

    class Second(Scripted):
        pass

    runner = CallbackRunner(
        [
            Scripted(heard, "a."),
            Second(heard, "b.", on_step_end=stop),
            Scripted(heard, "c.", on_step_end=stop),
            Scripted(heard, "d.", on_step_end=CallbackSignal.CONTINUE),
        ]
    )
    owner = StateOwner()
    with runner.session(owner):
        heard.clear()
        assert runner.step_end(owner) is stop
        assert heard == ["a.on_step_end", "b.on_step_end", "c.on_step_end", "d.on_step_end"]
    assert owner.state.should_stop
    assert runner.stopped_by == "Second"


def test_o06_should_stop_counts_like_the_signal_and_can_be_withdrawn_within_its_event() -> None:
    owner = StateOwner()
    runner = CallbackRunner([Asks(True)])
    with runner.session(owner):
        assert runner.step_end(owner) is CallbackSignal.STOP
    assert runner.stopped_by == "Asks"
    owner = StateOwner()
    runner = CallbackRunner([Asks(True), Asks(False)])
    with runner.session(owner):
        assert runner.step_end(owner) is CallbackSignal.CONTINUE
    assert runner.stopped_by == ""
    owner = StateOwner()
    runner = CallbackRunner([Scripted([], on_step_end=CallbackSignal.STOP), Asks(False)])
    with runner.session(owner):
        assert runner.step_end(owner) is CallbackSignal.STOP
    assert owner.state.should_stop


def test_o06_a_stop_stays_known_at_events_that_nobody_listens_to() -> None:
    owner = StateOwner()
    runner = CallbackRunner([Asks(True)])
    with runner.session(owner):
        runner.step_end(owner)
        assert runner.epoch_end(owner) is CallbackSignal.STOP


@pytest.mark.parametrize(
    "ending",
    [None, CallbackSignal.STOP, RuntimeError("step"), KeyboardInterrupt(), SystemExit(3)],
    ids=repr,
)
def test_o06_x11_on_train_end_runs_exactly_once_however_the_run_ends(ending) -> None:
    heard: list[str] = []
    signal = ending if isinstance(ending, CallbackSignal) else None
    runner = CallbackRunner([Scripted(heard, on_step_end=signal)], on_error="raise")
    owner = StateOwner()

    def train() -> None:
        with runner.session(owner):
            if runner.step_end(owner) is CallbackSignal.STOP:
                runner.train_end(owner)
            if isinstance(ending, BaseException):
                raise ending

    if isinstance(ending, BaseException):
        with pytest.raises(type(ending)):
            train()
    else:
        train()
    runner.train_end(owner)
    assert heard.count("on_train_end") == 1


@pytest.mark.parametrize("on_error", ["isolate", "raise"])
def test_x11_on_train_end_runs_for_all_when_on_train_begin_raised_half_way(on_error) -> None:
    heard: list[str] = []
    callbacks = [
        Scripted(heard, "a."),
        Scripted(heard, "b.", on_train_begin=ValueError("half-way"), on_train_end=KeyError("too")),
        Scripted(heard, "c."),
    ]
    runner = CallbackRunner(callbacks, on_error=on_error)
    if on_error == "raise":
        with (
            pytest.raises(CallbackError, match=r"on_train_begin .* half-way"),
            runner.session(StateOwner()),
        ):
            pytest.fail("the body runs although a callback refused to begin")
    else:
        with runner.session(StateOwner()):
            pass
    assert heard == [
        f"{name}.{hook}" for hook in ("on_train_begin", "on_train_end") for name in "abc"
    ]


def test_x11_an_interrupt_inside_on_train_end_waits_for_the_callbacks_left() -> None:
    heard: list[str] = []
    callbacks = [Scripted(heard, "a.", on_train_end=KeyboardInterrupt()), Scripted(heard, "b.")]
    runner = CallbackRunner(callbacks)
    with pytest.raises(KeyboardInterrupt), runner.session(StateOwner()):
        heard.clear()
    assert heard == ["a.on_train_end", "b.on_train_end"]


def test_x11_nothing_ends_that_has_not_begun_and_a_runner_serves_one_run_after_another() -> None:
    heard: list[str] = []
    runner = CallbackRunner([Scripted(heard)])
    runner.train_end(StateOwner())
    assert heard == []
    for _ in range(2):
        one_step(runner, StateOwner())
    assert heard == [*HOOKS, *HOOKS]
    runner.train_begin(StateOwner())
    with pytest.raises(RuntimeError, match="has begun already"):
        runner.train_begin(StateOwner())


@pytest.mark.parametrize("hook", HOOKS)
def test_o12_isolate_names_counts_logs_and_goes_on(hook) -> None:
    heard: list[str] = []

    class Broken(Scripted):
        pass

    failures: list[CallbackFailure] = []
    owner = StateOwner(step=4)
    runner = CallbackRunner(
        [Broken(heard, **{hook: ZeroDivisionError("oh")}), Scripted(heard, "next.")],
        report=failures.append,
    )
    with structlog.testing.capture_logs() as logs:
        one_step(runner, owner)
    assert f"next.{hook}" in heard
    (failure,) = failures
    assert (failure.callback, failure.hook, failure.step) == ("Broken", hook, 4)
    assert failure.message == f"callback Broken.{hook} failed at step 4: ZeroDivisionError: oh"
    assert runner.error_counts == {f"Broken.{hook}": 1}
    (line,) = [log for log in logs if log["event"] == "callback failed"]
    assert (line["callback"], line["hook"], line["log_level"]) == ("Broken", hook, "warning")
    assert "callbacks/runner.py" not in line["detail"]


def test_o12_a_callback_that_always_fails_is_always_counted_and_never_floods_the_log() -> None:
    runner = CallbackRunner([Scripted([], on_step_end=ValueError("again"))])
    owner = StateOwner()
    with structlog.testing.capture_logs() as logs, runner.session(owner):
        for _ in range(100):
            runner.step_end(owner)
    assert runner.error_count == 100
    assert [log["count"] for log in logs] == [1, 2, 4, 8, 16, 32, 64]


def test_o12_raise_gives_a_typed_error_with_its_cause_after_the_others_have_run() -> None:
    heard: list[str] = []
    cause = ZeroDivisionError("oh")
    runner = CallbackRunner(
        [
            Scripted(heard, "a.", on_step_end=cause),
            Scripted(heard, "b.", on_step_end=ValueError("second")),
            Scripted(heard, "c."),
        ],
        on_error="raise",
    )
    owner = StateOwner(step=9)
    with pytest.raises(CallbackError, match=r"Scripted\.on_step_end failed at step 9") as raised:
        runner.step_end(owner)
    assert raised.value.__cause__ is cause
    assert (raised.value.callback, raised.value.hook) == ("Scripted", "on_step_end")
    assert heard == ["a.on_step_end", "b.on_step_end", "c.on_step_end"]
    assert runner.error_counts == {"Scripted.on_step_end": 1, "Scripted#2.on_step_end": 1}


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), SystemExit(1)])
def test_o12_an_interrupt_in_a_hook_is_nobodys_failure(interrupt) -> None:
    runner = CallbackRunner([Scripted([], on_step_end=interrupt)])
    with pytest.raises(type(interrupt)):
        runner.step_end(StateOwner())
    assert runner.error_count == 0


def test_t07_a_strict_loggers_error_passes_through_isolation_unchanged() -> None:
    error = LoggingError("logging failed: disk")
    heard: list[str] = []
    runner = CallbackRunner([Scripted(heard, on_step_end=error), Scripted(heard, "next.")])
    with pytest.raises(LoggingError) as raised:
        runner.step_end(StateOwner())
    assert raised.value is error
    assert "next.on_step_end" in heard


def test_o12_an_answer_that_is_no_signal_is_a_failure_not_a_stop() -> None:
    runner = CallbackRunner([Scripted([], on_step_end=True)], on_error="raise")
    with pytest.raises(CallbackError, match="must return a CallbackSignal or None, got True"):
        runner.step_end(StateOwner())


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match=r"callbacks\[1\] must be a Callback, got .*call the class"):
        CallbackRunner([Callback(), Callback])  # type: ignore[list-item]
    with pytest.raises(ValueError, match='on_error must be "isolate" or "raise", got \'ignore\''):
        CallbackRunner([], on_error="ignore")  # type: ignore[arg-type]


def test_a_callback_names_the_steps_that_must_come_to_rest() -> None:
    class EveryThird(Callback):
        def needs_rest(self, step: int) -> bool:
            return step % 3 == 0

    class Confused(Callback):
        def needs_rest(self, step: int) -> bool:
            raise LookupError("which step?")

    runner = CallbackRunner([EveryThird(), Confused(), Callback()])
    assert [step for step in range(7) if runner.needs_rest(step)] == [0, 3, 6]
    assert runner.error_counts == {"Confused.needs_rest": 7}


def test_the_loops_access_is_handed_to_every_callback_before_any_hook() -> None:
    heard: list[Any] = []

    class Attached(Scripted):
        def attach(self, access) -> None:
            heard.append(access)

    access: Any = object()
    runner = CallbackRunner([Attached(heard, "a."), Attached(heard, "b.")], access=access)
    with runner.session(StateOwner()):
        assert heard == [access, access, "a.on_train_begin", "b.on_train_begin"]
