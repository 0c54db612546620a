"""A gang that trains, as the supervisor, the telemetry and the watch over hosts see it."""

from __future__ import annotations

from trainerd.daemon.journal import Stored
from trainerd.daemon.reach import JOIN_S, Reach
from trainerd.daemon.supervision.events import (
    CoordinatorStarted,
    DaemonStarted,
    Event,
    HostJoined,
    HostLost,
    LauncherAttached,
    RunSubmitted,
    TrainerAttached,
)
from trainerd.daemon.supervision.faults import Phase
from trainerd.daemon.supervision.policy import Policy
from trainerd.daemon.supervision.state import State
from trainerd.daemon.supervision.supervisor import step
from trainerd.daemon.telemetry import Telemetry
from trainerd.v1 import event_pb2, trainer_pb2

HOSTS = ("a", "b")


class Scene:
    """A gang on two hosts, the first of which is the supervisor's, and one more."""

    def __init__(self, *, phase: Phase = Phase.STEP, hosts: tuple[str, ...] = HOSTS) -> None:
        self.telemetry = Telemetry()
        self.reach = Reach(self.telemetry, started=-JOIN_S)
        self.state = State()
        self.take(DaemonStarted(version="1", pid=1, host="a"))
        for host in hosts:
            if host != "a":
                self.take(HostJoined(host=host))
            self.take(LauncherAttached(instance="L", pid=1, host=host))
        self.take(RunSubmitted(run="r", name="r", spec=b"", policy=Policy(), hosts=2, min_hosts=1))
        self.take(CoordinatorStarted(run="r", incarnation=1, address="a:1", pid=1, host="a"))
        for host in HOSTS:
            self.take(TrainerAttached(run="r", incarnation=1, phase=phase, step=1, host=host))

    def take(self, event: Event) -> None:
        self.state, _ = step(self.state, event, now=0.0)

    def lose(self, host: str, *, at: float) -> None:
        self.take(HostLost(host=host, reason="cut"))
        self.reach.lost(host, at)

    def back(self, host: str, *, at: float) -> None:
        """Its daemon and its launcher are there again."""
        self.take(HostJoined(host=host))
        self.take(LauncherAttached(instance="L", pid=1, host=host))
        message = event_pb2.Event(host=host)
        attached = Stored(
            sequence=1,
            message=message,
            kind="launcher_attached",
            derived=False,
            now=at,
            wall=0.0,
            sender_incarnation=0,
            sender_sequence=0,
        )
        self.reach.record(attached, self.state)

    def moved(self, host: str, at: float, *, step_s: float = 0.01) -> None:
        report = trainer_pb2.StepReport(step=5, durations_s=[step_s])
        self.telemetry.of("r", host).moved(report, at)
        self.telemetry.of("r").step_report(report, at)

    def gone(self, now: float) -> list[str]:
        return [event.host for event in self.reach.gone(self.state, now)]
