"""Hosts of a cluster without machines: each speaks the real protocol over its own connection.

    python simulated_hosts.py HOST:PORT CA CERT KEY FIRST COUNT PERIOD_S

A host is called `h<number>`, says what a daemon, a launcher and a trainer say that train, once in
PERIOD_S seconds, and does what it is told. At the end of its standard input the process writes what
the hosts were told, and when, as JSON: `[host, what, monotonic nanoseconds, nanoseconds said]`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import grpc

from trainerd.v1 import (
    event_pb2,
    fault_pb2,
    host_pb2,
    host_pb2_grpc,
    launcher_pb2,
    trainer_pb2,
)
from trainerd.v1.protocol import CHANNEL_OPTIONS, protocol

AT_ONCE = 16
"""Hosts that connect at the same time."""
STEP_S = 0.06
BATCH = 64


class SimulatedHost:
    """One host, for the life of one link."""

    def __init__(self, number: int, period_s: float, told: list[tuple[str, str, int, int]]) -> None:
        self.name = f"h{number}"
        self._phase_s = period_s * (number % 100) / 100
        self._period_s = period_s
        self._told = told
        self._out: asyncio.Queue[host_pb2.HostReport] = asyncio.Queue()
        self._run, self._incarnation, self._sequence, self._step = "", 0, 0, 0
        self._exits = 0
        self._attached = False

    async def live(self, channel: grpc.aio.Channel, begun: asyncio.Semaphore) -> None:
        """Join, and stay."""
        async with begun:
            stub: Any = host_pb2_grpc.HostServiceStub(channel)
            stream = stub.Join()
            hello = host_pb2.HostHello(protocol=protocol(), host=self.name)
            await stream.write(host_pb2.JoinRequest(hello=hello))
            await stream.read()
        launcher = launcher_pb2.LauncherHello(
            protocol=protocol(), instance=self.name, pid=1, devices="cpu, 1"
        )
        watch = launcher_pb2.WatchTrainersResponse(hello=launcher)
        self._say(launcher=watch)
        await asyncio.gather(self._write(stream), self._read(stream), self._pulse())

    def _say(self, **payload: Any) -> None:
        self._out.put_nowait(host_pb2.HostReport(**payload))

    async def _write(self, stream: Any) -> None:
        while True:
            reports = [await self._out.get()]
            while not self._out.empty():
                reports.append(self._out.get_nowait())
            message = host_pb2.HostReports(reports=reports)
            await stream.write(host_pb2.JoinRequest(reports=message))

    async def _read(self, stream: Any) -> None:
        while (response := await stream.read()) is not grpc.aio.EOF:
            for order in response.orders.orders:
                match order.WhichOneof("payload"):
                    case "call":
                        self._call(order.call)
                    case "trainer":
                        self._ordered(order.trainer.response)

    def _call(self, call: host_pb2.LauncherCall) -> None:
        kind = call.WhichOneof("request") or ""
        response: Any = launcher_pb2.KillTrainerResponse()
        match kind:
            case "start_coordinator":
                response = launcher_pb2.StartCoordinatorResponse(address=f"{self.name}:1", pid=2)
            case "start_trainer":
                response = launcher_pb2.StartTrainerResponse(pid=3)
                self._attach(call.start_trainer.assignment)
            case "kill_trainer":
                self._killed(call.kill_trainer)
            case "read_log":
                self._hear(kind, call.read_log.offset)
                response = launcher_pb2.ReadLogResponse(data=b"x", next_offset=1, incarnation=1)
            case _:
                pass  # An empty message is the answer of all others that are asked for here.
        data = response.SerializeToString()
        self._say(answer=host_pb2.LauncherAnswer(call=call.call, response=data))

    def _hear(self, what: str, said_ns: int = 0) -> None:
        self._told.append((self.name, what, time.monotonic_ns(), said_ns))

    # The trainer.

    def _attach(self, assignment: launcher_pb2.Assignment) -> None:
        self._run, self._incarnation = assignment.run, assignment.incarnation
        self._sequence = 0
        hello = trainer_pb2.TrainerHello(
            protocol=protocol(), token=assignment.token, pid=3, phase=fault_pb2.PHASE_INIT
        )
        self._trainer(hello=hello)
        for phase in (fault_pb2.PHASE_COMPILE, fault_pb2.PHASE_STEP):
            self._sequence += 1
            entered = event_pb2.PhaseEntered(phase=phase, step=1)
            self._trainer(self._sequence, event=event_pb2.Event(phase_entered=entered))
        self._attached = True

    def _trainer(self, sequence: int = 0, **payload: Any) -> None:
        request = trainer_pb2.AttachRequest(**payload)
        request.envelope.run, request.envelope.incarnation = self._run, self._incarnation
        request.envelope.sequence = sequence
        request.envelope.sender = f"trainer/{self.name}"
        self._say(trainer=host_pb2.TrainerReport(stream=self._incarnation, request=request))

    def _ordered(self, response: trainer_pb2.AttachResponse) -> None:
        kind = response.WhichOneof("payload") or ""
        if kind not in ("welcome", "acknowledged"):
            self._hear(kind)

    def _killed(self, request: launcher_pb2.KillTrainerRequest) -> None:
        self._hear("kill")
        self._attached = False
        self._exits += 1
        exited = event_pb2.TrainerExited(exit_code=-1, signal=9, killed_by_launcher=True)
        record = launcher_pb2.ExitRecord(
            sequence=self._exits,
            run=request.run,
            incarnation=request.incarnation,
            exited=exited,
        )
        self._say(launcher=launcher_pb2.WatchTrainersResponse(exit=record))

    async def _pulse(self) -> None:
        await asyncio.sleep(self._phase_s)
        while True:
            if self._attached:
                steps = round(self._period_s / STEP_S)
                self._step += steps
                report = trainer_pb2.StepReport(
                    step=self._step,
                    batch=self._step,
                    loss=1.0,
                    gradient_norm=1.0,
                    durations_s=[STEP_S] * steps,
                    examples=BATCH * steps,
                )
                self._trainer(step_report=report)
                beat = trainer_pb2.Heartbeat(
                    phase=fault_pb2.PHASE_STEP, step=self._step, resident_bytes=1 << 28
                )
                self._trainer(heartbeat=beat)
            else:
                self._say(pulse=host_pb2.Pulse())
            await asyncio.sleep(self._period_s)


def _content(path: str) -> bytes:
    return Path(path).read_bytes()


async def _main(arguments: list[str]) -> None:
    address, ca, cert, key, first, count, period_s = arguments
    credentials = grpc.ssl_channel_credentials(*map(_content, (ca, key, cert)))
    told: list[tuple[str, str, int, int]] = []
    begun = asyncio.Semaphore(AT_ONCE)
    channels = [
        grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)
        for _ in range(int(count))
    ]
    tasks = [
        asyncio.create_task(
            SimulatedHost(int(first) + place, float(period_s), told).live(each, begun)
        )
        for place, each in enumerate(channels)
    ]
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(0, lambda: os.read(0, 4096) or (loop.remove_reader(0), ended.set()))
    waiter = asyncio.create_task(ended.wait())
    await asyncio.wait([waiter, *tasks], return_when=asyncio.FIRST_COMPLETED)
    failed = [task.exception() for task in tasks if task.done() and not task.cancelled()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, waiter, return_exceptions=True)
    await asyncio.gather(*(channel.close() for channel in channels))
    json.dump(told, sys.stdout)
    if any(failed):
        raise SystemExit(f"a host failed: {failed[0]!r}")


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
