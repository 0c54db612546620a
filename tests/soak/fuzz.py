"""Malformed and random requests at a real daemon: it must answer each, and be the same afterwards.

Every RPC of the control socket and of TCP with mutual TLS, in each role; bare connections with
noise or nothing on all sockets; calls that are left at once. No answer may be a defect (UNKNOWN,
INTERNAL) or hold a stack; none may be in the log; descriptors, threads and memory must come back
to what they were; a good run must be taken at the end, and the daemon must end in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import socket
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from fakes.certificates import Authority, api
from fakes.launcher import FakeLauncher, serving
from process.daemon.daemon_process import DaemonProcess, configured, daemon_process
from soak.mad_requests import Attempt, Maker, raw_junk
from trainerd.daemon.api_config import ApiConfig
from trainerd.v1 import control_pb2, control_pb2_grpc
from trainerd.v1.protocol import CHANNEL_OPTIONS
from unit.daemon.house import spec

REQUESTS = 100_000
AT_ONCE = 48
EACH_RAW = 40
"""One bare connection to so many requests."""
RESPONSES = 3
"""Messages of a stream that are read before it is left."""
STUCK_S = 20.0
GROWTH_KIB = 40 * 1024
"""What the daemon's memory may grow by, from a tenth of the requests to the last."""
MOST_THREADS = 64
SETTLE_S = 20.0
DEFECTS = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)
STACKS = ("Traceback", 'File "/', "Unexpected [", "call_failed", "never retrieved")
OWN_TROUBLE = "Internal error from Core"
"""What the client makes of a stream that has ended while it was still sending."""


@dataclass(kw_only=True)
class Tally:
    """What a campaign has shown."""

    requests: int = 0
    raw: int = 0
    runs: int = 0
    took_s: float = 0.0
    rss_kib: tuple[int, int] = (0, 0)
    codes: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        codes = ", ".join(f"{name} {count:,}" for name, count in self.codes.most_common())
        before, after = (kib / 1024 for kib in self.rss_kib)
        return (
            f"{self.requests:,} requests and {self.raw:,} bare connections in {self.took_s:.0f} s, "
            f"{self.runs:,} runs: {codes}; {before:.0f} MiB, then {after:.0f} MiB"
        )


def campaign(*, seed: int, requests: int = REQUESTS) -> Tally:
    """One daemon, so many requests."""
    tally = Tally()
    began = time.monotonic()
    with _directory() as root:
        config = configured(root)
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        asyncio.run(_attack(root, config, tally, random.Random(seed), requests))
    tally.took_s = time.monotonic() - began
    return tally


async def _attack(
    root: Path, config: Path, tally: Tally, drawn: random.Random, requests: int
) -> None:
    authority = Authority()
    port = _free_port()
    _configure(config, api(root, authority), port)
    async with serving(FakeLauncher(), root / "launcher" / "l.sock") as fake:
        # A process's start blocks; nothing else is to be done meanwhile.
        with daemon_process(config) as daemon:
            async with _channels(root, port, authority) as channels:
                sockets = await _sockets_at_rest(daemon, channels)
                await _waves(daemon, channels, tally, drawn, requests, root, port)
                await _judge(daemon, channels[0], tally, sockets, fake)
            if (code := await asyncio.to_thread(daemon.terminate)) != 0:
                tally.violations.append(f"the daemon ended with {code}")
            _read_log(daemon.errors, tally)
            _read_audit(root / "state" / "audit.jsonl", tally)


async def _waves(
    daemon: DaemonProcess,
    channels: list[grpc.aio.Channel],
    tally: Tally,
    drawn: random.Random,
    requests: int,
    root: Path,
    port: int,
) -> None:
    stub = stub_of(channels[0])
    maker = Maker(drawn)
    warm = max(1, requests // 10)
    free = asyncio.Semaphore(AT_ONCE)
    running: set[asyncio.Task[None]] = set()
    half_open: list[socket.socket] = []
    addresses = (root / "c.sock", root / "link" / "a.sock", port)
    for number in range(requests):
        await free.acquire()
        task = asyncio.create_task(_one(drawn.choice(channels), maker.attempt(), tally))
        running.add(task)
        task.add_done_callback(running.discard)
        task.add_done_callback(lambda _: free.release())
        tally.requests += 1
        if number % EACH_RAW == 0:
            _bare(drawn, drawn.choice(addresses), half_open)
            tally.raw += 1
        if number % 500 == 0:
            listed = await _listed(stub, tally)
            maker.runs = [run.id for run in listed]
            tally.runs = max(tally.runs, len(listed))
        if number == warm:
            tally.rss_kib = (daemon.status("VmRSS"), 0)
    while running:
        await asyncio.wait(running)
    for each in half_open:
        each.close()


async def _one(channel: grpc.aio.Channel, attempt: Attempt, tally: Tally) -> None:
    """Send it; count how it is answered. An answer that never comes is a violation."""
    try:
        async with asyncio.timeout(STUCK_S):
            code = await _sent(channel, attempt, tally)
    except TimeoutError:
        code = "STUCK"
        tally.violations.append(f"no answer to {attempt.path} ({attempt.kind})")
    except asyncio.CancelledError:
        # Nobody cancels a request here: the client's library has called its own stream off.
        code = "OWN_TROUBLE"
        if not attempt.both:
            tally.violations.append(f"{attempt.path} ({attempt.kind}) was called off")
    except Exception as error:
        code = "RAISED"
        tally.violations.append(f"{attempt.path} ({attempt.kind}): {error!r}")
    tally.codes[code] += 1


async def _sent(channel: grpc.aio.Channel, attempt: Attempt, tally: Tally) -> str:
    options: dict[str, Any] = {"timeout": attempt.timeout_s, "metadata": attempt.metadata}
    try:
        if not attempt.streams:
            await channel.unary_unary(attempt.path)(attempt.data, **options)
            return "OK"
        if attempt.both:
            call: Any = channel.stream_stream(attempt.path)(iter([attempt.data]), **options)
        else:
            call = channel.unary_stream(attempt.path)(attempt.data, **options)
        seen = 0
        async for _ in call:
            seen += 1
            if seen == RESPONSES:
                call.cancel()
                return "LEFT"
        return "OK"
    except grpc.aio.AioRpcError as error:
        details = error.details() or ""
        if attempt.both and details == OWN_TROUBLE:
            return "OWN_TROUBLE"
        if error.code() in DEFECTS or any(mark in details for mark in STACKS):
            tally.violations.append(
                f"{attempt.path} ({attempt.kind}, {attempt.data[:60].hex()}): "
                f"{error.code().name}: {details[:200]}"
            )
        return error.code().name


def _bare(drawn: random.Random, address: Path | int, half_open: list[socket.socket]) -> None:
    """A connection with junk or nothing on it; some stay open, with or without reading."""
    family = socket.AF_INET if isinstance(address, int) else socket.AF_UNIX
    where = ("127.0.0.1", address) if isinstance(address, int) else str(address)
    bare = socket.socket(family, socket.SOCK_STREAM)
    bare.settimeout(1.0)
    with contextlib.suppress(OSError):
        bare.connect(where)
        bare.setblocking(False)
        bare.send(raw_junk(drawn))
    half_open.append(bare)
    while len(half_open) > 50 or (half_open and drawn.random() < 0.6):
        half_open.pop(drawn.randrange(len(half_open))).close()


async def _listed(stub: Any, tally: Tally) -> list[Any]:
    """The daemon answers in between, in time."""
    request = control_pb2.ListRunsRequest(page_size=1000)
    try:
        return list((await stub.ListRuns(request, timeout=STUCK_S)).runs)
    except grpc.aio.AioRpcError as error:
        tally.violations.append(f"ListRuns in between: {error.code().name}: {error.details()}")
        return []


async def _judge(
    daemon: DaemonProcess,
    channel: grpc.aio.Channel,
    tally: Tally,
    sockets: int,
    fake: FakeLauncher,
) -> None:
    """Nothing is held any more, and the daemon works."""
    stub = stub_of(channel)
    for run in await _listed(stub, tally):
        with contextlib.suppress(grpc.aio.AioRpcError):
            await stub.StopRun(control_pb2.StopRunRequest(run=run.id, no_wait=True), timeout=5)
    deadline_s = time.monotonic() + SETTLE_S
    while True:
        held = _sockets(daemon) - sockets
        for live in list(fake.live):
            fake.exit(*live)
        listed = await _listed(stub, tally)
        for run in listed:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await stub.DeleteRun(control_pb2.DeleteRunRequest(run=run.id), timeout=5)
        if (not listed and held <= 0) or time.monotonic() > deadline_s:
            break
        await asyncio.sleep(0.1)
    if held > 0:
        tally.violations.append(f"{held} sockets are open that nobody uses")
    if (threads := daemon.status("Threads")) > MOST_THREADS:
        tally.violations.append(f"the daemon has {threads} threads, at most {MOST_THREADS}")
    if listed:
        tally.violations.append(f"{len(listed)} runs could not be stopped and deleted")
    tally.rss_kib = (tally.rss_kib[0], daemon.status("VmRSS"))
    growth_kib = tally.rss_kib[1] - tally.rss_kib[0]
    if growth_kib > GROWTH_KIB:
        tally.violations.append(f"the daemon has grown by {growth_kib / 1024:.0f} MiB")
    good = control_pb2.SubmitRunRequest(spec=spec("good"), skip_program_check=True)
    try:
        await stub.SubmitRun(good, timeout=STUCK_S)
    except grpc.aio.AioRpcError as error:
        tally.violations.append(f"a good run: {error.code().name}: {error.details()}")


async def _sockets_at_rest(daemon: DaemonProcess, channels: list[grpc.aio.Channel]) -> int:
    """How many sockets the daemon has with these channels and its launcher, and nothing else."""
    request = control_pb2.GetDaemonRequest()
    for channel in channels:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await stub_of(channel).GetDaemon(request, timeout=STUCK_S)
    while not (await stub_of(channels[0]).GetDaemon(request, timeout=STUCK_S)).launcher_pid:
        await asyncio.sleep(0.01)
    return _sockets(daemon)


def stub_of(channel: grpc.aio.Channel) -> Any:
    """Typed for neither kind of channel."""
    return control_pb2_grpc.ControlServiceStub(channel)


def _sockets(daemon: DaemonProcess) -> int:
    found = 0
    for each in Path(f"/proc/{daemon.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += os.readlink(each).startswith("socket:")
    return found


def _read_log(path: Path, tally: Tally) -> None:
    for line in path.read_text(errors="replace").splitlines():
        if any(mark in line for mark in STACKS) or '"level": "critical"' in line:
            tally.violations.append(f"in the log: {line[:300]}")


def _read_audit(path: Path, tally: Tally) -> None:
    """Each call that was let in has an outcome, and each line is one."""
    open_calls: set[str] = set()
    parts = sorted(path.parent.glob(f"{path.name}*"), reverse=True)
    for part in parts:
        for text in part.read_text().splitlines():
            line = json.loads(text)
            if line["stage"] == "asked":
                open_calls.add(line["call"])
            elif line["stage"] == "ended":
                open_calls.discard(line["call"])
    if open_calls:
        tally.violations.append(f"{len(open_calls)} audited calls have no outcome")


@contextlib.asynccontextmanager
async def _channels(
    root: Path, port: int, authority: Authority
) -> AsyncIterator[list[grpc.aio.Channel]]:
    async with contextlib.AsyncExitStack() as stack:
        made = [
            grpc.aio.insecure_channel(f"unix:{root / 'c.sock'}", options=CHANNEL_OPTIONS)
            for _ in range(2)
        ]
        for identity in ("operator", "viewer", "host/a", "stranger"):
            pair = authority.pair(f"spiffe://trainerd/{identity}")
            credentials = grpc.ssl_channel_credentials(authority.cert, pair.key, pair.cert)
            made.append(
                grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=CHANNEL_OPTIONS)
            )
        for each in made:
            await stack.enter_async_context(each)
        yield made


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="tf-", dir="/tmp"))
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _configure(config: Path, section: ApiConfig, port: int) -> None:
    config.write_text(
        config.read_text()
        + f'[api]\nlisten = "127.0.0.1:{port}"\nca = "{section.ca}"\ncert = "{section.cert}"\n'
        f'key = "{section.key}"\n[injection]\nallowed = true\n[limits]\nruns = 400\n'
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
