"""A world for the supervisor that could be: trainers that answer, die and hang, a launcher and a
daemon that come and go, clients that change their minds. All of it from one seed, in its own time.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from soak.people import Client
from soak.process import Process
from trainerd.daemon.supervision.commands import (
    Command,
    KillTrainer,
    RemoveFiles,
    StartTimer,
    StartTrainer,
    TellTrainer,
)
from trainerd.daemon.supervision.events import (
    DaemonEnded,
    DaemonStarted,
    DeadlineExpired,
    Event,
    FilesRemoved,
    JournalRecovered,
    LauncherAttached,
    LauncherLost,
    LiveTrainer,
    TimerFired,
    TrainerAttached,
    TrainerDetached,
    TrainerExited,
    TrainerSpawned,
    TrainerSpawnFailed,
)
from trainerd.daemon.supervision.state import State

Key = tuple[str, int]
_OF_THE_HOST = (
    DaemonEnded,
    DaemonStarted,
    JournalRecovered,
    LauncherAttached,
    LauncherLost,
)


class World:
    """Says what happens next, and hears what the supervisor wants done."""

    def __init__(self, seed: int, *, most_runs: int = 8) -> None:
        self.now = 0.0
        self.state = State()
        self.processes: dict[Key, Process] = {}
        self.durable: dict[str, int] = {}
        self._draw = random.Random(seed)
        self._client = Client(self._draw, most_runs=most_runs)
        self._agenda: list[tuple[float, int, Callable[..., Event | None], tuple[Any, ...]]] = []
        self._asked = 0
        self._pids = 100
        self._instance = 1
        self._linked = False
        self._unreported: deque[TrainerExited] = deque(maxlen=64)
        self._last: Event | None = None
        self._later(0.0, self._greet, 1)
        self._later(0.1, self._ask)
        self._later(20.0, self._shake)

    def next(self) -> Event:
        """What happens next; `now` is when."""
        while True:
            self.now, _, act, arguments = heapq.heappop(self._agenda)
            event = act(*arguments)
            if event is not None:
                self._last = event
                return event

    def hear(self, state: State, commands: Iterable[Command]) -> None:
        """Take the supervisor's new state, and do what it wants done, sooner or later."""
        self.state = state
        for command in commands:
            match command:
                case StartTimer(key=key, delay_s=delay_s):
                    self._later(delay_s, self._fire, key, self.now + delay_s)
                case TellTrainer(run=run, incarnation=incarnation, order=order):
                    process = self.processes.get((run, incarnation))
                    if process is not None and process.linked:
                        process.orders.append(order)
                case StartTrainer() if self._draw.random() > 0.01:
                    self._later(self._draw.uniform(0.0, 0.3), self._spawn, command, self._instance)
                case RemoveFiles() if self._draw.random() < 0.9:
                    self._later(self._draw.uniform(0.0, 1.0), self._removed, command)
                case KillTrainer(run=run, incarnation=incarnation):
                    self._later(self._draw.uniform(0.0, 1.0), self._kill, (run, incarnation))
                case _:
                    pass  # Records and files: nobody answers.

    def _later(self, delay_s: float, act: Callable[..., Event | None], *arguments: Any) -> None:
        self._asked += 1
        heapq.heappush(self._agenda, (self.now + delay_s, self._asked, act, arguments))

    def _fire(self, key: str, due: float) -> Event | None:
        return TimerFired(key=key) if self.state.timers.get(key) == due else None

    # Clients, and what nobody asked for.

    def _ask(self) -> Event | None:
        self._later(self._draw.expovariate(0.2), self._ask)
        if self._draw.random() < 0.1 and not isinstance(self._last, _OF_THE_HOST):
            return self._last  # Somebody was not sure that it was heard.
        return self._client.ask(self.state)

    # The host: launcher, daemon, links.

    def _shake(self) -> Event | None:
        self._later(self._draw.expovariate(1 / 60.0), self._shake)
        chance = self._draw.random()
        if not self._linked:
            return None
        if self._draw.random() < 0.1:
            return JournalRecovered(refused=3, duration_s=2.0, problem="disk full")
        self._linked = False
        self._instance += chance < 0.3
        self._later(self._draw.choice((0.1, 2.0, 100.0)), self._greet, self._instance)
        if chance < 0.3:
            # The launcher dies; no trainer outlives it.
            self.processes.clear()
            self._unreported.clear()
            return LauncherLost(reason="the launcher is gone")
        if chance < 0.6:
            return LauncherLost(reason="the link is cut")
        for process in self.processes.values():
            process.unlink(lossy=chance < 0.7)
        if chance < 0.8:
            return DaemonStarted(version="1", pid=1)
        self._later(0.0, lambda: DaemonStarted(version="1", pid=1))
        return DaemonEnded()

    def _removed(self, command: RemoveFiles) -> Event | None:
        """A launcher that is gone meanwhile is asked again."""
        if not self._linked:
            return None
        return FilesRemoved(run=command.run, memory_only=command.memory_only)

    def _greet(self, instance: int) -> Event | None:
        if instance != self._instance or self._linked:
            return None
        self._linked = True
        for exited in self._unreported:
            self._later(self._draw.uniform(0.0, 0.9), lambda event=exited: event)
        self._unreported.clear()
        alive = tuple(
            LiveTrainer(run=run, incarnation=incarnation, pid=process.pid)
            for (run, incarnation), process in self.processes.items()
        )
        return LauncherAttached(instance=str(instance), pid=1, trainers=alive)

    # Processes.

    def _spawn(self, command: StartTrainer, instance: int) -> Event | None:
        key = (command.run, command.incarnation)
        if instance != self._instance or key in self.processes:
            return None
        chance = self._draw.random()
        if chance < 0.03:
            return TrainerSpawnFailed(
                run=command.run,
                incarnation=command.incarnation,
                message="no such program" if chance < 0.003 else "no such device",
                permanent=chance < 0.003,
                devices_busy=0.003 <= chance < 0.015,
            )
        self._pids += 1
        durable = self.durable.get(command.run, 0)
        self.processes[key] = Process(
            self._draw,
            run=command.run,
            incarnation=command.incarnation,
            pid=self._pids,
            step=durable,
            parts=command.slot_parts,
        )
        self._later(self._draw.uniform(0.1, 1.0), self._live, key)
        if chance < 0.05:
            return None  # The news was lost; its greeting is the first that is heard of it.
        return TrainerSpawned(run=command.run, incarnation=command.incarnation, pid=self._pids)

    def _live(self, key: Key) -> Event | None:
        process = self.processes.get(key)
        if process is None or process.hung:
            return None
        self._later(self._draw.expovariate(1.0), self._live, key)
        if process.dead:
            return self._end(process)
        if not process.linked:
            return self._attach(process)
        if self._draw.random() < 0.01:
            process.unlink(lossy=self._draw.random() < 0.5)
            return TrainerDetached(run=process.run, incarnation=process.incarnation, reason="cut")
        event = process.live()
        if process.hung:
            self._later(self._draw.uniform(60.0, 130.0), self._expire, key)
        if process.durable > self.durable.get(process.run, -1) or process.rolled_back:
            process.rolled_back = False
            self.durable[process.run] = process.durable
        return event

    def _attach(self, process: Process) -> Event | None:
        if self._draw.random() < 0.3:
            return None
        process.linked = True
        return TrainerAttached(
            run=process.run,
            incarnation=process.incarnation,
            phase=process.phase,
            step=process.step,
            awaits=process.awaits,
        )

    def _expire(self, key: Key) -> Event | None:
        process = self.processes.get(key)
        if process is None:
            return None
        self._later(60.0, self._expire, key)
        run, incarnation = key
        return DeadlineExpired(
            run=run,
            incarnation=incarnation,
            phase=process.phase,
            deadline_s=60.0,
            waited_s=61.0,
        )

    def _kill(self, key: Key) -> Event | None:
        process = self.processes.get(key)
        if process is None:
            return None
        process.signal, process.killed = 9, True
        return self._end(process)

    def _end(self, process: Process) -> Event | None:
        del self.processes[process.run, process.incarnation]
        exited = TrainerExited(
            run=process.run,
            incarnation=process.incarnation,
            exit_code=-1 if process.signal else process.exit_code,
            signal=process.signal,
            killed_by_launcher=process.killed,
            stacks="Thread 1" if process.hung else "",
        )
        if not self._linked:
            self._unreported.append(exited)
            return None
        if self._draw.random() < 0.02:
            # Its launcher forgets to say so; it is found missing, or killed in vain.
            return None
        if process.linked and self._draw.random() < 0.3:
            self._later(self._draw.uniform(0.0, 0.2), lambda: exited)
            run, incarnation = process.run, process.incarnation
            return TrainerDetached(run=run, incarnation=incarnation, reason="end of stream")
        return exited

    def forget(self, known: Iterable[str]) -> None:
        """Forget what was durable of runs that are no more."""
        kept = set(known)
        self.durable = {run: step for run, step in self.durable.items() if run in kept}
