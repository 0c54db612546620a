"""What a scrape of /metrics takes beside many runs that ended a while ago, over HTTP."""

from __future__ import annotations

import time
import urllib.request

import prometheus_client

from bench import figures as f
from trainerd.daemon import codec
from trainerd.daemon.ended_runs import SETTLE_S
from trainerd.daemon.journal import Stored
from trainerd.daemon.metrics import Metrics
from trainerd.daemon.supervision.activities import Activity
from trainerd.daemon.supervision.events import (
    AnyEvent,
    CheckpointSaved,
    DecisionMade,
    RunState,
    RunStateChanged,
)
from trainerd.daemon.supervision.faults import Decision, Fault
from trainerd.daemon.supervision.policy import Action, FaultClass, Policy
from trainerd.daemon.supervision.state import Run, State
from trainerd.daemon.telemetry import Pulse
from trainerd.v1 import run_pb2, trainer_pb2

RUNS = 100
MOST_MS = 50.0


def figures(*, pairs: int) -> list[f.Figure]:
    """The time from the request to the last byte, and how many series that is."""
    metrics = metrics_of(RUNS)
    metrics.expire(1.0 + SETTLE_S + 1.0)
    server, thread = prometheus_client.start_http_server(
        0, addr="127.0.0.1", registry=metrics.registry
    )
    try:
        address = f"http://127.0.0.1:{server.server_port}/metrics"
        series = sum(not line.startswith(b"#") for line in _read(address).splitlines())
        taken_ms = [_scrape_ms(address) for _ in range(pairs)]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    return [
        f.figure(
            f"scrape with {RUNS} runs that have ended, ms",
            "",
            taken_ms,
            unit="ms",
            bound=f.at_most(MOST_MS),
        ),
        f.exact("its series a run", "", series / RUNS, bound=f.at_most(50)),
    ]


def metrics_of(runs: int) -> Metrics:
    """The metrics of a daemon whose runs have each trained, failed, recovered, saved and ended."""
    metrics = Metrics("host", lambda _: dict.fromkeys(Activity, 12.25))
    for number in range(runs):
        _live(metrics, f"run-{number:04}")
    return metrics


def _live(metrics: Metrics, run: str) -> None:
    spec = run_pb2.RunSpec(name="run", entry="m:f")
    spec.train.steps, spec.train.global_batch = 400, 32
    ended = Run(id=run, name="run", order=1, policy=Policy(), state=RunState.COMPLETED)
    state = State(runs={run: ended})
    faults = [
        (FaultClass.NON_FINITE_STEP, Action.SKIP, 7),
        (FaultClass.CRASH, Action.RESTART, -1),
        (FaultClass.DAEMON_CRASH, Action.CONTINUE, -1),
    ]
    events: list[AnyEvent] = [
        codec.submission(run, spec, ""),
        *(
            DecisionMade(
                run=run,
                incarnation=1,
                fault=Fault(fault_class=fault_class, message="m", batch=batch),
                decision=Decision(action=action, scope="process", reason="r"),
            )
            for fault_class, action, batch in faults
        ),
        CheckpointSaved(
            run=run,
            incarnation=1,
            step=400,
            path="/c",
            bytes=10**8,
            blocked_s=0.02,
            duration_s=1.5,
            disk_bytes=10**9,
            disk_free_bytes=10**11,
        ),
        RunStateChanged(run=run, before=RunState.RUNNING, after=RunState.COMPLETED, reason="done"),
    ]
    for event in events:
        stored = _stored(event)
        metrics.count(stored, state)
        metrics.show(stored, state)
    report = trainer_pb2.StepReport(step=400, loss=1.5, durations_s=[0.02] * 40, examples=1280)
    pulse = Pulse()
    pulse.step_report(report, 1.0)
    metrics.step_report(run, report, pulse)
    metrics.recovered(run, "crash", 0.6)


def _stored(event: AnyEvent) -> Stored:
    return Stored(
        sequence=1,
        message=codec.encode(event),
        kind=codec.kind_of(event),
        derived=False,
        now=1.0,
        wall=1.0,
        sender_incarnation=0,
        sender_sequence=0,
        ignored=False,
    )


def _scrape_ms(address: str) -> float:
    began = time.perf_counter()
    _read(address)
    return (time.perf_counter() - began) * 1e3


def _read(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=10) as answer:
        return bytes(answer.read())
