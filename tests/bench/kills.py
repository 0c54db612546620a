"""One trainer under a real daemon and launcher, killed again and again; what each kill cost."""

from __future__ import annotations

import datetime
import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from bench.models import Model
from e2e.host import Host, eventually
from trainerd.v1 import event_pb2, fault_pb2, run_pb2

BENCH = Path(__file__).parent
START_S = 300.0
EVERY = 20
"""A checkpoint after so many steps, as in the table of what people pay today."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """Moments in seconds after a SIGKILL. `replayed`: steps between first and next new one."""

    reaped: float
    detected: float
    started: float
    attached: float
    restored: float
    first_step: float
    new_step: float
    replayed: int
    warm: bool


def spec(model: Model, key: str, pace_s: float) -> run_pb2.RunSpec:
    """A run of one of the models that ends when it is stopped."""
    made = run_pb2.RunSpec(name=f"kills-{key}", entry="paced:build")
    made.args["model"].string_value = key
    made.args["pace_s"].double_value = pace_s
    made.train.steps = 10**9
    made.train.global_batch, made.train.microbatch = model.global_batch, model.microbatch
    made.trainer.path.extend([str(BENCH / "programs"), str(BENCH.parent)])
    made.checkpoint.every_steps = EVERY
    made.policy.max_cycles_without_progress = 1000
    made.policy.crash.limit = 1000
    # What is measured is a crash, not the pause after many of them.
    made.policy.backoff_max_s = 0.01
    return made


def killed(made: Host, run: str, *, kills: int, warm: bool, seed: int = 0) -> list[Kill]:
    """Kill the run's trainer at random moments; each time, wait until it makes new steps.

    The first time when its first checkpoint is there, as with the shell loop.
    """
    made.until(run, lambda now: now.durable_step > 0, START_S)
    moments = random.Random(seed)
    return [_one(made, run, moments.uniform(0.5, 2.5), warm=warm) for _ in range(kills)]


def _one(made: Host, run: str, after_s: float, *, warm: bool) -> Kill:
    if warm:
        eventually("a standby", lambda: standby_waits(made, run), START_S)
    made.until(run, lambda now: now.state == run_pb2.RUN_STATE_RUNNING, START_S)
    time.sleep(after_s)
    before = made.run(run)
    known = len(made.events(run, "trainer_exited"))
    killed_at = time.time()
    os.kill(before.pid, signal.SIGKILL)
    after = before.incarnation + 1
    made.until(
        run,
        lambda now: (
            now.incarnation == after
            and now.state == run_pb2.RUN_STATE_RUNNING
            and now.step > before.step
        ),
        START_S,
    )
    new_at = time.time()
    with made.client() as client:
        story = [response.event for response in client.list_events(run)]
    exits = [at for at in _times(story, "trainer_exited")]
    assert len(exits) == known + 1, f"{len(exits) - known} restarts after one kill"
    mine = [event for event in story if event.incarnation == after]
    restored = next(event for event in mine if event.HasField("state_restored"))
    stepping = next(e for e in mine if e.phase_entered.phase == fault_pb2.PHASE_STEP)
    (started,) = [s for s in made.said("trainer_started") if s["incarnation"] == str(after)]
    reaped = [s for s in made.said("trainer_exited") if s["incarnation"] == str(after - 1)]
    return Kill(
        reaped=_logged(reaped[-1]) - killed_at,
        detected=exits[-1] - killed_at,
        started=_logged(started) - killed_at,
        attached=_times(mine, "trainer_attached")[0] - killed_at,
        restored=_time(restored) - killed_at,
        first_step=_time(stepping) - killed_at,
        new_step=new_at - killed_at,
        replayed=before.step - restored.state_restored.step,
        warm=started["warm"] == "true",
    )


def standby_waits(made: Host, run: str) -> bool:
    """Whether the run's newest standby is ready and lives."""
    return standby_pid(made, run) > 0


def standby_pid(made: Host, run: str) -> int:
    """The run's newest standby, if it is ready and lives; else 0."""
    ready = [int(s["pid"]) for s in made.said("standby_ready") if s["run"] == run]
    return ready[-1] if ready and Path(f"/proc/{ready[-1]}").exists() else 0


def _times(events: list[event_pb2.Event], kind: str) -> list[float]:
    return [_time(event) for event in events if event.HasField(kind)]


def _time(event: event_pb2.Event) -> float:
    return event.time.ToNanoseconds() / 1e9


def _logged(fields: dict[str, str]) -> float:
    return datetime.datetime.fromisoformat(fields["timestamp"]).timestamp()
