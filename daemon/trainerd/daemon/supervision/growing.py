"""Growing back: a gang that trains with fewer hosts than it asks for takes in those that are free.

Its processes save and end for that, and train again once the slowest of the next ones has begun. So
a host that is to come prepares a standby first, from which its trainer is forked with everything
imported; the gang trains on meanwhile.
"""

from __future__ import annotations

from trainerd.daemon.supervision.commands import PrepareStandby
from trainerd.daemon.supervision.events import RunState, StandbyPrepared
from trainerd.daemon.supervision.formation import free
from trainerd.daemon.supervision.policy import Action, FaultClass
from trainerd.daemon.supervision.requests import again
from trainerd.daemon.supervision.state import Run
from trainerd.daemon.supervision.turn import Turn
from trainerd.daemon.supervision.verdicts import uncharged

GROW_S = 5.0
"""Seconds a host must have been there before a gang is re-formed to take it in."""
PREPARE_S = 20.0
"""Seconds after which a gang grows whether or not the standbys of those hosts are ready."""


def consider(turn: Turn, run: Run) -> None:
    """Begin to take in the hosts that are free, if there are any."""
    hosts = newcomers(turn, run)
    for host in hosts:
        if host not in run.standbys:
            # Its launcher makes files of the run there: they are to be removed with it.
            touched = run.touched if host in run.touched else (*run.touched, host)
            standbys = {**run.standbys, host: False}
            run = turn.put(run._replace(standbys=standbys, touched=touched))
            turn.emit(PrepareStandby(run=run.id, incarnation=run.incarnation, host=host))
    if hosts and not (turn.timer_runs("grow", run) or turn.timer_runs("prepare", run)):
        turn.start_timer("grow", run, GROW_S)
        turn.start_timer("prepare", run, PREPARE_S)


def prepared(turn: Turn, event: StandbyPrepared) -> None:
    """A host's standby is ready, or there will be none."""
    run = turn.runs.get(event.run)
    if run is None or run.incarnation != event.incarnation or event.host not in run.standbys:
        turn.ignore(event.run, event, "nobody waits for that standby")
        return
    run = turn.put(run._replace(standbys={**run.standbys, event.host: True}))
    if not turn.timer_runs("grow", run):
        grow(turn, run)


def grow(turn: Turn, run: Run) -> None:
    """Take in the hosts that are free, if they still are and need not be waited for."""
    hosts = newcomers(turn, run)
    late = not turn.timer_runs("prepare", run)
    if hosts and (late or all(run.standbys.get(host) for host in hosts)):
        turn.cancel_timers(run, "grow", "prepare")
        grows = f"the gang of {run.size} grows by {', '.join(hosts)}"
        uncharged(turn, run, FaultClass.VOLUNTARY, Action.RESTART, grows)
        again(turn, run, grows, grows)


def linked_anew(turn: Turn, host: str) -> None:
    """A launcher is linked: what it was asked for over an earlier link is asked again."""
    for run in list(turn.runs.living.values()):
        if host in run.standbys:
            rest = {name: ready for name, ready in run.standbys.items() if name != host}
            turn.put(run._replace(standbys=rest))


def newcomers(turn: Turn, run: Run) -> tuple[str, ...]:
    """The hosts by which the run's gang can grow now."""
    smaller = run.state is RunState.RUNNING and 0 < run.size < run.hosts
    if not smaller or run.restarting or run.ending is not None:
        return ()
    return free(turn, run)[: run.hosts - run.size]
