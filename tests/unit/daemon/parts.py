"""Parts of a daemon without any socket: a journal, a runtime, and what a test asks of them."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from trainerd.daemon import codec
from trainerd.daemon.journal import Entry, Journal
from trainerd.daemon.links import TrainerLinks
from trainerd.daemon.metrics import Metrics
from trainerd.daemon.runtime import Runtime
from trainerd.daemon.supervision.commands import Command
from trainerd.daemon.supervision.events import LauncherAttached, RunSubmitted, TrainerAttached
from trainerd.daemon.supervision.faults import Phase
from trainerd.daemon.telemetry import Telemetry
from trainerd.daemon.tokens import Tokens
from trainerd.v1 import event_pb2, run_pb2


class FillingJournal(Journal):
    """A journal whose disk can be full."""

    full = False

    def append(self, entries: list[Entry]) -> list[int]:  # type: ignore[override]
        if self.full:
            raise sqlite3.OperationalError("database or disk is full")
        return super().append(entries)


@dataclass
class ManualClock:
    """Moved by hand. Wall time runs 1,000 s ahead."""

    at: float = 0.0

    def now(self) -> float:
        return self.at

    def wall(self) -> float:
        return self.at + 1000.0


@dataclass
class Recorder:
    """An executor that carries out nothing, and sees what is on disk when it is told."""

    journal: Journal
    commands: list[Command] = field(default_factory=list)
    on_disk: list[int] = field(default_factory=list)

    def execute(self, command: Command) -> None:
        self.commands.append(command)
        self.on_disk.append(sum(1 for _ in self.journal.read()))


@dataclass
class Parts:
    journal: Journal
    clock: ManualClock
    runtime: Runtime
    recorder: Recorder
    metrics: Metrics
    telemetry: Telemetry
    tokens: Tokens
    links: TrainerLinks

    async def starting_run(self, run: str = "r-1") -> str:
        """A run whose first trainer has been asked for."""
        if self.runtime.state.launcher is None:
            await self.runtime.post(LauncherAttached(instance="L", pid=1))
        await self.runtime.post(submitted(run))
        return run

    async def running_run(self, run: str = "r-1") -> str:
        await self.starting_run(run)
        await self.runtime.post(TrainerAttached(run=run, incarnation=1, phase=Phase.STEP, step=1))
        return run

    def journalled(self) -> list[event_pb2.Event]:
        return [stored.message for stored in self.journal.read()]


def submitted(run: str) -> RunSubmitted:
    spec = run_pb2.RunSpec(name=run.rpartition("-")[0], entry="m:f")
    spec.train.steps, spec.train.global_batch = 10, 2
    return codec.submission(run, spec, "")


@contextlib.asynccontextmanager
async def parts(root: Path, *, journal: Journal | None = None) -> AsyncIterator[Parts]:
    """A runtime that serves its mailbox, on the journal in this directory."""
    journal = journal or Journal(root / "journal.sqlite")
    clock, telemetry, metrics = ManualClock(), Telemetry(), Metrics("host")
    runtime = Runtime(
        journal, clock, on_commit=metrics.committed, on_refusal=metrics.journal_refused
    )
    runtime.replay()
    recorder = Recorder(journal)
    tokens = Tokens(root / "token.key")
    links = TrainerLinks(runtime, telemetry, metrics, clock, tokens)
    task = asyncio.create_task(runtime.run(recorder))
    try:
        yield Parts(journal, clock, runtime, recorder, metrics, telemetry, tokens, links)
    finally:
        links.close()
        await links.settled()
        await runtime.close()
        await task
        journal.close()
