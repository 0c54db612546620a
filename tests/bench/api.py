"""What the control plane answers, how fast, and what the daemon costs a host that does nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from bench.figures import Figure, at_least, at_most, figure
from e2e.host import host
from fakes.certificates import Authority, api
from process.daemon.daemon_process import DaemonProcess, configured, daemon_process
from trainerd.v1 import control_pb2, control_pb2_grpc, run_pb2
from trainerd.v1.protocol import CHANNEL_OPTIONS
from unit.daemon.house import spec

CALLS = 300
"""Calls whose p99 is one value."""
BUSY_S = 60.0
RATE_CALLS = 1_000
IN_FLIGHT = 16
IDLE_S = 1.0
"""Seconds that an idle daemon has had before it is weighed."""


def figures(*, pairs: int) -> list[Figure]:
    """All of them; each figure has `pairs` values."""
    ready_s, resident_mib = starts(pairs)
    one, many = rates(pairs)
    return [
        figure(
            "daemon: start to READY",
            "",
            ready_s,
            unit="s",
            bound=at_most(0.5),
        ),
        figure("daemon: resident memory, idle", "", resident_mib, unit="MiB", bound=at_most(60)),
        figure(
            f"GetRun during a busy run, Unix socket, p99 of {CALLS}",
            "",
            busy_p99_ms(pairs),
            unit="ms",
            bound=at_most(20),
        ),
        figure(
            f"GetRun, mutual TLS, one client, {IN_FLIGHT} at once",
            "",
            many,
            unit="calls/s",
            bound=at_least(1_000),
        ),
        figure("GetRun, mutual TLS, one client, one at a time", "", one, unit="calls/s"),
    ]


def starts(times: int) -> tuple[list[float], list[float]]:
    """Seconds to READY and resident MiB of so many daemons, one after the other."""
    ready_s, resident_mib = [], []
    for _ in range(times):
        with _directory() as root, daemon_process(configured(root)) as daemon:
            time.sleep(IDLE_S)
            ready_s.append(daemon.ready_s)
            resident_mib.append(daemon.status("VmRSS") / 1024)
            daemon.terminate()
    return ready_s, resident_mib


def busy_p99_ms(times: int) -> list[float]:
    """The slowest of a hundred status calls while a run trains as fast as it can."""
    found = []
    with host() as made:
        run = made.submit(made.spec("busy", steps=10**6, every_steps=500))
        made.until(run, lambda now: now.state == run_pb2.RUN_STATE_RUNNING and now.step > 20)
        with grpc.insecure_channel(made.address, options=CHANNEL_OPTIONS) as channel:
            stub = control_pb2_grpc.ControlServiceStub(channel)
            request = control_pb2.GetRunRequest(run=run)
            for _ in range(times + 1):
                took_ms = []
                for _ in range(CALLS):
                    began = time.perf_counter()
                    stub.GetRun(request, timeout=BUSY_S)
                    took_ms.append((time.perf_counter() - began) * 1e3)
                found.append(float(np.percentile(took_ms, 99)))
        with made.client() as client:
            client.stop_run(run, no_checkpoint=True)
    return found[1:]


def rates(times: int) -> tuple[list[float], list[float]]:
    """Calls a second over mutual TLS: one at a time, and several at once."""
    authority = Authority()
    with _directory() as root:
        config = configured(root)
        section, port = api(root, authority), _free_port()
        config.write_text(
            config.read_text()
            + f'[api]\nlisten = "127.0.0.1:{port}"\nca = "{section.ca}"\n'
            + f'cert = "{section.cert}"\nkey = "{section.key}"\n'
        )
        with daemon_process(config) as daemon:
            return asyncio.run(_rates(daemon, authority, port, times))


async def _rates(
    daemon: DaemonProcess, authority: Authority, port: int, times: int
) -> tuple[list[float], list[float]]:
    pair = authority.pair("spiffe://trainerd/operator")
    credentials = grpc.ssl_channel_credentials(authority.cert, pair.key, pair.cert)
    async with grpc.aio.secure_channel(
        f"127.0.0.1:{port}", credentials, options=CHANNEL_OPTIONS
    ) as channel:
        stub: Any = control_pb2_grpc.ControlServiceStub(channel)
        submission = control_pb2.SubmitRunRequest(spec=spec(), skip_program_check=True)
        run = (await stub.SubmitRun(submission, timeout=30)).run.id
        request = control_pb2.GetRunRequest(run=run)

        async def rate(at_once: int) -> float:
            async def some() -> None:
                for _ in range(RATE_CALLS // at_once):
                    await stub.GetRun(request, timeout=30)

            began = time.perf_counter()
            await asyncio.gather(*(some() for _ in range(at_once)))
            return (RATE_CALLS // at_once) * at_once / (time.perf_counter() - began)

        one, many = [], []
        for _ in range(times + 1):
            one.append(await rate(1))
            many.append(await rate(IN_FLIGHT))
    assert daemon.process.poll() is None
    return one[1:], many[1:]


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    with tempfile.TemporaryDirectory(prefix="tb-", dir="/tmp") as folder:
        yield Path(folder)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
