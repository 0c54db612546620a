"""Hosts: who is there, what lives on them, and which run gets them.

A host is *linked* while its daemon and its launcher are. Runs get hosts in the order they came. One
that does not fit now waits, and those behind it with it; one that asks for more hosts than there
are is passed over. A gang that trains with fewer hosts than it asks for grows when some are free
(`growing`).
"""

from __future__ import annotations

from trainerd.daemon.supervision.commands import KillTrainer, RemoveFiles
from trainerd.daemon.supervision.endings import conclude, out_of_reach
from trainerd.daemon.supervision.events import (
    HostDrained,
    HostJoined,
    HostLost,
    HostUndrained,
    LauncherAttached,
    LauncherLost,
    LiveTrainer,
    RunState,
    TrainerExited,
)
from trainerd.daemon.supervision.formation import (
    ask_for_coordinator,
    ask_for_trainer,
    form,
    places,
)
from trainerd.daemon.supervision.growing import consider, linked_anew
from trainerd.daemon.supervision.policy import Action, FaultClass
from trainerd.daemon.supervision.requests import again
from trainerd.daemon.supervision.state import Host, Run, Trainer
from trainerd.daemon.supervision.turn import ATTACH_S, MISSING_S, OF_MEMBERS, Turn
from trainerd.daemon.supervision.verdicts import uncharged

MAX_HOSTS = 4096
"""Hosts of a cluster."""


def unlinked(turn: Turn, local: str) -> None:
    """A daemon starts on the host `local`: no host is linked, and its own is called that."""
    if local and not turn.local:
        _rename(turn, local)
    turn.hosts = {
        name: Host(name=name, joined=name == local, draining=turn.host(name).draining)
        for name in {**turn.hosts, local: None}
        if name or not local
    }
    turn.local = local


def _rename(turn: Turn, name: str) -> None:
    """A daemon that was alone is one of a cluster: what was its own host's is of that name."""

    def named(hosts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(host or name for host in hosts)

    for run in list(turn.runs.living.values()):
        turn.cancel_timers(run, *OF_MEMBERS)
        members = {
            host or name: trainer._replace(host=host or name)
            for host, trainer in run.members.items()
        }
        allotted, touched = named(run.allotted), named(run.touched)
        turn.put(run._replace(members=members, allotted=allotted, touched=touched))
    turn.removals = {host or name: runs for host, runs in turn.removals.items()}


def joined(turn: Turn, event: HostJoined) -> None:
    """A host's daemon is linked; its launcher will say what lives there."""
    if event.host not in turn.hosts and len(turn.hosts) >= MAX_HOSTS:
        turn.ignore("", event, f"a cluster has at most {MAX_HOSTS} hosts")
        return
    host = turn.host(event.host)
    turn.put_host(host._replace(joined=True, launcher=None))


def host_lost(turn: Turn, event: HostLost) -> None:
    """The link to a host's daemon is lost. Its trainers may live and train."""
    if event.host not in turn.hosts or event.host == turn.local:
        turn.ignore("", event, f"no such host has joined: {event.host}")
        return
    host = turn.host(event.host)
    turn.put_host(host._replace(joined=False, launcher=None, leftovers=()))
    _let_go(turn, event.host)


def launcher_lost(turn: Turn, event: LauncherLost) -> None:
    """The link to a host's launcher is lost."""
    if event.host not in turn.hosts:
        turn.ignore("", event, f"no such host has joined: {event.host}")
        return
    turn.put_host(turn.host(event.host)._replace(launcher=None, leftovers=()))
    _let_go(turn, event.host)


def _let_go(turn: Turn, host: str) -> None:
    """A gang that ends does not wait for a process that cannot be reached."""
    for run in list(turn.runs.living.values()):
        trainer = run.members.get(host)
        if trainer is not None and run.size > 1 and run.ending is not None:
            rest = out_of_reach(turn, run, trainer)
            if not rest.members:
                conclude(turn, rest)


def drained(turn: Turn, event: HostDrained | HostUndrained) -> None:
    """A host is to have no trainers, or may have them again."""
    draining = isinstance(event, HostDrained)
    if event.host not in turn.hosts:
        turn.ignore("", event, f"no such host has joined: {event.host}")
        return
    host = turn.host(event.host)
    shunned = any(event.host in run.without for run in turn.runs.living.values())
    if host.draining is draining and not (shunned and not draining):
        is_now = "drained already" if draining else "not drained"
        turn.ignore("", event, f"host {event.host} is {is_now}")
        return
    turn.put_host(host._replace(draining=draining))
    turn.unsettled = True
    for run in list(turn.runs.living.values()):
        if not draining and event.host in run.without:
            rest = tuple(each for each in run.without if each != event.host)
            turn.put(run._replace(without=rest))
        elif draining and event.host in run.members and _may_end(run):
            asked = f"host {event.host} is drained"
            uncharged(turn, run, FaultClass.PREEMPTION, Action.RESTART, asked, host=event.host)
            again(turn, run, asked, asked)


def _may_end(run: Run) -> bool:
    busy = run.terminal or run.stopping or run.restarting or run.ending is not None
    return not busy


def launcher_attached(turn: Turn, event: LauncherAttached) -> None:
    """A launcher is linked, and says which trainers live: what is ours goes on, the rest ends."""
    host = turn.hosts.get(event.host)
    if host is None or not host.joined:
        turn.ignore("", event, f"no such host has joined: {event.host}")
        return
    turn.unsettled = True
    alive = {(live.run, live.incarnation): live for live in event.trainers}
    turn.put_host(host._replace(launcher=event.instance, leftovers=()))
    linked_anew(turn, event.host)
    for run in list(turn.runs.living.values()):
        live = alive.pop((run.id, run.incarnation), None)
        trainer = run.members.get(event.host)
        if trainer is not None:
            _found(turn, run, trainer, live)
        elif live is not None:
            _end_leftover(turn, event.host, live)
            if run.state is RunState.RECOVERING and event.host in run.allotted:
                # The devices are free once it is gone.
                turn.start_timer("restart", run, MISSING_S)
    for live in alive.values():
        _end_leftover(turn, event.host, live)
    for run_id, memory_only in turn.removals.get(event.host, {}).items():
        turn.emit(RemoveFiles(run=run_id, memory_only=memory_only, host=event.host))


def _end_leftover(turn: Turn, name: str, live: LiveTrainer) -> None:
    """It belongs to an incarnation that is over: its run goes on elsewhere, or not at all."""
    host = turn.host(name)
    turn.put_host(host._replace(leftovers=(*host.leftovers, (live.run, live.incarnation))))
    turn.emit(KillTrainer(run=live.run, incarnation=live.incarnation, grace_s=0.0, host=name))


def _found(turn: Turn, run: Run, trainer: Trainer, live: LiveTrainer | None) -> None:
    """The launcher lists the run's trainer, or does not."""
    host = trainer.host
    if live is not None:
        trainer = trainer._replace(pid=live.pid)
        run = turn.put_member(run, trainer)
        turn.cancel_timers(run, "missing", host=host)
        if trainer.killed:
            turn.kill_one(run, trainer)
        elif not trainer.attached and not turn.timer_runs("attach", run, host=host):
            turn.start_timer("attach", run, ATTACH_S, host=host)
    elif not trainer.asked:
        if host == run.rendezvous_host:
            ask_for_coordinator(turn, run)
    elif trainer.unheard_of and not (run.stopping or run.terminal):
        # The order to start it was lost with an earlier link, or with an earlier daemon.
        ask_for_trainer(turn, run, trainer)
    else:
        # Its exit record may be on the way behind this greeting.
        turn.start_timer("missing", run, MISSING_S, host=host)


def leftover_gone(turn: Turn, event: TrainerExited) -> bool:
    """Whether this was a trainer of a past incarnation, which is no longer in the way of others."""
    host, gone = turn.host(event.host), (event.run, event.incarnation)
    if gone not in host.leftovers:
        return False
    rest = tuple(each for each in host.leftovers if each != gone)
    turn.put_host(host._replace(leftovers=rest))
    turn.unsettled = True
    return True


def settle(turn: Turn) -> None:
    """Give hosts to the runs that wait for them, in the order the runs came."""
    present = len([host for host in turn.hosts.values() if host.linked and not host.draining])
    if not present:
        return
    for run in sorted(turn.runs.living.values(), key=lambda run: run.order):
        if run.state is RunState.QUEUED:
            if places(turn, run):
                waits = "its trainer is being started" if run.hosts == 1 else "its gang is formed"
                form(turn, turn.move(run, RunState.STARTING, waits))
            elif (run.min_hosts if run.incarnation else run.hosts) <= present:
                return
        elif run.state is RunState.RECOVERING and not run.members:
            if not turn.timer_runs("restart", run):
                form(turn, run)
        else:
            consider(turn, run)
