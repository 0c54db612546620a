"""Several hosts for a test: each with a daemon, a launcher and trainers of its own, mutual TLS.

All run on this machine. Over loopback they share its network; with a prefix such as `ip netns exec
NAME` and an address of its own each is in another one. The supervisor's host trains like any other.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from e2e.folders import short_folder
from e2e.host import END_S, Host, Site, eventually, processes_of
from trainerd.clients import Client, TrainerdError
from trainerd.v1 import control_pb2, run_pb2

LOOPBACK = "127.0.0.1"
ENDED = (
    run_pb2.RUN_STATE_COMPLETED,
    run_pb2.RUN_STATE_FAILED,
    run_pb2.RUN_STATE_STOPPED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a host is. name: in the cluster. address: at which other hosts reach it. prefix: put
    before the command of its daemon. metrics: the address its metrics are served at; "": `address`.
    port: of the first one, where the others join it; 0: one that is free on this machine.

    The first one's name must be one that the others find it by.
    """

    name: str
    address: str = LOOPBACK
    prefix: Sequence[str] = ()
    metrics: str = ""
    port: int = 0


def loopback(count: int) -> tuple[Place, ...]:
    """Hosts that share this machine's network: `localhost`, which supervises, and h1, h2, …"""
    return (Place(name="localhost"), *(Place(name=f"h{number}") for number in range(1, count)))


class Cluster:
    """Hosts by name; the first one's daemon supervises.

    A host can be killed, started again, and given another configuration while it is down.
    """

    def __init__(
        self,
        folder: Path,
        places: Sequence[Place],
        *,
        injection: bool = False,
        standby: bool = True,
    ) -> None:
        self.folder = folder
        self.shared = folder / "shared"
        self.shared.mkdir()
        self.certificates = folder / "tls"
        self.port = places[0].port or _free_port(places[0].address)
        self.hosts: dict[str, Host] = {}
        for number, place in enumerate(places):
            root = folder / f"n{number}"
            root.mkdir()
            self.certify(self.certificates, place.name, place.address)
            self.hosts[place.name] = Host(
                root,
                injection=injection,
                standby=standby,
                standby_after_s=0.2,
                site=self._site(places[0], place),
            )
        self.places = {place.name: place for place in places}
        self.supervisor = self.hosts[places[0].name]

    # Hosts.

    def start(self, *names: str) -> None:
        """Start the daemons of these hosts, all by default, and wait until they are linked."""
        names = names or tuple(self.hosts)
        for name in names:
            # A joined host's daemon looks for its launcher once it has joined.
            self.hosts[name].start_daemon(linked=False)
        self.linked(*names)

    def linked(self, *names: str) -> None:
        """Wait until the supervisor has these hosts, all by default."""
        for name in names or tuple(self.hosts):
            eventually(f"host {name} is linked", lambda n=name: self.host(n).linked, END_S)

    def host(self, name: str) -> control_pb2.Host:
        """A host, as the supervisor shows it; without a name: it knows none."""
        with self.client() as client:
            return next((h for h in client.list_hosts().hosts if h.name == name), NO_HOST)

    def kill(self, name: str) -> None:
        """A host loses its power: daemon, launcher and all its processes are killed at once."""
        host = self.hosts[name]
        host.kill_daemon(signal.SIGKILL)
        for pid in processes_of(host.folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        eventually(f"all of {name} is gone", lambda: not processes_of(host.folder), END_S)

    @contextmanager
    def stranger(self, name: str, pair: Path, *program: str) -> Iterator[Host]:
        """A further daemon that tries to join under this name, with the certificate `pair`.crt.

        `program`: what of Python it is, where that is not the daemon's own.
        """
        root = Path(tempfile.mkdtemp(dir=self.folder))
        first = next(p for p in self.places.values() if self.hosts[p.name] is self.supervisor)
        site = self._site(first, replace(first, name=name), pair)
        # Not the supervisor's own section: it listens nowhere.
        host = Host(root, site=replace(site, kept=False, program=program or site.program))
        host.start_daemon(linked=False)
        try:
            yield host
        finally:
            host.stop()

    def supervise_from(self, name: str) -> None:
        """Move the supervisor to another host, as its documentation says."""
        before, after = self.supervisor, self.hosts[name]
        before.kill_daemon(signal.SIGTERM)
        state = after.folder / "daemon"
        state.mkdir(mode=0o700, exist_ok=True)
        for file in ("journal.sqlite", "token.key"):
            shutil.copy2(before.folder / "daemon" / file, state / file)
        for place in self.places.values():
            host = self.hosts[place.name]
            host.configure(self._site(self.places[name], place))
            if host is not before:
                host.kill_daemon(signal.SIGTERM)
        self.supervisor = after
        self.start()

    # Runs.

    def client(self) -> Client:
        """A client of the supervisor."""
        return self.supervisor.client()

    def spec(
        self,
        name: str = "gang",
        *,
        count: int,
        least: int = 1,
        exact: bool = True,
        args: Mapping[str, object] | None = None,
        steps: int = 200,
        every_steps: int = 20,
        program: str = "tiny",
    ) -> run_pb2.RunSpec:
        """A specification of a run on `count` hosts that goes on with `least`."""
        spec = self.supervisor.spec(
            name, program=program, args=args, steps=steps, every_steps=every_steps
        )
        spec.hosts.count, spec.hosts.min = count, least
        spec.train.exact_across_hosts = exact
        spec.checkpoint.directory = str(self.shared)
        spec.policy.backoff_max_s = 0.01
        return spec

    def submit(self, spec: run_pb2.RunSpec) -> str:
        """Submit a run; return its id."""
        return self.supervisor.submit(spec)

    def run(self, run: str) -> run_pb2.Run:
        """The run now."""
        return self.supervisor.run(run)

    def until(
        self, run: str, condition: Callable[[run_pb2.Run], bool], timeout_s: float = 90.0
    ) -> run_pb2.Run:
        """Wait until the run is so; one that ends otherwise fails the test with its story."""
        return self.supervisor.until(run, condition, timeout_s)

    def training(self, run: str, *hosts: str, beyond: int = 0) -> run_pb2.Run:
        """The run once it trains on exactly these hosts, all attached, beyond a step."""

        def trains(now: run_pb2.Run) -> bool:
            there = {member.host for member in now.members if member.attached}
            there_all = there == {member.host for member in now.members} == set(hosts)
            return now.state == run_pb2.RUN_STATE_RUNNING and now.step > beyond and there_all

        return self.until(run, trains)

    def pid(self, run: str, host: str) -> int:
        """The process of the run on a host."""
        return next(member.pid for member in self.run(run).members if member.host == host)

    def completed(self, run: str) -> run_pb2.Run:
        """The completed run."""
        return self.supervisor.completed(run)

    # The end.

    def stop(self) -> None:
        """End everything; assert that nothing is left."""
        with suppress(TrainerdError), self.client() as client:
            for run in client.list_runs().runs:
                if run.state not in ENDED:
                    client.stop_run(run.id, no_checkpoint=True)
        for host in reversed(list(self.hosts.values())):
            host.stop()

    def destroy(self) -> None:
        """Kill whatever is left."""
        for pid in processes_of(self.folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # Files.

    def certify(self, directory: Path, name: str, address: str = LOOPBACK) -> None:
        """Make a certificate of host `name` in `directory`, and an authority if there is none."""
        trainerd = [sys.executable, "-m", "trainerd.daemon"]
        asked = ["certs", str(directory), "--daemon", name, "--host", address]
        subprocess.run([*trainerd, *asked], check=True, capture_output=True, timeout=END_S)

    def _site(self, first: Place, place: Place, pair: Path | None = None) -> Site:
        pair = pair or self.certificates / place.name
        names = {"ca": pair.with_name("ca.crt"), "cert": f"{pair}.crt", "key": f"{pair}.key"}
        files = "".join(f'{key} = "{file}"\n' for key, file in names.items())
        sections = f'[cluster]\nsupervisor = "{first.name}:{self.port}"\nname = "{place.name}"\n'
        if place is first:
            sections += f'[api]\nlisten = "{first.address}:{self.port}"\n'
        advertise = f'advertise = "{place.address}"\n'
        return Site(
            kept=True,
            name=place.name,
            prefix=place.prefix,
            metrics=f"{place.metrics or place.address}:0",
            daemon=sections + files,
            launcher=advertise,
        )


NO_HOST = control_pb2.Host()


@contextmanager
def cluster(
    places: Sequence[Place], *, injection: bool = False, standby: bool = True
) -> Iterator[Cluster]:
    """A cluster whose hosts all run and have joined. Without a `standby` each start is cold."""
    with short_folder("tc-") as folder:
        made = Cluster(folder, places, injection=injection, standby=standby)
        try:
            made.start()
            yield made
        finally:
            try:
                made.stop()
            finally:
                made.destroy()


def _free_port(address: str) -> int:
    """A port that nobody is given who asks for any: it stays free while the supervisor is away."""
    least = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.SystemRandom().sample(range(10_000, least), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
            return port
    raise AssertionError(f"no port below {least} is free")
