"""Four hosts train one run; trainers, launchers, daemons and whole hosts die at any moment.

Each comes back after a while. In the end every step must have been made once and in order, the
state be that of an undisturbed process, and the run's times sum to its life.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from e2e import oracle
from e2e.cluster import Cluster, cluster, loopback
from trainerd.clients import TrainerdError
from trainerd.v1 import run_pb2

HOSTS = 4
WHAT = {
    "trainer killed": 11,
    "host killed": 3,
    "daemon killed": 3,
    "launcher killed": 2,
    "trainer stopped": 1,
}
"""What happens, and how often in proportion."""
LONGEST_PAUSE_S = 3.0
LONGEST_AWAY_S = 12.0
END_S = 300.0


@dataclass(kw_only=True)
class Tally:
    """What the campaign has shown."""

    happened: Counter[str] = field(default_factory=Counter)
    incarnations: int = 0
    steps: int = 0
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        happened = ", ".join(f"{count} × {what}" for what, count in self.happened.items())
        return f"{happened}; {self.incarnations} gangs, {self.steps:,} steps"


def campaign(*, seed: int, minutes: float) -> Tally:
    """Disturb for so long, let all come back, and judge."""
    tally = Tally()
    with cluster(loopback(HOSTS)) as made:
        spec = _spec(made)
        run = made.submit(spec)
        made.training(run, *made.hosts)
        _disturb(made, run, tally, random.Random(seed), time.monotonic() + 60 * minutes)
        try:
            done = _calmed(made, run)
        except AssertionError as error:
            tally.violations.append(f"seed {seed}: it does not train again: {error}")
            return tally
        tally.incarnations, tally.steps = done.incarnation, done.result.step
        tally.violations += [f"seed {seed}: {each}" for each in _judged(made, done, spec)]
    return tally


def _spec(made: Cluster) -> run_pb2.RunSpec:
    spec = made.spec(
        count=HOSTS, least=1, steps=10**7, every_steps=50, args={"pace_s": 0.002}, exact=True
    )
    spec.policy.max_cycles_without_progress = 10_000
    spec.policy.crash.limit = spec.policy.hang.limit = 1000
    return spec


def _disturb(made: Cluster, run: str, tally: Tally, drawn: random.Random, until_s: float) -> None:
    away: dict[str, float] = {}
    names = list(made.hosts)
    while time.monotonic() < until_s:
        time.sleep(drawn.uniform(0.05, LONGEST_PAUSE_S))
        for name in [name for name, back_s in away.items() if time.monotonic() > back_s]:
            made.hosts[name].start_daemon(linked=False)
            del away[name]
        (what,) = drawn.choices(list(WHAT), weights=list(WHAT.values()))
        # The supervisor's host must not lose its journal's disk; all else may befall it.
        there = [name for name in names if name not in away]
        match what:
            case "host killed" if len(there) > 2:
                name = drawn.choice([each for each in there if each != names[0]])
                made.kill(name)
            case "daemon killed" if len(there) > 2:
                name = drawn.choice(there)
                made.hosts[name].kill_daemon(signal.SIGKILL)
            case "trainer killed" | "trainer stopped":
                number = signal.SIGSTOP if what == "trainer stopped" else signal.SIGKILL
                tally.happened[what] += _signalled(made, run, number, drawn)
                continue
            case "launcher killed" if there:
                # Its daemon starts another one at once; its trainers are gone with it.
                tally.happened[what] += _launcher_killed(made, drawn.choice(there))
                continue
            case _:
                continue
        tally.happened[what] += 1
        away[name] = time.monotonic() + drawn.uniform(0.1, LONGEST_AWAY_S)
    for name in away:
        made.hosts[name].start_daemon(linked=False)


def _signalled(made: Cluster, run: str, number: signal.Signals, drawn: random.Random) -> bool:
    # Its daemon may be the one that is away.
    with suppress(TrainerdError, ProcessLookupError):
        living = [member.pid for member in made.run(run).members if member.pid]
        if living:
            os.kill(drawn.choice(living), number)
            return True
    return False


def _launcher_killed(made: Cluster, name: str) -> bool:
    with suppress(TrainerdError, ProcessLookupError), made.hosts[name].client() as client:
        pid = client.daemon().launcher_pid
        if pid:
            os.kill(pid, signal.SIGKILL)
            return True
    return False


def _calmed(made: Cluster, run: str) -> run_pb2.Run:
    """The run, stopped once all hosts train it again."""
    made.linked()
    with made.client() as client:
        for name in made.hosts:
            # One that was lost often is done without until somebody says otherwise.
            with suppress(TrainerdError):
                client.undrain_host(name)
        made.until(run, lambda now: len(now.members) == HOSTS, END_S)
        made.until(run, lambda now: now.state == run_pb2.RUN_STATE_RUNNING, END_S)
        return client.stop_run(run).run


def _judged(made: Cluster, done: run_pb2.Run, spec: run_pb2.RunSpec) -> list[str]:
    problems = []
    steps = [(each.step, each.batch) for each in made.supervisor.steps(done.id)]
    if steps != [(step, step - 1) for step in range(1, done.result.step + 1)]:
        problems.append(f"{len(steps)} steps are kept of {done.result.step}, or in another order")
    spent_s, lived_s = made.supervisor.times(done.id)
    if abs(sum(spent_s.values()) - lived_s) > 0.01 * lived_s:
        problems.append(f"its times sum to {sum(spent_s.values()):.1f} s, it lived {lived_s:.1f} s")
    spec.train.steps, spec.args["pace_s"].double_value = done.result.step, 0.0
    if done.result.state_digest != oracle.digest(spec, []):
        problems.append("the state is not that of an undisturbed run")
    return problems
