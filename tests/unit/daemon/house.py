"""A whole daemon in this process: real gRPC over Unix sockets, a fake launcher, fake trainers."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc

from fakes.launcher import FakeLauncher, serving
from trainerd.daemon.config import (
    Config,
    DaemonConfig,
    InjectionConfig,
    LauncherConfig,
    MetricsConfig,
)
from trainerd.daemon.journal import Journal
from trainerd.daemon.serve import Daemon, running
from trainerd.v1 import (
    control_pb2,
    control_pb2_grpc,
    event_pb2,
    fault_pb2,
    run_pb2,
    trainer_pb2,
    trainer_pb2_grpc,
)
from trainerd.v1.protocol import CHANNEL_OPTIONS, protocol
from unit.daemon.journals import check_journals

T = TypeVar("T")
DEADLINE_S = 20.0


def play(scene: Callable[[], Awaitable[T]]) -> T:
    """Run an asynchronous test; none may take longer than the deadline."""

    async def bounded() -> T:
        async with asyncio.timeout(DEADLINE_S):
            return await scene()

    return asyncio.run(bounded())


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """A directory whose sockets have short paths; its journals are checked at the end."""
    root = Path(tempfile.mkdtemp(prefix="td-", dir="/tmp"))
    try:
        yield root
        check_journals(root)
    finally:
        shutil.rmtree(root)


def configuration(
    root: Path, *, metrics: str = "", injection: bool = False, **sections: Any
) -> Config:
    """`sections`: whole sections by their names, such as `limits`."""
    return Config(
        daemon=DaemonConfig(
            state_directory=root / "state",
            control_socket=root / "c.sock",
            attach_socket=root / "link" / "a.sock",
        ),
        launcher=LauncherConfig(socket=root / "launcher" / "l.sock", start=False),
        metrics=MetricsConfig(address=metrics),
        injection=InjectionConfig(allowed=injection),
        **sections,
    )


def spec(name: str = "a", **train: Any) -> run_pb2.RunSpec:
    """A specification without a problem."""
    wanted = run_pb2.TrainSpec(**{"steps": 100, "global_batch": 8, **train})
    return run_pb2.RunSpec(name=name, entry="m:f", train=wanted)


@dataclass
class House:
    """What a test needs of one daemon."""

    root: Path
    config: Config
    launcher: FakeLauncher
    control: control_pb2_grpc.ControlServiceAsyncStub = field(init=False)
    channel: grpc.aio.Channel = field(init=False)
    daemon: Daemon = field(init=False)
    stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    _serving: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    @property
    def metrics_address(self) -> str:
        return self.daemon.metrics_address

    @property
    def api_address(self) -> str:
        return self.daemon.api_address

    async def open(self) -> None:
        """Let a daemon serve, until its launcher is linked."""
        journal = Journal(self.root / "state" / "journal.sqlite")
        self._serving.callback(journal.close)
        stop = asyncio.Event()
        self.daemon = await self._serving.enter_async_context(running(self.config, journal, stop))
        target = f"unix:{self.config.daemon.control_socket}"
        channel = grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
        self.channel = await self._serving.enter_async_context(channel)
        control: Any = control_pb2_grpc.ControlServiceStub(self.channel)
        self.control = control
        while not (await control.GetDaemon(control_pb2.GetDaemonRequest())).launcher_pid:
            await asyncio.sleep(0.005)

    async def close(self) -> None:
        """Let the daemon end."""
        await self._serving.aclose()

    async def end(self, *error: Any) -> None:
        """Let the daemon end as this error has it end; all None: in order."""
        await self._serving.__aexit__(*error)

    async def restart(self) -> None:
        """Let the daemon end, and another one take over its journal."""
        await self.close()
        await self.open()

    async def submit(self, name: str = "a", **train: int) -> str:
        """Submit a good run; return its id."""
        request = control_pb2.SubmitRunRequest(spec=spec(name, **train), skip_program_check=True)
        return (await self.control.SubmitRun(request)).run.id

    async def get(self, run: str) -> run_pb2.Run:
        return (await self.control.GetRun(control_pb2.GetRunRequest(run=run))).run

    async def until(self, run: str, true: Callable[[run_pb2.Run], object]) -> run_pb2.Run:
        """The run once it is so."""
        async for response in self.control.WatchRun(control_pb2.WatchRunRequest(run=run)):
            if true(response.run):
                return response.run
        found = await self.get(run)
        assert true(found), found
        return found

    async def events(self, run: str = "", after: int = 0) -> list[event_pb2.Event]:
        request = control_pb2.ListEventsRequest(run=run, after_sequence=after)
        return [response.event async for response in self.control.ListEvents(request)]

    async def until_unlinked(self) -> None:
        """The launcher's link is down."""
        while (await self.control.GetDaemon(control_pb2.GetDaemonRequest())).launcher_pid:
            await asyncio.sleep(0.005)

    async def until_event(self, kind: str, *, host: str = "") -> event_pb2.Event:
        """The first record of this kind about that host, now or later."""
        request = control_pb2.ListEventsRequest(follow=True)
        async for response in self.control.ListEvents(request):
            if response.event.HasField(kind) and response.event.host == host:
                return response.event
        raise AssertionError(f"no {kind}")

    async def kinds(self, run: str = "") -> list[str]:
        return [event.WhichOneof("payload") or "" for event in await self.events(run)]

    async def trainer(self, run: str, incarnation: int = 1, **hello: Any) -> Trainer:
        """The trainer of this incarnation, attached, once the launcher has been asked for it."""
        await self.launcher.until(lambda fake: (run, incarnation) in fake.live)
        token = self.launcher.assignment(run, incarnation).token
        trainer = Trainer(self.config.daemon.attach_socket, run, incarnation)
        self.stack.push_async_callback(trainer.close)
        await trainer.attach(**{"token": token, **hello})
        return trainer

    async def training(self, run: str, incarnation: int = 1) -> Trainer:
        """The same, and it trains."""
        trainer = await self.trainer(run, incarnation, phase=fault_pb2.PHASE_INIT)
        await trainer.enter(fault_pb2.PHASE_STEP, 1)
        await self.until(run, lambda now: now.state == run_pb2.RUN_STATE_RUNNING)
        return trainer


class Trainer:
    """A trainer's end of the link."""

    def __init__(self, socket: Path, run: str, incarnation: int) -> None:
        self.run, self.incarnation, self.sequence = run, incarnation, 0
        self.orders: asyncio.Queue[trainer_pb2.AttachResponse] = asyncio.Queue()
        self.welcome: trainer_pb2.TrainerWelcome | None = None
        self.acknowledged = 0
        self.ended: grpc.aio.AioRpcError | None = None
        self._address = f"unix:{socket}"
        self._heard = asyncio.Event()

    async def attach(self, **hello: Any) -> None:
        """Open a stream and greet; raise `AioRpcError` if that is refused."""
        greeting = trainer_pb2.TrainerHello(**{"protocol": protocol(), "pid": 5001, **hello})
        await self.attach_with(hello=greeting)

    async def attach_with(self, **payload: Any) -> None:
        """Open a stream whose first message is this one."""
        self.channel = grpc.aio.insecure_channel(self._address, options=CHANNEL_OPTIONS)
        self.stream = trainer_pb2_grpc.TrainerServiceStub(self.channel).Attach()
        await self.say(**payload)
        first: Any = await self.stream.read()
        if first == grpc.aio.EOF:
            raise AssertionError(f"no welcome: {await self.stream.details()}")
        self.welcome = first.welcome
        self._reader = asyncio.create_task(self._read())

    async def report(self, *, sequence: int | None = None, **payload: Any) -> int:
        """Send a lifecycle report; return its sequence."""
        if sequence is None:
            self.sequence += 1
            sequence = self.sequence
        await self.say(sequence, event=event_pb2.Event(**payload))
        return sequence

    async def enter(self, phase: fault_pb2.Phase, step: int = 0) -> None:
        await self.report(phase_entered=event_pb2.PhaseEntered(phase=phase, step=step))

    async def save(self, step: int, *request_ids: str) -> None:
        saved = event_pb2.CheckpointSaved(
            step=step, path=f"/c/{step}", bytes=10, duration_s=0.5, request_ids=request_ids
        )
        await self.report(checkpoint_saved=saved)

    async def fault(self, name: str, *request_ids: str, **fields: Any) -> None:
        number = fault_pb2.FaultClass.Value(f"FAULT_CLASS_{name.upper()}")
        fault = fault_pb2.Fault(**{"class": number, "message": "it broke", "batch": -1, **fields})
        await self.report(fault_raised=event_pb2.FaultRaised(fault=fault, request_ids=request_ids))

    async def finish(self, reason: str, step: int, *, durable: bool = True) -> None:
        finished = event_pb2.TrainerFinished(
            reason=f"FINISH_REASON_{reason.upper()}",
            result=run_pb2.RunResult(step=step, durable_step=step, state_digest="d"),
            durable=durable,
        )
        await self.report(trainer_finished=finished)

    async def telemetry(
        self, step: int, loss: float = 1.0, durations_s: int = 1, snapshot: int = 0
    ) -> None:
        report = trainer_pb2.StepReport(
            step=step,
            loss=loss,
            durations_s=[0.01] * durations_s,
            examples=8 * durations_s,
            snapshot_step=snapshot,
        )
        await self.say(0, step_report=report)

    async def order(self, kind: str) -> trainer_pb2.AttachResponse:
        """The next order; it must be of this kind."""
        async with asyncio.timeout(10.0):
            order = await self.orders.get()
        assert order.WhichOneof("payload") == kind, order
        assert (order.envelope.run, order.envelope.incarnation) == (self.run, self.incarnation)
        return order

    async def until_acknowledged(self, sequence: int | None = None) -> None:
        async with asyncio.timeout(10.0):
            while self.acknowledged < (self.sequence if sequence is None else sequence):
                self._heard.clear()
                await self._heard.wait()

    async def until_ended(self) -> None:
        async with asyncio.timeout(10.0):
            await asyncio.wait([self._reader])

    async def close(self) -> None:
        self.stream.cancel()
        if self.welcome is not None:
            await asyncio.wait([self._reader])
        await self.channel.close()

    async def say(self, sequence: int = 0, **payload: Any) -> None:
        """Send one message."""
        request = trainer_pb2.AttachRequest(**payload)
        request.envelope.run, request.envelope.incarnation = self.run, self.incarnation
        request.envelope.sequence = sequence
        await self.stream.write(request)

    async def _read(self) -> None:
        message: Any
        try:
            while (message := await self.stream.read()) != grpc.aio.EOF:
                if message.WhichOneof("payload") == "acknowledged":
                    self.acknowledged = message.acknowledged.sequence
                    self._heard.set()
                else:
                    self.orders.put_nowait(message)
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            self.ended = error if isinstance(error, grpc.aio.AioRpcError) else None


@contextlib.asynccontextmanager
async def house(
    root: Path,
    launcher: FakeLauncher | None = None,
    *,
    metrics: str = "",
    injection: bool = False,
    **sections: Any,
) -> AsyncIterator[House]:
    """A daemon on this directory, linked to a launcher; the trainers' streams end before it."""
    config = configuration(root, metrics=metrics, injection=injection, **sections)
    fake = launcher or FakeLauncher()
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(serving(fake, config.launcher.socket))
        (root / "state").mkdir(exist_ok=True)
        mine = House(root, config, fake)
        # What ends the block ends the daemon: an error is one that kills it.
        stack.push_async_exit(mine.end)
        await mine.open()
        async with mine.stack:
            yield mine
        mine.daemon.check()
