"""The parts of a supervising daemon, made and told of one another; nothing runs yet."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from trainerd.daemon.ageing import Ageing
from trainerd.daemon.clock import SystemClock
from trainerd.daemon.cluster.facts import HostFacts
from trainerd.daemon.cluster.names import host_name
from trainerd.daemon.cluster.supervising import HostLinks
from trainerd.daemon.config import Config
from trainerd.daemon.control import Control
from trainerd.daemon.deadlines import Deadlines
from trainerd.daemon.effects import Effects
from trainerd.daemon.injecting import Permission
from trainerd.daemon.journal import Journal
from trainerd.daemon.launcher_link import LauncherLink, launcher_start
from trainerd.daemon.launcher_watch import LauncherWatch
from trainerd.daemon.launchers import Launchers
from trainerd.daemon.links import TrainerLinks
from trainerd.daemon.metrics import Metrics
from trainerd.daemon.monitor import Monitor
from trainerd.daemon.narration import narrate
from trainerd.daemon.reach import Reach
from trainerd.daemon.runtime import Runtime
from trainerd.daemon.scrubbing import Scrubber
from trainerd.daemon.sign_of_life import SignOfLife
from trainerd.daemon.status_line import status_line
from trainerd.daemon.supervision.cluster import MAX_HOSTS
from trainerd.daemon.telemetry import Telemetry
from trainerd.daemon.timesheets import Timesheets
from trainerd.daemon.tokens import Tokens
from trainerd.daemon.verifying import Verifying
from trainerd.daemon.views import Views
from trainerd.daemon.watchers import Watchers
from trainerd.v1.service_manager import sd_notify, watchdog_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a supervising daemon is made of. `host`: its name in the cluster; empty: it is alone."""

    config: Config
    host: str
    clock: SystemClock
    runtime: Runtime
    telemetry: Telemetry
    watchers: Watchers
    views: Views
    deadlines: Deadlines
    metrics: Metrics
    facts: HostFacts
    links: TrainerLinks
    launcher: LauncherLink
    launchers: Launchers
    watch: LauncherWatch
    monitor: Monitor
    effects: Effects
    hosts: HostLinks
    verifying: Verifying
    permission: Permission

    def control(self, metrics_address: str) -> Control:
        """The control service over them."""
        return Control(
            runtime=self.runtime,
            views=self.views,
            watchers=self.watchers,
            deadlines=self.deadlines,
            launcher=self.launcher,
            launchers=self.launchers,
            clock=self.clock,
            metrics_address=metrics_address,
            injection=self.permission,
            verifying=self.verifying,
            limits=self.config.limits,
            facts=self.facts,
            most_hosts=MAX_HOSTS if self.config.cluster.supervises else 1,
        )

    def scrubber(self) -> Scrubber:
        """What verifies checkpoints that nobody asks about."""
        return Scrubber(self.runtime, self.views, self.watchers, self.verifying, self.clock)

    def ageing(self) -> Ageing:
        """What deletes old runs."""
        return Ageing(self.runtime, self.views, self.clock, self.config.retention)

    def sign_of_life(self) -> SignOfLife:
        """What systemd hears of them."""

        def status() -> str:
            launcher = self.launcher.problem
            return status_line(
                self.runtime.state, self.views, now=self.clock.now(), launcher=launcher
            )

        return SignOfLife(
            notify=sd_notify,
            probe=self.runtime.probe,
            status=status,
            watchdog_s=watchdog_s(os.environ, os.getpid()),
        )


def assembled(config: Config, journal: Journal, attach_address: str) -> Parts:
    """Make the parts, and replay the journal into them. Raise `JournalError`."""
    clock, telemetry, watchers = SystemClock(), Telemetry(), Watchers()
    timesheets = Timesheets()
    metrics = Metrics(
        config.cluster.host or socket.gethostname(),
        lambda run: timesheets.seconds(run, clock.now()),
    )
    runtime = Runtime(
        journal, clock, on_commit=metrics.committed, on_refusal=metrics.journal_refused
    )
    views, deadlines = Views(telemetry, timesheets), Deadlines(telemetry)
    runtime.observe(lambda stored, _: views.apply(stored))
    runtime.observe(deadlines.record)
    runtime.observe(metrics.count)
    last = runtime.replay()
    if last is not None:
        clock.rebase(last_now=last.now, last_wall=last.wall)
    timesheets.replayed()
    metrics.restore(runtime.state, views.saves())
    facts, reach = HostFacts(clock), Reach(telemetry, started=clock.now())
    for observer in (
        metrics.show,
        watchers.record,
        telemetry.record,
        narrate,
        reach.record,
        facts.record,
    ):
        runtime.observe(observer)

    host = config.cluster.host
    tokens = Tokens(config.daemon.state_directory / "token.key")
    links = TrainerLinks(
        runtime,
        telemetry,
        metrics,
        clock,
        tokens,
        host=host,
        timesheets=timesheets,
        sharded=views.sharded,
    )
    launcher = LauncherLink(config.launcher.socket, launcher_start(config.launcher))
    launchers = Launchers(host, launcher.calls)
    effects = Effects(
        runtime=runtime,
        views=views,
        links=links,
        launchers=launchers,
        tokens=tokens,
        telemetry=telemetry,
        clock=clock,
        attach_address=attach_address,
        host=host,
    )
    runtime.observe(effects.record)
    return Parts(
        config=config,
        host=host,
        clock=clock,
        runtime=runtime,
        telemetry=telemetry,
        watchers=watchers,
        views=views,
        deadlines=deadlines,
        metrics=metrics,
        facts=facts,
        links=links,
        launcher=launcher,
        launchers=launchers,
        watch=LauncherWatch(runtime, host, devices=facts.devices),
        monitor=Monitor(runtime, telemetry, deadlines, metrics, clock, reach=reach),
        effects=effects,
        hosts=HostLinks(
            runtime,
            launchers,
            links,
            clock,
            facts=facts,
            reach=reach,
            named=lambda context: host_name(config.api.roles, context),
        ),
        verifying=Verifying(runtime, views, launchers, clock),
        permission=Permission(config.injection.allowed),
    )
