"""SIGKILL at random moments of saving: whatever was told is there, nothing partial is taken for it.

One run is killed again and again, each time while a save of its is under way, and begun anew from
what is on disk. What it begins with must be the newest durable checkpoint, all of whose files are
what its manifest says, and no older than the newest that was told. Its last state must be that of
a run that nobody has disturbed: so each of the states it was resumed from was exact.
"""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from trainerd.actors import checkpoint_files as files
from trainerd.actors import checkpoint_manifest as manifest

KILLS = 50
MOST_SAVES = 3
"""Of a process, the save that it is killed in is one of so many."""
LATEST_S = 0.18
"""After so long a save has ended, on most machines."""
PACE_S = 0.02
"""Of a process that is killed, seconds a step takes: one that saves most of the time."""
STEPS_A_LIFE = 24
LIFE_S = 120.0
TESTS = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(kw_only=True)
class Tally:
    """What the kills have shown. `moments`: what the save was at, as the disk tells."""

    kills: int = 0
    moments: Counter[str] = dataclasses.field(default_factory=Counter)
    restored: int = 0
    violations: list[str] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        moments = ", ".join(f"{count} {moment}" for moment, count in self.moments.most_common())
        return f"{self.kills} kills ({moments}); {self.restored} exact resumptions"


def campaign(*, seed: int, kills: int = KILLS) -> Tally:
    """Kill, begin anew, let the last one finish, and judge."""
    tally, drawn = Tally(), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="td-saves-") as folder:
        root = Path(folder)
        steps = STEPS_A_LIFE * (kills + 2)
        calm = _Life(root / "calm", root / "cache", steps, pace_s=0.0).to_the_end()
        told = -1
        for _ in range(kills):
            newest = _newest(root / "killed")
            life = _Life(root / "killed", root / "cache", steps)
            life.until_save(drawn.randint(1, MOST_SAVES), drawn.uniform(0.0, LATEST_S))
            _judge_restored(life, newest, tally)
            tally.kills += 1
            told = max([told, *life.saved])
            tally.moments[_moment(root / "killed", life)] += 1
            _judge_disk(root / "killed", told, tally)
        newest = _newest(root / "killed")
        last = _Life(root / "killed", root / "cache", steps, pace_s=0.0)
        digest = last.to_the_end()
        _judge_restored(last, newest, tally)
        if digest != calm:
            tally.violations.append("the last state is not that of an undisturbed run")
    return tally


class _Life:
    """One process, from its start to its end. Kills it where it says nothing for too long."""

    def __init__(self, directory: Path, cache: Path, steps: int, *, pace_s: float = PACE_S) -> None:
        self.restored = -1
        self.saved: list[int] = []
        self.saving = -1
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "fakes.saving"),
                *(str(directory), str(cache), str(steps), str(pace_s)),
            ],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(TESTS), "JAX_PLATFORMS": "cpu"},
        )

    def to_the_end(self) -> str:
        """Let it train; the digest of its last state."""
        digest = ""
        for words in self._lines():
            if words[0] == "ended":
                digest = words[1]
        if self._process.returncode != 0 or not digest:
            raise RuntimeError(f"a process that nobody killed exited: {self._process.returncode}")
        return digest

    def until_save(self, number: int, after_s: float) -> None:
        """Kill it so long after its save of this number, from 1, has begun: so many but one are
        durable then, however slow the machine is."""
        killed = False
        for words in self._lines():
            if words[0] == "saving" and not killed and len(self.saved) >= number - 1:
                time.sleep(after_s)
                self._process.send_signal(signal.SIGKILL)
                killed = True
        if self._process.returncode != -signal.SIGKILL:
            raise RuntimeError(f"it ended before it was killed: {self._process.returncode}")

    def _lines(self) -> Iterator[list[str]]:
        """What it says, until it has ended; `restored`, `saved` and `saving` follow."""
        deadline = threading.Timer(LIFE_S, self._process.kill)
        deadline.start()
        with self._process as process:
            assert process.stdout is not None
            for line in process.stdout:
                words = line.split() if line.endswith("\n") else []
                match words:
                    case ["restored", step, source]:
                        self.restored = -1 if source == "init" else int(step)
                    case ["saving", step]:
                        self.saving = int(step)
                    case ["saved", step]:
                        self.saved.append(int(step))
                    case ["ended", _]:
                        pass
                    case _:
                        # Cut off by the kill.
                        continue
                yield words
        deadline.cancel()
        deadline.join()


def _newest(directory: Path) -> int:
    return next((found.step for found in files.durable(directory)), -1)


def _moment(directory: Path, life: _Life) -> str:
    """How far the newest save that it said it began has come."""
    path = directory / str(life.saving)
    if files.is_durable(path):
        return "durable" if life.saving in life.saved else "durable, not told"
    if files.is_committed(path):
        return "committed, not durable"
    temporary = next(iter(directory.glob(f"{life.saving}{files.TEMPORARY}*")), None)
    return "not begun" if temporary is None else "being written"


def _judge_restored(life: _Life, newest: int, tally: Tally) -> None:
    if life.restored != newest:
        tally.violations.append(f"it began with step {life.restored}, step {newest} was durable")
    tally.restored += newest >= 0


def _judge_disk(directory: Path, told: int, tally: Tally) -> None:
    """What is durable is whole, and what was told is there."""
    for found in files.durable(directory):
        try:
            manifest.verify(found.path)
        except (manifest.DigestMismatch, manifest.Unverified, OSError) as error:
            tally.violations.append(f"step {found.step} is durable and is not whole: {error}")
    if _newest(directory) < told:
        tally.violations.append(f"step {told} was told, {_newest(directory)} is the newest")
