"""What callbacks see of a run, what they may change, and the loop's own side of it."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, final

from trainerd.actors.callbacks.errors import StateWriteError
from trainerd.actors.loggers.scalar import as_float


class CallbackSignal(enum.Enum):
    """What a hook answers. None means CONTINUE."""

    CONTINUE = "continue"
    STOP = "stop"


@dataclass(slots=True, kw_only=True)
class _Book:
    """The fields themselves. Only this module holds one."""

    epoch: int = 0
    step: int = 0
    learning_rate: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    should_stop: bool = False
    callback: str = ""
    ended: bool = False

    def who(self) -> str:
        return self.callback or "a callback"

    def writable(self, name: str) -> None:
        if self.ended:
            raise StateWriteError(
                f"{self.who()} wrote {name} after the training loop had ended",
                field=name,
                callback=self.callback,
                suggestion="keep state.copy() instead of the state",
            )


@final
class TrainingState:
    """The live state of a run: every callback is handed the same one, in order.

    | field | meaning | callbacks |
    |---|---|---|
    | `epoch` | index of the running epoch, from 0 | read |
    | `step` | applied updates | read |
    | `learning_rate` | the rate that the newest update was applied with; NaN: unknown | read |
    | `metrics` | numbers of the newest event, floats by name | read and write entries |
    | `should_stop` | whether the run is to end after this event | read and write |

    It owns its fields. Metrics that come in are copied, what is read out are immutable values, and
    `metrics` is a view whose dict nobody else holds; `copy()` shares nothing. Writing anything
    else raises `StateWriteError`, which names the field and the callback.

    Its lifetime is the loop's: the loop makes it before `on_train_begin`, advances it through its
    `StateOwner`, and ends it after `on_train_end`. From then on it can be read but not written.
    A callback that wants to remember a moment keeps a `copy()`. Not for use by several threads.
    """

    __slots__ = ("_book",)
    _book: _Book

    def __init__(
        self,
        *,
        epoch: int = 0,
        step: int = 0,
        learning_rate: float = 0.0,
        metrics: Mapping[str, Any] | None = None,
        should_stop: bool = False,
    ) -> None:
        book = _Book(
            epoch=_count("epoch", epoch),
            step=_count("step", step),
            learning_rate=as_float("learning_rate", learning_rate),
            metrics=_floats(metrics or {}),
            should_stop=_flag(should_stop, "the maker"),
        )
        object.__setattr__(self, "_book", book)

    @property
    def epoch(self) -> int:
        """Index of the running epoch, from 0."""
        return self._book.epoch

    @property
    def step(self) -> int:
        """Applied updates."""
        return self._book.step

    @property
    def learning_rate(self) -> float:
        """The rate that the newest update was applied with; NaN where the optimizer hides it."""
        return self._book.learning_rate

    @property
    def metrics(self) -> MutableMapping[str, float]:
        """The numbers of the newest event, live: entries may be read, written and deleted.

        Whatever is one real number may be written and becomes a float.
        """
        return _Metrics(self._book)

    @property
    def should_stop(self) -> bool:
        """Whether the run is to end once every callback of this event has run."""
        return self._book.should_stop

    @should_stop.setter
    def should_stop(self, value: bool) -> None:
        self._book.writable("should_stop")
        self._book.should_stop = _flag(value, self._book.who())

    def copy(self) -> TrainingState:
        """Return a state of its own, with metrics of its own, that no loop advances or ends."""
        book = self._book
        return TrainingState(
            epoch=book.epoch,
            step=book.step,
            learning_rate=book.learning_rate,
            metrics=book.metrics,
            should_stop=book.should_stop,
        )

    def __copy__(self) -> TrainingState:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> TrainingState:
        return self.copy()

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "should_stop":
            _refuse(self._book, name)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        _refuse(self._book, name)

    def __repr__(self) -> str:
        return (
            f"TrainingState(epoch={self.epoch}, step={self.step}, "
            f"learning_rate={self.learning_rate}, metrics={self._book.metrics}, "
            f"should_stop={self.should_stop})"
        )


@final
class StateOwner:
    """The loop's own handle: the one way to advance a `TrainingState`.

    Keep it in the loop and hand out `owner.state`. Made from the fields' first values.
    """

    def __init__(self, *, epoch: int = 0, step: int = 0, learning_rate: float = 0.0) -> None:
        self._state = TrainingState(epoch=epoch, step=step, learning_rate=learning_rate)
        self._book = self._state._book

    @property
    def state(self) -> TrainingState:
        """The state that callbacks see: one object for the whole run."""
        return self._state

    def update(
        self,
        *,
        epoch: int | None = None,
        step: int | None = None,
        learning_rate: float | None = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        """Set what is given. `metrics` replaces all entries, also those callbacks have written,
        so that no number outlives its event; `add_metrics` adds to them.

        Raises `MetricError` for a metric that is not one real number, and changes nothing then.
        """
        floats = None if metrics is None else _floats(metrics)
        book = self._book
        if epoch is not None:
            book.epoch = _count("epoch", epoch)
        if step is not None:
            book.step = _count("step", step)
        if learning_rate is not None:
            book.learning_rate = as_float("learning_rate", learning_rate)
        if floats is not None:
            book.metrics.clear()
            book.metrics.update(floats)

    def metrics(self) -> dict[str, float]:
        """Return a copy of the entries, callbacks' own included."""
        return dict(self._book.metrics)

    def add_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Add entries, such as those of a validation, to the ones there are."""
        self._book.metrics.update(_floats(metrics))

    def stop(self) -> None:
        """Note that the run is to end."""
        self._book.should_stop = True

    def lend(self, callback: str) -> None:
        """Name who is being called, for the errors of forbidden writes; empty: nobody."""
        self._book.callback = callback

    def end(self) -> None:
        """End the state's life: it stays readable, and every write is refused."""
        self._book.ended = True


class _Metrics(MutableMapping[str, float]):
    __slots__ = ("_book",)

    def __init__(self, book: _Book) -> None:
        self._book = book

    def __getitem__(self, name: str) -> float:
        return self._book.metrics[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._book.writable(f"metrics[{name!r}]")
        self._book.metrics[_name(name)] = as_float(name, value)

    def __delitem__(self, name: str) -> None:
        self._book.writable(f"metrics[{name!r}]")
        del self._book.metrics[name]

    def __iter__(self) -> Iterator[str]:
        # Over the names as they are now: a callback may write while it iterates.
        return iter(tuple(self._book.metrics))

    def __len__(self) -> int:
        return len(self._book.metrics)

    def __repr__(self) -> str:
        return repr(self._book.metrics)


def _refuse(book: _Book, name: str) -> NoReturn:
    raise StateWriteError(
        f"{book.who()} may not write {name} of the training state",
        field=name,
        callback=book.callback,
        suggestion="callbacks write entries of state.metrics and state.should_stop, nothing else",
    )


def _floats(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {_name(name): as_float(name, value) for name, value in metrics.items()}


def _name(name: object) -> str:
    if isinstance(name, str) and name:
        return name
    raise TypeError(f"a metric's name must be a string that is not empty, got {name!r}")


def _flag(value: object, who: str) -> bool:
    if isinstance(value, bool):
        return value
    raise TypeError(f"should_stop must be True or False, got {value!r} from {who}")


def _count(name: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError(f"{name} must be an integer ≥ 0, got {value!r}")
