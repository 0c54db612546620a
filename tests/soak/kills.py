"""Kills of trainer, standby, launcher and daemon in any order, at any moment.

One run goes through all of them. It must end with the state of an undisturbed run, leave no
process behind and nothing of its own in the shared memory.
"""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from e2e.host import Host, host, processes_of
from trainerd.v1 import run_pb2

KILLS = 200
VICTIMS = {"trainer": 6, "standby": 2, "launcher": 1, "daemon": 1}
"""Who is killed, and how often in proportion."""
LONGEST_PAUSE_S = 3.0
STEPS_A_LIFE = 50
"""A trainer's data stop after so many steps: the run must outlast the kills."""
SHARED_MEMORY = Path("/dev/shm")


@dataclasses.dataclass(kw_only=True)
class Tally:
    """What the kills have shown."""

    kills: Counter[str] = dataclasses.field(default_factory=Counter)
    missed: int = 0
    restarts: int = 0
    warm: int = 0
    cold: int = 0
    steps: int = 0
    violations: list[str] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        kills = ", ".join(f"{count} of the {victim}" for victim, count in self.kills.items())
        return (
            f"kills: {kills} ({self.missed} found nobody); {self.restarts} restarts, "
            f"{self.warm} warm and {self.cold} cold starts, {self.steps:,} steps"
        )


def campaign(*, seed: int, kills: int = KILLS) -> Tally:
    """Kill, let the run finish, and judge."""
    tally, drawn = Tally(), random.Random(seed)
    steps = STEPS_A_LIFE * (kills + 10)
    with host(standby_after_s=0.5) as made:
        gate = made.folder / "go"
        gate.touch()
        calm = made.submit(_spec(made, "calm", gate, steps))
        expected = made.until(calm, _is_over, 600.0).result.state_digest
        gate.unlink()
        run = made.submit(_spec(made, "killed", gate, steps))
        for _ in range(kills):
            time.sleep(drawn.uniform(0.0, LONGEST_PAUSE_S))
            (victim,) = drawn.choices(list(VICTIMS), weights=list(VICTIMS.values()))
            if _kill(made, run, victim):
                tally.kills[victim] += 1
            else:
                tally.missed += 1
        gate.touch()
        done = made.until(run, _is_over, 600.0)
        started = [each for each in made.said("trainer_started") if each["run"] == run]
        tally.warm = sum(each["warm"] == "true" for each in started)
        tally.cold = len(started) - tally.warm
        tally.restarts, tally.steps = done.restarts, done.result.step
        if done.state != run_pb2.RUN_STATE_COMPLETED:
            state = run_pb2.RunState.Name(done.state)
            tally.violations.append(f"seed {seed}: {state}: {done.reason}")
        elif done.result.state_digest != expected:
            tally.violations.append(f"seed {seed}: the state is not that of an undisturbed run")
        folder = made.folder
    tally.violations += [f"seed {seed}: process {pid} is left" for pid in processes_of(folder)]
    left = [path for path in SHARED_MEMORY.rglob("*") if run in path.name or calm in path.name]
    tally.violations += [f"seed {seed}: {path} is left" for path in left]
    return tally


def _spec(made: Host, name: str, gate: Path, steps: int) -> run_pb2.RunSpec:
    args = {"gate": str(gate), "free": 16 * STEPS_A_LIFE}
    spec = made.spec(name, program="held", args=args, steps=steps, every_steps=20)
    spec.policy.max_cycles_without_progress = 10_000
    spec.policy.crash.limit = 1000
    spec.policy.backoff_max_s = 0.05
    spec.policy.hang_floor_s = 600.0
    return spec


def _kill(made: Host, run: str, victim: str) -> bool:
    """SIGKILL to whoever is that now; False: nobody is."""
    if victim == "daemon":
        made.kill_daemon(signal.SIGKILL)
        made.start_daemon()
        return True
    with suppress(ProcessLookupError):
        pid = _pid(made, run, victim)
        if pid:
            os.kill(pid, signal.SIGKILL)
            return True
    return False


def _pid(made: Host, run: str, victim: str) -> int:
    match victim:
        case "trainer":
            return made.run(run).pid
        case "launcher":
            return made.launcher_pid()
        case _:
            # A number is given to another process after a long while only.
            ready = made.said("standby_ready")
            pid = int(ready[-1]["pid"]) if ready else 0
            return pid if pid in processes_of(made.folder) else 0


def _is_over(now: run_pb2.Run) -> bool:
    return now.state in (
        run_pb2.RUN_STATE_COMPLETED,
        run_pb2.RUN_STATE_FAILED,
        run_pb2.RUN_STATE_STOPPED,
    )
