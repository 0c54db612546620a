"""What a re-formation costs: one trainer of a gang of three killed again and again, on three hosts.

Moments come from the journal and from the step metrics, whose clock is that of this process.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench import kills
from bench.figures import Figure, at_least, at_most, exact, exactly, figure, ratios
from bench.models import Model
from bench.supervised import held
from e2e.cluster import Cluster, cluster, loopback
from e2e.host import Host, eventually, host
from trainerd.v1 import event_pb2, run_pb2

HOSTS = 3
READS = 2
"""Examples that a process reads in a step."""
PACE_S = 0.06
WINDOW = 1000
"""Steps of a window in which two runs are compared."""
ROUNDS = 10
"""Pairs of processes: of two that do the same one is often faster by some per cent all its life,
by where its memory happens to lie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reformation:
    """Moments in seconds after a SIGKILL: when the last process had come as far."""

    gone: float
    met: float
    started: float
    attached: float
    restored: float
    first_step: float
    new_step: float


def figures(model: Model, *, count: int) -> list[Figure]:
    """A re-formation, part by part; `count` kills."""
    with cluster(loopback(HOSTS)) as made:
        run = made.submit(_spec(made, model, HOSTS))
        names = tuple(made.hosts)
        made.until(run, lambda now: now.durable_step > 0, kills.START_S)
        done = _killed(made, run, names, count)
        with made.client() as client:
            ended = client.stop_run(run).run
        assert ended.restarts == count, f"{ended.restarts} restarts after {count} kills"
        steps = [each.step for each in made.supervisor.steps(run)]
        lost = ended.result.step - len(steps)
        first = _first_of_a_size(made, model)
    what = f"one of {HOSTS} trainers killed → "

    def told(name: str, values: Sequence[float]) -> Figure:
        return figure(f"… until {name}", "", values, unit="s")

    return [
        figure(
            f"{what}next new step of the re-formed gang, {model.name}",
            f"the first time for a size: {first:.2f} s",
            [each.new_step for each in done],
            unit="s",
            bound=at_most(1.0),
        ),
        told("the survivors are gone", [each.gone for each in done]),
        told("the coordination service answers", [each.met for each in done]),
        told("the processes are forked", [each.started for each in done]),
        told("they are attached", [each.attached for each in done]),
        told("they have one state", [each.restored for each in done]),
        told("they have made a step", [each.first_step for each in done]),
        exact("steps or batches lost", f"{count} kills", float(lost), bound=exactly(0)),
    ]


def rate(model: Model, key: str, *, pairs: int) -> list[Figure]:
    """One host that supervises a cluster against one that knows of none, window by window.

    `pairs` windows of each, shared among new processes.
    """
    values: list[float] = []
    with cluster(loopback(1)) as made, host(standby_after_s=0.2) as plain:
        for _ in range(ROUNDS):
            values += _compared(made.supervisor, plain, model, key, pairs=max(2, pairs // ROUNDS))
    return [
        figure(
            f"step rate of a run on one host of a cluster, {model.name}",
            f"without a cluster; {ROUNDS} pairs of processes",
            values,
            unit="ratio",
            bound=at_least(0.99),
        )
    ]


def _compared(ours: Host, other: Host, model: Model, key: str, *, pairs: int) -> list[float]:
    """Ratios of the rates of one run on each of two hosts, which take turns."""
    with (
        held(ours, model, key, window=WINDOW) as clustered,
        held(other, model, key, window=WINDOW) as alone,
    ):
        took_s: dict[str, list[float]] = {clustered.run: [], alone.run: []}
        # Both have made a window by now, side by side.
        clustered.took_s(), alone.took_s()
        for turn in range(pairs):
            # Whoever comes second finds the machine as the first has left it.
            for each in (clustered, alone) if turn % 2 else (alone, clustered):
                each.go()
                took_s[each.run].append(each.took_s())
        clustered.go(on=False)
        alone.go(on=False)
    return ratios(took_s[alone.run], took_s[clustered.run])


def _spec(made: Cluster, model: Model, count: int) -> run_pb2.RunSpec:
    spec = kills.spec(model, "mlp", PACE_S)
    spec.args["reads"].int_value = READS
    spec.train.global_batch, spec.train.microbatch = HOSTS * READS, 1
    spec.hosts.count, spec.hosts.min = count, 1
    spec.checkpoint.directory = str(made.shared)
    return spec


def _killed(made: Cluster, run: str, names: tuple[str, ...], count: int) -> list[Reformation]:
    moments, victims, done = random.Random(0), random.Random(1), []
    for _ in range(count):
        for name in names:
            each = made.hosts[name]
            eventually("a standby", lambda h=each: kills.standby_waits(h, run), kills.START_S)
        before = made.training(run, *names)
        time.sleep(moments.uniform(1.5, 3.0))
        done.append(_one(made, run, before, names, victims.choice(names)))
    return done


def _one(
    made: Cluster, run: str, before: run_pb2.Run, names: tuple[str, ...], victim: str
) -> Reformation:
    killed_at, after = time.time(), before.incarnation + 1
    os.kill(made.pid(run, victim), signal.SIGKILL)
    made.until(run, lambda now: now.incarnation == after, kills.START_S)
    # Two checkpoints' worth of steps later all of them are on disk.
    now = made.training(run, *names, beyond=made.run(run).step)
    made.until(run, lambda later: later.step > now.step + 2 * kills.EVERY, kills.START_S)
    with made.client() as client:
        story = [response.event for response in client.list_events(run)]

    def last(kind: str, incarnation: int) -> float:
        every = [e for e in story if e.incarnation == incarnation and e.HasField(kind)]
        return max(_time(event) for event in every) - killed_at

    stepping = next(
        event
        for event in story
        if event.HasField("run_state_changed")
        and event.run_state_changed.to == run_pb2.RUN_STATE_RUNNING
        and _time(event) > killed_at
    )
    return Reformation(
        gone=last("trainer_exited", before.incarnation),
        met=last("coordinator_started", after),
        started=last("trainer_spawned", after),
        attached=last("trainer_attached", after),
        restored=last("state_restored", after),
        first_step=_time(stepping) - killed_at,
        new_step=_new_step(made.supervisor.steps(run), killed_at, after),
    )


def _new_step(steps: list[run_pb2.StepMetrics], killed_at: float, incarnation: int) -> float:
    """When the first step was made that had not been made when the process was killed.

    Steps that are made again take the place of those that were lost: how many these were follows
    from the pace of those before.
    """
    kept = [each for each in steps if each.incarnation < incarnation]
    ends = [each.time.ToNanoseconds() / 1e9 for each in kept[-kills.EVERY :]]
    pace_s = statistics.median(b - a for a, b in itertools.pairwise(ends))
    reached = kept[-1].step + int(max(0.0, killed_at - ends[-1]) / pace_s) + 1
    new = next(each for each in steps if each.step > reached)
    return new.time.ToNanoseconds() / 1e9 - killed_at


def _first_of_a_size(made: Cluster, model: Model) -> float:
    """Seconds from a kill to the next step where nothing is compiled for as many hosts yet."""
    spec = _spec(made, model, HOSTS)
    # Another program as far as compiled steps go.
    spec.train.microbatch = 2
    run = made.submit(spec)
    names = tuple(made.hosts)
    before = made.training(run, *names, beyond=kills.EVERY)
    for each in made.hosts.values():
        eventually("a standby", lambda h=each: kills.standby_waits(h, run), kills.START_S)
    began_s = time.monotonic()
    made.kill(names[-1])
    made.training(run, *names[:-1], beyond=before.step)
    return time.monotonic() - began_s


def _time(event: event_pb2.Event) -> float:
    return event.time.ToNanoseconds() / 1e9
