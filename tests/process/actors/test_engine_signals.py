"""SIGINT and SIGTERM during `Engine.fit`, in processes of their own."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes import fitting
from trainerd.actors import (
    CheckpointSettings,
    EndReason,
    Engine,
    create_gradient_accumulation_step_fn,
)
from trainerd.actors.digest import state_digest
from trainerd.actors.reports import Controls
from trainerd.actors.signals import SignalWatch

TIMEOUT_S = 60.0

SCRIPT = """
import json, signal, sys, time
from pathlib import Path
from fakes import fitting
from trainerd.actors import CheckpointSettings, Engine, Terminated, JsonLinesLogger
from trainerd.actors import create_gradient_accumulation_step_fn
from trainerd.actors.checkpoints import CheckpointStore
from trainerd.actors.digest import state_digest
from trainerd.actors.signals import SignalWatch

how, directory, resume = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]

def say(**values):
    print(json.dumps(values), flush=True)

def until(true):
    deadline_s = time.monotonic() + 60.0
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)

def data():
    for index in range(60):
        if index == 20 and not resume:
            say(ready=index)
            if how == "waiting":
                time.sleep(60.0)
                raise AssertionError("the wait was not ended")
            until(lambda: saw)
        yield fitting.batch(index)

saw = []

class Log(fitting.Log):
    def event(self, step, name, fields):
        super().event(step, name, fields)
        say(event=name, step=step, **fields)

engine = Engine(
    loggers=[Log()], checkpoint=CheckpointSettings(directory=directory, every_steps=1000)
)
heard = SignalWatch._on_signal

def on_signal(self, number, frame):
    saw.append(number)
    # The source outlives the signal: it is the loop that hears of it, at its boundary.
    self._waiting = self._waiting and how != "running"
    heard(self, number, frame)

SignalWatch._on_signal = on_signal
if how == "saving":
    save = CheckpointStore.save
    def slow(self, *args, **named):
        save(self, *args, **named)
        say(saving=True)
        until(lambda: len(saw) == 2)
    CheckpointStore.save = slow
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
step = create_gradient_accumulation_step_fn(fitting.loss)
try:
    final = engine.fit(
        step, data(), state=fitting.state(), resume_from=resume[0] if resume else None
    )
    say(done=int(final.step), digest=state_digest(final))
except (KeyboardInterrupt, Terminated) as error:
    restored = before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    say(
        raised=type(error).__name__,
        restored=restored,
        reason=engine.result.reason.value,
        steps=engine.result.steps,
        checkpoint=engine.result.checkpoint,
    )
    raise
"""


class Process:
    """A process that trains, and what it says, line by line."""

    def __init__(self, *arguments: str) -> None:
        tests = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path},
        )
        self._deadline_s = time.monotonic() + TIMEOUT_S
        self._said = b""
        self.heard: list[dict[str, Any]] = []

    def until(self, key: str) -> dict[str, Any]:
        """Read until something is said that has `key`."""
        assert self.process.stdout is not None
        while True:
            line, newline, rest = self._said.partition(b"\n")
            if newline:
                self._said = rest
                if line.startswith(b"{"):
                    self.heard.append(json.loads(line))
                    if key in self.heard[-1]:
                        return self.heard[-1]
                continue
            left_s = self._deadline_s - time.monotonic()
            assert left_s > 0, f"{key} was not said in time: {self.heard}"
            if select.select([self.process.stdout], [], [], left_s)[0]:
                chunk = os.read(self.process.stdout.fileno(), 65536)
                assert chunk, f"{key} was never said: {self.heard} {self.errors()}"
                self._said += chunk

    def errors(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def end(self) -> int:
        return self.process.wait(max(0.0, self._deadline_s - time.monotonic()))

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def started() -> Iterator[Any]:
    running: list[Process] = []

    def start(*arguments: Any) -> Process:
        running.append(Process(*map(str, arguments)))
        return running[-1]

    yield start
    for process in running:
        process.close()


@pytest.mark.parametrize(
    ("number", "how", "raised", "status"),
    [
        (signal.SIGINT, "waiting", "KeyboardInterrupt", -signal.SIGINT),
        (signal.SIGTERM, "running", "Terminated", 143),
    ],
)
def test_t08_a_signal_saves_records_and_is_raised_and_the_run_goes_on_exactly(
    tmp_path: Path, started: Any, number: int, how: str, raised: str, status: int
) -> None:
    process = started(how, tmp_path)
    process.until("ready")
    process.process.send_signal(number)
    said = process.until("raised")
    assert (said["raised"], said["restored"], said["reason"]) == (raised, True, "interrupted")
    assert 20 <= said["steps"] <= 21
    assert said["checkpoint"] == str(tmp_path / str(said["steps"]))
    (event,) = [h for h in process.heard if h.get("event") == "training/interrupted"]
    assert (event["step"], event["signal"]) == (said["steps"], signal.Signals(number).name)
    assert event["saved"] == 1
    assert process.end() == status

    resumed = started(how, tmp_path, tmp_path)
    done = resumed.until("done")
    data = (fitting.batch(index) for index in range(60))
    step = create_gradient_accumulation_step_fn(fitting.loss)
    straight = Engine().fit(step, data, state=fitting.state())
    assert (done["done"], done["digest"]) == (60, state_digest(straight))


def test_t08_a_second_signal_during_the_save_changes_nothing(tmp_path: Path, started: Any) -> None:
    process = started("saving", tmp_path)
    process.until("ready")
    process.process.send_signal(signal.SIGINT)
    process.until("saving")
    process.process.send_signal(signal.SIGTERM)
    said = process.until("raised")
    assert said["raised"] == "KeyboardInterrupt"
    assert said["checkpoint"] == str(tmp_path / str(said["steps"]))
    assert process.end() == -signal.SIGINT
    assert [path.name for path in tmp_path.iterdir()] == [str(said["steps"])]


def test_t08_a_keyboard_interrupt_out_of_user_code_saves_too(tmp_path: Path) -> None:
    calls = []

    def step(state: Any, batch: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fitting.jitted_step(state, batch)

    log = fitting.Log()
    engine = Engine(loggers=[log], checkpoint=CheckpointSettings(directory=tmp_path))
    with pytest.raises(KeyboardInterrupt):
        engine.fit(step, fitting.batches(5), state=fitting.state())
    assert engine.result.reason is EndReason.INTERRUPTED
    assert (engine.result.steps, engine.result.durable) == (2, True)
    assert engine.result.checkpoint == str(tmp_path / "2")
    assert [step for step, _ in log.named("training/interrupted")] == [2]


def test_signals_are_left_alone_outside_the_main_thread() -> None:
    before = signal.getsignal(signal.SIGTERM)
    during = []

    def inside() -> None:
        with SignalWatch(Controls()).installed():
            during.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join(TIMEOUT_S)
    assert during == [before]


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with SignalWatch(Controls()).installed():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)
