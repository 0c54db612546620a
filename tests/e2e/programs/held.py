"""`tiny`, whose data stop after a while until a file appears."""

import time
from dataclasses import replace
from pathlib import Path

import tiny

HOLD_S = 300.0


class Held:
    """Of `data`, the first `free` reads are free; the others wait for the file `gate`."""

    def __init__(self, data, gate: Path, free: int) -> None:
        self.data, self.gate, self.free = data, gate, free

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int):
        self.free -= 1
        deadline_s = time.monotonic() + HOLD_S
        while self.free < 0 and not self.gate.exists() and time.monotonic() < deadline_s:
            time.sleep(0.005)
        return self.data[index]


def build(gate: str, free: int):
    program = tiny.build()
    return replace(program, data=Held(program.data, Path(gate), free))
