"""A whole host for a test: daemon, launcher and trainers as real processes in a short folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from prometheus_client.parser import text_string_to_metric_families

from e2e.folders import short_folder
from leaks import outlives, unmarked
from trainerd.clients import Client
from trainerd.v1 import event_pb2, fault_pb2, run_pb2
from unit.daemon.journals import check_journals

PROGRAMS = Path(__file__).parent / "programs"
READY_S = 30.0
END_S = 60.0
ENDED_PAUSE_S = 0.1
"""Between two looks at a run that is to end, and then does nothing more."""
CONFIG = """\
[daemon]
state_directory = "daemon"
control_socket = "control.sock"
attach_socket = "attach.sock"
[launcher]
socket = "launcher.sock"
state_directory = "launcher"
config = "{launcher}"
[metrics]
address = "{metrics}"
"""
INJECTION = """\
[injection]
allowed = true
"""


def eventually(what: str, condition: Callable[[], object], timeout_s: float = 60.0) -> object:
    """Wait until the condition holds and return what it gave; fail with its name after that."""
    deadline = time.monotonic() + timeout_s
    pause_s = 0.01
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"within {timeout_s:g} s it did not happen: {what}")
        time.sleep(pause_s)
        # Looking costs those whom the test waits for.
        pause_s = min(0.05, 1.2 * pause_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a host's processes run, and what its configurations say beside the usual.

    kept: the host is several tests', one of which may start its daemon again for all that follow.
    name: of several hosts that live at once, each keeps its compiled steps for itself. prefix: put
    before the command of its daemon, whose launcher inherits what that brings about (`ip netns exec
    NAME`). program: what of Python the daemon is. metrics: where its metrics are served, as seen
    from the test. daemon, launcher: more sections of their configuration files, and keys of
    `[launcher]` in the latter.
    """

    name: str = ""
    kept: bool = False
    prefix: Sequence[str] = ()
    program: Sequence[str] = ("-m", "trainerd.daemon")
    metrics: str = "127.0.0.1:0"
    daemon: str = ""
    launcher: str = ""


class Host:
    """One host. Sockets and state live in `folder`; the daemon may be killed and started again.

    `compiled`: where hosts keep their compiled steps together; None: each by itself.
    """

    compiled: ClassVar[Path | None] = None

    def __init__(
        self,
        folder: Path,
        *,
        injection: bool = False,
        snapshots: bool = True,
        standby: bool = True,
        standby_after_s: float | None = None,
        site: Site = Site(),
    ) -> None:
        self.folder = folder
        self.config = folder / "trainerd.toml"
        self._injection = injection
        self.configure(site)
        launcher = folder / "launcher.toml"
        after = "" if standby_after_s is None else f"standby_after_s = {standby_after_s}\n"
        share = "" if snapshots else "snapshot_share = 0\n"
        none = "" if standby else "standby = false\n"
        launcher.write_text(f"[launcher]\n{after}{share}{none}{site.launcher}")
        if self.compiled is not None:
            state = folder / "launcher"
            state.mkdir(mode=0o700)
            compiled = self.compiled / site.name
            compiled.mkdir(mode=0o700, exist_ok=True)
            (state / "cache").symlink_to(compiled)
        self.address = f"unix:{folder / 'control.sock'}"
        self.metrics_address = ""
        self._daemon: subprocess.Popen[bytes] | None = None

    def configure(self, site: Site) -> None:
        """Write the daemon's configuration: what it is from its next start on."""
        self.site = site
        launcher = self.folder / "launcher.toml"
        config = CONFIG.format(launcher=launcher, metrics=site.metrics) + site.daemon
        self.config.write_text(config + INJECTION if self._injection else config)

    def start_daemon(self, *, linked: bool = True) -> None:
        """Start the daemon and wait until it serves, and is `linked` to its launcher."""
        ready, writer = os.pipe()
        with (self.folder / "daemon.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [
                    *(*self.site.prefix, sys.executable, *self.site.program, "serve"),
                    *("--config", str(self.config), "--ready-fd", str(writer)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[writer],
                env=unmarked() if self.site.kept else None,
                start_new_session=True,
            )
        os.close(writer)
        if self.site.kept:
            outlives(self._daemon.pid)
        with os.fdopen(ready) as pipe:
            line = pipe.readline()
        assert line.startswith("READY "), (self.folder / "daemon.log").read_text()
        self.metrics_address = line.split()[2]
        if linked:
            self.launcher_pid()

    def kill_daemon(self, number: int = signal.SIGKILL) -> int:
        """Send the daemon a signal and return its exit code."""
        assert self._daemon is not None
        self._daemon.send_signal(number)
        code = self._daemon.wait(END_S)
        self._daemon = None
        return code

    def client(self) -> Client:
        """A client of the daemon."""
        return Client(self.address)

    def launcher_pid(self) -> int:
        """The linked launcher's process id."""
        with self.client() as client:
            return int(eventually("the launcher is linked", lambda: client.daemon().launcher_pid))

    def said(self, event: str) -> list[dict[str, str]]:
        """The launchers' log lines of one event, as their fields."""
        log = self.folder / "launcher" / "launcher.log"
        lines = log.read_text().splitlines() if log.exists() else []
        # Whatever else the process writes there is no JSON.
        every = [json.loads(line) for line in lines if line.startswith("{")]
        return [
            {key: json.dumps(value).strip('"') for key, value in fields.items()}
            for fields in every
            if fields.get("event") == event
        ]

    def stop(self) -> None:
        """End everything; assert that nothing is left."""
        if self._daemon is not None:
            self.kill_daemon(signal.SIGTERM)
        for pid in processes_of(self.folder):
            # A standby goes with its launcher.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        eventually("launcher and trainers end", lambda: not processes_of(self.folder), END_S)
        if (self.folder / "daemon").exists():
            check_journals(self.folder / "daemon")

    def spec(
        self,
        name: str = "test",
        *,
        program: str = "tiny",
        args: Mapping[str, object] | None = None,
        steps: int = 200,
        every_steps: int = 20,
        evaluate_every_steps: int = 0,
    ) -> run_pb2.RunSpec:
        """A specification of one of the test programs."""
        spec = run_pb2.RunSpec(name=name, entry=f"{program}:build")
        for key, value in (args or {}).items():
            match value:
                case bool():
                    spec.args[key].bool_value = value
                case int():
                    spec.args[key].int_value = value
                case float():
                    spec.args[key].double_value = value
                case _:
                    spec.args[key].string_value = str(value)
        spec.train.steps, spec.train.global_batch, spec.train.microbatch = steps, 16, 4
        spec.train.evaluate_every_steps = evaluate_every_steps
        spec.trainer.path.append(str(PROGRAMS))
        spec.checkpoint.every_steps = every_steps
        return spec

    def submit(self, spec: run_pb2.RunSpec, *, check: bool = False) -> str:
        """Submit a run, without the program check unless asked; return its id."""
        with self.client() as client:
            return client.submit_run(spec, skip_program_check=not check).run.id

    def run(self, run: str) -> run_pb2.Run:
        """The run now."""
        with self.client() as client:
            return client.get_run(run).run

    def until(
        self,
        run: str,
        condition: Callable[[run_pb2.Run], bool],
        timeout_s: float = 90.0,
        *,
        pause_s: float = 0.05,
    ) -> run_pb2.Run:
        """Wait until the run is so; a run that ends otherwise fails the test with its story.

        `pause_s`: the longest between two looks, each of which costs the machine 2 ms.
        """
        ended = {run_pb2.RUN_STATE_COMPLETED, run_pb2.RUN_STATE_FAILED, run_pb2.RUN_STATE_STOPPED}
        deadline = time.monotonic() + timeout_s
        next_pause_s = 0.02
        with self.client() as client:
            while True:
                now = client.get_run(run).run
                if condition(now):
                    return now
                story = f"{run_pb2.RunState.Name(now.state)} at step {now.step}: {now.reason}"
                assert now.state not in ended, f"{story}\n{now.last_fault.detail}"
                assert time.monotonic() < deadline, story
                time.sleep(next_pause_s)
                next_pause_s = min(pause_s, 1.2 * next_pause_s)

    def completed(self, run: str) -> run_pb2.Run:
        """The completed run."""
        return self.until(
            run, lambda now: now.state == run_pb2.RUN_STATE_COMPLETED, pause_s=ENDED_PAUSE_S
        )

    def failed(self, run: str) -> run_pb2.Run:
        """The failed run."""
        return self.until(
            run, lambda now: now.state == run_pb2.RUN_STATE_FAILED, pause_s=ENDED_PAUSE_S
        )

    def events(self, run: str, kind: str) -> list[event_pb2.Event]:
        """The run's journal records of one kind."""
        with self.client() as client:
            every = [response.event for response in client.list_events(run)]
        return [event for event in every if event.WhichOneof("payload") == kind]

    def steps(self, run: str) -> list[run_pb2.StepMetrics]:
        """The run's step metrics, by step."""
        every: list[run_pb2.StepMetrics] = []
        token = ""
        with self.client() as client:
            while True:
                # Small pages, so that there are some.
                page = client.list_step_metrics(run, page_size=128, page_token=token)
                every += page.steps
                token = page.next_page_token
                if not token:
                    assert not page.lost
                    return every

    def metric(self, name: str, **labels: str) -> float | None:
        """The value of the first series with these labels (`class_` for `class`) on /metrics."""
        return next(iter(self._samples(name, **labels)), ({}, None))[1]

    def times(self, run: str) -> tuple[dict[str, float], float]:
        """Where the time of a run that has ended went, and how long it lived, in seconds.

        Its life ends with that of its last process.
        """
        last = self.run(run).incarnation
        # A gang's time is that of its process that was heard of first.
        spawned = [e for e in self.events(run, "trainer_spawned") if e.incarnation == last]

        def over() -> list[event_pb2.Event]:
            every = self.events(run, "trainer_exited")
            return [e for e in every if (e.incarnation, e.host) == (last, spawned[0].host)]

        exited = eventually("its last process has ended", over)
        now = self.run(run)
        end = max(now.ended_at.ToNanoseconds(), exited[0].time.ToNanoseconds())
        spent_s = {
            labels["activity"]: value
            for labels, value in self._samples("time_seconds_total", run=run)
        }
        return spent_s, (end - now.submitted_at.ToNanoseconds()) / 1e9

    def faults(self, run: str) -> dict[tuple[str, str], float]:
        """The run's faults as /metrics counts them: by class and action."""
        return {
            (labels["class"], labels["action"]): value
            for labels, value in self._samples("faults_total", run=run)
            if value
        }

    def decided(self, run: str) -> list[tuple[str, str, int]]:
        """The decisions about the run in its journal: class, action, number of the incident."""
        made = [event.decision_made for event in self.events(run, "decision_made")]
        return [
            (
                fault_pb2.FaultClass.Name(getattr(each.fault, "class"))[12:].lower(),
                fault_pb2.Action.Name(each.decision.action)[7:].lower(),
                each.incident,
            )
            for each in made
        ]

    def _samples(self, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
        wanted = {key.rstrip("_"): value for key, value in labels.items()}.items()
        address = f"http://{self.metrics_address}/metrics"
        with urllib.request.urlopen(address, timeout=10) as answer:
            text = answer.read().decode()
        return [
            (sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == f"trainerd_{name}" and wanted <= sample.labels.items()
        ]


@contextmanager
def host(
    *,
    injection: bool = False,
    snapshots: bool = True,
    standby: bool = True,
    standby_after_s: float | None = None,
    kept: bool = False,
) -> Iterator[Host]:
    """A host with a daemon that serves; its folder is short enough for sockets.

    `standby_after_s`: how long a trainer has the machine to itself, where not as usual. Without
    `snapshots` nothing but a checkpoint can be restored, without a `standby` each start is cold.
    `kept`: see `Site`.
    """
    with short_folder("td-") as folder:
        made = Host(
            folder,
            injection=injection,
            snapshots=snapshots,
            standby=standby,
            standby_after_s=standby_after_s,
            site=Site(kept=kept),
        )
        try:
            made.start_daemon()
            yield made
        finally:
            try:
                made.stop()
            finally:
                for pid in processes_of(folder):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)


def processes_of(folder: Path) -> list[int]:
    """Launchers and trainers whose command line or working directory names the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            where = os.readlink(entry / "cwd")
        except OSError:
            continue
        ours = str(folder).encode() in command or where.startswith(str(folder))
        if ours and b"trainerd.actors" in command and state != "Z":
            found.append(int(entry.name))
    return found
