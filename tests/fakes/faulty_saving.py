"""Trains for real while its directory of checkpoints is broken and mended; tells what it heard.

Arguments: the directory of checkpoints, which another process has locked, and one for whatever is
moved out of the way. Says a JSON line for each fault it makes, each attempt to save, each save and
each failure; waits for a line on its input before it believes that the lock is gone. Then it ends
as any other process does, without being told to exit.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

EVERY_STEPS, STEPS = 5, 80
BUSY_UNTIL = 11
"""The lock is given back between the saves of step 10 and of step 15."""
DELETED_AT = 65
LATE_AT = 75
"""The disk takes longer for this one than a save may take; then it is done after all."""
_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 24, 1, 2


def as_anybody() -> None:
    """Begin again as a process for which modes count, as they do not for root."""
    if os.environ.get("MODES_COUNT") or os.geteuid() != 0:
        return
    library = ctypes.CDLL(None, use_errno=True)
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        if library.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "a capability cannot be dropped")
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"MODES_COUNT": "1"})


def unwritable(place: Path, _aside: Path) -> Callable[[], None]:
    place.chmod(0o555)
    return lambda: place.chmod(0o755)


def in_the_way(place: Path, aside: Path) -> Callable[[], None]:
    place.rename(aside / "kept")
    place.write_text("a file")

    def mend() -> None:
        place.unlink()
        (aside / "kept").rename(place)

    return mend


BREAKS: Mapping[int, tuple[str, Callable[[Path, Path], Callable[[], None]]]] = {
    22: ("unwritable", unwritable),
    42: ("in the way", in_the_way),
}
MENDED_AFTER = 10


def main(place: Path, aside: Path) -> None:
    """Train through every fault."""
    import jax

    from fakes import training
    from trainerd.actors import checkpoint_files, checkpoint_manifest
    from trainerd.actors.checkpoints import SAVE_TIMEOUT_S
    from trainerd.actors.plan import Plan
    from trainerd.actors.program_loop import run_loop
    from trainerd.actors.reports import Fault, SaveRecord, StepRecord

    heard = threading.Condition()
    answered: set[int] = set()
    mends: dict[int, Callable[[], None]] = {}
    writable, seal = checkpoint_files.make_writable, checkpoint_manifest.write
    answers = threading.Event()
    now_s = [time.monotonic()]

    def say(what: str, *values: Any) -> None:
        print(json.dumps([what, *values]), flush=True)

    class Told(training.Recorder):
        def saved(self, record: SaveRecord) -> None:
            self._answer("saved", record.step, record.path)

        def faulted(self, fault: Fault) -> None:
            self._answer("failed", fault.step, fault.reason, fault.message)

        def _answer(self, what: str, step: int, *values: Any) -> None:
            with heard:
                say(what, step, *values)
                answered.add(step)
                heard.notify_all()

    def stepped(record: StepRecord) -> None:
        step, due = record.step, record.step - 1
        if due == LATE_AT:
            now_s[0] += 2 * SAVE_TIMEOUT_S
        elif due > 0 and due % EVERY_STEPS == 0:
            # What was due is over before anything else happens.
            with heard:
                assert heard.wait_for(lambda: due in answered, 30.0), f"save of {due} is not over"
        if step == LATE_AT + 3:
            say("late", LATE_AT in answered)
            answers.set()
        if step == BUSY_UNTIL:
            say("busy")
            assert sys.stdin.readline()
        if step in BREAKS:
            name, break_it = BREAKS[step]
            mends[step + MENDED_AFTER] = break_it(place, aside)
            say("broken", name)
        if step in mends:
            mends.pop(step)()
            say("mended")

    def tried(directory: Path) -> None:
        say("tried", str(directory))
        writable(directory)

    def deleted(path: Path, **more: Any) -> Any:
        if path.name == str(DELETED_AT):
            shutil.rmtree(path.parent)
        if path.name == str(LATE_AT):
            assert answers.wait(30.0)
        return seal(path, **more)

    checkpoint_files.make_writable, checkpoint_manifest.write = tried, deleted
    # A clock that stands still: what failed is tried again when it is due anyway.
    result = run_loop(
        training.program(),
        Plan(steps=STEPS, global_batch=12, microbatch=3, checkpoint_every_steps=EVERY_STEPS),
        checkpoint_directory=place,
        reporter=Told(on_step=stepped),
        clock=lambda: now_s[0],
        devices=jax.devices()[:1],
    )
    say("result", result.reason.value, result.step, result.durable)


if __name__ == "__main__":
    as_anybody()
    main(Path(sys.argv[1]), Path(sys.argv[2]))
