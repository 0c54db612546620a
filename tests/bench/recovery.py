"""What a crash costs: a trainer killed again and again, warm and cold, beside a plain shell loop.

Moments come from the journal and the launcher's log, whose clock is that of this process. The
paced model is that of the table of what people pay today: 60 ms a step, a checkpoint every 20.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import kills
from bench.figures import Bound, Figure, at_least, at_most, exact, exactly, figure
from bench.models import Model
from e2e.host import Host, eventually, host
from trainerd.v1 import run_pb2

SHELL = Path(__file__).parent / "programs" / "shell_loop.py"
PERIOD_S = 15.0
"""Between the kills under which useful steps are counted."""
CALM_S = 30.0
"""Undisturbed, before these kills and after them: the machine's own speed changes meanwhile."""
SHELL_KILLS = 5
NEVER_S = 1e6
REFERENCE_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What must be reached with one of the models, in seconds; `useful` is a ratio."""

    pace_s: float
    warm: Bound
    new: Bound | None
    cold: Bound
    useful: Bound


BOUNDS = {
    "mlp": Bounds(
        pace_s=0.06, warm=at_most(0.3), new=at_most(0.4), cold=at_most(2.5), useful=at_least(0.96)
    ),
    "transformer": Bounds(
        pace_s=0.0, warm=at_most(1.4), new=None, cold=at_most(3.0), useful=at_least(0.75)
    ),
}
DETECTION = at_most(0.02)


def figures(model: Model, key: str, *, count: int) -> list[Figure]:
    """The figures of `count` kills each, warm and cold; the shell loop's are fewer."""
    bounds = BOUNDS[key]
    shell = shell_kills(key, bounds.pace_s, count=min(count, SHELL_KILLS))
    against = f"shell loop: {statistics.median(shell):.2f} s"
    with host(standby_after_s=1.0) as made:
        warm, ended = _killed(made, model, key, count=count, warm=True)
        equal = _digest(made, model, key, ended.step) == ended.result.state_digest
        useful = useful_steps(made, model, key, count=count)
        adopted = adoptions(made, model, key, count=count)
    with host(standby_after_s=NEVER_S) as made:
        cold, _ = _killed(made, model, key, count=count, warm=False)

    def told(what: str, values: list[float], bound: Bound | None, beside: str = "") -> Figure:
        return figure(f"{what}, {model.name}", beside, values, unit="s", bound=bound)

    return [
        told("SIGKILL → first step, warm", [k.first_step for k in warm], bounds.warm, against),
        told("SIGKILL → next new step, warm", [k.new_step for k in warm], bounds.new, against),
        told("SIGKILL → first step, cold", [k.first_step for k in cold], bounds.cold, against),
        told("SIGKILL → next new step, cold", [k.new_step for k in cold], None, against),
        told("… of it until it is noticed", [k.detected for k in warm + cold], DETECTION),
        told("… until the process is forked", [k.started for k in warm], None),
        told("… until the state is restored", [k.restored for k in warm], None),
        told("SIGKILL → next new step of a shell loop", shell, None),
        figure(
            f"useful steps under a SIGKILL every {PERIOD_S:g} s, {model.name}",
            "undisturbed",
            useful,
            unit="ratio",
            bound=bounds.useful,
        ),
        exact(
            f"state digest after them is that of an undisturbed run, {model.name}",
            f"{count} kills",
            float(equal),
            bound=exactly(1),
        ),
        told("SIGKILL of the daemon: its successor's start → adopted", adopted, at_most(1.0)),
        exact(
            f"steps that cost, {model.name}",
            f"{len(adopted)} kills",
            0.0,
            bound=exactly(0),
        ),
    ]


def _killed(
    made: Host, model: Model, key: str, *, count: int, warm: bool
) -> tuple[list[kills.Kill], run_pb2.Run]:
    """The kills, and the run as it was stopped after them."""
    run = made.submit(kills.spec(model, key, BOUNDS[key].pace_s))
    done = kills.killed(made, run, kills=count, warm=warm)
    strangers = [kill for kill in done if kill.warm is not warm]
    assert not strangers, f"{len(strangers)} of {count} starts were not what they should be"
    ended = _stop(made, run)
    assert ended.restarts == count, f"{ended.restarts} restarts after {count} kills"
    return done, ended


def _digest(made: Host, model: Model, key: str, steps: int) -> str:
    """The state's digest after so many steps of a run that nothing disturbs."""
    spec = kills.spec(model, key, pace_s=0.0)
    spec.train.steps = steps
    run = made.submit(spec)
    ended = made.until(run, lambda now: now.state == run_pb2.RUN_STATE_COMPLETED, REFERENCE_S)
    assert ended.restarts == 0, "the undisturbed run was disturbed"
    return ended.result.state_digest


def useful_steps(made: Host, model: Model, key: str, *, count: int) -> list[float]:
    """Steps made under kills ÷ steps made undisturbed, in the same time; one value a kill.

    What the undisturbed ones would have been lies on the line through the rates before the kills
    and after them.
    """
    run = made.submit(kills.spec(model, key, BOUNDS[key].pace_s))
    eventually("a standby", lambda: kills.standby_waits(made, run), kills.START_S)
    before, rates = _rate(made, run, CALM_S), []
    for _ in range(count):
        os.kill(made.run(run).pid, signal.SIGKILL)
        rates.append(_rate(made, run, PERIOD_S))
    after = _rate(made, run, CALM_S)
    done = _stop(made, run)
    assert done.restarts == count, f"{done.restarts} restarts after {count} kills"
    slope = (after - before) / count
    return [rate / (before + slope * (at + 0.5)) for at, rate in enumerate(rates)]


def adoptions(made: Host, model: Model, key: str, *, count: int) -> list[float]:
    """Seconds from the start of each killed daemon's successor until it has adopted the trainer.

    Asserts that no step was lost: the trainer is the same process, and was never told to restore.
    """
    run = made.submit(kills.spec(model, key, BOUNDS[key].pace_s))
    made.until(run, lambda now: now.step > kills.EVERY, kills.START_S)
    before, moments, took = made.run(run), random.Random(0), []
    for _ in range(count):
        time.sleep(moments.uniform(0.2, 1.0))
        made.kill_daemon(signal.SIGKILL)
        began_s = time.monotonic()
        made.start_daemon()
        eventually("the trainer is adopted", lambda: made.run(run).attached, kills.START_S)
        took.append(time.monotonic() - began_s)
    after = made.run(run)
    assert (after.pid, after.incarnation, after.restarts) == (before.pid, before.incarnation, 0)
    assert len(made.events(run, "state_restored")) == 1
    _stop(made, run)
    return took


def _rate(made: Host, run: str, period_s: float) -> float:
    """New steps a second over a period: steps made again do not count."""
    before, began_s = made.run(run).step, time.monotonic()
    time.sleep(period_s)
    return (made.run(run).step - before) / (time.monotonic() - began_s)


def _stop(made: Host, run: str) -> run_pb2.Run:
    with made.client() as client:
        return client.stop_run(run).run


def shell_kills(key: str, pace_s: float, *, count: int) -> list[float]:
    """Seconds from each SIGKILL to the next new step of a shell loop around jax and orbax."""
    moments, costs = random.Random(0), []
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as folder,
        _shell_loop(key, pace_s, folder) as loop,
    ):
        eventually("its first checkpoint", lambda: loop.newest() > kills.EVERY + 5, kills.START_S)
        for _ in range(count):
            time.sleep(moments.uniform(0.5, 2.5))
            killed_at, before = time.time(), loop.newest()
            loop.kill()
            eventually("a new step", lambda b=before: loop.newest() > b, kills.START_S)
            costs.append(loop.when(before + 1) - killed_at)
    return costs


class _Shell:
    """A shell that starts a training script again whenever it ends."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self._process, self._steps = process, folder / "steps"

    def newest(self) -> int:
        """The newest step."""
        return max((step for _, step in self._read()), default=0)

    def when(self, step: int) -> float:
        """When it was made first."""
        return next(at for at, made in self._read() if made == step)

    def kill(self) -> None:
        """SIGKILL to the script; the shell starts it again."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        os.kill(int(children.split()[0]), signal.SIGKILL)

    def _read(self) -> list[tuple[float, int]]:
        if not self._steps.exists():
            return []
        # The last line may be half written.
        lines = self._steps.read_text().split("\n")[:-1]
        return [(float(at), int(step)) for at, step in map(str.split, lines)]


@contextmanager
def _shell_loop(key: str, pace_s: float, folder: str) -> Iterator[_Shell]:
    script = f'while :; do "{sys.executable}" "{SHELL}" {key} {pace_s} "{folder}"; done'
    with (Path(folder) / "log").open("ab") as log:
        process = subprocess.Popen(
            ["sh", "-c", script], stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield _Shell(process, Path(folder))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(kills.START_S)
