"""`make demo`: a real run, killed on the way, ends with the state of a run that never was.

Starts a private daemon in a temporary folder, trains the bundled language model, sends SIGKILL to
its trainer once, trains the same run again undisturbed, and prints the proof. Exits 0 only if the
two final states have the same digest and the loss fell well below the text's unigram entropy.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from trainerd.actors.examples.stdlib_text import read_corpus, unigram_bits_per_byte
from trainerd.clients import Client, TrainerdError, load_run_file
from trainerd.clients.live_view import LiveView
from trainerd.clients.plain_view import PlainView
from trainerd.clients.private_daemon import DAEMON_COMMAND, PrivateDaemon
from trainerd.clients.session import Session
from trainerd.clients.watching import View, Watched, Watching
from trainerd.v1 import control_pb2, run_pb2

RUN_FILE = Path(__file__).parent / "examples" / "stdlib-lm.toml"
CONFIG = """\
[daemon]
state_directory = "daemon"
control_socket = "control.sock"
attach_socket = "attach.sock"
[launcher]
socket = "launcher.sock"
state_directory = "launcher"
[metrics]
address = "127.0.0.1:0"
"""
KILL_AT = 0.55
"""Share of the steps after which the trainer is killed: between two checkpoints."""
WELL_BELOW = 0.8
"""The final loss must be under this share of the unigram entropy."""


class Killing:
    """A view that sends one SIGKILL to the trainer once the run has reached a step."""

    def __init__(self, inner: View, at_step: int, announce: Callable[[str], None]) -> None:
        self._inner = inner
        self._announce = announce
        self._at_step = at_step
        self.killed_at_step = 0

    def show(self, response: control_pb2.WatchRunResponse) -> None:
        """Kill if it is time, then show."""
        run = response.run
        if not self.killed_at_step and run.step >= self._at_step and run.pid:
            self.killed_at_step = run.step
            os.kill(run.pid, signal.SIGKILL)
            self._announce(f"SIGKILL to the trainer, process {run.pid}, at step {run.step}")
        self._inner.show(response)

    def tick(self) -> None:
        """Time passes."""
        self._inner.tick()

    def note(self, text: str) -> None:
        """A remark."""
        self._inner.note(text)

    def close(self) -> None:
        """The end."""
        self._inner.close()


def main() -> int:
    """Run the demonstration; 0 if the proof holds."""
    argparse.ArgumentParser(prog="demo", description=__doc__).parse_args()
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    began = time.monotonic()
    with _folder(console) as folder:
        config = folder / "trainerd.toml"
        config.write_text(CONFIG)
        command = (*DAEMON_COMMAND, "--config", str(config))
        with PrivateDaemon(command, None) as daemon, Client(daemon.address) as client:
            console.print(f"daemon ready after {time.monotonic() - began:.1f} s: {daemon.address}")
            proof = _demonstrate(console, client)
    console.print(f"{time.monotonic() - began:.0f} s in all")
    return 0 if proof else 1


def _demonstrate(console: Console, client: Client) -> bool:
    spec = load_run_file(RUN_FILE).spec
    steps = spec.train.steps
    console.print(f"\n[bold]1.[/] {steps} steps; the trainer is killed at about {KILL_AT:.0%}")
    view = _view(console)
    killing = Killing(view, int(steps * KILL_AT), view.note if console.is_terminal else print)
    killed = _watch(client, spec, killing)
    console.print(f"\n[bold]2.[/] the same {steps} steps, undisturbed")
    undisturbed = _watch(client, spec, _view(console))
    return _prove(console, killed, undisturbed, killing.killed_at_step)


def _watch(client: Client, spec: run_pb2.RunSpec, view: View) -> run_pb2.Run:
    submitted = client.submit_run(spec).run
    watching = Watching(interrupted=_interrupted)
    watched: Watched = watching.to_end(client, submitted, view)
    if watched.left_by is not None:
        raise KeyboardInterrupt
    return client.get_run(submitted.id).run


def _interrupted(count: int, view: View) -> float:
    view.note("stopping" if count == 1 else "stopping at once")
    return 0.0


def _prove(
    console: Console, killed: run_pb2.Run, undisturbed: run_pb2.Run, killed_at_step: int
) -> bool:
    entropy = unigram_bits_per_byte(read_corpus().validation)
    last = killed.last_evaluation.metrics["bits_per_byte"]
    completed = run_pb2.RUN_STATE_COMPLETED
    claims = {
        "both runs completed": killed.state == undisturbed.state == completed,
        "killed once, restarted once": bool(killed_at_step)
        and killed.restarts == 1
        and undisturbed.restarts == 0,
        "state digests equal": bool(killed.result.state_digest)
        and killed.result.state_digest == undisturbed.result.state_digest,
        f"final loss under {WELL_BELOW:.0%} of the unigram entropy": last < WELL_BELOW * entropy,
    }
    table = Table(title="the proof", title_justify="left", show_edge=False, pad_edge=False)
    for heading in ("", "killed", "undisturbed"):
        table.add_column(heading, overflow="fold")
    for name, values in _rows(killed, undisturbed).items():
        table.add_row(name, *values)
    console.print()
    console.print(table)
    console.print(f"unigram entropy of the validation text: {entropy:.3f} bits per byte\n")
    for claim, holds in claims.items():
        console.print(f"{'[green]yes[/]' if holds else '[bold red]NO[/]'}  {claim}")
    for run in (killed, undisturbed):
        if run.state != completed:
            console.print(f"{run.id}: {run.reason}\n{run.last_fault.detail}", markup=False)
    return all(claims.values())


def _rows(*runs: run_pb2.Run) -> dict[str, list[str]]:
    return {
        "steps applied": [f"{run.result.step}" for run in runs],
        "training loss, first → last": [f"{run.first_loss:.3f} → {run.loss:.3f}" for run in runs],
        "validation, bits per byte": [
            f"{run.first_evaluation.metrics['bits_per_byte']:.3f} → "
            f"{run.last_evaluation.metrics['bits_per_byte']:.3f}"
            for run in runs
        ],
        "restarts": [f"{run.restarts}" for run in runs],
        "kill → next new step": [
            f"{run.last_recovery_s:.2f} s" if run.last_recovery_s else "–" for run in runs
        ],
        "state digest (SHA-256)": [run.result.state_digest for run in runs],
    }


def _view(console: Console) -> View:
    if console.is_terminal:
        return LiveView(console)
    session = Session(
        address=None,
        timeout_s=None,
        tls=None,
        as_json=False,
        live=False,
        out=sys.stdout,
        err=sys.stdout,
        daemon_command=DAEMON_COMMAND,
    )
    return PlainView(session)


@contextlib.contextmanager
def _folder(console: Console) -> Iterator[Path]:
    """A folder that goes when all went well, and stays, with its logs, when not."""
    folder = Path(tempfile.mkdtemp(prefix="trainerd-demo-"))
    try:
        yield folder
    except BaseException:
        console.print(f"what happened is kept in {folder}")
        raise
    shutil.rmtree(folder)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TrainerdError as error:
        sys.exit(f"demo: {error.message}")
    except KeyboardInterrupt:
        sys.exit("demo: interrupted")
