"""A trainer under a real daemon and launcher against a bare loop here, window by window.

The trainer's program holds it after each window through a callback and a socket, while this
process runs its own; so both have the machine to themselves. What is compared is the time between
landings, as the trainer's own process saw it.
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from bench.figures import Figure, at_least, figure, ratios
from bench.loops import ByHand
from bench.models import Model
from e2e.host import Host, host
from trainerd.v1 import run_pb2

BENCH = Path(__file__).parent
START_S = 300.0
WINDOW_S = 300.0
END_S = 120.0
ENDED = {run_pb2.RUN_STATE_COMPLETED, run_pb2.RUN_STATE_STOPPED, run_pb2.RUN_STATE_FAILED}


def figures(model: Model, key: str, *, pairs: int) -> list[Figure]:
    """How fast a supervised trainer trains `model`; `key` is its name in `MODELS`."""
    bare = ByHand(model, slots=model.global_batch // model.microbatch)
    bare(model.pause)
    ours, others = [], []
    with host() as made, held(made, model, key, window=model.window) as trainer:
        for turn in range(pairs + 1):
            ours.append(trainer.took_s())
            bare(model.pause)
            others.append(bare(model.window))
            trainer.go(on=turn < pairs)
    return [
        figure(
            f"step rate in a supervised trainer, {model.name}",
            "bare loop",
            ratios(others[1:], ours[1:]),
            unit="ratio",
            bound=at_least(0.985) if model.name == "transformer" else None,
        )
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A supervised trainer that holds after each window."""

    run: str
    link: socket.socket
    lines: TextIO

    def took_s(self) -> float:
        """Wait until its window is over; return seconds a step."""
        return float(self.lines.readline())

    def go(self, *, on: bool = True) -> None:
        """Let it run its next window, or end."""
        self.link.sendall(b"on\n" if on else b"end\n")


@contextlib.contextmanager
def held(made: Host, model: Model, key: str, *, window: int) -> Iterator[Held]:
    """A trainer of `model` on a host. The caller has let it end when the context does."""
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server,
    ):
        address = Path(folder) / "turns"
        server.bind(str(address))
        server.listen(1)
        server.settimeout(START_S)
        run = made.submit(_spec(model, key, address, window))
        link, _ = server.accept()
        link.settimeout(WINDOW_S)
        with link, link.makefile("r") as lines:
            yield Held(run=run, link=link, lines=lines)
        made.until(run, lambda now: now.state in ENDED, END_S)


def _spec(model: Model, key: str, address: Path, window: int) -> run_pb2.RunSpec:
    spec = run_pb2.RunSpec(name="bench", entry="gated:build")
    spec.args["model"].string_value = key
    spec.args["socket"].string_value = str(address)
    spec.args["window"].int_value = window
    spec.train.steps = 10**9
    spec.train.global_batch, spec.train.microbatch = model.global_batch, model.microbatch
    spec.trainer.path.extend([str(BENCH / "programs"), str(BENCH.parent)])
    spec.checkpoint.every_steps = 10**9
    return spec
