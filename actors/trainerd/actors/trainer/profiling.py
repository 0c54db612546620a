"""Profiles of a live run: a trace of some of its steps, begun and ended where a step has landed.

A profile that fails costs the run nothing but the time it took: what goes wrong is told and not
raised.
"""

from __future__ import annotations

import datetime
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

MAX_STEPS = 200
"""Steps of one profile: the trace of each is held in memory until the last is done."""
WRITE_S = 30.0
"""Seconds that a process which ends waits for a profile to be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A request. `directory` empty: below the run's own."""

    request_id: str
    steps: int
    directory: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiled:
    """What became of a request: `steps` steps from `step` on are in `path`, or `problem` says why
    there is nothing."""

    request_id: str
    step: int = 0
    steps: int = 0
    path: str = ""
    problem: str = ""


class Tracing(Protocol):
    """Records what this process does. May raise anything."""

    def start(self, directory: Path) -> None: ...

    def stop(self) -> None:
        """Write what was recorded since `start`; takes seconds."""


class JaxTracing:
    """Implements `Tracing` with JAX's own profiler."""

    def start(self, directory: Path) -> None:
        import jax.profiler  # noqa: PLC0415 - the trainer attaches before it imports jax

        jax.profiler.start_trace(directory)

    def stop(self) -> None:
        import jax.profiler  # noqa: PLC0415

        jax.profiler.stop_trace()


@dataclass(slots=True, kw_only=True)
class _Trace:
    wanted: Wanted
    directory: Path
    first_step: int
    steps: int = 0


class Profiler:
    """Takes one profile at a time. `ask` is for any thread, the rest for the loop's.

    `below`: where profiles go that name no directory. `told` hears what became of each request,
    from any thread.
    """

    def __init__(
        self, below: Path, told: Callable[[Profiled], None], tracing: Tracing | None = None
    ) -> None:
        self._below, self._told, self._tracing = below, told, tracing or JaxTracing()
        self._wanted: Wanted | None = None
        self._trace: _Trace | None = None
        self._writing: threading.Thread | None = None
        self._newest = ""
        self._lock = threading.Lock()

    def ask(self, wanted: Wanted) -> None:
        """Profile the next steps. A request that has not begun gives way; a repeated one does not
        count."""
        with self._lock:
            if wanted.request_id == self._newest:
                return
            older, self._wanted, self._newest = self._wanted, wanted, wanted.request_id
        if older is not None:
            self._told(_failed(older, "another profile was asked for before this one had begun"))

    def stepped(self, step: int) -> None:
        """A step has landed: the trace begins, goes on or ends here."""
        if self._trace is not None:
            self._trace.steps += 1
            if self._trace.steps >= self._trace.wanted.steps:
                self._end()
        elif self._wanted is not None and not self._busy():
            self._begin(step)

    def cut(self, why: str) -> None:
        """No more steps come: end the trace with those there are."""
        with self._lock:
            waiting, self._wanted = self._wanted, None
        if waiting is not None:
            self._told(_failed(waiting, why))
        if self._trace is not None:
            self._end()

    def close(self) -> None:
        """The process ends: wait until what was recorded is written."""
        self.cut("the trainer ends")
        if self._writing is not None:
            self._writing.join(WRITE_S)

    def _busy(self) -> bool:
        return self._writing is not None and self._writing.is_alive()

    def _begin(self, step: int) -> None:
        with self._lock:
            wanted, self._wanted = self._wanted, None
        if wanted is None:
            return
        try:
            directory = self._directory(wanted, step)
            directory.mkdir(parents=True, exist_ok=True)
            self._tracing.start(directory)
        except Exception as error:
            self._told(_failed(wanted, f"the trace could not be begun: {_said(error)}"))
            return
        self._trace = _Trace(wanted=wanted, directory=directory, first_step=step + 1)

    def _end(self) -> None:
        trace, self._trace = self._trace, None
        assert trace is not None
        # Writing takes seconds, in which the run goes on.
        self._writing = threading.Thread(
            target=self._write, args=(trace,), name="profile", daemon=True
        )
        self._writing.start()

    def _write(self, trace: _Trace) -> None:
        wanted = trace.wanted
        try:
            self._tracing.stop()
        except Exception as error:
            self._told(_failed(wanted, f"the trace could not be written: {_said(error)}"))
            return
        print(f"trainerd: profile of {trace.steps} steps: {trace.directory}", file=sys.stderr)
        self._told(
            Profiled(
                request_id=wanted.request_id,
                step=trace.first_step,
                steps=trace.steps,
                path=str(trace.directory),
            )
        )

    def _directory(self, wanted: Wanted, step: int) -> Path:
        if not 1 <= wanted.steps <= MAX_STEPS:
            raise ValueError(f"steps must be 1 to {MAX_STEPS}, got {wanted.steps}")
        if not wanted.directory:
            now = datetime.datetime.now(datetime.UTC)
            return self._below / f"{step + 1}-{now:%Y%m%dT%H%M%S}"
        if not Path(wanted.directory).is_absolute():
            raise ValueError(f"the directory must be an absolute path, got {wanted.directory!r}")
        return Path(wanted.directory)


def _failed(wanted: Wanted, problem: str) -> Profiled:
    return Profiled(request_id=wanted.request_id, problem=problem)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
