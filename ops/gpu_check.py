"""`make gpu-check`: what this machine's GPUs have been seen to do with trainerd, and what not.

Trains the bundled language model twice with a private daemon, kills the trainer of the first run
once, and looks. Writes a table to the terminal and to build/gpu-check.md. Exits 0 if everything on
the list was seen, 1 if something was not as it must be, 2 if this machine has no GPU to look at or
its Python no jax for it: then nothing was seen. `--cpu` runs the script itself without a GPU; what
it then prints says nothing about GPUs, and it exits 2 too.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from trainerd.clients import Client, TrainerdError, load_run_file
from trainerd.clients.private_daemon import DAEMON_COMMAND, PrivateDaemon
from trainerd.v1 import event_pb2, fault_pb2, run_pb2

ROOT = Path(__file__).resolve().parents[1]
RUN_FILE = Path(__file__).parent / "examples" / "stdlib-lm.toml"
REPORT = ROOT / "build" / "gpu-check.md"
STEPS = 300
KILL_STEP = 120
"""The trainer is killed once it is beyond this step."""
DEADLINE_S = 900.0
"""Longest wait for one run; a first compilation takes about a minute on a large GPU."""
LOOK_S = 0.05
EXIT_NOTHING_SEEN = 2

CONFIG = """\
[daemon]
state_directory = "daemon"
control_socket = "control.sock"
attach_socket = "attach.sock"
[launcher]
socket = "launcher.sock"
state_directory = "launcher"
config = "{launcher}"
[metrics]
address = ""
"""


@dataclass(slots=True)
class Findings:
    """What was looked at: (what, whether it was seen, how)."""

    rows: list[tuple[str, bool, str]] = field(default_factory=list)

    def add(self, what: str, seen: bool, how: str) -> None:
        """Note one thing, and say so."""
        self.rows.append((what, seen, how))
        print(f"{'seen    ' if seen else 'NOT SEEN'}  {what}: {how}", flush=True)

    @property
    def complete(self) -> bool:
        """Whether all of it was seen."""
        return all(seen for _, seen, _ in self.rows)

    def write(self, path: Path, machine: str) -> None:
        """Write them as a table."""
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"# GPU check, {time.strftime('%Y-%m-%d')}", "", machine, ""]
        lines += ["| what | seen | how |", "|---|---|---|"]
        lines += [
            f"| {what} | {'yes' if seen else 'no'} | {how} |" for what, seen, how in self.rows
        ]
        path.write_text("\n".join(lines) + "\n")


class DeviceUsers:
    """Watches which processes have memory on a GPU, by NVIDIA's own query program."""

    def __init__(self, program: str | None) -> None:
        self._program = program
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="device users")
        self.seen: list[frozenset[int]] = []

    def __enter__(self) -> DeviceUsers:
        """Watch until the end."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while self._program is not None and not self._ended.wait(LOOK_S):
            query = [self._program, "--query-compute-apps=pid", "--format=csv,noheader"]
            words = output_of(query).split()
            self.seen.append(frozenset(int(word) for word in words if word.isdecimal()))


def main() -> int:
    """Look, and report."""
    parser = argparse.ArgumentParser(prog="gpu-check", description=__doc__.partition("\n")[0])
    parser.add_argument("--cpu", action="store_true", help="run the script itself on the CPU")
    parser.add_argument("--output", type=Path, default=REPORT, help="where the table is written")
    arguments = parser.parse_args()
    on_cpu = arguments.cpu
    query = shutil.which("nvidia-smi")
    names = output_of([query, "--query-gpu=name", "--format=csv,noheader"]) if query else ""
    findings = Findings()
    findings.add(
        "the driver shows a GPU",
        bool(names),
        "; ".join(names.splitlines()) or "nvidia-smi is not here, or shows none",
    )
    platform = jax_platform(on_cpu=on_cpu)
    findings.add("jax shows it", platform == "gpu", platform)
    if on_cpu or findings.complete:
        train(findings, query, on_cpu=on_cpu)
    findings.write(arguments.output, names.replace("\n", "; ") or "no GPU")
    print(f"written to {arguments.output}")
    if on_cpu or not names or platform != "gpu":
        print("gpu-check: nothing was seen on a GPU; see ops/docs/gpu.md", file=sys.stderr)
        return EXIT_NOTHING_SEEN
    return 0 if findings.complete else 1


def train(findings: Findings, query: str | None, *, on_cpu: bool) -> None:
    """The two runs."""
    folder = Path(tempfile.mkdtemp(prefix="td-gpu-", dir="/tmp"))
    launcher = folder / "launcher.toml"
    launcher.write_text(f'[devices]\nplatform = "{"cpu" if on_cpu else "auto"}"\n')
    config = folder / "trainerd.toml"
    config.write_text(CONFIG.format(launcher=launcher))
    with (
        PrivateDaemon((*DAEMON_COMMAND, "--config", str(config)), None) as daemon,
        Client(daemon.address) as client,
    ):
        run = submit(client, "killed")
        with DeviceUsers(query) as users:
            first = until(client, run, lambda now: now.step > KILL_STEP and now.pid > 0)
            look_at_memory(findings, users, first.pid)
            os.kill(first.pid, signal.SIGKILL)
            killed = until(client, run, ended)
        second = story(client, run, "trainer_spawned")[-1].trainer_spawned.pid
        look_at_release(findings, users, first.pid, second)
        look_at_compilations(findings, folder, story(client, run, "phase_entered"))
        calm = until(client, submit(client, "calm"), ended)
    done = run_pb2.RUN_STATE_COMPLETED
    findings.add(
        "a run that was killed completes",
        killed.state == done and killed.restarts == 1,
        f"{killed.restarts} restart, {killed.reason}, back after {killed.last_recovery_s:.2f} s",
    )
    findings.add(
        "the same state twice, bit for bit",
        bool(killed.result.state_digest) and killed.result.state_digest == calm.result.state_digest,
        f"{killed.result.state_digest[:16]}… and {calm.result.state_digest[:16]}…",
    )
    if findings.rows[-1][1] and findings.rows[-2][1]:
        shutil.rmtree(folder)
    else:
        print(f"what happened is kept in {folder}")


def submit(client: Client, name: str) -> str:
    """Submit a run; return its id."""
    spec = load_run_file(RUN_FILE).spec
    spec.name, spec.train.steps, spec.train.deterministic = name, STEPS, True
    return client.submit_run(spec).run.id


def until(client: Client, run: str, condition: Callable[[run_pb2.Run], bool]) -> run_pb2.Run:
    """The run once it is so, or has ended."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        now = client.get_run(run).run
        if condition(now) or ended(now):
            return now
        if time.monotonic() > deadline:
            raise TrainerdError(f"{run} was not done within {DEADLINE_S:.0f} s: {now.reason}")
        time.sleep(LOOK_S)


def ended(run: run_pb2.Run) -> bool:
    """Whether a run has ended."""
    return run.state in (
        run_pb2.RUN_STATE_COMPLETED,
        run_pb2.RUN_STATE_FAILED,
        run_pb2.RUN_STATE_STOPPED,
    )


def story(client: Client, run: str, kind: str) -> list[event_pb2.Event]:
    """A run's events of one kind."""
    every = [response.event for response in client.list_events(run)]
    return [event for event in every if event.WhichOneof("payload") == kind]


def look_at_memory(findings: Findings, users: DeviceUsers, pid: int) -> None:
    """Whether the trainer is where the GPU's memory is."""
    findings.add(
        "the trainer has memory on the device",
        any(pid in seen for seen in users.seen),
        f"process {pid} among {sorted(frozenset().union(*users.seen)) or 'none'}",
    )


def look_at_release(findings: Findings, users: DeviceUsers, first: int, second: int) -> None:
    """Whether the memory of the killed one was free before its successor took any."""
    both = sum(first in seen and second in seen for seen in users.seen)
    known = any(second in seen for seen in users.seen)
    findings.add(
        "a killed trainer's memory is free before the next one has any",
        known and not both,
        f"{len(users.seen)} looks, {both} of them at both processes",
    )


def look_at_compilations(findings: Findings, folder: Path, phases: list[event_pb2.Event]) -> None:
    """Whether the second process loaded what the first had compiled."""
    kept = list((folder / "launcher/cache/executables").glob("*.executable"))
    took = [compiling_s(phases, incarnation) for incarnation in (1, 2)]
    findings.add(
        "the second process loads the compiled step",
        len(kept) == 1 and took[1] < took[0] / 2,
        f"{len(kept)} kept; getting it took {took[0]:.2f} s, then {took[1]:.2f} s",
    )


def compiling_s(phases: list[event_pb2.Event], incarnation: int) -> float:
    """Seconds from the phase in which the step is had to the next one."""
    mine = [event for event in phases if event.incarnation == incarnation]
    for event, following in itertools.pairwise(mine):
        if event.phase_entered.phase == fault_pb2.PHASE_COMPILE:
            return (following.time.ToNanoseconds() - event.time.ToNanoseconds()) / 1e9
    return float("nan")


def jax_platform(*, on_cpu: bool) -> str:
    """What jax trains on here, as a process of its own finds: "gpu", "cpu", or why not."""
    environment = {**os.environ, **({"JAX_PLATFORMS": "cpu"} if on_cpu else {})}
    command = [sys.executable, "-c", "import jax; print(jax.devices()[0].platform)"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return lines[-1] if lines else "no answer"


def output_of(command: list[str]) -> str:
    """What a command prints; empty if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TrainerdError as error:
        sys.exit(f"gpu-check: {error.message}")
    except KeyboardInterrupt:
        sys.exit("gpu-check: interrupted")
