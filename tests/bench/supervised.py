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
from pathlib import Path

from bench.figures import Figure, at_least, figure, ratios
from bench.loops import ByHand
from bench.models import Model
from e2e.host import host
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
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, host() as made:
        address = Path(folder) / "turns"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
            server.bind(str(address))
            server.listen(1)
            server.settimeout(START_S)
            run = made.submit(_spec(model, key, address))
            with _accepted(server) as (link, lines):
                for turn in range(pairs + 1):
                    ours.append(float(lines.readline()))
                    bare(model.pause)
                    others.append(bare(model.window))
                    link.sendall(b"on\n" if turn < pairs else b"end\n")
        made.until(run, lambda now: now.state in ENDED, END_S)
    return [
        figure(
            f"step rate in a supervised trainer, {model.name}",
            "bare loop",
            ratios(others[1:], ours[1:]),
            unit="ratio",
            bound=at_least(0.985) if model.name == "transformer" else None,
        )
    ]


@contextlib.contextmanager
def _accepted(server: socket.socket) -> Iterator[tuple[socket.socket, object]]:
    link, _ = server.accept()
    link.settimeout(WINDOW_S)
    with link, link.makefile("r") as lines:
        yield link, lines


def _spec(model: Model, key: str, address: Path) -> run_pb2.RunSpec:
    spec = run_pb2.RunSpec(name="bench", entry="gated:build")
    spec.args["model"].string_value = key
    spec.args["socket"].string_value = str(address)
    spec.train.steps = 10**9
    spec.train.global_batch, spec.train.microbatch = model.global_batch, model.microbatch
    spec.trainer.path.extend([str(BENCH / "programs"), str(BENCH.parent)])
    spec.checkpoint.every_steps = 10**9
    return spec
