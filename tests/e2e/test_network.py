"""The network that tests of several hosts run on: it fails as asked, heals, and leaves nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.host import eventually
from e2e.network import Network, network, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

PYTHON = [sys.executable, "-I", "-S", "-c"]
ECHO = """
import socket
here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
here.bind(("", 7))
print("ready", flush=True)
while True:
    here.sendto(*here.recvfrom(64))
"""
ASK = """
import socket, sys
there, count = sys.argv[1], int(sys.argv[2])
here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
here.settimeout(0.3)
for number in range(count):
    try:
        here.sendto(b"%d" % number, (there, 7))
    except OSError:
        pass
heard = set()
try:
    while len(heard) < count:
        heard.add(here.recvfrom(64)[0])
except OSError:
    pass
print(len(heard))
"""
HELD = """
import subprocess, sys, time
from e2e.network import network
with network("a", "b") as made:
    pid = subprocess.Popen([*made.command("a"), "sleep", "600"], start_new_session=True).pid
    print(pid, made._guard.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture(name="net", scope="module")
def _net() -> Iterator[Network]:
    with network("a", "b", "c") as made:
        echoes = [
            subprocess.Popen([*made.command(name), *PYTHON, ECHO], stdout=subprocess.PIPE)
            for name in made.names
        ]
        for echo in echoes:
            assert echo.stdout is not None
            assert echo.stdout.readline() == b"ready\n"
        yield made
        for echo in echoes:
            echo.kill()
            echo.communicate()


@pytest.fixture(autouse=True)
def _healed(net: Network) -> Iterator[None]:
    yield
    net.heal()


def answers(net: Network, source: str, target: str, count: int = 3) -> int:
    """How many of `count` datagrams come back."""
    command = [*net.command(source), *PYTHON, ASK, target, str(count)]
    return int(subprocess.run(command, check=True, capture_output=True, timeout=30).stdout)


def test_hosts_reach_one_another_by_the_names_they_call_themselves(net: Network) -> None:
    assert answers(net, "a", "b") == answers(net, "b", "c") == 3
    assert answers(net, "a", net.address("c")) == 3
    told = subprocess.run([*net.command("b"), "hostname"], check=True, capture_output=True)
    assert told.stdout == b"b\n"


@pytest.mark.parametrize("fault", ["cut", "unplug"])
def test_a_host_whose_link_is_cut_reaches_nobody_until_it_heals(net: Network, fault: str) -> None:
    getattr(net, fault)("b")
    assert answers(net, "a", "b") == answers(net, "b", "c") == 0
    assert answers(net, "a", "c") == 3
    net.heal()
    for source, target in (("a", "b"), ("b", "c")):
        # A plug that is put back is noticed within a second.
        eventually("all is heard", lambda each=(source, target): answers(net, *each) == 3)


def test_a_loss_may_go_one_way_and_concern_two_hosts_alone(net: Network) -> None:
    for source, target in (("a", "b"), ("b", "a")):
        net.heal()
        # Who asks and who is asked must both be heard.
        net.lose(100, source="a", target="b")
        assert answers(net, source, target) == 0
        assert answers(net, source, "c") == 3
    net.heal()
    net.lose(100, target="b")
    assert answers(net, "c", "b") == 0


def test_a_part_of_the_frames_may_get_lost(net: Network) -> None:
    net.lose(30, source="a", target="b")
    assert 100 < answers(net, "a", "b", 200) < 180


def test_a_network_and_its_processes_end_with_a_killed_owner() -> None:
    command = [sys.executable, "-c", HELD]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=Path(__file__).resolve().parents[1]
    ) as owner:
        assert owner.stdout is not None
        pids = [int(word) for word in owner.stdout.readline().split()]
        assert len(pids) == 2
        owner.kill()
    for pid in pids:
        eventually(f"{pid} ends", lambda pid=pid: not lives(pid), 20.0)


def lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
