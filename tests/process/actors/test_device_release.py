"""A trainer is not started before its predecessor's GPU memory is free, within reason."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """\
import asyncio, json, sys, time
from trainerd.actors.launcher.device_release import wait_released
from trainerd.actors.launcher.processes import Children

async def main():
    children = Children()
    children.watch()
    program = sys.argv[1] or None
    released = await wait_released(
        4711, children, program=lambda: program, release_s=float(sys.argv[2])
    )
    async with asyncio.timeout(20):
        while len(children):
            await asyncio.sleep(0.01)
    print(json.dumps(released))

asyncio.run(main())
"""


def released(program: str, release_s: float = 20.0) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, program, str(release_s)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def smi(folder: Path, body: str) -> str:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\ncd {folder}\n{body}\n")
    path.chmod(stat.S_IRWXU)
    return str(path)


def test_it_is_waited_for_until_the_dead_process_is_no_longer_listed(tmp_path):
    program = smi(tmp_path, 'echo x >> asked\necho 1\n[ "$(wc -l < asked)" -ge 3 ] || echo 4711')
    assert released(program) is True
    assert (tmp_path / "asked").read_text().count("x") == 3


def test_it_is_not_waited_for_longer_than_the_deadline(tmp_path):
    assert released(smi(tmp_path, "echo 4711"), release_s=0.1) is False


@pytest.mark.parametrize("body", ["exit 9", "echo 4711; exit 6"])
def test_a_driver_that_does_not_answer_holds_nothing_up(tmp_path, body):
    assert released(smi(tmp_path, body)) is False


def test_without_the_driver_nothing_is_waited_for():
    assert released("") is True
