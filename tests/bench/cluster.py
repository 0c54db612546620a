"""What a large cluster costs its supervisor: a real daemon, simulated hosts, mutual TLS."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from bench.figures import Figure, at_most, figure
from fakes.certificates import Authority
from process.daemon.daemon_process import DaemonProcess, configured, daemon_process
from trainerd.v1 import control_pb2, control_pb2_grpc
from trainerd.v1.protocol import CHANNEL_OPTIONS
from unit.daemon.house import spec

TESTS = Path(__file__).resolve().parents[1]
HOSTS = 1_000
PERIOD_S = 1.0
WINDOW_S = 20.0
COMMANDS_HZ = 10.0
PROCESSES = 2
JOIN_S = 300.0
_TICKS = os.sysconf("SC_CLK_TCK")


def figures(*, hosts: int = HOSTS, windows: int = 3) -> list[Figure]:
    """All of them: over `windows` windows of WINDOW_S seconds each."""
    measured = measure(hosts, windows)
    what = f"{hosts:,} hosts at {1 / PERIOD_S:g} Hz, one gang, mutual TLS"
    return [
        figure(
            f"{what}: supervisor's share of a core",
            "",
            measured.shares,
            unit="%",
            bound=at_most(60),
        ),
        figure(
            f"{what}: command to host, p99", "", measured.p99s_ms, unit="ms", bound=at_most(500)
        ),
        figure(f"{what}: one order to all, the last has it", "", measured.fan_out_ms, unit="ms"),
        figure(f"{what}: supervisor's memory", "", [measured.resident_mib], unit="MiB"),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """`shares`: percent of a core, a window each; `p99s_ms`: likewise."""

    shares: Sequence[float]
    p99s_ms: Sequence[float]
    fan_out_ms: Sequence[float]
    resident_mib: float
    formed_s: float


class Swarm:
    """Processes of simulated hosts. `end` says what they were told."""

    def __init__(self, root: Path, port: int, hosts: int) -> None:
        files = [str(root / name) for name in ("ca.crt", "host.crt", "host.key")]
        each = -(-hosts // PROCESSES)
        self._processes = [
            subprocess.Popen(
                [
                    sys.executable,
                    str(TESTS / "fakes" / "simulated_hosts.py"),
                    f"127.0.0.1:{port}",
                    *files,
                    *(str(first), str(min(each, hosts - first)), str(PERIOD_S)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for first in range(0, hosts, each)
        ]

    def end(self) -> list[tuple[str, str, int, int]]:
        """`[host, what, when, when it was said]`, in monotonic nanoseconds."""
        told = []
        for process in self._processes:
            output, _ = process.communicate(timeout=60.0)
            told += [tuple(each) for each in json.loads(output)]
        return told

    def kill(self) -> None:
        """End those that live."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.communicate()


def measure(hosts: int, windows: int) -> Measured:
    """Have all hosts join, train as one gang, and be asked for something now and then."""
    with tempfile.TemporaryDirectory(prefix="td-", dir="/tmp") as name:
        root = Path(name)
        port = _free_port()
        with daemon_process(_configuration(root, port)) as daemon:
            target = f"unix:{root / 'c.sock'}"
            swarm = Swarm(root, port, hosts)
            try:
                with grpc.insecure_channel(target, options=CHANNEL_OPTIONS) as channel:
                    control: Any = control_pb2_grpc.ControlServiceStub(channel)
                    return _measured(control, daemon, swarm, hosts, windows)
            finally:
                swarm.kill()


def _measured(
    control: Any, daemon: DaemonProcess, swarm: Swarm, hosts: int, windows: int
) -> Measured:
    names = _joined(control, hosts)
    began = time.monotonic()
    run = _training(control, hosts)
    formed_s = time.monotonic() - began
    time.sleep(5.0)
    draw = random.Random(1)
    shares, spans, orders = [], [], []
    for window in range(windows):
        cpu_s, start_ns = _cpu_s(daemon), time.monotonic_ns()
        while time.monotonic_ns() < start_ns + WINDOW_S * 1e9:
            request = control_pb2.ReadRunLogRequest(
                run=run, host=draw.choice(names), offset=time.monotonic_ns()
            )
            control.ReadRunLog(request, timeout=10.0)
            time.sleep(draw.expovariate(COMMANDS_HZ))
        end_ns = time.monotonic_ns()
        shares.append(100 * (_cpu_s(daemon) - cpu_s) * 1e9 / (end_ns - start_ns))
        spans.append((start_ns, end_ns))
        orders.append(time.monotonic_ns())
        if window % 2:
            request = control_pb2.ResumeRunRequest(run=run, no_wait=True)
            control.ResumeRun(request, timeout=10.0)
        else:
            request = control_pb2.PauseRunRequest(run=run, no_wait=True)
            control.PauseRun(request, timeout=10.0)
        time.sleep(3.0)
    resident_mib = daemon.status("VmRSS") / 1024
    told = swarm.end()
    waits_ms = [
        [(at - said) / 1e6 for _, what, at, said in told if what == "read_log" and a <= said < b]
        for a, b in spans
    ]
    return Measured(
        shares=shares,
        p99s_ms=[float(np.percentile(window, 99)) for window in waits_ms],
        fan_out_ms=[_last_ms(told, at, hosts) for at in orders],
        resident_mib=resident_mib,
        formed_s=formed_s,
    )


def _last_ms(told: Sequence[tuple[str, str, int, int]], order_ns: int, hosts: int) -> float:
    """From an order to the last host that has it."""
    heard = sorted(at for _, what, at, _ in told if what in ("pause", "resume") and order_ns <= at)[
        :hosts
    ]
    if len(heard) < hosts:
        raise AssertionError(f"{len(heard)} of {hosts} hosts heard the order")
    return (heard[-1] - order_ns) / 1e6


def _joined(control: Any, hosts: int) -> list[str]:
    deadline = time.monotonic() + JOIN_S
    while time.monotonic() < deadline:
        known = control.ListHosts(control_pb2.ListHostsRequest(), timeout=30.0).hosts
        names = [host.name for host in known if host.linked]
        if len(names) >= hosts:
            return names
        time.sleep(0.5)
    raise AssertionError(f"{len(names)} of {hosts} hosts have joined in {JOIN_S:g} s")


def _training(control: Any, hosts: int) -> str:
    """A run on all hosts, all of whose processes are attached."""
    wanted = spec("swarm", global_batch=hosts, microbatch=1)
    wanted.hosts.count = wanted.hosts.min = hosts
    wanted.checkpoint.directory = "/none"
    request = control_pb2.SubmitRunRequest(spec=wanted, skip_program_check=True)
    run: str = control.SubmitRun(request, timeout=30.0).run.id
    deadline = time.monotonic() + JOIN_S
    while time.monotonic() < deadline:
        now = control.GetRun(control_pb2.GetRunRequest(run=run), timeout=30.0).run
        attached = sum(member.attached for member in now.members)
        if attached == hosts:
            return run
        time.sleep(0.5)
    raise AssertionError(f"{attached} of {hosts} trainers are attached after {JOIN_S:g} s")


def _configuration(root: Path, port: int) -> Path:
    authority = Authority()
    (root / "ca.crt").write_bytes(authority.cert)
    authority.pair("spiffe://trainerd/host/s").write(root, "daemon")
    authority.pair("spiffe://trainerd/host").write(root, "host")
    path = configured(root)
    path.write_text(
        path.read_text()
        + f"""
[api]
listen = "127.0.0.1:{port}"
ca = "ca.crt"
cert = "daemon.crt"
key = "daemon.key"
[cluster]
supervisor = "s:{port}"
name = "s"
[limits]
streams = 4096
streams_per_client = 4096
[log]
level = "warning"
"""
    )
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _cpu_s(daemon: DaemonProcess) -> float:
    """Processor time of the daemon so far."""
    stat = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / _TICKS
