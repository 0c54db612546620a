"""Forming a gang: which hosts a run gets, and the processes that are asked for there.

An incarnation is one for the whole gang. Its processes are numbered in the order of its hosts; the
first host's launcher keeps the service at which they meet. A gang of one meets nobody.
"""

from __future__ import annotations

from trainerd.daemon.supervision.commands import Place, StartCoordinator, StartTrainer
from trainerd.daemon.supervision.events import CoordinatorStarted, RunState
from trainerd.daemon.supervision.state import Run, Trainer
from trainerd.daemon.supervision.turn import ATTACH_S, Turn

_WAITS = "; waits at most"


def form(turn: Turn, run: Run) -> Run:
    """Ask for the next incarnation on the hosts there are; too few of them: the run waits."""
    hosts = places(turn, run)
    if not hosts:
        return _wait(turn, run)
    turn.cancel_timers(run, "wait")
    incarnation, alone = run.incarnation + 1, len(hosts) == 1
    run = turn.put(
        run._replace(
            incarnation=incarnation,
            members={
                host: Trainer(
                    incarnation=incarnation,
                    host=host,
                    process=process,
                    asked=alone,
                    injections=len(run.injections),
                )
                for process, host in enumerate(hosts)
            },
            size=len(hosts),
            standbys={},
            allotted=hosts,
            touched=(*run.touched, *(host for host in hosts if host not in run.touched)),
            rendezvous="",
            rendezvous_host="" if alone else hosts[0],
            restarting=False,
            ending=None,
            reason=run.reason.partition(_WAITS)[0],
        )
    )
    if alone:
        for trainer in run.members.values():
            ask_for_trainer(turn, run, trainer)
    else:
        ask_for_coordinator(turn, run)
        for host in hosts:
            turn.start_timer("attach", run, ATTACH_S, host=host)
    return run


def ask_for_coordinator(turn: Turn, run: Run) -> None:
    """Ask for the service of the present incarnation: again where the first answer never came."""
    turn.emit(
        StartCoordinator(
            run=run.id,
            incarnation=run.incarnation,
            processes=run.size,
            host=run.rendezvous_host,
        )
    )


def met(turn: Turn, run: Run, event: CoordinatorStarted) -> None:
    """The service answers: ask for the processes that are to meet there."""
    if run.size == 1 or run.rendezvous or run.ending is not None:
        turn.ignore(run.id, event, "the gang has met, or is over")
        return
    run = turn.put(run._replace(rendezvous=event.address))
    for trainer in run.members.values():
        run = turn.put_member(run, trainer._replace(asked=True))
        ask_for_trainer(turn, run, trainer)


def ask_for_trainer(turn: Turn, run: Run, trainer: Trainer) -> None:
    """Ask for a process of the present incarnation: again where the first answer never came."""
    place = None
    if run.size > 1:
        place = Place(process=trainer.process, processes=run.size, rendezvous=run.rendezvous)
    turn.emit(
        StartTrainer(
            run=run.id,
            incarnation=run.incarnation,
            slots=run.slots,
            slot_parts=run.slot_parts,
            host=trainer.host,
            place=place,
        )
    )
    if not turn.timer_runs("attach", run, host=trainer.host):
        turn.start_timer("attach", run, ATTACH_S, host=trainer.host)


def places(turn: Turn, run: Run) -> tuple[str, ...]:
    """The hosts of the run's next incarnation: its own first, then free ones; none: too few.

    A run begins with all the hosts it asks for, and goes on with the fewest it is content with.
    """
    mine = [host for host in run.allotted if _fit(turn, run, host)]
    hosts = (*mine, *(host for host in free(turn, run) if host not in mine))[: run.hosts]
    least = run.min_hosts if run.incarnation else run.hosts
    return hosts if len(hosts) >= least else ()


def free(turn: Turn, run: Run) -> tuple[str, ...]:
    """The hosts that no run has and this one could take, by name.

    One whose devices a trainer of the past still holds is not free where there are others: its
    launcher would refuse it, and the whole gang would have to try again.
    """
    living = turn.runs.living.values()
    taken = {host for each in living for host in each.allotted}
    names = [
        name
        for name, host in sorted(turn.hosts.items())
        if name not in taken and (not host.leftovers or len(turn.hosts) == 1)
    ]
    for other in sorted(living, key=lambda each: each.order):
        if other.order < run.order and names:
            # Those that came before and train with fewer than they asked for come first.
            theirs = [name for name in names if _fit(turn, other, name)][: _missing(other)]
            names = [name for name in names if name not in theirs]
    return tuple(name for name in names if _fit(turn, run, name))


def _missing(run: Run) -> int:
    smaller = run.allotted and not (run.terminal or run.stopping)
    return max(run.hosts - len(run.allotted), 0) if smaller else 0


def _fit(turn: Turn, run: Run, name: str) -> bool:
    host = turn.host(name)
    return host.linked and not host.draining and name not in run.without


def _wait(turn: Turn, run: Run) -> Run:
    """Too few hosts: it goes on when there are enough, and is given up after a while.

    Where there is only one, it is waited for: its launcher comes back, or it is undrained.
    """
    if run.state is RunState.RECOVERING and len(turn.hosts) == 1 and turn.host(turn.local).draining:
        return turn.move(run, RunState.QUEUED, f"{run.reason}; its host is drained")
    if run.state is RunState.RECOVERING and len(turn.hosts) > 1:
        there = len([host for host in run.allotted if _fit(turn, run, host)])
        there += len(free(turn, run))
        if not turn.timer_runs("wait", run):
            turn.start_timer("wait", run, run.wait_s)
        reason, _, _ = run.reason.partition(_WAITS)
        waits = f"{_WAITS} {run.wait_s:g} s for hosts: {there} of at least {run.min_hosts}"
        run = turn.move(run, RunState.RECOVERING, f"{reason}{waits}")
    return run
