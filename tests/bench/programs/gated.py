"""A model of the benchmarks, as a run's program that takes turns with another process."""

from dataclasses import replace
from pathlib import Path

from bench.models import MODELS
from bench.windows import Turns, over_socket
from trainerd.actors import Program


def build(model: str, socket: str, window: int) -> Program:
    made = MODELS[model]()
    turn = over_socket(Path(socket))
    turns = Turns(window=window, pause=made.pause, turn=turn)
    return replace(made.program, evaluate=None, callbacks=(turns,))
