"""Three hosts train one run, and whatever befalls them, nothing of it is lost or done twice."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from e2e import oracle
from e2e.cluster import Cluster, cluster, loopback
from e2e.host import Host, eventually
from trainerd.v1 import run_pb2

pytestmark = pytest.mark.e2e

HOSTS = ("localhost", "h1", "h2")
OTHER_VERSION = """\
import sys
from trainerd.v1 import protocol
protocol.PROTOCOL_MAJOR += 1
from trainerd.daemon.main import main
sys.exit(main())
"""


@pytest.fixture(name="hosts", scope="module")
def _hosts() -> Iterator[Cluster]:
    with cluster(loopback(3)) as made:
        yield made


@pytest.fixture(name="run", scope="module")
def _run(hosts: Cluster) -> Iterator[str]:
    """A run on all of them that every test leaves training.

    In the end every step was made once, the state is that of a run that nothing disturbed, and the
    times sum to the run's life.
    """
    spec = hosts.spec(count=3, least=3, steps=100_000, every_steps=50, args={"pace_s": 0.002})
    run = hosts.submit(spec)
    hosts.training(run, *HOSTS, beyond=10)
    yield run
    with hosts.client() as client:
        done = client.stop_run(run).run
    assert done.state == run_pb2.RUN_STATE_STOPPED
    spent_s, lived_s = hosts.supervisor.times(run)
    assert sum(spent_s.values()) == pytest.approx(lived_s, rel=0.01)
    steps = [(each.step, each.batch) for each in hosts.supervisor.steps(run)]
    assert steps == [(step, step - 1) for step in range(1, done.result.step + 1)]
    spec.train.steps, spec.args["pace_s"].double_value = done.result.step, 0.0
    assert done.result.state_digest == oracle.digest(spec, [])


class Watched:
    """What a test finds, to compare with what it leaves."""

    def __init__(self, hosts: Cluster, run: str) -> None:
        self.hosts, self.id = hosts, run
        self.before = hosts.training(run, *HOSTS)
        self._decided = len(hosts.supervisor.decided(run))

    def decided(self) -> list[tuple[str, str]]:
        """The decisions since: class and action; not those that only say what another did."""
        every = self.hosts.supervisor.decided(self.id)[self._decided :]
        return [(each, action) for each, action, _ in every if action != "continue"]

    def again(self) -> run_pb2.Run:
        """The run once its next incarnation has made a new step."""
        before = self.before
        self.hosts.until(self.id, lambda now: now.incarnation > before.incarnation)
        return self.hosts.training(self.id, *HOSTS, beyond=before.step)

    def undisturbed(self) -> None:
        """It has trained on as if nothing had been."""
        now = self.hosts.training(self.id, *HOSTS, beyond=self.hosts.run(self.id).step)
        assert pids(now) == pids(self.before)
        assert (now.incarnation, now.restarts) == (self.before.incarnation, self.before.restarts)


def pids(run: run_pb2.Run) -> dict[str, int]:
    return {member.host: member.pid for member in run.members}


@pytest.mark.parametrize("victim", HOSTS)
def test_one_killed_trainer_costs_one_restart(hosts: Cluster, run: str, victim: str) -> None:
    watched = Watched(hosts, run)
    os.kill(hosts.pid(run, victim), signal.SIGKILL)
    now = watched.again()
    assert now.incarnation == watched.before.incarnation + 1
    assert now.restarts == watched.before.restarts + 1
    assert watched.decided() == [("crash", "restart")]
    assert now.last_fault.host == victim


def test_a_stopped_trainer_is_the_one_that_is_charged(hosts: Cluster, run: str) -> None:
    watched = Watched(hosts, run)
    os.kill(hosts.pid(run, "h2"), signal.SIGSTOP)
    now = watched.again()
    assert watched.decided() == [("hang", "restart")]
    assert now.last_fault.host == "h2"


def test_training_goes_on_while_daemons_are_away(hosts: Cluster, run: str) -> None:
    watched = Watched(hosts, run)
    for name in ("h1", "localhost"):
        host = hosts.hosts[name]
        host.kill_daemon(signal.SIGKILL)
        aim = newest(hosts, run) + 100
        eventually("it saves what it trains", lambda a=aim: newest(hosts, run) >= a)
        host.start_daemon(linked=False)
        hosts.linked()
        watched.undisturbed()
    assert watched.decided() == []


def newest(hosts: Cluster, run: str) -> int:
    """The newest durable step, as the disk has it."""
    steps = [int(each.name) for each in (hosts.shared / run).iterdir() if each.name.isdecimal()]
    return max(steps, default=0)


def test_who_may_not_join_is_told_why_and_disturbs_nobody(
    hosts: Cluster, run: str, tmp_path: Path
) -> None:
    watched = Watched(hosts, run)
    hosts.certify(tmp_path, "h7")
    own = hosts.certificates
    refused = {
        "another daemon is linked as host h1": ("h1", own / "h1"),
        "the certificate is that of host h1": ("h8", own / "h1"),
        "install the same trainerd release": ("h2", own / "h2", "-c", OTHER_VERSION),
        # Neither trusts the other.
        "CERTIFICATE_VERIFY_FAILED": ("h7", tmp_path / "h7"),
    }
    with ExitStack() as stack:
        daemons = {why: stack.enter_context(hosts.stranger(*who)) for why, who in refused.items()}
        for why, daemon in daemons.items():
            eventually(why, lambda d=daemon, w=why: w in problem(d))
    with hosts.client() as client:
        assert {host.name for host in client.list_hosts().hosts if host.joined} == set(HOSTS)
    watched.undisturbed()


def problem(host: Host) -> str:
    """What the daemon's log says of its supervisor."""
    log = (host.folder / "daemon.log").read_text()
    return " ".join(line for line in log.splitlines() if "supervisor_not_reached" in line)


def test_where_the_disk_is_full_saves_fail_and_all_train_on(hosts: Cluster, run: str) -> None:
    watched = Watched(hosts, run)
    first = watched.before.members[0]
    usual = resource.prlimit(first.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(first.pid, resource.RLIMIT_FSIZE, (0, usual[1]))
    try:
        now = hosts.until(run, lambda now: now.checkpoint_failures >= 2)
        watched.undisturbed()
    finally:
        resource.prlimit(first.pid, resource.RLIMIT_FSIZE, usual)
    hosts.until(run, lambda later: later.durable_step > now.step)
    watched.undisturbed()
