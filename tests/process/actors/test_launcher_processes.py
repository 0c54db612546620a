"""Children that somebody else forked for the launcher: the standby's trainers, one day."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """\
import asyncio, os, signal, sys
from trainerd.actors.launcher.processes import Children

def helper_forks(then):
    reading, writing = os.pipe()
    if os.fork() == 0:
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            then()
        os.write(writing, str(pid).encode())
        os._exit(0)
    return int(os.read(reading, 32))

async def fast(children):
    pid = helper_forks(lambda: os._exit(5))
    async with asyncio.timeout(20):
        while os.path.exists(f'/proc/{pid}'):
            await asyncio.sleep(0.01)
    return await children.claim(pid).ended

async def slow(children):
    pid = helper_forks(signal.pause)
    child = children.claim(pid)
    async with asyncio.timeout(20):
        while os.getpgid(pid) != pid:
            await asyncio.sleep(0.01)
    child.kill()
    return await child.ended

async def main():
    children = Children()
    children.watch()
    async with asyncio.timeout(20):
        print(await globals()[sys.argv[1]](children), len(children))

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("fast", "Ended(exit_code=5, signal=0) 0"),
        ("slow", "Ended(exit_code=-1, signal=9) 0"),
    ],
)
def test_a_child_that_a_helper_forked_is_watched_from_when_it_is_claimed(case, said):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, case],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == (said, "")
