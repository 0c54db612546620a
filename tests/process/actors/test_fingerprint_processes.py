"""A program has one fingerprint in all processes, or nothing that is kept would ever be found."""

from __future__ import annotations

import subprocess
import sys

PROGRAMS = """
import sys
from trainerd.actors.examples import stdlib_lm, stdlib_lm_equinox, stdlib_lm_nnx
from trainerd.actors.fingerprint import fingerprint
for module in (stdlib_lm, stdlib_lm_equinox, stdlib_lm_nnx):
    program = module.build(width=int(sys.argv[1]), layers=1, heads=2, context=8)
    print(fingerprint((program.init, program.loss, program.optimizer)))
"""


def in_another_process(width: int) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAMS, str(width)], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_every_process_says_the_same_of_plain_jax_equinox_and_nnx() -> None:
    first = in_another_process(16)
    assert len(set(first)) == 3
    assert in_another_process(16) == first
    assert not set(in_another_process(32)) & set(first)
