"""The small regression of `tiny`, whose data source hangs once, in one of several ways."""

import ctypes
import os
import signal
import time
from pathlib import Path

import numpy as np
import tiny

from trainerd.actors import Program

FOREVER_S = 3600


class HangsOnce:
    """Hangs at the first example read after `after` of them, unless `marker` is there already."""

    def __init__(self, data: tiny.Data, how: str, after: int, marker: Path) -> None:
        self.data, self.how, self.after, self.marker = data, how, after, marker
        self.read = 0

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        self.read += 1
        if self.read > self.after and self.how and not self.marker.exists():
            self.marker.write_text(str(os.getpid()))
            hang(self.how)
        return self.data[index]


def hang(how: str) -> None:
    match how:
        case "python":
            time.sleep(FOREVER_S)
        case "gil":
            # PyDLL keeps the interpreter's lock: no other Python thread runs.
            libc = ctypes.PyDLL(None)
            while True:
                libc.sleep(FOREVER_S)
        case "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        case _:
            raise ValueError(how)


def build(how: str = "", after: int = 0, marker: str = "") -> Program:
    program = tiny.build(pace_s=0.0005)
    data = HangsOnce(program.data, how, after, Path(marker))
    return Program(
        init=program.init,
        loss=program.loss,
        optimizer=program.optimizer,
        data=data,
        evaluate=program.evaluate,
    )
