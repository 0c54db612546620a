"""The services on a machine: installed once, asked and told what the tests need."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from e2e.host import eventually
from e2e.machine import REPOSITORY, SEEN, Machine
from trainerd.v1 import event_pb2, run_pb2

DAEMON, LAUNCHER, BOTH = "trainerd.service", "trainerd-launcher.service", "trainerd.target"
INSTALL = str(SEEN / "ops/install")
PROGRAMS = SEEN / "tests/e2e/programs"
STEPS = 100_000
"""More than any test here takes."""


def built(output: Path) -> Path:
    """The wheel of this tree."""
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run(
        [*build, "--directory", output], cwd=REPOSITORY, check=True, timeout=60, capture_output=True
    )
    (path,) = output.glob("*.whl")
    return path


def long_run(here: Machine) -> str:
    """A run that trains, the same for as long as it does."""
    with here.client() as client:
        for run in client.list_runs().runs:
            if run.spec.name == "long" and run.state == run_pb2.RUN_STATE_RUNNING:
                return run.id
        found = client.submit_run(spec("long", pace_s=0.002), skip_program_check=True).run.id
    trains(here, found)
    return found


def installed(here: Machine, wheel: Path, *flags: str) -> str:
    """Run the installer; return what it said."""
    place = here.root / "tmp" / wheel.name
    shutil.copyfile(wheel, place)
    command = [INSTALL, "--wheel", f"/tmp/{wheel.name}", "--system-packages", *flags]
    return here.run(*command).stdout


def spec(name: str, *, program: str = "tiny", steps: int = STEPS, **args: float) -> run_pb2.RunSpec:
    made = run_pb2.RunSpec(name=name, entry=f"{program}:build")
    for key, value in args.items():
        if isinstance(value, int):
            made.args[key].int_value = value
        else:
            made.args[key].double_value = value
    made.train.steps, made.train.global_batch, made.train.microbatch = steps, 16, 4
    made.trainer.path.append(str(PROGRAMS))
    made.checkpoint.every_steps = STEPS
    return made


def trains(here: Machine, run: str, *, beyond: int = 0) -> run_pb2.Run:
    """The run once it trains and is beyond a step."""

    def training() -> run_pb2.Run | None:
        now = here.get(run)
        running = now.state == run_pb2.RUN_STATE_RUNNING and now.attached
        assert now.state != run_pb2.RUN_STATE_FAILED, now
        return now if running and now.step > beyond else None

    found = eventually(f"{run} is beyond step {beyond}", training)
    assert isinstance(found, run_pb2.Run)
    return found


def events(here: Machine, run: str, kind: str) -> list[event_pb2.Event]:
    with here.client() as client:
        every = [response.event for response in client.list_events(run)]
    return [event for event in every if event.WhichOneof("payload") == kind]


def story(here: Machine, run: str) -> str:
    """What happened to a run, for an assertion that fails: its events but those of every step."""
    with here.client() as client:
        every = [response.event for response in client.list_events(run)]
    return "\n".join(str(event).replace("\n", " ")[:400] for event in every)


def stop_run(here: Machine, run: str) -> None:
    """Stop a run, and wait until its trainer is gone."""
    with here.client() as client:
        client.stop_run(run, no_checkpoint=True)
    eventually("it has stopped", lambda: here.get(run).state == run_pb2.RUN_STATE_STOPPED)


def said(here: Machine, unit: str, event: str) -> list[dict[str, object]]:
    """The unit's log lines of one event."""
    lines = here.journal(100_000, "-u", unit, "-o", "cat").splitlines()
    every = [json.loads(line) for line in lines if line.startswith("{")]
    return [fields for fields in every if fields["event"] == event]


def restarts(here: Machine) -> int:
    return int(here.shows(DAEMON, "NRestarts"))


def completed(here: Machine, run: str) -> bool:
    now = here.get(run)
    assert now.state != run_pb2.RUN_STATE_FAILED, now
    return now.state == run_pb2.RUN_STATE_COMPLETED
