"""run: submit and watch, with a private daemon where none answers."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable

from trainerd.clients.address import is_unix
from trainerd.clients.client import Client
from trainerd.clients.commands.submission import refuse_if_wrong, submit_file
from trainerd.clients.commands.watch import to_end
from trainerd.clients.errors import Refused, Unreachable
from trainerd.clients.private_daemon import PrivateDaemon
from trainerd.clients.runfile import RunFile, load_run_file
from trainerd.clients.session import Session
from trainerd.clients.watching import View, Watching, leave
from trainerd.v1 import run_pb2

_SAVE_PATIENCE_S = 600.0
_STOP_PATIENCE_S = 60.0


def run(args: Namespace, session: Session) -> int:
    """Run a file to its end and exit with its result.

    On a daemon that already runs, Ctrl-C leaves the run alone. A private daemon ends with this
    command, so there Ctrl-C stops the run: first with a checkpoint, then at once.
    """
    file = load_run_file(args.file)
    client = session.client()
    try:
        client.daemon()
    except Unreachable:
        client.close()
        refuse_if_wrong(file)
        if not is_unix(client.address):
            raise
        return _private(args, session, file)
    with client:
        started = _submit(args, session, client, file)
        return to_end(client, started, session, Watching(interrupted=leave))


def _private(args: Namespace, session: Session, file: RunFile) -> int:
    daemon = PrivateDaemon(session.daemon_command, session.address)
    with daemon:
        code = _on(daemon, args, session, file)
    if daemon.killed:
        session.note(f"the private daemon did not end and was killed; its log is {daemon.log_path}")
    return code


def _on(daemon: PrivateDaemon, args: Namespace, session: Session, file: RunFile) -> int:
    metrics = daemon.metrics_address
    where = f", metrics at http://{metrics}/metrics" if metrics else ""
    session.note(f"started a private daemon (pid {daemon.pid}{where})")
    try:
        with session.client(daemon.address) as client:
            started = _submit(args, session, client, file)
            how = Watching(interrupted=_stopper(client, started), daemon_lives=daemon.lives)
            parting = "ending the private daemon before it has stopped"
            return to_end(client, started, session, how, parting=parting)
    except Unreachable as error:
        raise Unreachable(f"lost the private daemon: it {daemon.last_words()}") from error


def _submit(args: Namespace, session: Session, client: Client, file: RunFile) -> run_pb2.Run:
    started = submit_file(
        client,
        file,
        session,
        request_id="",
        skip_program=args.no_program_check,
        resume_run=args.resume or "",
        streamed=True,
    )
    session.say(f"run {started.id}")
    session.out.flush()
    return started


def _stopper(client: Client, started: run_pb2.Run) -> Callable[[int, View], float]:
    """What a signal does to a run whose daemon is ours: save and stop, stop, leave."""

    def interrupted(count: int, view: View) -> float:
        match count:
            case 1:
                view.note("stopping: saving a checkpoint (Ctrl-C again to end at once)")
            case 2:
                view.note("stopping at once, without a checkpoint")
            case _:
                return 0.0
        try:
            client.stop_run(started.id, no_wait=True, no_checkpoint=count > 1)
        except Refused as error:
            view.note(error.message)
        return _SAVE_PATIENCE_S if count == 1 else _STOP_PATIENCE_S

    return interrupted
