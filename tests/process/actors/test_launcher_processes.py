"""The launcher's children: those that somebody else forked for it, and who ended them."""

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

def parent(pid):
    return int(open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[1])

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
        # It leads its group, and whoever forked it is gone: it is this process's child.
        while (os.getpgid(pid), parent(pid)) != (pid, os.getpid()):
            await asyncio.sleep(0.01)
    child.kill()
    return await child.ended

async def by_itself(children):
    null = os.open(os.devnull, os.O_RDWR)
    child = children.spawn(
        ['sh', '-c', 'kill -9 $$'], environment={'PATH': os.environ['PATH']}, directory='/',
        stdin=null, stdout=null, stderr=null,
    )
    # It has ended, and nobody here has looked yet.
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    child.kill()
    child.terminate(1.0)
    return await child.ended, child.signals_sent

async def dying(children):
    null = os.open(os.devnull, os.O_RDWR)
    child = children.spawn(
        ['sh', '-c', 'kill -9 $$'], environment={'PATH': os.environ['PATH']}, directory='/',
        stdin=null, stdout=null, stderr=null,
    )
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    # The kernel says so only once it has freed all of its memory.
    waitid, os.waitid = os.waitid, lambda *_: None
    child.kill()
    os.waitid = waitid
    children.reap()
    return await child.ended, child.signals_sent

async def leaderless(children):
    null = os.open(os.devnull, os.O_RDWR)
    child = children.spawn(
        [sys.executable, '-c', LEADERLESS], environment=dict(os.environ), directory='/',
        stdin=null, stdout=null, stderr=null,
    )
    async with asyncio.timeout(20):
        while ') Z ' not in open(f'/proc/{child.pid}/stat').read():
            await asyncio.sleep(0.01)
    child.kill()
    return await child.ended, child.signals_sent

LEADERLESS = (
    'import ctypes, threading, time;'
    'threading.Thread(target=time.sleep, args=[60]).start();'
    'ctypes.CDLL(None).pthread_exit(None)'
)

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
    assert of_case(case) == (said, "")


def test_a_child_that_had_ended_was_not_ended_by_a_signal_that_came_later():
    assert of_case("by_itself") == ("(Ended(exit_code=-1, signal=9), set()) 0", "")


def test_a_child_that_is_just_dying_was_not_ended_by_a_signal_that_came_later():
    assert of_case("dying") == ("(Ended(exit_code=-1, signal=9), set()) 0", "")


def test_a_child_of_which_any_thread_lives_is_ended():
    told, errors = of_case("leaderless")
    assert (told, errors) == ("(Ended(exit_code=-1, signal=9), {<Signals.SIGKILL: 9>}) 0", "")


def of_case(case):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, case],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout.strip(), done.stderr
